"""The experiment file that `headstart fit` writes: what a person would have written by hand."""

from dataclasses import dataclass
from typing import Any

import yaml

from headstart.train.plan import Precision
from headstart.types import Noun

TIMED_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class Tuning:
    """Fine-tuning that there is time for.

    Attributes:
        trainable: ``all``, or how many of the last stages with weights.
        epochs: How many.
        precision: What the training steps compute in.
        max_minutes: When it has to end, whatever was measured before.
    """

    trainable: int | str
    epochs: int
    precision: Precision
    max_minutes: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Everything that was decided.

    Attributes:
        data: The file's `data`.
        backbone: The file's only backbone.
        title: What the data are called.
        noun: What a sample is.
        tuning: Fine-tuning, or None where there is no time for it.
        learning_curve: Whether there is time for one.
        reasons: What was decided and why, a sentence each.
    """

    data: dict[str, Any]
    backbone: dict[str, Any]
    title: str
    noun: Noun
    tuning: Tuning | None
    learning_curve: bool
    reasons: tuple[str, ...]


def experiment_text(name: str, choice: Choice) -> str:
    """Return the experiment as YAML, with its reasons as comments.

    Args:
        name: The study's name.
        choice: What was decided.

    Returns:
        A file that `headstart run` takes.
    """
    raw: dict[str, Any] = {
        "name": name,
        "title": f"A model for {choice.title}",
        "description": (
            "Written by `headstart fit`: frozen features with a probe"
            + (", and fine-tuning" if choice.tuning is not None else "")
            + ", on equal terms; validation chooses."
        ),
        "notes": list(choice.reasons),
        "data": choice.data,
        "backbones": {"backbone": choice.backbone},
        "parts": {"probe": _probe(choice)},
        "timing": {"samples": TIMED_SAMPLES},
        "analysis": {"learning_curve": choice.learning_curve},
    }
    if choice.tuning is not None:
        raw["parts"]["tuned"] = _tuned(choice.tuning, choice.noun)
        raw["comparisons"] = [{"a": "tuned", "b": "probe"}]
    header = "# Written by `headstart fit`; go on from here: headstart run THIS-FILE\n"
    return header + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100)


def _probe(choice: Choice) -> dict[str, Any]:
    strengths = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
    if choice.noun != "picture":
        strengths = [0.01, 0.1, 1.0, 10.0, 100.0]
    return {
        "kind": "model",
        "title": "Frozen features, logistic regression",
        "head": {"kind": "logistic", "c": strengths},
        "calibrate": True,
    }


def _tuned(tuning: Tuning, noun: Noun) -> dict[str, Any]:
    release: Any = "all" if tuning.trainable == "all" else {"last": tuning.trainable}
    pictures = noun == "picture"
    stage: dict[str, Any] = {
        "name": "fine-tuning",
        "trainable": release,
        "epochs": tuning.epochs,
        "optimizer": {
            "kind": "adamw",
            "learning_rate": 2e-4 if pictures else 5e-5,
            "weight_decay": 0.01,
            "weight_decay_on": "weights",
        },
        "schedule": {"kind": "cosine" if pictures else "linear", "warmup_epochs": 0.2},
        "precision": tuning.precision,
    }
    if pictures:
        stage["loss"] = {"label_smoothing": 0.1}
        # BatchNorm has seen a million pictures: a few hundred make its statistics worse.
        stage["batch_norm"] = "frozen"
        stage["augmentation"] = {"flip": True, "crop": 0.6}
        if tuning.trainable != "all":
            stage["augmentation"]["views"] = 2
    return {
        "kind": "model",
        "title": "Fine-tuned",
        "head": {"kind": "linear", "dropout": 0.2 if pictures else 0.1},
        "batch_size": 32 if pictures else 16,
        "calibrate": True,
        "max_minutes": tuning.max_minutes,
        "stages": [
            {
                "name": "head",
                "trainable": "head",
                "epochs": 20,
                "optimizer": {"kind": "adam", "learning_rate": 0.001},
            },
            stage,
        ],
    }

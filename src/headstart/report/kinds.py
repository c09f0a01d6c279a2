"""Tells the kinds of model apart: trained in which stages, from scratch, voting, or as it came."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import lookup
from headstart.types import JsonDict

HEAD = "head"  # what a stage trains that leaves the whole backbone frozen


def is_ensemble(model: Mapping[str, Any]) -> bool:
    """Return whether a model is a vote of others."""
    return model.get("kind") == "ensemble"


def is_zero_shot(model: Mapping[str, Any]) -> bool:
    """Return whether a model is a pretrained classifier as it is."""
    return model.get("kind") == "zero_shot"


def is_baseline(model: Mapping[str, Any]) -> bool:
    """Return whether a model says the same of every sample, for others to be held against."""
    return model.get("kind") == "baseline"


def is_trained(model: Mapping[str, Any]) -> bool:
    """Return whether a model was trained in this run."""
    return not (is_ensemble(model) or is_zero_shot(model) or is_baseline(model))


def trained(results: JsonDict) -> list[JsonDict]:
    """Return the models that this run trained."""
    return [m for m in lookup.models(results) if is_trained(m)]


def baselines(results: JsonDict) -> list[JsonDict]:
    """Return the models that say the same of every sample."""
    return [m for m in lookup.models(results) if is_baseline(m)]


def ensembles(results: JsonDict) -> list[JsonDict]:
    """Return the ensembles that say who their members are."""
    return [m for m in lookup.models(results) if is_ensemble(m) and m.get("ensemble")]


def zero_shots(results: JsonDict) -> list[JsonDict]:
    """Return the pretrained classifiers as they are."""
    return [m for m in lookup.models(results) if is_zero_shot(m) and m.get("zero_shot")]


def stages(model: Mapping[str, Any]) -> list[JsonDict]:
    """Return the stages of a model's training."""
    return list(model.get("stages") or ())


def beyond_head(model: Mapping[str, Any]) -> bool:
    """Return whether some stage trains more than the head."""
    return any(s.get("trainable") not in (None, HEAD) for s in stages(model))


def from_scratch(model: Mapping[str, Any]) -> bool:
    """Return whether a model began with random weights."""
    return bool(model.get("from_scratch"))


def staged(results: JsonDict) -> bool:
    """Return whether a run trained anything but heads on frozen backbones, each in one stage."""
    return any(len(stages(m)) > 1 or beyond_head(m) or from_scratch(m) for m in trained(results))


def recipe(model: Mapping[str, Any]) -> str:
    """Return in words what was trained: the head, then last 3; or everything from scratch."""
    if from_scratch(model):
        return "from scratch"
    words = [str(s["trainable"]) for s in stages(model) if s.get("trainable")]
    return ", then ".join(dict.fromkeys(words))


def backbone(results: JsonDict, model: Mapping[str, Any]) -> JsonDict | None:
    """Return a model's entry among the backbones."""
    entries: Sequence[JsonDict] = results.get("backbones") or ()
    return next((b for b in entries if b.get("key") == model.get("backbone")), None)


def network(results: JsonDict, model: Mapping[str, Any]) -> str:
    """Return what two models share that differ only in their training.

    Args:
        results: The content of results.json.
        model: One of its models.

    Returns:
        A text made of the backbone's name, its input and the labels per class.
    """
    entry = backbone(results, model)
    known = [model.get("backbone")] if entry is None else [entry.get("name"), entry.get("input")]
    return json.dumps([*known, model.get("labels_per_class")], sort_keys=True)


def prediction_ms(results: JsonDict, model: Mapping[str, Any]) -> float | None:
    """Return the milliseconds that the network's forward pass takes per sample of the test split.

    Args:
        results: The content of results.json.
        model: One of its models; for an ensemble, the time of all members together is meant.

    Returns:
        The time, or None where it was not measured.
    """
    measured = model.get("prediction") or {}
    if measured.get("seconds") is not None and measured.get("samples"):
        return 1000.0 * float(measured["seconds"]) / float(measured["samples"])
    vote = model.get("ensemble") or {}
    seconds = vote.get("prediction_seconds")
    members = [lookup.model_named(results, str(n)) or {} for n in vote.get("members") or ()]
    samples = [n for m in members if (n := (m.get("prediction") or {}).get("samples"))]
    if seconds is None or not samples:
        return None
    return 1000.0 * float(seconds) / float(samples[0])


def test_seconds(model: Mapping[str, Any]) -> float | None:
    """Return the seconds of the prediction step over the whole test split, or None."""
    measured = model.get("prediction") or {}
    seconds = measured.get("seconds")
    if seconds is None:
        seconds = (model.get("ensemble") or {}).get("prediction_seconds")
    return None if seconds is None else float(seconds)

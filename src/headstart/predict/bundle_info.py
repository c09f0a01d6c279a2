"""A bundle's manifest as a typed record."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from headstart.errors import BundleError
from headstart.features.engine import EngineName
from headstart.predict.ensemble import Ensemble, Voting
from headstart.predict.saved import SavedModel
from headstart.types import Goal, InputSpec, JsonDict, SeriesSpec, Spec

TaskName = Literal["image", "text", "pair", "sequence"]

MEMBERS = "members"
SAMPLES = "samples"
SAMPLES_RECORD = f"{SAMPLES}/samples.json"

_GRAPHS = {"onnxruntime": "model.onnx", "openvino": "model.xml"}


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What a bundle says of itself.

    Attributes:
        name: A short name for commands and addresses, such as ``flowers``.
        title: For people.
        goal: What it tells.
        task: What one sample is.
        classes: Class names in the order of the probabilities; of a regression the name of its
            number.
        engine: What its network is written for.
        precision: ``float32`` or ``int8``.
        spec: How samples are prepared; of an ensemble the first member's.
        specs: The same of each member; of a single model its own alone.
        ensemble: How members become one, or None.
        pixels: Whether its graph takes pictures as they are and prepares them itself.
        backbones: ``name``, ``weights``, ``parameters_total``, ``size_bytes`` of each network.
        metrics: Split → metric → score, as in results.json.
        latency: How long a prediction took where it was measured, or None.
        temperature: What logits are divided by before they become probabilities.
        tolerance: How far probabilities may differ on another machine or engine.
        size_bytes: Of all its files.
        raw: The whole manifest.
    """

    name: str
    title: str
    goal: Goal
    task: TaskName
    classes: tuple[str, ...]
    engine: EngineName
    precision: str
    spec: Spec
    specs: tuple[Spec, ...]
    ensemble: Ensemble | None
    pixels: bool
    backbones: tuple[JsonDict, ...]
    metrics: JsonDict
    latency: JsonDict | None
    temperature: float
    tolerance: float
    size_bytes: int
    raw: JsonDict

    @property
    def folders(self) -> tuple[str, ...]:
        """Where each network lies inside the bundle; of a single model ``.``."""
        if self.ensemble is None:
            return (".",)
        return tuple(f"{MEMBERS}/{name}" for name in self.ensemble.members)

    @property
    def graph(self) -> str | None:
        """The file of its graph, or None where it is a torch network."""
        return _GRAPHS.get(self.engine)


def task_of(spec: Spec) -> TaskName:
    """Return what one sample is."""
    if isinstance(spec, InputSpec):
        return "image"
    if isinstance(spec, SeriesSpec):
        return "sequence"
    return "text" if spec.pairs == "single" else "pair"


def ensemble_of(origin: Path, manifest: JsonDict) -> Ensemble | None:
    """Return how a manifest's members become one, or None where there are none.

    Args:
        origin: The bundle, for messages.
        manifest: Its content.

    Returns:
        The way of voting.

    Raises:
        BundleError: The entry is not as it must be.
    """
    raw = manifest.get("voting")
    if raw is None:
        return None
    try:
        found = Ensemble(raw["voting"], tuple(raw["members"]), tuple(map(float, raw["weights"])))
        usual = (
            found.voting in get_args(Voting)
            and 0 < len(found.members) == len(found.weights)
            and len(set(found.members)) == len(found.members)
            and all(isinstance(name, str) and "/" not in name for name in found.members)
            and min(found.weights) >= 0 < sum(found.weights) < float("inf")
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"{origin}: bundle.json: voting is damaged: {error!r}") from error
    if not usual:
        raise BundleError(f"{origin}: bundle.json: voting is not of this format: {raw!r:.200}")
    return found


def info_of(origin: Path, manifest: JsonDict, models: tuple[SavedModel, ...]) -> BundleInfo:
    """Return a manifest as a record, and make sure that it fits the networks.

    Args:
        origin: The bundle, for messages.
        manifest: Its content.
        models: What the network is, or each member.

    Returns:
        The record.

    Raises:
        BundleError: An entry is missing or does not fit.
    """
    first = models[0]
    try:
        network, files = manifest["network"], manifest["files"]
        info = BundleInfo(
            name=str(manifest["name"]),
            title=str(manifest["title"]),
            goal=manifest["goal"],
            task=manifest["task"],
            classes=tuple(manifest["classes"]),
            engine=network["engine"],
            precision=str(network["precision"]),
            spec=first.input_spec,
            specs=tuple(model.input_spec for model in models),
            ensemble=ensemble_of(origin, manifest),
            pixels=bool(network.get("preprocessing", False)),
            backbones=tuple(manifest["backbones"]),
            metrics=dict(manifest["metrics"]),
            latency=manifest.get("latency"),
            temperature=first.temperature,
            tolerance=float(manifest["tolerance"]),
            size_bytes=sum(int(one["bytes"]) for one in files.values()),
            raw=manifest,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(f"{origin}: bundle.json: {error!r} is missing or damaged") from error
    usual = (
        math.isfinite(info.tolerance)
        and info.tolerance >= 0
        and all(math.isfinite(model.temperature) and model.temperature > 0 for model in models)
        and all(isinstance(one, dict) for one in info.backbones)
    )
    if not usual:
        raise BundleError(
            f"{origin}: bundle.json: tolerance, temperature or backbones are not of this format"
        )
    if info.engine not in get_args(EngineName):
        raise BundleError(f"{origin}: bundle.json: unknown engine {info.engine!r:.40}")
    for model in models:
        stated = (info.goal, info.classes, info.task)
        got = (model.goal, model.classes, task_of(model.input_spec))
        if stated != got:
            raise BundleError(
                f"{origin}: bundle.json does not fit model.json: expected {stated!r:.150}, got "
                f"{got!r:.150}: write the bundle again"
            )
    return info

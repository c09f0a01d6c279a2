"""Small bundles with random weights, written in milliseconds."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from headstart.backbones.base import Backbone, SeriesOptions
from headstart.backbones.registry import load_backbone
from headstart.heads import HeadSpec, build_head
from headstart.predict import (
    BackboneOptions,
    Predictor,
    SavedModel,
    StoredSample,
    TrainedModel,
    trained_tensors,
    write_bundle,
)
from headstart.predict.bundle_info import MEMBERS, task_of
from headstart.predict.bundle_network import write_network
from headstart.predict.ensemble import Voting, vote
from headstart.predict.recheck import check
from headstart.types import FloatArray, Goal, JsonDict

CPU = torch.device("cpu")
Check = Callable[[Path], float]


def picture(seed: int, side: int = 40) -> bytes:
    """A PNG of coloured noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def series(seed: int, steps: int = 6) -> bytes:
    return np.random.default_rng(seed).normal(size=(steps, 1)).astype("<f4").tobytes()


def trained(
    backbone: str = "headstart/resnet20",
    *,
    goal: Goal = "classification",
    temperature: float = 1.0,
    options: SeriesOptions | None = None,
    image_size: int | None = None,
    seed: int = 0,
    cut: str = "input",
) -> tuple[TrainedModel, Backbone]:
    """A network with random weights and a head that is far from equal probabilities."""
    network = load_backbone(
        backbone, weights="random", seed=seed, series=options, image_size=image_size
    )
    classes = ("a", "b", "c") if goal == "classification" else ("value",)
    head = build_head(HeadSpec(), network.shape("pooled")[0], len(classes), seeds=[seed])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(5)
    model = SavedModel(
        backbone=backbone,
        backbone_weights="random",
        backbone_seed=seed,
        backbone_digest=network.digest(cut),
        cut=cut,
        head_cut="pooled",
        input_spec=network.input_spec,
        classes=classes,
        head=HeadSpec(),
        width=network.shape("pooled")[0],
        options=BackboneOptions(series=options),
        goal=goal,
        temperature=temperature,
    )
    return TrainedModel(model, trained_tensors(network, cut, "pooled", head)), network


def manifest_of(
    name: str, models: Sequence[SavedModel], voting: JsonDict | None = None
) -> JsonDict:
    model = models[0]
    weights = {"kind": "random", "origin": "random numbers, seed 0", "license": "not applicable"}
    backbone = {"weights": weights, "parameters_total": 1000, "size_bytes": 4000}
    score = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 50}
    return {
        "name": name,
        "title": f"A tiny {name}",
        "goal": model.goal,
        "task": task_of(model.input_spec),
        "network": {"engine": "torch", "precision": "float32", "files": ["model.safetensors"]},
        "voting": voting,
        "classes": list(model.classes),
        "input": model.input_spec.describe(),
        "backbones": [{"name": one.backbone, **backbone} for one in models],
        "calibration": {"temperature": model.temperature, "ece": None},
        "metrics": {"test": {"accuracy": score}},
        "latency": None,
        "data": {"name": "made up", "fingerprint": "0" * 64, "counts": {"train": 5, "test": 50}},
        "training": {"kind": "cached", "stages": []},
        "run": {"experiment": "tiny", "created": "2026-01-01T00:00:00+00:00", "command": "none"},
        "tolerance": 1e-4,
    }


def write_tiny(
    target: Path,
    data: Sequence[bytes],
    *networks: tuple[TrainedModel, Backbone],
    voting: Voting | None = None,
    weights: Sequence[float] = (),
    check: Check = check,
    fill: Callable[[Path], object] | None = None,
    **changes: object,
) -> FloatArray:
    """Write a bundle of one network, or of several that vote; return what they say of the data."""
    said = np.stack([Predictor(t, b, CPU).predict(data) for t, b in networks])
    names = [f"m{i}" for i in range(len(networks))]
    about = None
    if voting is not None:
        about = {"voting": voting, "members": names, "weights": list(weights)}
    answer = said[0] if voting is None else vote(voting, said, weights).astype(np.float32)

    def write(folder: Path) -> None:
        for name, (model, backbone) in zip(names, networks, strict=True):
            place = folder if voting is None else folder / MEMBERS / name
            write_network(place, model, backbone)

    samples = [
        StoredSample(f"sample {i}", one, None, tuple(map(float, np.atleast_1d(row))))
        for i, (one, row) in enumerate(zip(data, answer, strict=True))
    ]
    manifest = manifest_of(target.stem, [t.model for t, _ in networks], about)
    write_bundle(target, {**manifest, **changes}, samples, fill or write, check=check)
    return answer

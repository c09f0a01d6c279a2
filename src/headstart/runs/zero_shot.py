"""A pretrained classifier as it is: nothing is trained, its own classes are looked up by id."""

import dataclasses
import time
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from headstart._util.seeding import generator
from headstart.backbones.base import Backbone
from headstart.backbones.imagenet import class_indices, imagenet_classes
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.errors import ConfigError, nearest
from headstart.evaluate import evaluate_zero_shot, restrict, top_table
from headstart.runs.bench import Bench
from headstart.runs.record import score_json
from headstart.runs.result import PartResult
from headstart.runs.training import parameters_of
from headstart.types import FloatArray, IntArray, JsonDict, Predictions

_CLASSES = 1000


def check_zero_shot(
    name: str, part: schema.ZeroShotPart, backbone: Backbone, dataset: Dataset
) -> None:
    """Refuse, before any work, what a zero-shot part cannot do.

    Args:
        name: The part's name.
        part: Its configuration.
        backbone: The network.
        dataset: The data.

    Raises:
        ConfigError: The network has no classifier of ImageNet's 1,000 classes, a class of the data
            is not among them, or a picture to show is not in the test split.
    """
    _classifier(name, backbone)
    try:
        _columns(part, dataset)
    except ConfigError as error:
        raise ConfigError(f"parts.{name}: {error}") from error
    _shown(name, part, dataset)


def run_zero_shot(name: str, part: schema.ZeroShotPart, bench: Bench) -> PartResult:
    """Evaluate a backbone with its own classifier.

    Args:
        name: The part's name.
        part: Its configuration.
        bench: What the study shares.

    Returns:
        Predictions among the data set's classes for validation and test, top-1 and top-5 among all
        1,000, and the tables of the chosen pictures.
    """
    start = time.perf_counter()
    dataset, backbone = bench.dataset, bench.backbone
    classifier = _classifier(name, backbone)
    columns = _columns(part, dataset)
    places = np.array([columns[c] for c in dataset.classes], dtype=np.int64)
    pooled = backbone.stages[-1]
    predictions: dict[str, Predictions] = {}
    scores: dict[str, JsonDict] = {}
    seconds = 0.0
    tables: list[JsonDict] = []
    for split in ("val", "test"):
        rows = np.asarray(dataset.splits[split])
        if not len(rows):
            continue
        extraction = bench.extract(backbone, pooled, rows, None)
        seconds += extraction.wall_seconds
        features = extraction.features.gather(np.arange(len(rows), dtype=np.int64))
        probabilities = classify(classifier, features, bench.device)
        found = evaluate_zero_shot(probabilities, places[dataset.labels[rows]], places)
        scores[split] = {"top1": score_json(found.top1), "top5": score_json(found.top5)}
        predictions[split] = Predictions(
            names=tuple(dataset.names[i] for i in rows),
            labels=dataset.labels[rows],
            probabilities=restrict(probabilities, places),
            classes=dataset.classes,
        )
        if split == "test":
            at = {int(position): i for i, position in enumerate(rows)}
            tables = [
                _table(dataset, position, places, probabilities[at[position]])
                for position in _shown(name, part, dataset)
            ]
    total, size_bytes = parameters_of(backbone, pooled, classifier)
    return PartResult(
        part=part,
        predictions=predictions,
        wall_seconds=time.perf_counter() - start,
        extraction_seconds=seconds,
        prediction=bench.time("own classifier", (backbone.prefix(pooled), classifier)),
        special={
            "classes": _CLASSES,
            "mapped": len(places),
            **{k: scores["test"][k] for k in ("top1", "top5") if "test" in scores},
            "tables": tables,
        },
        scores=scores,
        parameters_total=total,
        size_bytes=size_bytes,
    )


def _columns(part: schema.ZeroShotPart, dataset: Dataset) -> dict[str, int]:
    # Ids may be given for classes that were left out for want of pictures.
    known = {c: wnid for c, wnid in part.wordnet.items() if c in dataset.classes}
    return class_indices(dataset.classes, known)


def _classifier(name: str, backbone: Backbone) -> nn.Module:
    classifier = backbone.classifier
    if classifier is None:
        raise ConfigError(
            f"parts.{name}.backbone: expected a network with its own classifier, and "
            f"{backbone.name} has none"
        )
    width = backbone.shape(backbone.stages[-1])
    device = next(classifier.parameters()).device
    with torch.no_grad():
        outputs = classifier.eval()(torch.zeros(1, *width, device=device)).shape[-1]
    if outputs != _CLASSES:
        raise ConfigError(
            f"parts.{name}.backbone: expected a classifier of ImageNet's {_CLASSES:,} classes, and "
            f"that of {backbone.name} has {outputs:,}"
        )
    return classifier


@torch.inference_mode()
def classify(classifier: nn.Module, features: FloatArray, device: torch.device) -> FloatArray:
    """Return what a network's own classifier says, of pooled features.

    Args:
        classifier: The network's last layer, on the device.
        features: float32, shape [n, width].
        device: Where to compute.

    Returns:
        Probabilities of its own classes, float32, shape [n, s].
    """
    classifier.eval()
    parts = [
        torch.softmax(classifier(piece.to(device)).float(), dim=-1).cpu()
        for piece in torch.split(torch.from_numpy(features), 1024)
    ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def _shown(name: str, part: schema.ZeroShotPart, dataset: Dataset) -> list[int]:
    """Return the positions of the pictures to show."""
    test = [int(i) for i in dataset.splits["test"]]
    if isinstance(part.top_images, int):
        count = min(part.top_images, len(test))
        drawn = generator("top images", part.seed).permutation(len(test))[:count]
        return [test[i] for i in sorted(drawn)]
    by_name: Mapping[str, int] = {dataset.names[i]: i for i in test}
    for asked in part.top_images:
        if asked not in by_name:
            raise ConfigError(
                f"parts.{name}.top_images: expected names of pictures of the test split, got "
                f"{asked!r}; {nearest(asked, by_name)}".rstrip("; ")
            )
    return [by_name[asked] for asked in part.top_images]


def _table(
    dataset: Dataset, position: int, places: IntArray, probabilities: FloatArray
) -> JsonDict:
    truth = imagenet_classes()[int(places[dataset.labels[position]])]
    return {
        "image": dataset.names[position],
        "label": truth.wnid,
        "label_name": truth.name,
        "rows": [dataclasses.asdict(r) for r in top_table(probabilities, imagenet_classes())],
    }

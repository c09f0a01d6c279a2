"""One part of a study, from features to predictions."""

import time

import numpy as np

from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.data.split import n_labels_per_class
from headstart.runs import build
from headstart.runs.bench import Bench
from headstart.runs.frozen import train_frozen
from headstart.runs.result import SPLITS, PartResult
from headstart.runs.staged import train_staged
from headstart.runs.training import choose, parameters_of
from headstart.types import IntArray, Predictions


def train_rows(dataset: Dataset, part: schema.Part) -> IntArray:
    """Return the training positions that a part may use (see `labels_per_class`)."""
    rows = np.asarray(dataset.splits["train"])
    if not isinstance(part, schema.TrainedPart) or part.labels_per_class is None:
        return rows
    return n_labels_per_class(
        dataset.labels, rows, part.labels_per_class, part.seed, dataset.classes
    )


def run_part(name: str, part: schema.TrainedPart, bench: Bench) -> PartResult:
    """Train a model or all members of a sweep, choose by validation, and predict every split.

    Args:
        name: The part's name.
        part: Its configuration, `best_of` applied.
        bench: Data, backbone, device and everything else that parts share.

    Returns:
        Members, the best one's weights and predictions, and times.

    Raises:
        FrozenStateError: Something that was frozen changed while the rest was trained.
        StoppedError: Somebody asked to stop; the checkpoint is written.
    """
    splits = {**bench.dataset.splits, "train": train_rows(bench.dataset, part)}
    start = time.perf_counter()
    staged = part.stages is not None or part.from_scratch
    trained = (train_staged if staged else train_frozen)(name, part, bench, splits)
    # The first part of a study that asks for features pays for them; later ones share them.
    wall_seconds = time.perf_counter() - start + trained.earlier_seconds
    best = choose(trained.members, part)
    shown = best if best is not None else next(iter(trained.candidates))
    candidate = trained.candidates[shown]
    total, size_bytes = parameters_of(candidate.backbone, bench.cut, candidate.head)
    predictions: dict[str, Predictions] = {}
    prediction = None
    if best is not None:
        predictions = {
            split: Predictions(
                names=tuple(bench.dataset.names[i] for i in splits[split]),
                labels=bench.dataset.labels[splits[split]],
                probabilities=candidate.probabilities(split),
                classes=bench.dataset.classes,
            )
            for split in SPLITS
            if len(splits[split])
        }
        spec = build.head_spec(part.head)
        words = f"{bench.cut} {spec.hidden} {spec.normalization}"
        prediction = bench.time(words, candidate.network(bench))
    return PartResult(
        part=part if best is None else build.with_values(part, trained.members[best].values),
        members=tuple(trained.members),
        best=best,
        trained=None if best is None else candidate.trained(bench),
        predictions=predictions,
        wall_seconds=wall_seconds,
        extraction_seconds=trained.extraction_seconds,
        stages=candidate.stages,
        prediction=prediction,
        parameters_total=total,
        size_bytes=size_bytes,
        notes=tuple(trained.notes),
    )

"""What knows nothing of its input: every other part has to do better."""

import time

import numpy as np

from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.runs.part import estimates_of, predictions_of
from headstart.runs.result import PartResult
from headstart.types import Estimates, Predictions


def run_baseline(part: schema.BaselinePart, dataset: Dataset) -> PartResult:
    """Say the same of every sample: the training mean, or the training shares of the classes.

    Of all constants the mean has the least squared error, and the shares the least cross-entropy,
    on the training split.

    Args:
        part: Its configuration.
        dataset: The data.

    Returns:
        Predictions of every split.
    """
    start = time.perf_counter()
    rows = {split: np.asarray(r) for split, r in dataset.splits.items() if len(r)}
    predictions: dict[str, Predictions] = {}
    estimates: dict[str, Estimates] = {}
    for split, own in rows.items():
        if dataset.targets is not None:
            mean = dataset.targets[rows["train"]].mean(dtype=np.float64)
            values = np.full(len(own), mean, dtype=np.float32)
            estimates[split] = estimates_of(dataset, own, values)
        else:
            counts = np.bincount(dataset.labels[rows["train"]], minlength=len(dataset.classes))
            shares = (counts / counts.sum()).astype(np.float32)
            predictions[split] = predictions_of(dataset, own, np.tile(shares, (len(own), 1)))
    return PartResult(
        part=part,
        predictions=predictions,
        estimates=estimates,
        wall_seconds=time.perf_counter() - start,
    )

"""Validation samples of a bundle's run: to calibrate int8 on, and to say what it costs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart._util import files
from headstart._util.seeding import generator
from headstart.compare import compare_pair, squared_error_difference
from headstart.config.load import load_experiment
from headstart.errors import RunError
from headstart.evaluate import wilson
from headstart.evaluate.intervals import bca_mean
from headstart.predict import Bundle
from headstart.runs.record import EXPERIMENT_NAME, RUN_NAME
from headstart.runs.reopened import found_again, reopened
from headstart.types import Estimates, FloatArray, IntArray, Predictions, Progress, Score

CALIBRATION = 200
_COMPARED = 1000
_TURNS = 9


@dataclass(frozen=True, slots=True)
class LabelledSamples:
    """Validation samples, in two parts that share none.

    Attributes:
        calibration: Bytes of those to calibrate on.
        names: Names of the others.
        data: Their bytes.
        labels: What is true of them: class indices, int64 [n]; or values, float32 [n].
    """

    calibration: tuple[bytes, ...]
    names: tuple[str, ...]
    data: tuple[bytes, ...]
    labels: IntArray | FloatArray


@dataclass(frozen=True, slots=True)
class Cost:
    """What a change of the network costs and saves, on the same samples.

    Attributes:
        metric: ``accuracy``, or ``squared error`` of a regression.
        before: Of the bundle as it was.
        after: Of what was made of it.
        difference: After minus before, paired.
        bytes_before: Size of the bundle's files.
        bytes_after: Likewise.
        ms_before: Median time of a sample in full batches, in milliseconds, without preparing it.
        ms_after: Likewise.
    """

    metric: str
    before: Score
    after: Score
    difference: Score
    bytes_before: int
    bytes_after: int
    ms_before: float
    ms_after: float


def validation_samples(
    bundle: Bundle,
    run: Path,
    *,
    data: str | None,
    calibration: int,
    allow_network: bool,
    show: Progress,
) -> LabelledSamples:
    """Draw validation samples of the run that a bundle was made from.

    Args:
        bundle: The bundle.
        run: The run folder.
        data: Where the data are now; None: where they were.
        calibration: How many to calibrate on at most; half of the split at most.
        allow_network: Whether data that are missing may be downloaded.
        show: Where to show how far it is.

    Returns:
        The samples.

    Raises:
        RunError: The folder is not that run, its data have changed, or it has too few validation
            samples.
    """
    try:
        working_folder = files.read_json(run / RUN_NAME)["working_folder"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run}: expected the folder of a run: {error}") from error
    study = found_again(load_experiment(run / EXPERIMENT_NAME, data=data), working_folder)
    fingerprint = str(bundle.info.raw["data"]["fingerprint"])
    dataset = reopened(run, study, fingerprint, allow_network=allow_network, show=show)
    split = np.asarray(dataset.splits["val"])
    if len(split) < 2:
        raise RunError(f"{run}: expected validation samples, got {len(split)}")
    order = generator("export-calibration", 0).permutation(split)
    first = min(calibration, len(order) // 2)
    rest = np.sort(order[first : first + _COMPARED])
    labels = dataset.labels[rest] if dataset.targets is None else dataset.targets[rest]
    return LabelledSamples(
        tuple(dataset.read(int(i)) for i in order[:first]),
        tuple(dataset.names[int(i)] for i in rest),
        tuple(dataset.read(int(i)) for i in rest),
        np.asarray(labels),
    )


def cost_of(before: Bundle, after: Bundle, samples: LabelledSamples) -> Cost:
    """Say what a bundle made of another costs and saves.

    Args:
        before: The bundle as it was.
        after: What was made of it.
        samples: Labelled samples on which nothing was fitted.

    Returns:
        Accuracy, or squared error, of both and their paired difference; sizes and times.
    """
    a, b = before.predict(samples.data), after.predict(samples.data)
    if before.info.goal == "regression":
        told = [Estimates(samples.names, samples.labels.astype(np.float32), x) for x in (a, b)]
        errors = [np.square(one.values.astype(np.float64) - one.targets) for one in told]
        scores = [bca_mean(error, 0) for error in errors]
        metric, difference = "squared error", squared_error_difference(told[1], told[0])
    else:
        labels = samples.labels.astype(np.int64)
        said = [Predictions(samples.names, labels, x, before.info.classes) for x in (a, b)]
        right = [int((one.predicted == labels).sum()) for one in said]
        scores = [wilson(count, len(labels)) for count in right]
        metric, difference = "accuracy", compare_pair(said[1], said[0]).accuracy_difference
    return Cost(
        metric,
        scores[0],
        scores[1],
        difference,
        before.info.size_bytes,
        after.info.size_bytes,
        *_times((before, after), samples.data),
    )


def _times(bundles: Sequence[Bundle], data: Sequence[bytes]) -> tuple[float, float]:
    """Return the median time of a sample of each in full batches, in milliseconds, taking turns."""
    batches = []
    for one in bundles:
        size = one.batch_size
        chosen = [data[i % len(data)] for i in range(size)]
        batches.append([one.prepare(sample) for sample in chosen])
    taken: list[list[float]] = [[] for _ in bundles]
    for turn in range(_TURNS + 1):
        for place, one in enumerate(bundles):
            start = time.perf_counter()
            one.predict_prepared(batches[place])
            if turn:  # the first call builds what the others use
                taken[place].append((time.perf_counter() - start) / len(batches[place]))
    first, second = (float(np.median(times)) * 1000 for times in taken)
    return first, second

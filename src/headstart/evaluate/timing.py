"""The time of the prediction step alone: arrays in memory through a network, nothing else."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headstart.types import FloatArray


@dataclass(frozen=True, slots=True)
class PredictionTime:
    """How long it took to predict all samples once.

    Attributes:
        seconds: Median over the repeats.
        low: The fastest repeat, in seconds.
        high: The slowest repeat, in seconds.
        samples: How many samples one repeat predicts.
        samples_per_second: Samples over the median.
        repeats: How many times all samples were predicted.
        batch_size: Samples in the largest batch.
    """

    seconds: float
    low: float
    high: float
    samples: int
    samples_per_second: float
    repeats: int
    batch_size: int


def _nothing_to_wait_for() -> None:
    """Return at once: on the CPU a call has finished when it returns."""


def time_prediction(
    predict: Callable[[FloatArray], object],
    batches: Sequence[FloatArray],
    *,
    repeats: int = 3,
    warm_up: int = 1,
    synchronize: Callable[[], None] = _nothing_to_wait_for,
    clock: Callable[[], float] = time.perf_counter,
) -> PredictionTime:
    """Time the prediction step, and only that.

    The batches are arrays in memory, decoded and transformed before: reading, decoding and
    transforming are not in the figure, and neither is what the first call builds, for `warm_up`
    calls on the first batch run before the clock is started. Then all batches are predicted
    `repeats` times over, each time between two readings of the clock, and the median is reported:
    one disturbed repeat does not move it. Copies to a device belong to `predict` and are counted.

    Args:
        predict: Predicts one batch; what it returns is dropped.
        batches: The samples, float32, each [b, …].
        repeats: How many times all batches are predicted.
        warm_up: How many calls on the first batch come before.
        synchronize: Waits until the device is done, such as ``torch.cuda.synchronize``; it runs
            before each reading of the clock, since calls to a GPU return before their work ends.
        clock: Returns seconds.

    Returns:
        The median, the extremes and the rate.

    Raises:
        ValueError: There is no sample, or `repeats` is below 1, or `warm_up` below 0.
    """
    samples = sum(len(batch) for batch in batches)
    if samples == 0 or repeats < 1 or warm_up < 0:
        raise ValueError(
            "expected at least one sample, repeats >= 1 and warm_up >= 0, "
            f"got {samples}, {repeats}, {warm_up}"
        )
    for _ in range(warm_up):
        predict(batches[0])
    taken = []
    for _ in range(repeats):
        synchronize()
        start = clock()
        for batch in batches:
            predict(batch)
        synchronize()
        taken.append(clock() - start)
    seconds = statistics.median(taken)
    return PredictionTime(
        seconds=seconds,
        low=min(taken),
        high=max(taken),
        samples=samples,
        samples_per_second=samples / max(seconds, 1e-9),
        repeats=repeats,
        batch_size=max(len(batch) for batch in batches),
    )

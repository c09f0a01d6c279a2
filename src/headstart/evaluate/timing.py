"""The time of the prediction step alone: of one network, or of several taking turns."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.types import FloatArray

_CONFIDENCE = 0.95


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


def _nothing() -> None:
    """Return at once: on the CPU a call has finished when it returns."""


def time_prediction(
    predict: Callable[[FloatArray], object],
    batches: Sequence[FloatArray],
    *,
    repeats: int = 3,
    warm_up: int = 1,
    synchronize: Callable[[], None] = _nothing,
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


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one call takes, of many.

    Attributes:
        batch_size: Samples that one call predicts.
        calls: How many calls were timed.
        p50_ms: Median of the calls, in milliseconds of a whole call.
        p95_ms: 95th percentile of the calls, likewise.
        low_ms: Lower end of the median's 95% interval, likewise.
        high_ms: Upper end of it.
        samples_per_second: Samples of a call over the median.
    """

    batch_size: int
    calls: int
    p50_ms: float
    p95_ms: float
    low_ms: float
    high_ms: float
    samples_per_second: float

    @property
    def p50_ms_per_sample(self) -> float:
        """Median divided by the samples of a call."""
        return self.p50_ms / self.batch_size

    @property
    def p95_ms_per_sample(self) -> float:
        """95th percentile divided by the samples of a call."""
        return self.p95_ms / self.batch_size


def time_interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 2,
    synchronize: Callable[[], None] = _nothing,
    clock: Callable[[], float] = time.perf_counter,
    after_round: Callable[[], None] = _nothing,
) -> dict[str, npt.NDArray[np.float64]]:
    """Time several calls in turns, so that what disturbs the machine disturbs all of them alike.

    Timed one after the other, the second of two equal networks looks slower where the processor
    grows hot meanwhile. So each is called once in each round, and the order is rotated each round:
    over as many rounds as there are calls (twice as many, where their number is odd) each stands
    at each place equally often, and also after each other one: what a call leaves behind, in caches
    or as threads that still spin, does not always hit the same one.

    Args:
        calls: What is timed, by name; what a call returns is dropped.
        rounds: How many times each is timed.
        warm_up: How many times each is called before, untimed.
        synchronize: Waits until the device is done; it runs before each reading of the clock.
        clock: Returns seconds.
        after_round: Called between two rounds, untimed: to show how far it is, or to stop.

    Returns:
        Seconds of every call in the order of the rounds, float64 [rounds], by name.

    Raises:
        ValueError: There is nothing to call, or `rounds` is below 1, or `warm_up` below 0.
    """
    if not calls or rounds < 1 or warm_up < 0:
        raise ValueError(
            "expected at least one call, rounds >= 1 and warm_up >= 0, "
            f"got {len(calls)}, {rounds}, {warm_up}"
        )
    names = list(calls)
    orders = _balanced_orders(len(names))
    for _ in range(warm_up):
        for name in names:
            calls[name]()
    taken = {name: np.zeros(rounds) for name in names}
    for number in range(rounds):
        for name in (names[place] for place in orders[number % len(orders)]):
            call = calls[name]
            synchronize()
            start = clock()
            call()
            synchronize()
            taken[name][number] = clock() - start
        after_round()
    return taken


def _balanced_orders(n: int) -> list[list[int]]:
    # Williams, Experimental designs balanced for the estimation of residual effects of treatments
    # (1949): neighbours in 0, 1, n-1, 2, n-2, … differ by 1, -2, 3, -4, …, modulo n each difference
    # once where n is even. So in its n rotations (all numbers one up, modulo n) each number comes
    # right after each other one once. Where n is odd the rotations read backwards are needed too.
    first = [(place + 1) // 2 if place % 2 else (n - place // 2) % n for place in range(n)]
    orders = [[(number + step) % n for number in first] for step in range(n)]
    return orders if n % 2 == 0 else orders + [order[::-1] for order in orders]


def latency(seconds: npt.NDArray[np.float64], batch_size: int) -> Latency:
    """Summarise the seconds of calls that predict the same number of samples.

    The median's interval takes no shape of the distribution for granted: between the k-th smallest
    and the k-th largest of n calls lies the median with probability 1 − 2 P(B < k), B binomial
    (n, 1/2). It takes calls as independent, so a disturbance that lasts is not in it: see `drift`.

    Args:
        seconds: Of each call, float64 [n], at least one.
        batch_size: Samples that one call predicts.

    Returns:
        Median, its interval, 95th percentile and rate.

    Raises:
        ValueError: There is no call, or `batch_size` is below 1.

    Source: the interval is that of Conover, Practical Nonparametric Statistics (3rd ed. 1999), 3.2.
    """
    from scipy import stats  # takes 0.4 s to import: not for whoever measures no latency

    n = len(seconds)
    if n == 0 or batch_size < 1:
        raise ValueError(f"expected calls of at least one sample, got {n} of {batch_size}")
    ordered = np.sort(seconds)
    # The largest k with P(B < k) <= 2.5%; k = 0 where there are too few calls: then all of them.
    k = int(stats.binom.ppf((1 - _CONFIDENCE) / 2, n, 0.5))
    place = max(k, 1) - 1
    median = float(np.median(ordered))
    return Latency(
        batch_size=batch_size,
        calls=n,
        p50_ms=1e3 * median,
        p95_ms=1e3 * float(np.percentile(ordered, 95)),
        low_ms=1e3 * float(ordered[place]),
        high_ms=1e3 * float(ordered[n - 1 - place]),
        samples_per_second=batch_size / max(median, 1e-9),
    )


def drift(seconds: npt.NDArray[np.float64]) -> float:
    """Return by what share the median of the later half of the calls is above that of the earlier.

    Args:
        seconds: Of each call in the order they were made, float64 [n].

    Returns:
        0.1 where the later calls took 10% longer; 0 where there are fewer than two calls.
    """
    half = len(seconds) // 2
    if half == 0:
        return 0.0
    early, late = float(np.median(seconds[:half])), float(np.median(seconds[-half:]))
    return late / max(early, 1e-9) - 1

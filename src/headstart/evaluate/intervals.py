"""95% intervals: Wilson's for shares, the bootstrap for what has no formula."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from headstart._util.seeding import generator
from headstart.types import IntArray, Score

RESAMPLES = 2000


def wilson(successes: int, n: int) -> Score:
    """Return a share with Wilson's score interval.

    Args:
        successes: How many of n.
        n: Number of independent trials, at least 1.

    Returns:
        The share and its 95% interval.

    Raises:
        ValueError: n is less than 1, or the successes are not between 0 and n.

    Source: Wilson 1927; recommended for all n by Brown, Cai, DasGupta 2001.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    interval = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Score(successes / n, float(interval.low), float(interval.high), n)


def bootstrap_mean(values: npt.NDArray[np.float64], seed: int) -> Score:
    """Return a mean with its percentile-bootstrap interval.

    Args:
        values: One figure per sample, shape [n].
        seed: Decides the resamples.

    Returns:
        The mean and its 95% interval.

    Source: Efron, Tibshirani 1993, chapter 13.
    """
    n = len(values)
    draws = generator("bootstrap-mean", seed)
    # In slices, so that a million samples do not need 2,000 million indices at once.
    per_slice = max(1, 20_000_000 // max(n, 1))
    means = []
    for start in range(0, RESAMPLES, per_slice):
        rows = min(per_slice, RESAMPLES - start)
        means.append(values[draws.integers(0, n, size=(rows, n))].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Score(float(values.mean()), float(low), float(high), n)


def bootstrap_confusions(confusion: IntArray, seed: int) -> IntArray:
    """Return resampled confusion matrices, stratified by the true class.

    Drawing n_c samples with replacement from class c and counting their predictions is a draw
    from a multinomial over row c, so the samples themselves are not needed.

    Args:
        confusion: Counts, rows true and columns predicted, shape [classes, classes].
        seed: Decides the resamples.

    Returns:
        Counts, int64, shape [resamples, classes, classes].
    """
    draws = generator("bootstrap-confusion", seed)
    classes = len(confusion)
    # About 64 million cells at most, so that 1,000 classes fit too.
    resamples = int(np.clip(64_000_000 // classes**2, 200, RESAMPLES))
    out = np.zeros((resamples, classes, classes), dtype=np.int64)
    for row, counts in enumerate(confusion):
        total = int(counts.sum())
        if total:
            out[:, row] = draws.multinomial(total, counts / total, size=resamples)
    return out


def percentile_interval(
    statistic: Callable[[IntArray], npt.NDArray[np.float64]],
    confusion: IntArray,
    resampled: IntArray,
) -> list[tuple[float, float, float]]:
    """Return value, low and high of a statistic of confusion matrices.

    Args:
        statistic: Maps counts [r, classes, classes] to figures [r, k].
        confusion: The counts that were seen, [classes, classes].
        resampled: Bootstrap counts, [resamples, classes, classes].

    Returns:
        For each of the k figures: its value and the ends of its 95% percentile interval.
    """
    values = statistic(confusion[None])[0]
    low, high = np.percentile(statistic(resampled), [2.5, 97.5], axis=0)
    return [(float(v), float(a), float(b)) for v, a, b in zip(values, low, high, strict=True)]

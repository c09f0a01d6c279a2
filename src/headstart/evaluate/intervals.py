"""95% intervals: Wilson's and the exact one for shares, the BCa bootstrap for the rest."""

import numpy as np
import numpy.typing as npt
from scipy import special

from headstart._util.seeding import generator
from headstart.types import Score

RESAMPLES = 2000
Z95 = float(special.ndtri(0.975))

_DRAWS_AT_ONCE = 1 << 18  # the counts of one slice of resamples stay in the processor's cache

_Floats = npt.NDArray[np.float64]


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
    _check_share(successes, n)
    return Score(successes / n, *wilson_ends(successes / n, n), n)


def clopper_pearson(successes: int, n: int) -> Score:
    """Return a share with Clopper and Pearson's exact interval.

    It covers the truth at least 95% of the time for every n and share, and is wider than need be
    for most.

    Args:
        successes: How many of n.
        n: Number of independent trials, at least 1.

    Returns:
        The share and its 95% interval.

    Raises:
        ValueError: n is less than 1, or the successes are not between 0 and n.

    Source: Clopper, Pearson 1934.
    """
    _check_share(successes, n)
    # The ends at which P(B >= k) and P(B <= k), B binomial (n, end), are 2.5%: quantiles of beta
    # distributions.
    low = special.betaincinv(successes, n - successes + 1, 0.025) if successes > 0 else 0.0
    high = special.betaincinv(successes + 1, n - successes, 0.975) if successes < n else 1.0
    return Score(successes / n, float(low), float(high), n)


def _check_share(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got {successes} of {n}")


def wilson_ends(share: float, n: float) -> tuple[float, float]:
    """Return the ends of Wilson's interval for an effective number of samples.

    Args:
        share: What was seen, in [0, 1].
        n: How many independent samples it is worth, above 0; need not be whole.

    Returns:
        Low and high, in [0, 1].
    """
    square = Z95**2 / n
    centre = (share + square / 2) / (1 + square)
    half = np.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    # At 0 and 1 the formula gives exactly that end; rounding must not move it past the share.
    return max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half)))


def bca_mean(values: npt.ArrayLike, seed: int, resamples: int = RESAMPLES) -> Score:
    """Return a mean with its bias-corrected and accelerated (BCa) bootstrap interval.

    The acceleration of a mean is its skewness over 6 √n, which is what the jackknife gives.

    Args:
        values: One finite figure per sample, shape [n], n >= 1.
        seed: Decides the resamples.
        resamples: How many.

    Returns:
        The mean and its 95% interval: a point where all values are equal, or there is one.

    Raises:
        ValueError: There is no value, or one is not a finite number.

    Source: Efron 1987; DiCiccio, Efron 1996.
    """
    return bca_means(np.asarray(values, dtype=np.float64)[:, None], seed, resamples)[0]


def bca_means(columns: _Floats, seed: int, resamples: int = RESAMPLES) -> tuple[Score, ...]:
    """Return the means of several columns with BCa intervals, from the same resamples.

    Args:
        columns: Finite figures, one row per sample, float64, shape [n, k], n >= 1.
        seed: Decides the resamples.
        resamples: How many.

    Returns:
        The mean and its 95% interval of each column (see `bca_mean`).

    Raises:
        ValueError: There is no row, or a figure is not a finite number.
    """
    if columns.ndim != 2 or not len(columns) or not np.isfinite(columns).all():
        raise ValueError(f"expected at least one row of finite figures, got {columns.shape}")
    means = columns.mean(axis=0)
    drawn = resampled_means(columns, seed, resamples)
    lows, highs = bca_ends(means, drawn, mean_acceleration(columns))
    return tuple(
        Score(float(m), float(low), float(high), len(columns))
        for m, low, high in zip(means, lows, highs, strict=True)
    )


def resampled_means(columns: _Floats, seed: int, resamples: int = RESAMPLES) -> _Floats:
    """Return the columns' means over rows drawn with replacement.

    All columns see the same draws, so the difference of two columns' means is the mean of their
    difference over the same resample: one call serves all pairs.

    Args:
        columns: One row per sample, float64, shape [n, k].
        seed: Decides the draws.
        resamples: How many.

    Returns:
        Means, float64, shape [resamples, k].
    """
    n = len(columns)
    draws = generator("bootstrap-mean", seed)
    rows = max(1, _DRAWS_AT_ONCE // n)
    out = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = draws.integers(0, n, size=(count, n))
        drawn += n * np.arange(count)[:, None]
        # A resample as how often each row was drawn: then its means are one matrix product.
        times = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
        out[start : start + count] = times.astype(np.float64) @ columns
    return out / n


def mean_acceleration(columns: _Floats) -> _Floats:
    """Return the acceleration of each column's mean: Σd³ / (6 (Σd²)^1.5), d around the mean.

    Args:
        columns: One row per sample, float64, shape [n, k].

    Returns:
        float64, shape [k]; 0 for a constant column.

    Source: Efron 1987, formula 4.4, with the jackknife's influence values of a mean.
    """
    apart = columns - columns.mean(axis=0)
    return acceleration((apart**3).sum(axis=0), (apart**2).sum(axis=0))


def acceleration(cubes: npt.ArrayLike, squares: npt.ArrayLike) -> _Floats:
    """Return the acceleration for sums of influence values: Σ l³ / (6 (Σ l²)^1.5).

    Args:
        cubes: Sums of the cubes, shape [k].
        squares: Sums of the squares, shape [k].

    Returns:
        float64, shape [k]; 0 where the squares are.
    """
    top, bottom = np.asarray(cubes, np.float64), 6 * np.asarray(squares, np.float64) ** 1.5
    return np.divide(top, bottom, out=np.zeros_like(bottom), where=bottom > 0)


def bca_ends(
    values: _Floats, resampled: _Floats, accelerations: _Floats
) -> tuple[_Floats, _Floats]:
    """Return the ends of BCa intervals.

    With Φ the normal distribution, z0 = Φ⁻¹(share of resamples below the value, ties half) and a
    the acceleration, the end for the level q is the resamples' quantile Φ(z), where
    z = z0 + (z0 + z_q) / (1 − a (z0 + z_q)). A quantile beyond what the resamples can tell (less
    than one of them lies past it) is continued by a normal with their mean and deviation: taking
    the most extreme resample instead would cut the interval of a strongly biased statistic short.

    Args:
        values: The statistics of the whole sample, shape [k].
        resampled: The same of the resamples, shape [resamples, k].
        accelerations: shape [k].

    Returns:
        Low and high ends, shapes [k]. They hold the value: where the statistic's bias is so strong
        that it does not lie within its own interval, the interval is extended to it.

    Source: Efron 1987; DiCiccio, Efron 1996, formula 2.3; ties as in `scipy.stats.bootstrap`.
    """
    count = len(resampled)
    ordered = np.sort(resampled, axis=0)
    # Equal means that were added up in another order differ in the last digit.
    width = 1e-12 * np.maximum(np.abs(values), np.abs(ordered).max(axis=0, initial=0.0))
    below = (ordered < values - width).sum(axis=0)
    share = (below + (ordered <= values + width).sum(axis=0)) / (2 * count)
    half = 0.5 / count
    z0 = special.ndtri(np.clip(share, half, 1 - half))
    ends = []
    for z in (-Z95, Z95):
        moved = z0 + (z0 + z) / np.maximum(1 - accelerations * (z0 + z), 0.1)
        ends.append(_quantiles(ordered, moved))
    spread = ordered[-1] - ordered[0] > 2 * width
    low = np.where(spread, np.minimum(ends[0], values), values)
    high = np.where(spread, np.maximum(ends[1], values), values)
    return low, high


def _quantiles(ordered: _Floats, z: _Floats) -> _Floats:
    """Return the quantile Φ(z) of each sorted column: [resamples, k], [k] -> [k]."""
    count, columns = ordered.shape[0], np.arange(ordered.shape[1])
    share = special.ndtr(z)
    place = share * (count - 1)
    under = np.floor(place).astype(np.int64)
    over = np.minimum(under + 1, count - 1)
    found = ordered[under, columns] * (1 - (place - under)) + ordered[over, columns] * (
        place - under
    )
    beyond = ordered.mean(axis=0) + z * ordered.std(axis=0)
    found = np.where(share * count < 1, np.minimum(found, beyond), found)
    out: _Floats = np.where((1 - share) * count < 1, np.maximum(found, beyond), found)
    return out


def bca_p(value: float, resampled: _Floats, acceleration_: float) -> float:
    """Return the two-sided p-value of a statistic being 0: the level whose BCa interval ends there.

    With w = Φ⁻¹(share of resamples below 0) the one-sided level is Φ(z),
    z = (w − z0) / (1 + a (w − z0)) − z0. Shares of 0 and 1 are taken for half a resample, so no
    p-value is less than what the number of resamples can tell.

    Args:
        value: The statistic of the whole sample.
        resampled: The same of the resamples, shape [resamples].
        acceleration_: The acceleration of the statistic.

    Returns:
        p in (0, 1]; 1 where all resamples are 0.

    Source: Efron, Tibshirani 1993, formula 15.34 (the achieved significance level of BCa).
    """
    count = len(resampled)
    if not np.any(resampled):
        return 1.0

    def score(cut: float) -> float:
        width = 1e-12 * max(abs(cut), float(np.abs(resampled).max()))
        below = (resampled < cut - width).sum() + (resampled <= cut + width).sum()
        return float(special.ndtri(np.clip(below / (2 * count), 0.5 / count, 1 - 0.5 / count)))

    z0, w = score(value), score(0.0)
    apart = w - z0
    z = apart / max(1 + acceleration_ * apart, 0.1) - z0
    return float(max(1 / count, min(1.0, 2 * special.ndtr(-abs(z)))))

"""Two models on the same samples: where they agree, and whether one is really better."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart._util.seeding import generator
from headstart.evaluate.intervals import (
    RESAMPLES,
    acceleration,
    bca_ends,
    bca_mean,
    wilson_ends,
)
from headstart.types import Estimates, Predictions, Score

# A bootstrap's smallest p-value is one over its resamples, which a correction for many pairs
# multiplies: 10,000 can still tell each of 499 pairs from noise. Long splits get fewer.
_MOST_RESAMPLES = 10_000
_DRAWS = 400_000_000


@dataclass(frozen=True, slots=True)
class Pairing:
    """A paired comparison on one split.

    Attributes:
        agreement: Share of samples on which both predict the same class.
        n: Number of samples.
        accuracy_difference: Accuracy of a minus accuracy of b, with the paired BCa
            bootstrap's 95% interval (see `accuracy_difference`).
    """

    agreement: float
    n: int
    accuracy_difference: Score


def compare_pair(a: Predictions, b: Predictions, seed: int = 0) -> Pairing:
    """Compare two models' predictions of the same split.

    Args:
        a: One model's predictions.
        b: The other's, of the same samples in the same order.
        seed: Decides the bootstrap's resamples.

    Returns:
        Agreement and difference in accuracy.

    Raises:
        ValueError: The predictions are not of the same samples.
    """
    if a.names != b.names or not np.array_equal(a.labels, b.labels):
        raise ValueError("expected predictions of the same samples in the same order")
    predicted_a, predicted_b = a.predicted, b.predicted
    return Pairing(
        agreement=float((predicted_a == predicted_b).mean()),
        n=len(a.names),
        accuracy_difference=accuracy_difference(
            predicted_a == a.labels, predicted_b == b.labels, seed
        ),
    )


def accuracy_difference(
    right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_], seed: int = 0
) -> Score:
    """Return the accuracy of one model minus that of another, on the same samples.

    Samples are drawn with both models' answers, so what both get right or wrong cancels out. Where
    no sample tells the models apart, or every one does in the same way, all resamples are equal;
    then the ends are Wilson's, for the share of samples that could still tell them apart.

    Args:
        right_a: Whether one model is right, bool, shape [n], n >= 1.
        right_b: The same of the other.
        seed: Decides the bootstrap's resamples.

    Returns:
        The difference with its BCa bootstrap's 95% interval; that of b minus a is its mirror image.
    """
    a_only, b_only = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n = len(right_a)
    # Resamples are drawn for the better minus the worse, so that both ways round say the same.
    found = _difference(max(a_only, b_only), min(a_only, b_only), n, seed)
    return found if a_only >= b_only else Score(-found.value, -found.high, -found.low, n)


def _difference(better: int, worse: int, n: int, seed: int) -> Score:
    # All that a resample's difference rests on is how often each of three kinds was drawn.
    kinds = np.array([better, worse, n - better - worse])
    signs = np.array([1.0, -1.0, 0.0])
    value = float(kinds @ signs / n)
    if kinds.max() == n:
        low, high = wilson_ends(abs(value), n)
        if value == 0:
            return Score(0.0, -high, high, n)
        ends = sorted((value * (2 * low - 1), value))
        return Score(value, ends[0], ends[1], n)
    drawn = generator("bootstrap-pair", seed).multinomial(n, kinds / n, size=RESAMPLES)
    apart = signs - value
    skew = acceleration([kinds @ apart**3], [kinds @ apart**2])
    lows, highs = bca_ends(np.array([value]), (drawn @ signs / n)[:, None], skew)
    low, high = float(lows[0]), float(highs[0])
    if better == worse:  # there is no better one: no direction either
        high = (high - low) / 2
        low = -high
    return Score(value, low, high, n)


def mcnemar_exact(a_only: int, b_only: int) -> float:
    """Return McNemar's exact p-value: whether two models are right equally often.

    If they were, a sample on which only one of the two is right would be as likely a's as b's: the
    count follows a binomial with probability 1/2.

    Args:
        a_only: On how many samples only the first is right.
        b_only: On how many samples only the second is.

    Returns:
        The two-sided p-value in (0, 1]; 1 where both numbers are 0. One that is too small for a
        float64 is the smallest that there is, 5e-324.

    Raises:
        ValueError: A number is below 0.

    Source: McNemar 1947; recommended for two classifiers on one test set by Dietterich 1998.
    """
    if a_only < 0 or b_only < 0:
        raise ValueError(f"expected numbers of samples, got {a_only} and {b_only}")
    if a_only + b_only == 0:
        return 1.0
    from scipy import stats  # takes 0.4 s to import: not for a run that compares nothing

    p = 2 * stats.binom.cdf(min(a_only, b_only), a_only + b_only, 0.5)
    # 2⁻¹⁰⁷⁵ and less are rounded to 0, which no p-value is.
    return float(np.clip(p, np.finfo(np.float64).smallest_subnormal, 1.0))


def squared_error_difference(a: Estimates, b: Estimates, seed: int = 0) -> Score:
    """Return the mean squared error of one model minus that of another, on the same samples.

    Args:
        a: One model's estimates.
        b: The other's, of the same samples in the same order.
        seed: Decides the bootstrap's resamples.

    Returns:
        The difference with the paired BCa bootstrap's 95% interval.

    Raises:
        ValueError: The estimates are not of the same samples.
    """
    if a.names != b.names or not np.array_equal(a.targets, b.targets):
        raise ValueError("expected estimates of the same samples in the same order")
    errors = [np.square(e.values.astype(np.float64) - e.targets) for e in (a, b)]
    return bca_mean(errors[0] - errors[1], seed, resamples_for(len(a.names)))


def resamples_for(n: int) -> int:
    """Return how often errors of n samples are drawn: more often where that costs little."""
    return int(np.clip(_DRAWS // n, RESAMPLES, _MOST_RESAMPLES))


def relative_difference(
    a: Mapping[str, npt.NDArray[np.float32]], b: Mapping[str, npt.NDArray[np.float32]]
) -> float | None:
    """Return how far apart two sets of weights are, relative to the size of the second.

    Args:
        a: Named arrays.
        b: Named arrays.

    Returns:
        ‖a − b‖ / ‖b‖ over all entries (Frobenius norm), or None where names or shapes differ.
    """
    if a.keys() != b.keys() or any(a[k].shape != b[k].shape for k in a):
        return None
    difference = sum(float(np.square(a[k].astype(np.float64) - b[k]).sum()) for k in a)
    size = sum(float(np.square(b[k].astype(np.float64)).sum()) for k in b)
    return float(np.sqrt(difference / size)) if size > 0 else None

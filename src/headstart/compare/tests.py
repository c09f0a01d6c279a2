"""Which of several models are really better: a test for each pair, corrected for many pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headstart.compare.paired import accuracy_difference, mcnemar_exact, resamples_for
from headstart.evaluate.intervals import bca_ends, bca_p, mean_acceleration, resampled_means
from headstart.types import Estimates, Predictions, Score

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class PairTest:
    """Two models on the same samples, and whether they differ.

    Attributes:
        a: Name of the first model.
        b: Name of the second.
        difference: The metric of a minus that of b, with the paired BCa bootstrap's 95% interval.
        a_only: On how many samples only a is right; None for a regression.
        b_only: On how many samples only b is right; None for a regression.
        p: The p-value of this pair alone.
        p_holm: The same after Holm's correction for all pairs that were tested together.
        distinguishable: Whether the difference survives the correction: p_holm < 0.05.
    """

    a: str
    b: str
    difference: Score
    a_only: int | None
    b_only: int | None
    p: float
    p_holm: float
    distinguishable: bool


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several, by Holm's step-down method.

    The smallest of m is multiplied by m, the next by m − 1 and so on; none becomes smaller than
    the one before it, or larger than 1. The chance of any false finding among all is then at most
    the level, however the tests depend on each other.

    Args:
        ps: p-values in [0, 1].

    Returns:
        The corrected ones, in the same order.

    Source: Holm 1979.
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    out = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        out[index] = highest
    return out


def test_pairs(
    predictions: Mapping[str, Predictions],
    pairs: Sequence[tuple[str, str]],
    seed: int = 0,  # noqa: PT028 - no test of pytest's
) -> tuple[PairTest, ...]:
    """Test pairs of classifiers for equal accuracy: McNemar's exact test, corrected by Holm.

    Args:
        predictions: What each model says of the same samples.
        pairs: Names of two models each.
        seed: Decides the bootstrap's resamples.

    Returns:
        One test per pair, in the order of the pairs.

    Raises:
        ValueError: The predictions of a pair are not of the same samples, or there are none.
        KeyError: A name has no predictions.
    """
    used = {name: predictions[name] for pair in pairs for name in pair}
    right = {name: found.predicted == found.labels for name, found in used.items()}
    out = []
    for a, b in pairs:
        first, second = used[a], used[b]
        if first.names != second.names or not np.array_equal(first.labels, second.labels):
            raise ValueError(f"expected {a} and {b} to predict the same samples in the same order")
        if not first.names:
            raise ValueError(f"expected at least one sample to compare {a} and {b} on, got none")
        a_only = int((right[a] & ~right[b]).sum())
        b_only = int((right[b] & ~right[a]).sum())
        difference = accuracy_difference(right[a], right[b], seed)
        p = mcnemar_exact(a_only, b_only)
        out.append(PairTest(a, b, difference, a_only, b_only, p, p, False))
    return _corrected(out)


def test_estimate_pairs(
    estimates: Mapping[str, Estimates],
    pairs: Sequence[tuple[str, str]],
    seed: int = 0,  # noqa: PT028 - no test of pytest's
) -> tuple[PairTest, ...]:
    """Test pairs of regressions for equal mean squared error: the paired bootstrap, Holm.

    The p-value is the level whose BCa interval would just end at 0, so that a pair's 95% interval
    leaves 0 out where its own p-value is below 0.05.

    Args:
        estimates: What each model says of the same samples.
        pairs: Names of two models each.
        seed: Decides the bootstrap's resamples, which all pairs share.

    Returns:
        One test per pair, in the order of the pairs.

    Raises:
        ValueError: The estimates of a pair are not of the same samples, or there are none.
        KeyError: A name has no estimates.
    """
    if not pairs:
        return ()
    names = sorted({name for pair in pairs for name in pair})
    first = estimates[names[0]]
    for name in names:
        other = estimates[name]
        if other.names != first.names or not np.array_equal(other.targets, first.targets):
            raise ValueError(
                f"expected {names[0]} and {name} to estimate the same samples in the same order"
            )
    n = len(first.names)
    if not n:
        raise ValueError("expected at least one sample to compare estimates on, got none")
    targets = first.targets.astype(np.float64)
    errors = np.stack([np.square(estimates[name].values - targets) for name in names], axis=1)
    place = {name: index for index, name in enumerate(names)}
    drawn = resampled_means(errors, seed, resamples_for(n))
    out = []
    for a, b in pairs:
        apart = errors[:, [place[a]]] - errors[:, [place[b]]]
        if not apart.any():
            out.append(PairTest(a, b, Score(0.0, 0.0, 0.0, n), None, None, 1.0, 1.0, False))
            continue
        means = drawn[:, [place[a]]] - drawn[:, [place[b]]]
        value, skew = apart.mean(axis=0), mean_acceleration(apart)
        low, high = bca_ends(value, means, skew)
        score = Score(float(value[0]), float(low[0]), float(high[0]), n)
        # Few samples could all point one way by chance: no p-value is below a sign test's smallest.
        p = max(bca_p(score.value, means[:, 0], float(skew[0])), 2.0 ** (1 - min(n, 1000)))
        out.append(PairTest(a, b, score, None, None, p, p, False))
    return _corrected(out)


def _corrected(found: Sequence[PairTest]) -> tuple[PairTest, ...]:
    corrected = holm([test.p for test in found])
    return tuple(
        replace(test, p_holm=p, distinguishable=p < LEVEL)
        for test, p in zip(found, corrected, strict=True)
    )

"""Which of several models are really better: a test for each pair, corrected for many pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headstart.compare.paired import accuracy_difference, mcnemar_exact, resamples_for
from headstart.evaluate.intervals import bca_ends, bca_p, mean_acceleration, resampled_means
from headstart.types import Estimates, Predictions, Score

LEVEL = 0.05
"""Two models differ where the corrected p-value is below."""


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
        estimates: What each model says of its samples; those of one pair are the same.
        pairs: Names of two models each.
        seed: Decides the bootstrap's resamples, which all pairs on the same samples share.

    Returns:
        One test per pair, in the order of the pairs.

    Raises:
        ValueError: The estimates of a pair are not of the same samples, or there are none.
        KeyError: A name has no estimates.
    """
    groups = _on_same_samples({name: estimates[name] for pair in pairs for name in pair})
    found = []
    drawn: dict[int, _Drawn] = {}
    for a, b in pairs:
        number = next(i for i, names in enumerate(groups) if a in names)
        if b not in groups[number]:
            raise ValueError(f"expected {a} and {b} to estimate the same samples in the same order")
        if number not in drawn:
            drawn[number] = _draw({name: estimates[name] for name in groups[number]}, seed)
        found.append(drawn[number].tested(a, b))
    return _corrected(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Squared errors of models on the same samples, and their means over shared resamples.

    Attributes:
        names: The models.
        errors: float64, shape [n, models].
        means: float64, shape [resamples, models].
    """

    names: tuple[str, ...]
    errors: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]

    def tested(self, a: str, b: str) -> PairTest:
        """Return the test of two of the models, not corrected."""
        n = len(self.errors)
        first, second = ([self.names.index(name)] for name in (a, b))
        apart = self.errors[:, first] - self.errors[:, second]
        if not apart.any():
            return PairTest(a, b, Score(0.0, 0.0, 0.0, n), None, None, 1.0, 1.0, False)
        means = self.means[:, first] - self.means[:, second]
        value, skew = apart.mean(axis=0), mean_acceleration(apart)
        low, high = bca_ends(value, means, skew)
        score = Score(float(value[0]), float(low[0]), float(high[0]), n)
        # Few samples could all point one way by chance: no p-value is below a sign test's smallest.
        p = max(bca_p(score.value, means[:, 0], float(skew[0])), 2.0 ** (1 - min(n, 1000)))
        return PairTest(a, b, score, None, None, p, p, False)


def _on_same_samples(estimates: Mapping[str, Estimates]) -> list[list[str]]:
    """Return names by the samples of their estimates: those of one group share all."""
    groups: list[list[str]] = []
    for name in sorted(estimates):
        own = estimates[name]
        for group in groups:
            other = estimates[group[0]]
            if own.names == other.names and np.array_equal(own.targets, other.targets):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def _draw(estimates: Mapping[str, Estimates], seed: int) -> _Drawn:
    """Resample the squared errors of models on the same samples, all by the same draws."""
    targets = next(iter(estimates.values())).targets.astype(np.float64)
    n = len(targets)
    if not n:
        raise ValueError("expected at least one sample to compare estimates on, got none")
    errors = np.stack([np.square(e.values - targets) for e in estimates.values()], axis=1)
    return _Drawn(tuple(estimates), errors, resampled_means(errors, seed, resamples_for(n)))


def _corrected(found: Sequence[PairTest]) -> tuple[PairTest, ...]:
    corrected = holm([test.p for test in found])
    return tuple(
        replace(test, p_holm=p, distinguishable=p < LEVEL)
        for test, p in zip(found, corrected, strict=True)
    )

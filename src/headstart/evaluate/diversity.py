"""How different the mistakes of several classifiers are: what an ensemble lives on."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from headstart.types import IntArray


@dataclass(frozen=True, slots=True)
class PairDiversity:
    """How two classifiers differ on the same samples.

    Attributes:
        a: Index of the first classifier.
        b: Index of the second.
        disagreement: Share of samples on which one of the two is right and the other wrong.
        q_statistic: Yule's Q in [−1, 1]: 0 where they err independently of each other, above 0
            where they tend to err together, below 0 where they err on different samples; None
            where it is not defined (0/0), as when one of the two is always right.
        double_fault: Share of samples on which both are wrong.
    """

    a: int
    b: int
    disagreement: float
    q_statistic: float | None
    double_fault: float


@dataclass(frozen=True, slots=True)
class Diversity:
    """How different several classifiers are.

    Attributes:
        disagreement: Mean over all pairs.
        pairs: All pairs, in the order (0, 1), (0, 2), … (1, 2), ….
    """

    disagreement: float
    pairs: tuple[PairDiversity, ...]


def measure_diversity(predictions: IntArray, labels: IntArray) -> Diversity:
    """Compare the mistakes of all pairs of classifiers.

    With n11 the number of samples on which both are right, n00 on which both are wrong, and n10,
    n01 on which one is: disagreement = (n10 + n01) / n, double fault = n00 / n and
    Q = (n11·n00 − n01·n10) / (n11·n00 + n01·n10).

    Args:
        predictions: Predicted class indices, int64, shape [m, n], m >= 2.
        labels: True class indices, int64, shape [n], n >= 1.

    Returns:
        The mean disagreement, and the figures of each pair.

    Raises:
        ValueError: There are fewer than two classifiers, no sample, or the shapes do not fit.

    Source: Kuncheva, Whitaker, Measures of diversity in classifier ensembles (2003), section 2.
    """
    if predictions.ndim != 2 or predictions.shape[1:] != labels.shape:
        raise ValueError(
            f"expected predictions [m, n] and labels [n], got {predictions.shape}, {labels.shape}"
        )
    if len(predictions) < 2 or len(labels) == 0:
        raise ValueError(
            "expected at least two classifiers and one sample, got "
            f"{len(predictions)} and {len(labels)}"
        )
    right = predictions == labels
    pairs = tuple(_pair(right, a, b) for a, b in combinations(range(len(right)), 2))
    return Diversity(float(np.mean([pair.disagreement for pair in pairs])), pairs)


def _pair(right: npt.NDArray[np.bool_], a: int, b: int) -> PairDiversity:
    n = right.shape[1]
    both = int((right[a] & right[b]).sum())
    neither = int((~right[a] & ~right[b]).sum())
    only_a = int((right[a] & ~right[b]).sum())
    only_b = n - both - neither - only_a
    bottom = both * neither + only_a * only_b
    return PairDiversity(
        a=a,
        b=b,
        disagreement=(only_a + only_b) / n,
        q_statistic=(both * neither - only_a * only_b) / bottom if bottom else None,
        double_fault=neither / n,
    )

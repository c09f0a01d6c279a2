"""The area under the ROC curve, one class against the rest, and its interval without resampling."""

import numpy as np
import numpy.typing as npt

from headstart.evaluate.intervals import Z95, wilson_ends
from headstart.types import FloatArray, IntArray, Score

_Floats = npt.NDArray[np.float64]


def auc_macro(labels: IntArray, probabilities: FloatArray) -> Score | None:
    """Return the mean over classes of the one-vs-rest ROC AUC, with its interval.

    A class's AUC is how often a sample of the class gets a higher probability for it than another
    sample, ties counting half. It is a mean over pairs of samples, so each sample has a placement
    value: the share of its counterparts that it is on the right side of. What one sample adds to
    the variance is the sum over all classes of its placement's distance from the class's AUC, as a
    positive of its own class and as a negative of the others. For two classes this is DeLong's
    variance. The interval is symmetric on the logit scale, so it stays within (0, 1).

    Args:
        labels: True class indices, int64, shape [n].
        probabilities: Finite, float32, shape [n, classes].

    Returns:
        The average over the classes that have samples of both kinds; None where there is none.
        Where no placement varies, as where the classes are ranked perfectly, the ends are Wilson's
        for half of C² / Σ 1/min(positives, negatives) samples, which for two classes bounds the
        variance that an AUC can have.

    Source: DeLong, DeLong, Clarke-Pearson 1988; placements by ranks: Sun, Xu 2014; logit scale:
    Pepe 2003, section 5.2.4; the bound: Birnbaum, Klose 1957.
    """
    n = len(labels)
    support = np.bincount(labels, minlength=probabilities.shape[1])
    classes = np.flatnonzero((support > 0) & (support < n))
    if not len(classes):
        return None
    areas = np.empty(len(classes))
    influence = np.zeros(n)
    for k, c in enumerate(classes):
        own = labels == c
        positive, negative = _placements(probabilities[own, c], probabilities[~own, c])
        areas[k] = positive.mean()
        influence[own] += (positive - areas[k]) / support[c]
        influence[~own] += (negative - areas[k]) / (n - support[c])
    value = float(areas.mean())
    # Within a class of m samples the sum of squares is m − 1 times their variance.
    size = support[labels]
    scale = size / np.maximum(size - 1, 1)
    error = float(np.sqrt((scale * influence**2).sum()) / len(classes))
    if error < 1e-9 or not 0 < value < 1:
        fewer = np.minimum(support[classes], n - support[classes])
        low, high = wilson_ends(value, 0.5 * len(classes) ** 2 / float((1 / fewer).sum()))
        return Score(value, low, high, n)
    logit, half = np.log(value / (1 - value)), Z95 * error / (value * (1 - value))
    low, high = (float(1 / (1 + np.exp(-(logit + side * half)))) for side in (-1, 1))
    return Score(value, low, high, n)


def _placements(positives: FloatArray, negatives: FloatArray) -> tuple[_Floats, _Floats]:
    """Return the share of negatives below each positive, and of positives above each negative.

    Only the positives are sorted: where the negatives would be inserted among them says how many
    positives lie below, and how many negatives were inserted at or before a positive says the rest.
    In O(n log m) for m positives.
    """
    order = np.argsort(positives, kind="stable")
    ordered, m = positives[order], len(positives)
    left = np.searchsorted(ordered, negatives, side="left")
    right = np.searchsorted(ordered, negatives, side="right")
    # A negative lies below the i-th positive if `right` <= i, and not above it if `left` <= i.
    below = np.cumsum(np.bincount(right, minlength=m + 1))[:m]
    not_above = np.cumsum(np.bincount(left, minlength=m + 1))[:m]
    placed = np.empty(m)
    placed[order] = (below + not_above) / (2 * len(negatives))
    return placed, 1 - (left + right) / (2 * m)

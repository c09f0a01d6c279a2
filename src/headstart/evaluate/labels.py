"""Labels that look wrong: confident learning on probabilities of a model that did not see them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.types import FloatArray, IntArray

_ROUNDING = 1e-6  # a probability so little below a threshold counts as at it
_LEAST = 1e-5  # of a threshold: a class that the model never believes in
_NEVER = 2.0  # threshold of a class that nothing is labelled with: no probability reaches it

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Suspicious:
    """Samples whose label is probably wrong.

    Attributes:
        order: Their indices, int64, shape [found], the most suspicious first: by normalised
            margin, p(given label) minus the largest other probability, ascending.
        suggested: The class that the model would give each, int64, shape [found].
        share: Estimated share of wrong labels among all samples, in [0, 1].
        joint: Estimated number of samples by given label (row) and true label (column), int64,
            shape [classes, classes]; rows add up to the given labels' counts.
    """

    order: IntArray
    suggested: IntArray
    share: float
    joint: Counts


def suspicious_labels(labels: IntArray, probabilities: FloatArray) -> Suspicious:
    """Find labels that are probably wrong, by confident learning.

    A sample counts as confidently of class j where its probability of j reaches the mean
    probability of j among the samples labelled j (the class's threshold); of several such classes
    the most probable counts. Counting given against confident labels, and scaling the rows to the
    numbers of given labels, estimates how many samples with label i are truly of class j. So many
    of them are pruned ("by noise rate"): those with the largest p(j) − p(i). Samples for which the
    given label is the most probable are never among them.

    Args:
        labels: Given class indices, int64, shape [n].
        probabilities: Of a model that was trained without the sample (out of fold), shape
            [n, classes]; rows sum to 1.

    Returns:
        The samples, the worst first, and how many wrong labels there probably are.

    Raises:
        ValueError: The shapes do not fit, or there is no sample.

    Source: Northcutt, Jiang, Chuang 2021, Confident Learning, JAIR 70, sections 3.1 and 3.2.
    """
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            "expected labels [n] and probabilities [n, classes] with n >= 1, got "
            f"{labels.shape} and {probabilities.shape}"
        )
    p = probabilities.astype(np.float64)
    classes = p.shape[1]
    given_counts = np.bincount(labels, minlength=classes)
    scaled = _calibrated(_confident_counts(labels, p), given_counts)
    joint = np.stack([_rounded(row) for row in scaled])
    own = p[np.arange(len(labels)), labels]
    found = np.zeros(len(labels), dtype=np.bool_)
    for given, true in zip(*np.nonzero(joint), strict=True):
        if given != true:
            members = np.flatnonzero(labels == given)
            margins = p[members, true] - own[members]
            found[members[np.argsort(-margins)[: joint[given, true]]]] = True
    others = p.copy()
    others[np.arange(len(labels)), labels] = -1.0
    best_other = others.max(axis=1)
    # Equal up to rounding is not less.
    found &= best_other > own + _ROUNDING
    places = np.flatnonzero(found)
    order = places[np.argsort((own - best_other)[places], kind="stable")]
    off_diagonal = float(scaled.sum() - np.trace(scaled))
    return Suspicious(
        order=order.astype(np.int64),
        suggested=others[order].argmax(axis=1).astype(np.int64),
        share=off_diagonal / len(labels),
        joint=joint,
    )


def _confident_counts(labels: IntArray, p: npt.NDArray[np.float64]) -> Counts:
    """Return how many samples labelled i (row) are confidently of class j (column)."""
    classes = p.shape[1]
    thresholds = np.array(
        [p[labels == c, c].mean() if (labels == c).any() else _NEVER for c in range(classes)]
    )
    confident = p >= np.maximum(thresholds, _LEAST) - _ROUNDING
    some = confident.any(axis=1)
    guess = np.where(confident.sum(axis=1) > 1, p.argmax(axis=1), confident.argmax(axis=1))
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels[some], guess[some]), 1)
    # A class without any confident sample would have no row to scale.
    np.fill_diagonal(counts, counts.diagonal().clip(min=1))
    return counts


def _calibrated(counts: Counts, given_counts: Counts) -> npt.NDArray[np.float64]:
    """Return the counts with each row scaled to how many samples have that label."""
    scaled: npt.NDArray[np.float64] = (
        counts / counts.sum(axis=1, keepdims=True) * given_counts[:, None]
    )
    return scaled


def _rounded(row: npt.NDArray[np.float64]) -> Counts:
    """Return whole numbers with the same (rounded) sum, moving those that were rounded farthest."""
    whole = np.rint(row)
    missing = round(float(row.sum())) - int(whole.sum())
    step = 1 if missing > 0 else -1
    if missing:
        # So many entries are off by half at most that one step each is enough.
        order = np.argsort(row - whole)[::-step]
        whole[order[: abs(missing)]] += step
    return whole.astype(np.int64)

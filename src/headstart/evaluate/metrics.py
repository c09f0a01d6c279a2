"""Accuracy, log loss, precision, recall and F1 of a classifier, each with its 95% interval."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from headstart.evaluate.intervals import (
    bootstrap_confusions,
    bootstrap_mean,
    percentile_interval,
    wilson,
)
from headstart.types import FloatArray, IntArray, Score


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One class's row.

    Precision: of those called it, how many were. Recall: of those that were, how many were called
    it. F1: the harmonic mean of both.
    """

    name: str
    precision: Score
    recall: Score
    f1: Score
    support: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a classifier's predictions on one split are.

    Attributes:
        scores: ``accuracy``, ``loss`` (mean negative log-likelihood in nats),
            ``precision_macro``, ``recall_macro``, ``f1_macro``.
        per_class: One row per class, in the order of the classes.
        confusion: Counts, rows true and columns predicted, shape [classes, classes].
    """

    scores: dict[str, Score]
    per_class: tuple[ClassReport, ...]
    confusion: IntArray


def evaluate_classification(
    labels: IntArray, probabilities: FloatArray, classes: tuple[str, ...], seed: int = 0
) -> Evaluation:
    """Score predicted probabilities against the truth.

    Accuracy has Wilson's interval; the others the percentile bootstrap over samples, stratified
    by true class for those that rest on the confusion matrix. Macro averages run over the classes
    that occur in the split or in its predictions; 0/0 counts as 0, as in scikit-learn.

    Args:
        labels: True class indices, int64, shape [n], n >= 1.
        probabilities: float32, shape [n, classes].
        classes: Class names.
        seed: Decides the bootstrap's resamples.

    Returns:
        Scores, one row per class, and the confusion matrix.

    Raises:
        ValueError: The split is empty, or a probability is not a finite number.
    """
    n = len(labels)
    if n == 0:
        raise ValueError("expected at least one sample to evaluate, got none")
    if not np.isfinite(probabilities).all():
        raise ValueError("expected finite probabilities, got NaN or infinity")
    predicted = probabilities.argmax(axis=1)
    counts: IntArray = confusion_matrix(labels, predicted, labels=np.arange(len(classes))).astype(
        np.int64
    )
    own = np.clip(probabilities[np.arange(n), labels].astype(np.float64), 1e-12, 1.0)
    resampled = bootstrap_confusions(counts, seed)
    rows = percentile_interval(_per_class, counts, resampled)
    macro = percentile_interval(_macro, counts, resampled)
    scores = {
        "accuracy": wilson(int((predicted == labels).sum()), n),
        "loss": bootstrap_mean(-np.log(own), seed),
    }
    for name, (value, low, high) in zip(
        ("precision_macro", "recall_macro", "f1_macro"), macro, strict=True
    ):
        scores[name] = Score(value, low, high, n)
    return Evaluation(scores, _class_rows(classes, rows, counts), counts)


def _class_rows(
    classes: tuple[str, ...], rows: list[tuple[float, float, float]], counts: IntArray
) -> tuple[ClassReport, ...]:
    width = len(classes)
    out = []
    for index, name in enumerate(classes):
        support = int(counts[index].sum())
        called = int(counts[:, index].sum())
        precision, recall, f1 = (rows[index + width * k] for k in range(3))
        hits = int(counts[index, index])
        out.append(
            ClassReport(
                name=name,
                # Shares of independent samples have Wilson's interval, which is right at 0 and 1
                # too, where the bootstrap's collapses to a point.
                precision=wilson(hits, called) if called else Score(*precision, 0),
                recall=wilson(hits, support) if support else Score(*recall, 0),
                f1=Score(*f1, support),
                support=support,
            )
        )
    return tuple(out)


def _triple(counts: IntArray) -> npt.NDArray[np.float64]:
    """Return precision, recall and F1 per class: [r, c, c] -> [r, 3, c]."""
    hits = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    called = counts.sum(axis=1)
    support = counts.sum(axis=2)
    precision = hits / np.maximum(called, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(called + support, 1)
    return np.stack([precision, recall, f1], axis=1)


def _per_class(counts: IntArray) -> npt.NDArray[np.float64]:
    return _triple(counts).reshape(len(counts), -1)


def _macro(counts: IntArray) -> npt.NDArray[np.float64]:
    present = (counts.sum(axis=1) + counts.sum(axis=2)) > 0  # [r, c]
    sums = (_triple(counts) * present[:, None]).sum(axis=2)
    averages: npt.NDArray[np.float64] = sums / present.sum(axis=1, keepdims=True)
    return averages

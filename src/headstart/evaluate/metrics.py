"""Accuracy, log loss, precision, recall, F1 and AUC of a classifier, each with its 95% interval."""

from dataclasses import dataclass

import numpy as np

from headstart.evaluate.auc import auc_macro
from headstart.evaluate.intervals import bca_mean, wilson
from headstart.evaluate.resampling import class_f1, macro_scores, resample
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
            ``precision_macro``, ``recall_macro``, ``f1_macro``; ``auc_macro`` (one class against
            the rest) where a class has both kinds of samples in the split.
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

    Accuracy has Wilson's interval, as have the precision and recall of a class; the loss the BCa
    bootstrap's over samples; the macro averages and the F1 of a class the BCa bootstrap's,
    stratified by the true class; AUC that of its placement values. Macro averages run over the
    classes that occur in the split or in its predictions; 0/0 counts as 0, as in scikit-learn.

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
    counts = confusion_matrix(labels, predicted, len(classes))
    own = np.clip(probabilities[np.arange(n), labels].astype(np.float64), 1e-12, 1.0)
    resampled = resample(counts, seed)
    precision, recall, f1 = macro_scores(counts, resampled)
    scores = {
        "accuracy": wilson(int((predicted == labels).sum()), n),
        "loss": bca_mean(-np.log(own), seed),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
    }
    auc = auc_macro(labels, probabilities)
    if auc is not None:
        scores["auc_macro"] = auc
    return Evaluation(scores, _class_rows(classes, class_f1(counts, resampled), counts), counts)


def confusion_matrix(labels: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """Count how many samples of each class were called what.

    Args:
        labels: True class indices, int64, shape [n], from 0 and below `classes`.
        predicted: What they were called, likewise.
        classes: How many there are.

    Returns:
        Counts, rows true and columns predicted, int64, shape [classes, classes].
    """
    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.astype(np.int64).reshape(classes, classes)


def _class_rows(
    classes: tuple[str, ...], f1: tuple[Score, ...], counts: IntArray
) -> tuple[ClassReport, ...]:
    hits, called, support = (
        np.diagonal(counts).tolist(),
        counts.sum(axis=0).tolist(),
        counts.sum(axis=1).tolist(),
    )
    return tuple(
        ClassReport(
            name=name,
            # Shares of independent samples have Wilson's interval, which needs no resampling.
            precision=_share(hits[c], called[c]),
            recall=_share(hits[c], support[c]),
            f1=f1[c],
            support=support[c],
        )
        for c, name in enumerate(classes)
    )


def _share(hits: int, n: int) -> Score:
    """Return a share with Wilson's interval; of no samples nothing is known: 0, from 0 to 1."""
    return wilson(hits, n) if n else Score(0.0, 0.0, 1.0, 0)

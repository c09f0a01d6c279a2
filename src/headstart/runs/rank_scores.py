"""What frozen features say of labels: cheap scores, and a probe that is tuned and tested fairly."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from headstart.evaluate import wilson
from headstart.evaluate.transferability import NEIGHBOURS, knn_votes, leep, logme
from headstart.heads.closed_form import fit_logistic
from headstart.heads.cross_validation import inverse_penalties
from headstart.runs.folds import FOLDS
from headstart.types import FloatArray, IntArray, JsonDict, Score


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A linear probe, each sample predicted without its fold.

    Attributes:
        accuracy: Over all samples.
        loss: Mean log loss over all samples, in nats.
        cs: The inverse penalty that was chosen for each fold, without a look at that fold.
        right: Whether each sample was told right, bool, shape [n].
    """

    accuracy: Score
    loss: float
    cs: tuple[float, ...]
    right: npt.NDArray[np.bool_]


def cross_validated_probe(
    features: FloatArray,
    labels: IntArray,
    classes: int,
    folds: IntArray,
    *,
    device: torch.device,
    done: Callable[[], None] = lambda: None,
) -> ProbeResult:
    """Predict every sample by a probe whose weights and penalty were found without its fold.

    For each fold the next one chooses the penalty: probes on the others are compared by their log
    loss there; with the penalty of the least the probe is solved once more, on all but the fold.

    Args:
        features: float32, shape [n, width].
        labels: Class indices, int64, shape [n].
        classes: Number of classes.
        folds: The fold of each sample, int64, shape [n].
        device: Where the sums run.
        done: Called after each fold.

    Returns:
        The probe's figures.
    """
    said = np.zeros((len(labels), classes))
    chosen = []
    for fold in range(FOLDS):
        test, chooses = folds == fold, folds == (fold + 1) % FOLDS
        rest = ~test & ~chooses
        cs = inverse_penalties(features[rest])
        fits = fit_logistic(features[rest], labels[rest], classes, cs, device=device)
        losses = [_loss(fit.probabilities(features[chooses]), labels[chooses]) for fit in fits]
        best = cs[int(np.argmin(losses))]
        (fit,) = fit_logistic(features[~test], labels[~test], classes, [best], device=device)
        said[test] = fit.probabilities(features[test])
        chosen.append(best)
        done()
    right = said.argmax(axis=1) == labels
    accuracy = wilson(int(right.sum()), len(labels))
    return ProbeResult(accuracy, _loss(said, labels), tuple(chosen), right)


def neighbours_accuracy(
    features: FloatArray, labels: IntArray, classes: int, folds: IntArray
) -> Score:
    """Return how many samples their nearest neighbours in the other folds tell right.

    Args:
        features: float32, shape [n, width].
        labels: Class indices, int64, shape [n].
        classes: Number of classes.
        folds: The fold of each sample, int64, shape [n].

    Returns:
        The accuracy with its interval.
    """
    right = 0
    for fold in range(FOLDS):
        test = folds == fold
        votes = knn_votes(features[~test], labels[~test], features[test], classes, NEIGHBOURS)
        right += int((votes.argmax(axis=1) == labels[test]).sum())
    return wilson(right, len(labels))


def cheap_scores(
    features: FloatArray,
    labels: IntArray,
    classes: int,
    folds: IntArray,
    theta: FloatArray | None,
) -> tuple[float, float | None, Score]:
    """Return LogME, LEEP (None without a classifier) and the neighbours' accuracy.

    Args:
        features: float32, shape [n, width].
        labels: Class indices, int64, shape [n].
        classes: Number of classes.
        folds: The fold of each sample, for the neighbours, int64, shape [n].
        theta: What the network's own classifier says, shape [n, s], or None.

    Returns:
        The three scores.
    """
    return (
        logme(features, labels, classes),
        None if theta is None else leep(theta, labels, classes),
        neighbours_accuracy(features, labels, classes, folds),
    )


def method_record() -> JsonDict:
    """Return how the scores were made, for rank.json."""
    return {"folds": FOLDS, "neighbours": NEIGHBOURS}


def _loss(probabilities: npt.NDArray[np.float64], labels: IntArray) -> float:
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, 1e-12)).mean())

"""Probabilities of samples that the probe has not seen: k-fold cross-validation on features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import linalg

from headstart._util.seeding import generator
from headstart.heads.closed_form import fit_logistic
from headstart.types import FloatArray, IntArray

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
"""Inverse penalties that are tried, over the mean squared length of the centred features."""
DIRECTIONS = 256
"""Leading directions of the features that are kept: of 1,280, a probe is five to ten times as fast
on them, and as right within the noise of a thousand samples."""
_TOLERANCE = 0.05  # of each fit: its bound is generous, the probabilities are far nearer
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What a probe says of samples that it was not trained on.

    Attributes:
        c: The inverse penalty of least log loss over all folds.
        probabilities: float32, shape [n, classes]; rows sum to 1.
        folds: Which fold each sample was held out in, int64, shape [n].
        trained: How many samples a probe was trained on, the mean over the folds.
    """

    c: float
    probabilities: FloatArray
    folds: IntArray
    trained: float


def stratified_folds(labels: IntArray, folds: int, seed: int) -> IntArray:
    """Share samples out so that every fold has nearly the same number of each class.

    Args:
        labels: Class indices, int64, shape [n].
        folds: How many, at least 2.
        seed: Decides who goes where.

    Returns:
        The fold of each sample, int64, shape [n]; sizes of folds differ by one at most.
    """
    draws = generator("folds", seed)
    # By class, shuffled within; dealt out in turn over all classes, so that the folds stay equal.
    order = np.lexsort((draws.random(len(labels)), labels))
    out = np.empty(len(labels), dtype=np.int64)
    out[order] = np.arange(len(labels)) % folds
    return out


def inverse_penalties(features: FloatArray) -> tuple[float, ...]:
    """Return the inverse penalties C that suit the scale of some features.

    Args:
        features: float32, shape [n, width].

    Returns:
        `STRENGTHS` over the mean squared length of the centred features: so what is tried does not
        depend on the unit that a network's features happen to have.
    """
    centred = features - features.mean(axis=0)
    size = float(np.einsum("nd,nd->", centred, centred, dtype=np.float64)) / len(features)
    return tuple(strength / max(size, 1e-30) for strength in STRENGTHS)


def leading(features: FloatArray, directions: int) -> FloatArray:
    """Return features in their leading principal directions.

    Args:
        features: float32, shape [n, width].
        directions: How many to keep, at most n and width.

    Returns:
        float32, shape [n, directions], centred.
    """
    centred = features - features.mean(axis=0)
    n, width = centred.shape
    gram = (centred @ centred.T if n < width else centred.T @ centred).astype(np.float64)
    chosen = (min(n, width) - directions, min(n, width) - 1)
    values, vectors = linalg.eigh(gram, subset_by_index=chosen)
    if n < width:  # centred = U S Vᵀ: the projections are U S
        found = vectors * np.sqrt(np.maximum(values, 0))
    else:
        found = centred @ vectors.astype(np.float32)
    out: FloatArray = found.astype(np.float32)
    return out


def cross_validate(
    features: FloatArray,
    labels: IntArray,
    classes: int,
    *,
    cs: Sequence[float] | None = None,
    held_out: IntArray | None = None,
    share: float = 1.0,
    directions: int | None = DIRECTIONS,
    seed: int = 0,
    device: torch.device,
    done: Callable[[], None] = lambda: None,
) -> CrossValidated:
    """Predict every sample with a probe that was trained on the other folds.

    Args:
        features: float32, shape [n, width].
        labels: Class indices, int64, shape [n].
        classes: Number of classes.
        cs: Inverse penalties to choose from; None for `inverse_penalties`.
        held_out: The fold of each sample, int64, shape [n]; None for five of `stratified_folds`.
        share: Share of the other folds' samples to train on, by class in proportion and drawn at
            random; each class that is there keeps one.
        directions: How many principal directions of the features the probe sees, found on all
            samples without their labels; None for the features as they are.
        seed: Decides draws, and folds where there are none yet.
        device: Where the sums run.
        done: Called after each fold.

    Returns:
        Probabilities, and the penalty that was chosen. Choosing among a few penalties by the same
        folds flatters by far less than the interval of the accuracy.
    """
    if directions is not None and min(features.shape) > directions:
        features = leading(features, directions)
    tried = tuple(sorted(set(inverse_penalties(features) if cs is None else cs)))
    if held_out is None:
        held_out = stratified_folds(labels, 5, seed)
    said = np.zeros((len(tried), len(labels), classes), dtype=np.float32)
    trained = []
    for fold in np.unique(held_out):
        test = held_out == fold
        train = np.flatnonzero(~test)
        if share < 1:
            train = train[_draw(labels[train], share, generator("share", seed, str(fold)))]
        trained.append(len(train))
        fits = fit_logistic(
            features[train], labels[train], classes, tried, device=device, tolerance=_TOLERANCE
        )
        for index, fit in enumerate(fits):
            said[index, test] = fit.probabilities(features[test])
        done()
    rows = np.arange(len(labels))
    losses = [-np.log(np.maximum(p[rows, labels], _LEAST)).mean() for p in said]
    best = int(np.argmin(losses))
    return CrossValidated(tried[best], said[best], held_out, float(np.mean(trained)))


def _draw(labels: IntArray, share: float, draws: np.random.Generator) -> IntArray:
    """Return positions of a share of the samples, by class in proportion, at least one of each."""
    order = np.lexsort((draws.random(len(labels)), labels))
    ordered = labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(ordered)])
    rank = np.arange(len(ordered)) - np.repeat(starts, counts)
    # Whether a class of 10 gives 2 or 3 at a share of a quarter is drawn, so that the sum is right.
    wanted = np.maximum(1, np.floor(share * counts + draws.random(len(counts))))
    return np.sort(order[rank < np.repeat(wanted, counts)])

"""A pretrained classifier as it is: top-1 and top-5, its table for a picture, fewer classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headstart.evaluate.intervals import wilson
from headstart.types import FloatArray, IntArray, Score


class NamedClass(Protocol):
    """A class of the classifier: what `headstart.backbones.imagenet.ImageNetClass` has."""

    @property
    def wnid(self) -> str:
        """Its id in WordNet."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """How often a classifier is right among all of its own classes.

    Attributes:
        top1: Share of the pictures whose class is the most probable one.
        top5: Share of the pictures whose class is among the five most probable.
        mapped: How many of the classifier's classes the data set has.
    """

    top1: Score
    top5: Score
    mapped: int


@dataclass(frozen=True, slots=True)
class TopRow:
    """One line of a table of the most probable classes.

    Attributes:
        rank: 1 for the most probable.
        index: Place of the class in the classifier's output, from 0.
        id: Its id in WordNet.
        name: What people call it.
        probability: Its probability, in [0, 1].
    """

    rank: int
    index: int
    id: str
    name: str
    probability: float


def evaluate_zero_shot(
    probabilities: FloatArray, labels: IntArray, columns: Sequence[int] | IntArray
) -> ZeroShot:
    """Score a classifier's probabilities over all of its classes.

    A class is among the k most probable if fewer than k classes come before it; of equal ones the
    lower index comes first, so that top-1 is what `argmax` says. Without ties this is
    scikit-learn's `top_k_accuracy_score`.

    Args:
        probabilities: float32, shape [n, 1000], n >= 1; logits give the same result.
        labels: True classes as places in the classifier's output, int64, shape [n].
        columns: Place of each class of the data set in the classifier's output, shape [C].

    Returns:
        Top-1 and top-5 with Wilson's intervals.

    Raises:
        ValueError: The shapes do not fit, there is no picture, a number is not finite, or a label
            is none of `columns`.
    """
    n = len(labels)
    if n == 0:
        raise ValueError("expected at least one sample to evaluate, got none")
    if probabilities.ndim != 2 or len(probabilities) != n:
        raise ValueError(f"expected probabilities [{n}, classes], got {probabilities.shape}")
    places = _checked(columns, probabilities.shape[1])
    _require_finite(probabilities)
    strange = sorted(set(labels.tolist()) - set(places.tolist()))
    if strange:
        raise ValueError(f"expected labels among the {len(places)} columns, got {strange[:5]}")
    ranks = _ranks(probabilities, labels)
    return ZeroShot(
        top1=wilson(int((ranks < 1).sum()), n),
        top5=wilson(int((ranks < 5).sum()), n),
        mapped=len(places),
    )


def restrict(probabilities: FloatArray, columns: Sequence[int] | IntArray) -> FloatArray:
    """Return probabilities among some of the classes: taken out and divided by their sum.

    Args:
        probabilities: float32, shape [n, 1000], no number below 0.
        columns: Place of each class that is left in the classifier's output, shape [C].

    Returns:
        float32, shape [n, C]; rows sum to 1. A row in which all of these classes have probability
        0 says nothing of them, and becomes uniform.

    Raises:
        ValueError: A column is out of range or given twice, or a number is not finite or below 0.
    """
    places = _checked(columns, probabilities.shape[1])
    _require_finite(probabilities)
    # In float64: float32 probabilities of a classifier that is sure are as small as 1e-45.
    kept = probabilities[:, places].astype(np.float64)
    if (kept < 0).any():
        raise ValueError("expected probabilities, got a number below 0")
    sums = kept.sum(axis=1, keepdims=True)
    shares = np.full_like(kept, 1 / len(places))
    np.divide(kept, sums, out=shares, where=sums > 0)
    return shares.astype(np.float32)


def top_table(
    probabilities: FloatArray, classes: Sequence[NamedClass], k: int = 10
) -> tuple[TopRow, ...]:
    """Return the most probable classes of one picture.

    Args:
        probabilities: float32, shape [1000].
        classes: The classifier's classes, in the order of its output.
        k: How many rows, at least 1; no more than there are classes.

    Returns:
        The rows, the most probable first; of equal ones the lower index first.

    Raises:
        ValueError: There are more or fewer classes than probabilities, k is less than 1, or a
            number is not finite.
    """
    if probabilities.shape != (len(classes),):
        raise ValueError(f"expected probabilities [{len(classes)}], got {probabilities.shape}")
    if k < 1:
        raise ValueError(f"expected at least 1 row, got {k}")
    _require_finite(probabilities)
    order = np.argsort(-probabilities.astype(np.float64), kind="stable")[:k]
    return tuple(
        TopRow(rank, int(i), classes[i].wnid, classes[i].name, float(probabilities[i]))
        for rank, i in enumerate(order, start=1)
    )


def _ranks(probabilities: FloatArray, labels: IntArray) -> IntArray:
    """Return how many classes come before the true one: [n, classes], [n] -> [n]."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    index = np.arange(probabilities.shape[1])
    before = (probabilities > own) | ((probabilities == own) & (index < labels[:, None]))
    ranks: IntArray = before.sum(axis=1).astype(np.int64)
    return ranks


def _checked(columns: Sequence[int] | IntArray, width: int) -> IntArray:
    places = np.asarray(columns, dtype=np.int64)
    if places.ndim != 1 or not len(places) or places.min() < 0 or places.max() >= width:
        raise ValueError(f"expected columns between 0 and {width - 1}, got {places}")
    if len(np.unique(places)) != len(places):
        raise ValueError("expected different columns, got one twice")
    return places


def _require_finite(probabilities: FloatArray) -> None:
    if not np.isfinite(probabilities).all():
        raise ValueError("expected finite probabilities, got NaN or infinity")

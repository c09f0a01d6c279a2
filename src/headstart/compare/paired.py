"""Two models on the same samples: where they agree, and whether one is really better."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.evaluate.intervals import bootstrap_mean
from headstart.types import Estimates, Predictions, Score


@dataclass(frozen=True, slots=True)
class Pairing:
    """A paired comparison on one split.

    Attributes:
        agreement: Share of samples on which both predict the same class.
        n: Number of samples.
        accuracy_difference: Accuracy of a minus accuracy of b, with the paired bootstrap's 95%
            interval (samples are resampled, each with both models' answers).
    """

    agreement: float
    n: int
    accuracy_difference: Score


def compare_pair(a: Predictions, b: Predictions, seed: int = 0) -> Pairing:
    """Compare two models' predictions of the same split.

    Args:
        a: One model's predictions.
        b: The other's, of the same samples in the same order.
        seed: Decides the bootstrap's resamples.

    Returns:
        Agreement and difference in accuracy.

    Raises:
        ValueError: The predictions are not of the same samples.
    """
    if a.names != b.names or not np.array_equal(a.labels, b.labels):
        raise ValueError("expected predictions of the same samples in the same order")
    right_a = (a.predicted == a.labels).astype(np.float64)
    right_b = (b.predicted == b.labels).astype(np.float64)
    return Pairing(
        agreement=float((a.predicted == b.predicted).mean()),
        n=len(a.names),
        accuracy_difference=bootstrap_mean(right_a - right_b, seed),
    )


def squared_error_difference(a: Estimates, b: Estimates, seed: int = 0) -> Score:
    """Return the mean squared error of one model minus that of another, on the same samples.

    Args:
        a: One model's estimates.
        b: The other's, of the same samples in the same order.
        seed: Decides the bootstrap's resamples.

    Returns:
        The difference with the paired bootstrap's 95% interval.

    Raises:
        ValueError: The estimates are not of the same samples.
    """
    if a.names != b.names or not np.array_equal(a.targets, b.targets):
        raise ValueError("expected estimates of the same samples in the same order")
    errors = [np.square(e.values.astype(np.float64) - e.targets) for e in (a, b)]
    return bootstrap_mean(errors[0] - errors[1], seed)


def relative_difference(
    a: Mapping[str, npt.NDArray[np.float32]], b: Mapping[str, npt.NDArray[np.float32]]
) -> float | None:
    """Return how far apart two sets of weights are, relative to the size of the second.

    Args:
        a: Named arrays.
        b: Named arrays.

    Returns:
        ‖a − b‖ / ‖b‖ over all entries (Frobenius norm), or None where names or shapes differ.
    """
    if a.keys() != b.keys() or any(a[k].shape != b[k].shape for k in a):
        return None
    difference = sum(float(np.square(a[k].astype(np.float64) - b[k]).sum()) for k in a)
    size = sum(float(np.square(b[k].astype(np.float64)).sum()) for k in b)
    return float(np.sqrt(difference / size)) if size > 0 else None

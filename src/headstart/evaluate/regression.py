"""Squared and absolute error of a regression, each with its 95% interval."""

import numpy as np

from headstart.evaluate.intervals import bca_mean
from headstart.types import FloatArray, Score


def evaluate_regression(targets: FloatArray, values: FloatArray, seed: int = 0) -> dict[str, Score]:
    """Score predicted numbers against the truth.

    Args:
        targets: What is true, [n].
        values: What was predicted, [n].
        seed: Decides the bootstrap's resamples.

    Returns:
        ``mse`` (mean squared error) and ``mae`` (mean absolute error), with the BCa
        bootstrap's interval over samples.

    Raises:
        ValueError: There are no samples, or the two differ in number.
    """
    if targets.shape != values.shape or targets.ndim != 1 or not len(targets):
        raise ValueError(
            f"expected two vectors of one length, got {targets.shape} and {values.shape}"
        )
    error = values.astype(np.float64) - targets.astype(np.float64)
    return {
        "mse": bca_mean(np.square(error), seed),
        "mae": bca_mean(np.abs(error), seed),
    }

"""The time that `headstart fit` has, and how many samples fit into it."""

import time
from dataclasses import dataclass

import numpy as np

from headstart.types import IntArray

_REPORT_SECONDS = 20.0  # evaluation, timing of the prediction step, report


@dataclass(slots=True)
class Clock:
    """How much of a budget is left.

    Attributes:
        began: On the clock of `time.perf_counter`.
        budget: Seconds.
        analysis: Seconds that what comes after the training will take, besides the report.
    """

    began: float
    budget: float
    analysis: float = 0.0

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds that are left for features and training."""
        after = min(_REPORT_SECONDS, 0.3 * self.budget) + self.analysis
        return self.budget - self.spent - after


def largest_limit(counts: IntArray, wanted: int) -> int:
    """Return how many samples of each class and split may be used, so that all are not too many.

    Args:
        counts: Samples of each class and split, int64.
        wanted: How many may be used in all.

    Returns:
        The largest limit with at most so many samples; at least 5.
    """
    limits = np.arange(5, max(6, int(counts.max()) + 1))
    used = np.minimum(counts[None, :], limits[:, None]).sum(axis=1)
    return int(limits[max(0, int(np.searchsorted(used, wanted, side="right")) - 1)])

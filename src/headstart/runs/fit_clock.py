"""The time that `headstart fit` has."""

import time
from dataclasses import dataclass

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

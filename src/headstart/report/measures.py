"""What the models of a run are compared by: accuracy, mean squared error or perplexity."""

from dataclasses import dataclass

from headstart.report.text import (
    MISSING,
    Measured,
    percent,
    percent_interval,
    percent_score,
    points,
    points_interval,
    quantity,
    signed,
)
from headstart.types import JsonDict


@dataclass(frozen=True, slots=True)
class Measure:
    """The figure by which models of a run are compared, and how it is written.

    Attributes:
        key: Its name among a model's metrics.
        words: Its name in a sentence.
        short: Its name in the head of a column or at an axis.
        higher: Whether more is better.
        digits: Significant digits, or None where it is a share, written per cent.
        difference: The key of a paired difference in an entry of ``comparisons``.
    """

    key: str
    words: str
    short: str
    higher: bool
    digits: int | None
    difference: str

    @property
    def best(self) -> str:
        """``highest`` or ``lowest``."""
        return "highest" if self.higher else "lowest"

    @property
    def beyond(self) -> str:
        """Where a model lies that is worse: ``below`` or ``above`` the interval of another."""
        return "below" if self.higher else "above"

    @property
    def head(self) -> str:
        """The head of a column of it."""
        return f"{self.short}, %" if self.digits is None else self.short

    def value(self, value: float | None) -> str:
        """Write it for a sentence: 89.1%, 0.0214, 112.3."""
        return percent(value) if self.digits is None else quantity(value, self.digits)

    def interval(self, score: Measured | None) -> str:
        """Write its interval: 83.9–92.6."""
        if self.digits is None:
            return percent_interval(score)
        if score is None or score.interval is None:
            return MISSING
        return "–".join(quantity(end, self.digits) for end in score.interval)

    def score(self, score: Measured | None) -> str:
        """Write it with its interval, for a sentence: 112.3 (109.0–115.8)."""
        if self.digits is None or score is None:
            return percent_score(score)
        text = quantity(score.value, self.digits)
        return text if score.interval is None else f"{text} ({self.interval(score)})"

    def cells(self, score: Measured | None) -> list[str]:
        """Write it and its interval as two cells of a table."""
        value = score.value if score else None
        text = percent(value, sign="") if self.digits is None else self.value(value)
        return [text, self.interval(score)]

    def gain(self, difference: float | None) -> str:
        """Write a difference of two: +1.2 points, −0.0031."""
        if self.digits is None:
            return f"{points(difference)} points"
        return signed(difference, self.digits)

    def gain_cells(self, difference: Measured | None) -> list[str]:
        """Write a difference and its interval as two cells of a table."""
        value = difference.value if difference else None
        if self.digits is None:
            return [points(value), points_interval(difference)]
        return [signed(value, self.digits), self.gain_interval(difference)]

    def gain_interval(self, difference: Measured | None) -> str:
        """Write the interval of a difference: +0.3 to +1.9."""
        if self.digits is None:
            return points_interval(difference)
        if difference is None or difference.interval is None:
            return MISSING
        return " to ".join(signed(end, self.digits) for end in difference.interval)

    def rank(self, score: Measured) -> float:
        """Return a number by which scores are sorted, the best first."""
        return -score.value if self.higher else score.value

    def apart(self, one: Measured, other: Measured) -> bool:
        """Return whether two scores differ by more than the interval of the better one.

        This is the report's one rule for scores without a paired comparison: two are called
        indistinguishable where the worse lies inside the interval of the better.
        """
        better, worse = (one, other) if self.rank(one) <= self.rank(other) else (other, one)
        end = better.low if self.higher else better.high
        if end is None:
            return better.value != worse.value
        return worse.value < end if self.higher else worse.value > end


ACCURACY = Measure("accuracy", "accuracy", "accuracy", True, None, "accuracy_difference")
MSE = Measure("mse", "mean squared error", "MSE", False, 3, "mse_difference")
MAE = Measure("mae", "mean absolute error", "MAE", False, 3, "mae_difference")
PERPLEXITY = Measure("perplexity", "perplexity", "perplexity", False, 4, "perplexity_difference")


def goal(results: JsonDict) -> str:
    """Return what the models are for: ``classification``, ``regression`` or ``language``."""
    return str((results.get("data") or {}).get("goal") or "classification")


def chosen_by(results: JsonDict) -> Measure:
    """Return what the models of a run are compared by.

    Args:
        results: The content of results.json.

    Returns:
        Accuracy, or the mean squared error of a regression, or a language model's perplexity.
    """
    return {"regression": MSE, "language": PERPLEXITY}.get(goal(results), ACCURACY)

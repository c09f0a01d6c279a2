"""A row of the table: a figure of each repeat, what it must reach, and whether it does."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headstart.evaluate.intervals import wilson

Unit = Literal["x", "%", "s"]


@dataclass(frozen=True)
class Target:
    """What a figure must reach.

    Attributes:
        value: The bound; a share is in [0, 1].
        unit: ``x``: times as fast; ``%``: a share; ``s``: seconds.
        most: Whether it is the most that is allowed, in place of the least.
    """

    value: float
    unit: Unit = "x"
    most: bool = False

    def reached(self, value: float) -> bool:
        """Return whether a figure is good enough."""
        return value <= self.value if self.most else value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.most else '≥'} {shown(self.value, self.unit)}"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        key: By which it is known.
        work: What was done.
        target: What it must reach; None where it is only reported.
        values: The figure of each repeat; none where it could not be measured.
        unit: As in `Target`.
        ours: Seconds, or another quantity, of Headstart, in words.
        theirs: The same of the other side.
        note: What else there is to know.
        floor: What is possible at most, with measured figures, and whether that explains a miss;
            nothing where it is not known.
        error: Why it could not be measured.
    """

    key: str
    work: str
    target: Target | None
    values: tuple[float, ...]
    unit: Unit = "x"
    ours: str = ""
    theirs: str = ""
    note: str = ""
    floor: str = ""
    error: str = ""

    @property
    def value(self) -> float:
        """The median of the repeats; not a number where there is none."""
        return statistics.median(self.values) if self.values else math.nan

    @property
    def missed(self) -> bool:
        """Whether there is a target and the median does not reach it."""
        # What is not a number reaches nothing.
        return self.target is not None and not self.target.reached(self.value)

    @property
    def verdict(self) -> str:
        """What the last column says."""
        if self.error:
            return "not measured"
        if self.target is None:
            return "reported"
        return "missed" if self.missed else "reached"


@dataclass(frozen=True)
class Accuracy:
    """What a contender's model got right.

    Attributes:
        work: Which piece of work.
        contender: Who.
        after: Epochs.
        value: The median of the repeats, in [0, 1].
        samples: How many were asked.
    """

    work: str
    contender: str
    after: int
    value: float
    samples: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval."""
        score = wilson(round(self.value * self.samples), self.samples)
        return score.low, score.high


def agree(first: Accuracy, second: Accuracy) -> bool:
    """Return whether the 95% interval of the difference of two accuracies holds zero.

    Source: Newcombe, Interval estimation for the difference between independent proportions, 1998
    (method 10). That the samples are the same makes it too wide, which tells less apart.
    """
    gap = first.value - second.value
    (low_1, high_1), (low_2, high_2) = first.interval, second.interval
    below = math.hypot(first.value - low_1, high_2 - second.value)
    above = math.hypot(high_1 - first.value, second.value - low_2)
    return gap - below <= 0 <= gap + above


@dataclass(frozen=True)
class Findings:
    """What a group of rows gives.

    Attributes:
        rows: Lines of the table.
        accuracies: Of its contenders; Headstart's first.
        epochs: How many epochs its contenders ran, in words.
        disagreements: Where two sides computed different things: each is a miss.
    """

    rows: tuple[Row, ...]
    accuracies: tuple[Accuracy, ...] = ()
    epochs: tuple[str, ...] = ()
    disagreements: tuple[str, ...] = ()


def shown(value: float, unit: Unit) -> str:
    """Return a figure with its unit."""
    if math.isnan(value):
        return "–"
    if unit == "%":
        return f"{value:.1%}"
    digits = 3 if unit == "s" and value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
    return f"{text}×" if unit == "x" else f"{text} s"


def judged(most: float, target: Target | None) -> str:
    """Say whether what is possible at most explains that a target is missed."""
    if target is None:
        return ""
    if most < target.value:
        return "; the target is above what is possible here"
    return "; the target is below what is possible: a miss is ours"


def span(row: Row) -> str:
    """Return the median and the range of the repeats."""
    if not row.values:
        return "–"
    ends = f"{shown(min(row.values), row.unit)} to {shown(max(row.values), row.unit)}"
    return f"{shown(row.value, row.unit)} ({ends})"


def fastest(repeats: Sequence[dict[str, Any]], key: str) -> float:
    """Return the most of a figure of some answers: a floor supposes the machine at its best."""
    return max(float(answer[key]) for answer in repeats)


def quickest(repeats: Sequence[dict[str, Any]], key: str) -> float:
    """Return the least of a figure of some answers, as `fastest` does."""
    return min(float(answer[key]) for answer in repeats)


def middle(repeats: Sequence[dict[str, Any]], key: str) -> float:
    """Return the median of a figure of some answers."""
    return statistics.median(float(answer[key]) for answer in repeats)

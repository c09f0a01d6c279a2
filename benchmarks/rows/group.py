"""A group of rows: contenders that are measured in turn, and the lines that come of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import Repeat, Tell
from benchmarks.table import Findings


@dataclass(frozen=True)
class Setting:
    """How everything is measured.

    Attributes:
        work: The folder of photographs, weights and results.
        data: A folder of real photographs, or None.
        reviews: A folder of real texts, or None.
        repeats: How often each contender runs.
        threads: How many compute, of every contender.
        full: Whether each repeat runs all epochs.
        photos: How many photographs.
        tell: Is told what happens.
    """

    work: Path
    data: Path | None
    reviews: Path | None
    repeats: int
    threads: int
    full: bool
    photos: int
    tell: Tell


@dataclass(frozen=True)
class Group:
    """Rows that are measured together.

    Attributes:
        name: As `--rows` calls it.
        minutes: What it takes about on two cores.
        measure: Returns what each contender answered in each repeat, and settings to remember.
        findings: Turns this, as it was written to the disk, into rows.
    """

    name: str
    minutes: float
    measure: Callable[[Setting], tuple[list[Repeat], Mapping[str, Any]]]
    findings: Callable[[Sequence[Repeat], Mapping[str, Any]], Findings]


def both(repeats: Sequence[Repeat], *names: str) -> list[Repeat]:
    """Return the repeats, if all of these contenders answered in every one; else none.

    Who fails once is not measured: a median of what is left would be of the luckier repeats.
    """
    answered = all("error" not in r.get(n, {"error": ""}) for r in repeats for n in names)
    return list(repeats) if answered else []


def apart(repeats: Sequence[Repeat], first: str, second: str, most: float) -> tuple[str, ...]:
    """Return a sentence if two contenders computed different features, else nothing.

    Args:
        repeats: What they answered; ``sample`` holds some of their features.
        first: One of them.
        second: The other.
        most: How large the mean absolute difference may be, relative to the mean absolute feature.
    """
    worst = 0.0
    for repeat in both(repeats, first, second):
        a, b = (repeat[name]["sample"] for name in (first, second))
        if len(a) != len(b):
            return (f"{first} and {second} gave {len(a)} and {len(b)} features",)
        gap = sum(abs(x - y) for x, y in zip(a, b, strict=True)) / max(sum(map(abs, b)), 1e-12)
        worst = max(worst, gap if math.isfinite(gap) else math.inf)
    said = f"features of {first} and {second} differ by {worst:.1e} on average, {most:.0e} allowed"
    return (said,) if worst > most else ()


def failure(repeats: Sequence[Repeat], *names: str) -> str:
    """Return why one of these contenders did not answer, or nothing."""
    for repeat in repeats:
        for name in names:
            if "error" in repeat.get(name, {}):
                return f"{name}: {repeat[name]['error']}"
    return "" if both(repeats, *names) else "it was not measured"

"""How two models differ in accuracy, and whether an interval supports it."""

from dataclasses import dataclass
from typing import Literal

from headstart.report import lookup
from headstart.report.text import Measured, percent_score, points, points_interval
from headstart.types import JsonDict

Outcome = Literal["better", "worse", "same", "unknown"]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is known of the accuracy of one model against another.

    Attributes:
        outcome: Whether the first is better or worse, whether the two cannot be told apart, or
            whether there is no interval to judge by.
        text: The figures in words.
        rows: The comparison that it rests on, as a reference, or nothing.
    """

    outcome: Outcome
    text: str
    rows: tuple[str, ...]


def between(results: JsonDict, a: JsonDict, b: JsonDict) -> Difference | None:
    """Return how model a does against model b.

    Args:
        results: The content of results.json.
        a: One model.
        b: Another.

    Returns:
        The paired difference where the run compared the two; else the difference of their test
        accuracies, judged by the report's rule for scores without a paired comparison (see
        `lookup.apart`); validation where there is no test; None where a score is missing.
    """
    for i, pair in enumerate(results.get("comparisons") or ()):
        found = lookup.measured(pair.get("accuracy_difference"))
        if found is None or {pair["a"], pair["b"]} != {a["name"], b["name"]}:
            continue
        found = found if pair["a"] == a["name"] else _turned(found)
        word = lookup.split_word(str(pair.get("split") or "test"))
        return Difference(_judged(found), paired_text(found, word), (f"comparisons/{i}",))
    for split in ("test", "val"):
        first, second = (lookup.metric(m, split, "accuracy") for m in (a, b))
        if first is None or second is None:
            continue
        text = (
            f"{percent_score(first)} against {percent_score(second)} on {lookup.split_word(split)}"
        )
        return Difference(_unpaired(first, second), text, ())
    return None


def paired_text(difference: Measured, word: str) -> str:
    """Write a paired difference: +1.1 points (+0.3 to +1.9) on the same test pictures."""
    text = f"{points(difference.value)} points"
    if difference.interval is not None:
        text += f" ({points_interval(difference)})"
    return f"{text} on the same {word} pictures"


def _turned(difference: Measured) -> Measured:
    """Return b minus a from a minus b."""
    low, high = difference.interval or (None, None)
    return Measured(
        -difference.value,
        None if high is None else -high,
        None if low is None else -low,
        difference.n,
    )


def _judged(difference: Measured) -> Outcome:
    if difference.interval is None:
        return "unknown"
    low, high = difference.interval
    if low <= 0 <= high:
        return "same"
    return "better" if low > 0 else "worse"


def _unpaired(first: Measured, second: Measured) -> Outcome:
    if first.interval is None or second.interval is None:
        return "unknown"
    if not lookup.apart(first, second):
        return "same"
    return "better" if first.value > second.value else "worse"


def judged(difference: Measured | None) -> Outcome:
    """Return what a paired difference says of the first model."""
    return "unknown" if difference is None else _judged(difference)

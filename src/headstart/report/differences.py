"""How two models differ, and whether an interval supports it."""

from dataclasses import dataclass
from typing import Literal

from headstart.report import lookup, measures, nouns
from headstart.report.measures import Measure
from headstart.report.text import Measured
from headstart.types import JsonDict

Outcome = Literal["better", "worse", "same", "unknown"]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is known of the accuracy, squared error or perplexity of one model against another.

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
        scores, judged by the report's rule for scores without a paired comparison (see
        `Measure.apart`); validation where there is no test; None where a score is missing.
    """
    measure = measures.chosen_by(results)
    pairs = list(enumerate(results.get("comparisons") or ()))
    pairs.sort(key=lambda entry: entry[1].get("split") not in (None, "test"))  # further sets last
    for i, pair in pairs:
        found = paired(results, pair)
        if found is None or {pair["a"], pair["b"]} != {a["name"], b["name"]}:
            continue
        found = found if pair["a"] == a["name"] else _turned(found)
        text = paired_text(results, found, str(pair.get("split") or "test"))
        return Difference(judged(results, found), text, (f"comparisons/{i}",))
    for split in ("test", "val"):
        first, second = (lookup.metric(m, split, measure.key) for m in (a, b))
        if first is None or second is None:
            continue
        text = (
            f"{measure.score(first)} against {measure.score(second)} on {lookup.split_word(split)}"
        )
        return Difference(_unpaired(measure, first, second), text, ())
    return None


def paired(results: JsonDict, pair: JsonDict) -> Measured | None:
    """Return the paired difference of an entry of ``comparisons``: a minus b, or None."""
    return lookup.measured(pair.get(measures.chosen_by(results).difference))


def paired_text(results: JsonDict, difference: Measured, split: str) -> str:
    """Write a paired difference: +1.1 points (+0.3 to +1.9) on the same test pictures."""
    measure = measures.chosen_by(results)
    text = measure.gain(difference.value)
    if difference.interval is not None:
        text += f" ({measure.gain_interval(difference)})"
    if measure.digits is not None:
        text += f" in {measure.words}"
    return f"{text} on the same {lookup.split_word(split)} {nouns.many(results)}"


def _turned(difference: Measured) -> Measured:
    """Return b minus a from a minus b."""
    low, high = difference.interval or (None, None)
    return Measured(
        -difference.value,
        None if high is None else -high,
        None if low is None else -low,
        difference.n,
    )


def judged(results: JsonDict, difference: Measured | None) -> Outcome:
    """Return what a paired difference says of the first model."""
    if difference is None or difference.interval is None:
        return "unknown"
    low, high = difference.interval
    if low <= 0 <= high:
        return "same"
    return "better" if (low > 0) == measures.chosen_by(results).higher else "worse"


def _unpaired(measure: Measure, first: Measured, second: Measured) -> Outcome:
    if first.interval is None or second.interval is None:
        return "unknown"
    if not measure.apart(first, second):
        return "same"
    return "better" if measure.rank(first) < measure.rank(second) else "worse"

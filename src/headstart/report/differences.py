"""How two models differ, and whether an interval supports it."""

from dataclasses import dataclass
from typing import Literal

from headstart.report import lookup, measures, nouns, pairwise
from headstart.report.measures import Measure
from headstart.report.pairwise import Tested
from headstart.report.text import Measured, p_value
from headstart.types import JsonDict

Outcome = Literal["better", "worse", "same", "unknown"]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is known of the accuracy, squared error or perplexity of one model against another.

    Attributes:
        outcome: Whether the first is better or worse, whether the two cannot be told apart, or
            whether there is no interval to judge by.
        text: The figures in words.
        rows: The test or comparison that it rests on, as references, or nothing.
        reason: Why two that cannot be told apart cannot, as a sentence, or nothing.
    """

    outcome: Outcome
    text: str
    rows: tuple[str, ...]
    reason: str = ""


def between(results: JsonDict, a: JsonDict, b: JsonDict) -> Difference | None:
    """Return how model a does against model b.

    Args:
        results: The content of results.json.
        a: One model.
        b: Another.

    Returns:
        What the test between the two says where the run made one, else their paired difference
        where it compared them; else the difference of their test scores, judged by the report's
        rule for scores without a paired comparison (see `Measure.apart`); validation where there
        is no test; None where a score is missing.
    """
    measure = measures.chosen_by(results)
    pairs = list(enumerate(results.get("comparisons") or ()))
    pairs.sort(key=lambda entry: entry[1].get("split") not in (None, "test"))  # further sets last
    compared = [
        (i, pair)
        for i, pair in pairs
        if {pair["a"], pair["b"]} == {a["name"], b["name"]} and paired(results, pair) is not None
    ]
    tested = pairwise.between(results, a["name"], b["name"])
    if tested is not None:
        text = paired_text(results, tested.difference, "test", tested)
        rows = (tested.row, *(f"comparisons/{i}" for i, _ in compared[:1]))
        reason = f"The difference does not survive {pairwise.method(results)}. "
        return Difference(survived(results, tested), text, rows, reason)
    for i, pair in compared[:1]:
        found = paired(results, pair)
        assert found is not None
        found = found if pair["a"] == a["name"] else pairwise.turned(found)
        text = paired_text(results, found, str(pair.get("split") or "test"))
        reason = "That interval includes 0. "
        return Difference(judged(results, found), text, (f"comparisons/{i}",), reason)
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


def paired_text(
    results: JsonDict, difference: Measured, split: str, tested: Tested | None = None
) -> str:
    """Write a paired difference: +1.1 points (+0.3 to +1.9; p = 0.004) on the same test pictures.

    Args:
        results: The content of results.json.
        difference: The difference.
        split: The split that it was measured on.
        tested: The test of the two models, whose corrected p-value is told, or None.

    Returns:
        The text.
    """
    measure = measures.chosen_by(results)
    text = measure.gain(difference.value)
    known = [] if difference.interval is None else [measure.gain_interval(difference)]
    if tested is not None and tested.p_holm is not None:
        known.append(p_value(tested.p_holm))
    text += f" ({'; '.join(known)})" if known else ""
    if measure.digits is not None:
        text += f" in {measure.words}"
    return f"{text} on the same {lookup.split_word(split)} {nouns.many(results)}"


def judged(results: JsonDict, difference: Measured | None) -> Outcome:
    """Return what a paired difference says of the first model."""
    if difference is None or difference.interval is None:
        return "unknown"
    low, high = difference.interval
    if low <= 0 <= high:
        return "same"
    return "better" if (low > 0) == measures.chosen_by(results).higher else "worse"


def survived(results: JsonDict, tested: Tested) -> Outcome:
    """Return what a test says of the first model, corrected for the number of tests."""
    if not tested.distinguishable:
        return "same"
    better = (tested.difference.value > 0) == measures.chosen_by(results).higher
    return "better" if better else "worse"


def of_vote(results: JsonDict, model: JsonDict) -> Outcome:
    """Return what an ensemble's gain over its best member says: by their test, or its interval."""
    vote = model.get("ensemble") or {}
    tested = pairwise.between(results, model["name"], str(vote.get("best_member")))
    if tested is not None:
        return survived(results, tested)
    return judged(results, lookup.measured(vote.get("gain")))


def _unpaired(measure: Measure, first: Measured, second: Measured) -> Outcome:
    if first.interval is None or second.interval is None:
        return "unknown"
    if not measure.apart(first, second):
        return "same"
    return "better" if measure.rank(first) < measure.rank(second) else "worse"

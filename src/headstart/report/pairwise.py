"""Tests between two models each, corrected for their number: found, and judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.report import lookup, measures, nouns
from headstart.report.text import Measured
from headstart.types import JsonDict

_METHODS = {
    "mcnemar-exact": "McNemar’s exact test",
    "paired-bootstrap": "a paired bootstrap test",
}


@dataclass(frozen=True, slots=True)
class Tested:
    """What the test between two models says of the first of them.

    Attributes:
        index: Its position in ``tests.pairs``.
        difference: The score of the first minus that of the second.
        p: The p-value of this pair alone, or None.
        p_holm: The p-value corrected for all pairs of the run, or None.
        distinguishable: Whether the difference survives the correction.
    """

    index: int
    difference: Measured
    p: float | None
    p_holm: float | None
    distinguishable: bool

    @property
    def row(self) -> str:
        """The reference of its row."""
        return f"tests/{self.index}"


def pairs(results: JsonDict) -> Sequence[Mapping[str, Any]]:
    """Return the tests of a run; an older run has none."""
    tests = results.get("tests") or {}
    if tests.get("metric") != measures.chosen_by(results).key:
        return ()
    return tests.get("pairs") or ()


def between(results: JsonDict, a: str, b: str) -> Tested | None:
    """Return what the test between two models says, whichever way round it was made.

    Args:
        results: The content of results.json.
        a: The name of one model.
        b: The name of another.

    Returns:
        The test, its difference as a minus b, or None where the run did not test the two.
    """
    for i, pair in enumerate(pairs(results)):
        difference = lookup.measured(pair.get("difference"))
        if difference is None or {pair.get("a"), pair.get("b")} != {a, b}:
            continue
        found = difference if pair["a"] == a else turned(difference)
        same = not pair.get("distinguishable")
        return Tested(i, found, pair.get("p"), pair.get("p_holm"), not same)
    return None


def turned(difference: Measured) -> Measured:
    """Return b minus a from a minus b."""
    low, high = difference.interval or (None, None)
    return Measured(
        -difference.value,
        None if high is None else -high,
        None if low is None else -low,
        difference.n,
    )


def apart(results: JsonDict, a: JsonDict, b: JsonDict, split: str) -> bool:
    """Return whether two models differ by more than chance.

    The test between the two decides where the run made one; else the report's rule for scores
    without one does (`Measure.apart`).

    Args:
        results: The content of results.json.
        a: One model, with a score on `split`.
        b: Another.
        split: The split whose scores are compared where there is no test.

    Returns:
        True where the two can be told apart.
    """
    tested = between(results, a["name"], b["name"])
    if tested is not None:
        return tested.distinguishable
    measure = measures.chosen_by(results)
    one, other = (lookup.metric(m, split, measure.key) for m in (a, b))
    return one is None or other is None or measure.apart(one, other)


def rows(results: JsonDict, *couples: tuple[JsonDict, JsonDict]) -> list[str]:
    """Return the rows of the tests between couples of models, of those that were made."""
    found = [between(results, a["name"], b["name"]) for a, b in couples]
    return list(dict.fromkeys(tested.row for tested in found if tested is not None))


def method(results: JsonDict) -> str:
    """Return the name of the test with its correction, for a sentence."""
    tests = results.get("tests") or {}
    name = _METHODS.get(str(tests.get("method")), str(tests.get("method") or "a paired test"))
    correction = str(tests.get("correction") or "")
    return f"{name} with {correction.capitalize()}’s correction" if correction else name


def on(results: JsonDict) -> str:
    """Return on which samples the tests were made: the same test pictures."""
    split = str((results.get("tests") or {}).get("split") or "test")
    return f"the same {lookup.split_word(split)} {nouns.many(results)}"

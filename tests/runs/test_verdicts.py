"""Which models of a run are tested against each other, and what comparisons say of it."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headstart.runs.evidence import tests_record as record_of
from headstart.runs.evidence import with_verdicts
from headstart.types import Estimates, Predictions

COUNT = 200


def answers(wrong: int) -> Predictions:
    """Return what a model says that gets the first so many samples wrong."""
    labels = np.zeros(COUNT, dtype=np.int64)
    sure = np.where(np.arange(COUNT) < wrong, 0.1, 0.9).astype(np.float32)
    names = tuple(map(str, range(COUNT)))
    return Predictions(names, labels, np.stack([sure, 1 - sure], axis=1), ("a", "b"))


def parts(count: int) -> dict[str, Any]:
    """Return parts m0, m1 …, each with ten more mistakes than the one before."""
    return {
        f"m{n}": SimpleNamespace(predictions={"test": answers(10 * n)}, estimates={})
        for n in range(count)
    }


def pairs_of(results: dict[str, Any], recommended: str | None) -> list[tuple[str, str]] | None:
    found = record_of(results, recommended)
    return None if found is None else [(p["a"], p["b"]) for p in found["pairs"]]


def test_up_to_ten_models_are_all_tested_against_each_other() -> None:
    names = [f"m{n}" for n in range(10)]
    assert pairs_of(parts(10), "m3") == list(itertools.combinations(names, 2))


def test_of_more_than_ten_each_is_tested_against_the_recommended_one() -> None:
    found = pairs_of(parts(11), "m3")
    assert found == [("m3", f"m{n}") for n in range(11) if n != 3]
    # Fewer tests, so fewer that the correction has to allow for: 10 instead of 55.
    record = record_of(parts(11), "m3")
    assert record is not None
    for pair in record["pairs"]:
        assert pair["p_holm"] <= min(1.0, 10 * pair["p"]) + 1e-12
        assert pair["p_holm"] >= pair["p"]


@pytest.mark.parametrize("recommended", [None, "baseline"])
def test_without_a_recommended_model_so_many_are_not_tested(recommended: str | None) -> None:
    assert pairs_of(parts(11), recommended) is None


def test_one_model_is_not_tested() -> None:
    assert pairs_of(parts(1), "m0") is None
    untested = SimpleNamespace(predictions={"val": answers(3)}, estimates={})
    assert pairs_of({**parts(1), "other": untested}, "m0") is None


def test_regressions_are_tested_by_their_squared_errors() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=COUNT)

    def guess(spread: float) -> Any:
        values = (truth + spread * random.normal(size=COUNT)).astype(np.float32)
        told = Estimates(tuple(map(str, range(COUNT))), truth.astype(np.float32), values)
        return SimpleNamespace(predictions={}, estimates={"test": told})

    record = record_of({"good": guess(0.1), "poor": guess(1.0)}, "good")
    assert record is not None
    assert (record["metric"], record["method"]) == ("mse", "paired-bootstrap")
    (pair,) = record["pairs"]
    assert pair["distinguishable"]
    assert pair["difference"]["high"] < 0
    assert (pair["a_only"], pair["b_only"]) == (None, None)


def comparison(a: str, b: str, speedup: float | None = None) -> dict[str, Any]:
    return {"a": a, "b": b, "speedup": speedup, "text": f"{a} and {b}"}


def test_comparisons_say_whether_the_models_can_be_told_apart() -> None:
    results = {**parts(3), "twin": parts(2)["m1"]}
    tests = record_of(results, "m0")
    asked = [
        comparison("m2", "m0"),  # in the other order than they were tested in
        comparison("m1", "twin"),
        comparison("m0", "m2", speedup=3.0),  # the same training done two ways
        comparison("m0", "untested"),
    ]
    found = with_verdicts(asked, tests)
    assert [one["text"] for one in found] == [
        "m2 and m0: they really differ",
        "m1 and twin: they are indistinguishable",
        "m0 and m2",
        "m0 and untested",
    ]
    assert asked[0]["text"] == "m2 and m0"
    assert with_verdicts(asked, None) == asked


def test_the_verdict_allows_for_all_tests_of_the_run() -> None:
    # 7 samples that only one gets right: p = 0.016, and one of six tests is no longer below 0.05.
    wrong = {"a": 0, "b": 7, "c": 0, "d": 0}
    results: dict[str, Any] = {
        n: SimpleNamespace(predictions={"test": answers(w)}, estimates={}) for n, w in wrong.items()
    }
    alone = {n: results[n] for n in ("a", "b")}
    for some, words in ((alone, "really differ"), (results, "indistinguishable")):
        (found,) = with_verdicts([comparison("a", "b")], record_of(some, "a"))
        assert words in found["text"]

"""The rules give the right verdicts on results made for the purpose."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import report_studies
from hypothesis import given
from hypothesis import strategies as st
from report_makers import model, results, score, steps, texts

from headstart.report import advise
from headstart.report.fit_advice import read
from headstart.report.load import load_run
from headstart.report.setting_advice import at_edge
from headstart.types import JsonDict


def sweep(key: str, scores: dict[float, float | None], **more: Any) -> dict[str, Any]:
    alive = {v: s for v, s in scores.items() if s is not None}
    best = max(alive, key=lambda v: alive[v]) if alive else None
    members = [
        {
            "values": {key: value},
            "state": "diverged" if s is None else "complete",
            "metrics": {} if s is None else {"val": {"accuracy": score(s)}},
            "best": value == best,
        }
        for value, s in scores.items()
    ]
    return {
        "name": "s",
        "title": "S",
        "mode": "cached",
        "axes": {key: list(scores)},
        "members": members,
        "select": {"metric": "accuracy", "split": "val"},
        "best_model": None if best is None else "best",
        **more,
    }


def known(everything: JsonDict, ref: str) -> bool:
    """Whether a reference leads to an entry of the results."""
    kind, _, rest = ref.partition("/")
    if kind == "backbones":
        key, _, part = rest.partition("/")
        (entry,) = [entry for entry in everything[kind] if entry["key"] == key]
        return bool(entry[part])
    if kind in ("models", "sweeps"):
        name, _, part = rest.partition("/")
        (entry,) = [entry for entry in everything[kind] if entry["name"] == name]
        if part.startswith("stages/"):
            return int(part.removeprefix("stages/")) < len(entry["stages"])
        return not part or bool(entry.get(part)) or bool(entry.get("ensemble"))
    if kind == "comparisons":
        return int(rest) < len(everything["comparisons"])
    owner, _, index = rest.partition("/")
    held = everything[kind].get(owner)
    return bool(held) if index == "" else int(index) < len(held)


RATE = "optimizer.learning_rate"
MOMENTUM = "optimizer.momentum"


@pytest.mark.parametrize("name", [n for n in report_studies.STUDIES if n != "bare"])
def test_every_sentence_cites_rows_that_exist(run_folder: Callable[[str], Path], name: str) -> None:
    run = load_run(run_folder(name))
    said = advise(run.results, run.histories)
    assert said == run.results["recommendation"]
    assert said["sentences"]
    for sentence in said["sentences"]:
        assert sentence["text"]
        assert sentence["rows"]
        assert [r for r in sentence["rows"] if not known(run.results, r)] == []


def test_advice_is_plain_json_and_leaves_the_results_alone() -> None:
    folder = report_studies.few_labels()
    before = copy.deepcopy(folder.results)
    said = advise(folder.results, folder.histories)
    assert folder.results == before
    assert json.loads(json.dumps(said, allow_nan=False)) == said


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=6))
def test_validation_chooses_and_test_never_does(pairs: list[tuple[int, int]]) -> None:
    models = [model(f"m{i}", v / 100, t / 100) for i, (v, t) in enumerate(pairs)]
    chosen = advise(results(models=models), {})["model"]
    assert pairs[int(chosen[1:])][0] == max(v for v, _ in pairs)
    swapped = [model(f"m{i}", v / 100, 1 - t / 100) for i, (v, t) in enumerate(pairs)]
    assert advise(results(models=swapped), {})["model"] == chosen


def test_equal_validation_is_decided_by_time() -> None:
    slow = model("slow", 0.9, stages=[{"wall_seconds": 300.0}], mode="standard")
    fast = model("fast", 0.9, stages=[{"wall_seconds": 3.0}])
    assert advise(results(models=[slow, fast]), {})["model"] == "fast"


def test_without_a_validation_score_the_advice_says_that_test_chose() -> None:
    only = model("a", 0.9)
    del only["metrics"]["val"]
    said = advise(results(models=[only]), {})
    assert said["model"] == "a"
    assert "test chose" in texts(said, "model")


def test_differences_within_the_interval_are_called_indistinguishable() -> None:
    models = [model("a", 0.90), model("b", 0.88), model("c", 0.80)]
    said = advise(results(models=models), {})
    (near,) = [s for s in said["sentences"] if "indistinguishable" in s["text"]]
    assert "“B”" in near["text"]
    assert "“C”" not in near["text"]
    assert near["rows"] == ["models/a", "models/b"]


def test_a_crowd_of_equals_is_not_listed_by_name() -> None:
    models = [model(f"m{i:02d}", 0.9) for i in range(40)]
    text = texts(advise(results(models=models), {}), "model")
    assert "35 others" in text
    assert "M20" not in text


def test_nothing_is_recommended_when_everything_diverged() -> None:
    lost = model("a", 0.9, state="diverged", metrics={})
    said = advise(results(models=[lost], sweeps=[sweep(RATE, {1.0: None, 10.0: None})]), {})
    assert said["model"] is None
    assert "every one diverged" in texts(said, "model")
    assert "try values below 1" in texts(said, "learning-rate")


def test_a_model_that_guesses_is_named() -> None:
    counts = {s: {"x": 60, "y": 40} for s in ("train", "val", "test")}
    guessing = results(models=[model("a", 0.6, 0.6)], data={"counts": counts})
    assert "does not beat always answering" in texts(advise(guessing, {}), "model")
    learnt = results(models=[model("a", 0.9, 0.9)], data={"counts": counts})
    assert "does not beat" not in texts(advise(learnt, {}), "model")


@pytest.mark.parametrize(
    ("scores", "end", "next_value"),
    [
        ({0.001: 0.5, 0.01: 0.7, 0.1: 0.9}, "high", "try 1."),
        ({0.001: 0.9, 0.01: 0.7, 0.1: 0.5}, "low", "try 0.0001."),
    ],
)
def test_a_best_learning_rate_at_the_edge_says_where_to_look(
    scores: dict[float, float | None], end: str, next_value: str
) -> None:
    text = texts(advise(results(sweeps=[sweep(RATE, scores)]), {}), "learning-rate")
    assert f"at the {end} end of the grid" in text
    assert next_value in text


def test_a_best_learning_rate_inside_the_grid_is_final() -> None:
    scores: dict[float, float | None] = {0.001: 0.5, 0.01: 0.9, 0.1: 0.7, 1.0: None}
    text = texts(advise(results(sweeps=[sweep(RATE, scores)]), {}), "learning-rate")
    assert "0.01 is best, with 90.0% (87.0–93.0%)" in text
    assert "end of the grid" not in text
    assert "diverged with 1." in text
    assert "Every other value lies below its interval" in text


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=6, unique=True), st.data())
def test_only_the_ends_of_a_grid_are_edges(values: list[float], data: st.DataObject) -> None:
    best = data.draw(st.sampled_from(values))
    expected = None
    if len(values) > 1:
        expected = {min(values): "low", max(values): "high"}.get(best)
    assert at_edge(values, best) == expected


def test_zero_is_no_edge_for_there_is_nothing_below_it() -> None:
    assert at_edge([0.0, 0.5, 0.9], 0.0) is None


@pytest.mark.parametrize(
    ("plain", "verdict"), [(0.80, "a real gain"), (0.89, "told from noise"), (0.97, "a real loss")]
)
def test_momentum_is_held_against_training_without_it(plain: float, verdict: str) -> None:
    models = [
        model("plain", plain, hyperparameters={RATE: 0.1, MOMENTUM: 0.0}),
        model("other", 0.1, hyperparameters={RATE: 0.5, MOMENTUM: 0.0}),
        model("best", 0.9, hyperparameters={RATE: 0.1, MOMENTUM: 0.9}),
    ]
    swept = sweep(MOMENTUM, {0.5: 0.85, 0.9: 0.9, 0.99: 0.7})
    said = advise(results(models=models, sweeps=[swept]), {})
    assert verdict in texts(said, "momentum")
    (sentence,) = [s for s in said["sentences"] if s["topic"] == "momentum"]
    assert sentence["rows"] == ["sweeps/s", "models/plain"]


def test_two_sweeps_over_one_grid_share_a_sentence() -> None:
    slow = sweep(MOMENTUM, {0.5: 0.8, 0.9: 0.9}, name="c", title="Slow")
    fast = sweep(MOMENTUM, {0.5: 0.8, 0.9: 0.9}, name="d", title="Fast")
    other = sweep(MOMENTUM, {0.5: 0.9, 0.9: 0.8}, name="e", title="Other")
    said = advise(results(sweeps=[slow, fast, other]), {})
    (sentence,) = said["sentences"]
    assert sentence["rows"] == ["sweeps/c", "sweeps/d", "sweeps/e"]
    assert "“Fast” agrees." in sentence["text"]
    assert "“Other” prefers 0.5." in sentence["text"]


FALLING = [2.0, 1.0, 0.7, 0.5, 0.4, 0.35, 0.32, 0.30]


@pytest.mark.parametrize(
    ("val", "verdict"),
    [
        ([2.0, 1.2, 0.9, 0.8, 0.9, 1.0, 1.1, 1.2], "overfits"),
        ([2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.9, 0.8], "underfits"),
        ([2.0, 1.2, 0.9, 0.8, 0.78, 0.77, 0.77, 0.77], "settled"),
    ],
)
def test_curves_are_read_by_the_stated_rule(val: list[float], verdict: str) -> None:
    fit = read(steps(FALLING, val))
    assert fit is not None
    assert fit.verdict == verdict
    if verdict == "overfits":
        assert fit.epoch == 4
        assert math.isclose(fit.change, 0.5)


def test_curves_of_several_stages_are_judged_by_the_last() -> None:
    # What happens where layers are released is neither fit: 1.0 falls to 0.5 in one epoch.
    head = steps(FALLING, [2.0, 1.6, 1.4, 1.3, 1.2, 1.1, 1.05, 1.0])
    assert read(head) is not None
    flat = [replace(s, stage=1) for s in steps([0.2] * 4, [0.5, 0.5, 0.49, 0.49])]
    fit = read([*head, *flat])
    assert fit is not None
    assert (fit.verdict, fit.epochs, fit.window) == ("settled", 12, 1)
    rising = [replace(s, stage=1) for s in steps([0.2, 0.1, 0.05, 0.01], [0.5, 0.4, 0.6, 0.8])]
    fit = read([*head, *rising])
    assert fit is not None
    assert (fit.verdict, fit.epoch) == ("overfits", 10)
    assert read([*head, *(s for s in rising if s.epoch < 4)]) is None


def test_a_gap_between_training_and_validation_is_seen() -> None:
    models = [model("a", 0.8)]
    models[0]["metrics"]["train"] = {"accuracy": score(0.99, 0.01)}
    flat = steps(FALLING, [2.0, 1.2, 0.9, 0.8, 0.78, 0.77, 0.77, 0.77])
    text = texts(advise(results(models=models), {"a": flat}), "fit")
    assert "99.0%, lies above the validation interval (77.0–83.0%)" in text


def test_no_verdict_without_curves_or_from_broken_ones() -> None:
    assert read([]) is None
    assert read(steps([1, 0.9, 0.8], [1, 0.9, 0.8])) is None
    assert read(steps([math.nan] * 8, [math.inf] * 8)) is None
    assert texts(advise(results(models=[model("a", 0.9)]), {}), "fit") == ""


def test_labels_are_priced_per_doubling() -> None:
    models = [
        model("ten", 0.60, labels_per_class=10),
        model("forty", 0.80, labels_per_class=40),
        model("eighty", 0.81, labels_per_class=80),
    ]
    said = advise(results(models=models), {})
    text = texts(said, "labels")
    assert "+10.0 points per doubling from 10 to 40" in text
    assert "+1.0 points per doubling from 40 to 80" in text
    assert "no longer pay" in text
    more = [*models[:2], model("eighty", 0.9, labels_per_class=80)]
    assert "still pay" in texts(advise(results(models=more), {}), "labels")


def pair(**more: Any) -> dict[str, Any]:
    return {
        "a": "d",
        "b": "c",
        "split": "test",
        "agreement": 1.0,
        "agreement_n": 200,
        "accuracy_difference": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 200},
        "seconds_a": 2.0,
        "seconds_b": 100.0,
        "speedup": 50.0,
        "weights_relative_difference": 2e-6,
        **more,
    }


def accelerated(**more: Any) -> str:
    models = [model("c", 0.9), model("d", 0.9, images_extracted=0, images_reused=0)]
    models[1].update(more.pop("fast", {}))
    said = advise(results(models=models, comparisons=[pair(**more)]), {})
    return texts(said, "acceleration").replace("\u00a0", " ")


def test_the_gain_of_acceleration_is_told_with_its_agreement() -> None:
    text = accelerated()
    assert "“D” took 2.0 s, “C” 100 s: 50.0× as fast" in text
    assert "same class for 200 of 200 test pictures" in text
    assert "2.0 × 10⁻⁶" in text


def test_acceleration_that_changes_answers_or_gains_nothing_is_said_so() -> None:
    assert "not the same model" in accelerated(agreement=0.95)
    assert "nothing was gained" in accelerated(seconds_b=1.0, speedup=0.5)
    reused = accelerated(fast={"images_reused": 900})
    assert "in the store already" in reused


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.02, 0.04, "indistinguishable"), (0.01, 0.05, "“D” is better"), (-0.05, -0.01, "“C” is")],
)
def test_paired_differences_are_judged_by_their_interval(
    low: float, high: float, verdict: str
) -> None:
    difference = {"value": (low + high) / 2, "low": low, "high": high, "n": 200}
    compared = pair(speedup=None, accuracy_difference=difference)
    models = [model("c", 0.9), model("d", 0.2)]
    assert verdict in texts(advise(results(models=models, comparisons=[compared]), {}), "model")


def test_data_problems_come_first_and_stand_ins_are_stated() -> None:
    problems = [
        {"kind": "animated", "severity": "note", "count": 1, "text": "a note"},
        {"kind": "duplicate-across-splits", "severity": "warning", "count": 2, "text": "2 twins"},
        {"kind": "unreadable", "severity": "error", "count": 3, "text": "3 broken."},
    ]
    everything = results(
        models=[model("a", 0.9)],
        data={"problems": problems, "left_out": [{"name": "x", "reason": "y"}]},
        experiment={"notes": ["X stands in for Y."]},
    )
    said = advise(everything, {})["sentences"]
    assert [s["topic"] for s in said[:3]] == ["data", "data", "model"]
    assert said[0]["rows"] == ["data/problems/2"]
    assert "3 broken." in said[0]["text"]
    assert "flatter" in said[1]["text"]
    assert not any("a note" in s["text"] for s in said)
    (stand_in,) = [s for s in said if "X stands in for Y." in s["text"]]
    assert stand_in["rows"] == ["experiment/notes/0"]

"""Tests between models decide what is indistinguishable, everywhere in the report alike."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_makers import model, results, score, texts

from headstart.report import advise, pairwise_tables
from headstart.types import JsonDict

NAMES = ("b", "c", "d")


def trial(a: str, b: str, value: float, apart: bool, half: float = 0.02, **more: Any) -> JsonDict:
    difference = {"value": value, "low": value - half, "high": value + half, "n": 200}
    p = 0.004 if apart else 0.31
    pair = {"a": a, "b": b, "difference": difference, "a_only": 17, "b_only": 23, "p": p / 4}
    return {**pair, "p_holm": p, "distinguishable": apart, **more}


def trials(*pairs: JsonDict, **more: Any) -> JsonDict:
    about = {"split": "test", "metric": "accuracy", "method": "mcnemar-exact", "correction": "holm"}
    return {**about, "pairs": list(pairs), **more}


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def said(topic: str, **parts: Any) -> str:
    return plain(texts(advise(results(**parts), {}), topic))


def cited(part: str, **parts: Any) -> list[str]:
    found = advise(results(**parts), {})["sentences"]
    return [row for s in found if part in plain(s["text"]) for row in s["rows"]]


def test_a_difference_that_survives_is_one_although_the_intervals_overlap() -> None:
    models = [model("a", 0.90, 0.90), model("b", 0.89, 0.88), model("c", 0.70, 0.70)]
    # The scores' own intervals would say the opposite of both.
    pairs = trials(trial("a", "b", 0.02, True), trial("c", "a", -0.2, False))
    text = said("model", models=models, tests=pairs)
    assert "“C” is indistinguishable from “A”" in text
    assert "−20.0 points (−22.0 to −18.0; p = 0.31)" in text
    assert "does not survive McNemar’s exact test with Holm’s correction" in text
    assert "“B” is indistinguishable" not in text
    assert "inside its interval" not in text
    rows = cited("indistinguishable", models=models, tests=pairs)
    assert rows == ["models/a", "models/c", "tests/1"]


def test_without_tests_the_intervals_decide_as_before() -> None:
    models = [model("a", 0.90, 0.90), model("b", 0.89, 0.88), model("c", 0.70, 0.70)]
    before = advise(results(models=models), {})
    assert "“B” is indistinguishable from “A”" in texts(before, "model")
    for nothing in (None, trials(), trials(trial("a", "b", 0.02, True), metric="mse")):
        assert advise(results(models=models, tests=nothing), {}) == before


def test_where_every_difference_survives_that_is_said() -> None:
    models = [model("a", 0.90, 0.90), model("b", 0.89, 0.80)]
    pairs = trials(trial("b", "a", -0.1, True))
    text = said("model", models=models, tests=pairs)
    assert "McNemar’s exact test with Holm’s correction tells “A” from “B”." in text
    assert "indistinguishable" not in text


def test_a_model_that_is_better_on_test_is_named_and_not_chosen() -> None:
    models = [model("a", 0.90, 0.80), model("b", 0.89, 0.90)]
    pairs = trials(trial("a", "b", -0.1, True))
    found = advise(results(models=models, tests=pairs), {})
    assert found["model"] == "a"
    text = plain(texts(found, "model"))
    assert "“B” is better than “A” on test, +10.0 points (+8.0 to +12.0; p = 0.0040)" in text
    assert "validation chose “A”" in text


def priced(name: str, val: float, ms: float, parameters: int) -> JsonDict:
    prediction = {"seconds": ms * 0.2, "samples": 200}
    return model(name, val, val, prediction=prediction, parameters_total=parameters)


@pytest.mark.parametrize(
    ("ms", "parameters", "words"),
    [
        (
            4.0,
            1000,
            "“B” costs less: 4.00 ms per picture against 20.0 and 1,000 parameters against",
        ),
        (20.0, 1000, "“B” costs less: 20.0 ms per picture against 20.0 and 1,000 parameters"),
        (4.0, 90000, "“B” costs less: 4.00 ms per picture against 20.0. Use it"),
        (19.0, 90000, ""),
        (40.0, 90000, ""),
    ],
)
def test_what_is_indistinguishable_and_cheaper_is_named(
    ms: float, parameters: int, words: str
) -> None:
    models = [priced("a", 0.90, 20.0, 90000), priced("b", 0.88, ms, parameters)]
    pairs = trials(trial("a", "b", 0.02, False))
    text = said("model", models=models, tests=pairs)
    assert ("costs less" in text) == bool(words)
    assert words in text
    if words:
        rows = cited("costs less", models=models, tests=pairs)
        assert {"models/a/prediction", "models/b/prediction", "tests/0"} <= {*rows}
    # A cheaper model that differs is no substitute.
    apart = trials(trial("a", "b", 0.02, True))
    assert "costs less" not in said("model", models=models, tests=apart)


def stage(trainable: str) -> dict[str, Any]:
    return {"name": trainable, "trainable": trainable, "epochs": 5, "wall_seconds": 60.0}


def test_one_verdict_on_two_models_wherever_they_are_spoken_of() -> None:
    frozen = model("frozen", 0.80, 0.79, kind="model", backbone="v", stages=[stage("head")])
    tuned = model("tuned", 0.91, 0.90, kind="model", backbone="v")
    tuned["stages"] = [stage("head"), stage("all")]
    interval = {"value": 0.11, "low": 0.01, "high": 0.21, "n": 200}
    compared = {"a": "tuned", "b": "frozen", "split": "test", "accuracy_difference": interval}
    parts: dict[str, Any] = {"models": [frozen, tuned], "comparisons": [compared]}
    assert "releasing layers is a real gain" in said("frozen", **parts)
    pairs = trials(trial("frozen", "tuned", -0.11, False))
    text = said("frozen", tests=pairs, **parts)
    assert "+11.0 points (+9.0 to +13.0; p = 0.31) on the same test pictures" in text
    assert "The two cannot be told apart" in text
    assert "comparisons/0" in cited("cannot be told apart", tests=pairs, **parts)
    # Among the comparisons of other models too.
    others = [model("c", 0.9), model("d", 0.2)]
    alike = {**compared, "a": "c", "b": "d"}
    text = said("model", models=others, comparisons=[alike])
    assert "“C” is better." in text
    text = said(
        "model", models=others, comparisons=[alike], tests=trials(trial("d", "c", -0.1, False))
    )
    assert "p = 0.31) of accuracy; the two are indistinguishable." in text
    on_other_split = {**alike, "split": "test-late"}
    pairs = trials(trial("d", "c", -0.1, False))
    text = said("model", models=others, comparisons=[on_other_split], tests=pairs)
    assert "“C” is better." in text  # the test says nothing of another test set


def test_sizes_and_votes_follow_the_tests_too() -> None:
    models = [priced("a", 0.91, 40, 9), priced("b", 0.90, 4, 9)]
    for entry, mib in zip(models, (200, 10), strict=True):
        entry["size_bytes"] = mib * 2**20
    assert "cannot be told from it is “B”" in said("cost", models=models)
    apart = trials(trial("a", "b", 0.01, True))
    text = said("cost", models=models, tests=apart)
    assert "On the same test pictures every smaller model can be told from it." in text
    models[1]["metrics"]["val"]["accuracy"] = score(0.5)
    same = trials(trial("b", "a", -0.41, False))
    text = said("cost", models=models, tests=same)
    assert "cannot be told from it is “B”" in text
    assert "+41.0 points (+39.0 to +43.0; p = 0.31) on the same test pictures: the two" in text
    vote = model("v", 0.5, kind="ensemble", stages=[])
    gain = {"value": 0.02, "low": 0.01, "high": 0.03, "n": 200}
    vote["ensemble"] = {"members": ["a", "b"], "best_member": "a", "gain": gain}
    parts = {"models": [*models, vote]}
    assert "the vote is a real gain" in said("ensemble", **parts)
    text = said("ensemble", tests=trials(trial("v", "a", 0.02, False)), **parts)
    assert "The two cannot be told apart." in text


def test_a_baseline_is_held_against_the_best_by_the_test() -> None:
    models = [model("a", 0.30, 0.30), model("z", 0.29, 0.29, kind="baseline")]
    assert "cannot be told from “Z”" in said("model", models=models)
    for value, apart, words in (
        (0.01, True, "“A” beats “Z”"),
        (0.01, False, "“A” cannot be told from “Z”"),
        (-0.05, True, "“A” is worse on test than “Z”"),
    ):
        pairs = trials(trial("a", "z", value, apart))
        assert words in said("model", models=models, tests=pairs)
        assert "tests/0" in cited(words, models=models, tests=pairs)


@pytest.mark.parametrize(("apart", "words"), [(True, "still pay"), (False, "no longer pay")])
def test_the_last_step_in_labels_is_judged_by_the_test(apart: bool, words: str) -> None:
    models = [model(f"m{n}", 0.5 + n / 100, labels_per_class=n) for n in (10, 20, 40)]
    pairs = trials(trial("m40", "m20", 0.2, apart), trial("m40", "m10", 0.3, True))
    text = said("labels", models=models, tests=pairs)
    assert f"+20.0 points (+18.0 to +22.0; p = {'0.0040' if apart else '0.31'})" in text
    assert f"more labels {words}" in text
    assert cited("more labels", models=models, tests=pairs)[-1] == "tests/0"


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=3),
    st.sampled_from(["val", "test"]),
)
def test_no_sentence_contradicts_the_tests(verdicts: list[tuple[bool, bool]], order: str) -> None:
    """Whatever the tests say of a pair, “indistinguishable” is said of those pairs alone."""
    models = [model("a", 0.9, 0.9), *(model(n, 0.8, 0.8) for n in NAMES)]
    pairs = [
        trial(*(("a", n) if order == "val" else (n, "a")), 0.1 if up else -0.1, apart)
        for n, (apart, up) in zip(NAMES, verdicts, strict=True)
    ]
    text = said("model", models=models, tests=trials(*pairs))
    sentence = next((s for s in text.split(". ") if "indistinguishable" in s), "")
    for name, (apart, _) in zip(NAMES, verdicts, strict=True):
        assert (f"“{name.upper()}”" in sentence) == (not apart)


def test_the_table_has_the_tests_own_figures() -> None:
    pairs = trials(trial("b", "c", 0.1, True), trial("a", "b", -0.0314, False, a_only=None))
    table = pairwise_tables.tests(results(models=[model(n, 0.9) for n in "abc"], tests=pairs), "a")
    assert table is not None
    first, second = (list(map(str.strip, row.cells)) for row in table.rows)
    # The recommended model's tests come first, and keep their own references.
    assert first == [
        "A",
        "B",
        "−3.1",
        "−5.1 to −1.1",
        "–",
        "23",
        "0.077",
        "0.31",
        "indistinguishable",
    ]
    assert second[-3:] == ["0.0010", "0.0040", "differ"]
    assert [row.refs for row in table.rows] == [("tests/1",), ("tests/0",)]
    assert "2 pairs" in table.caption
    assert "below 0.05" in table.note


def test_many_tests_are_cut_down_to_those_with_the_recommended_model() -> None:
    names = "abcdefg"
    everyone = [(x, y) for i, x in enumerate(names) for y in names[i + 1 :]]
    pairs = [trial(x, y, 0.1, y == "g") for x, y in everyone]
    models = [model(n, 0.9) for n in names]
    table = pairwise_tables.tests(results(models=models, tests=trials(*pairs)), "c")
    assert table is not None
    assert len(table.rows) == 6
    assert all("C" in row.cells[:2] for row in table.rows)
    assert "15 pairs without the recommended model, of which 5 differ" in table.note
    whole = pairwise_tables.tests(results(models=models, tests=trials(*pairs)), None)
    assert whole is not None
    assert len(whole.rows) == 21


def regression(name: str, val: float) -> JsonDict:
    entry = model(name, 0.0)
    entry["metrics"] = {s: {"mse": score(val, 0.01)} for s in ("val", "test")}
    return entry


def test_a_regression_is_tested_by_its_squared_error() -> None:
    data = {"goal": "regression", "noun": "sequence"}
    better = trial("a", "b", -0.3, True, a_only=None, b_only=None)
    pairs = trials(better, metric="mse", method="paired-bootstrap")
    models = [regression("b", 0.50), regression("a", 0.49)]
    text = said("model", models=models, tests=pairs, data=data)
    assert "On the same test sequences, a paired bootstrap test with Holm’s correction" in text
    assert "tells “A” from “B”" in text
    table = pairwise_tables.tests(results(models=models, tests=pairs, data=data), "a")
    assert table is not None
    assert [c.group for c in table.columns if c.group] == ["MSE", "MSE"]
    assert table.rows[0].cells[2] == "−0.300"


def test_five_names_are_enough() -> None:
    names = [f"m{i}" for i in range(9)]
    models = [model("a", 0.9), *(model(n, 0.8) for n in names)]
    pairs = trials(*(trial("a", n, 0.1, False) for n in names))
    text = said("model", models=models, tests=pairs)
    assert "and 5 others are indistinguishable from “A”: none of these differences survives" in text
    rows = cited("indistinguishable", models=models, tests=pairs)
    assert [r for r in rows if r.startswith("tests/")] == [f"tests/{i}" for i in range(4)]

"""How much of a score is luck: other seeds, and other looks at the same test split."""

import statistics
from pathlib import Path
from typing import Any

import pytest
from report_evidence import looks, seeds
from report_makers import changed, model, read, results, score, tables, texts

from headstart.report import advise, build_view, seed_tables
from headstart.types import JsonDict

VALUES = [0.871, 0.884, 0.879, 0.902, 0.868]


def seeded(values: list[float], half: float = 0.03, **more: Any) -> JsonDict:
    entry = model("a", 0.88, 0.871, seeds={**seeds(values, values), **more})
    entry["metrics"]["test"]["accuracy"] = score(0.871, half)
    return entry


def said(*models: JsonDict, **parts: Any) -> str:
    return texts(advise(results(models=list(models), **parts), {}), "seeds")


def test_the_spread_of_seeds_is_told_and_held_against_the_interval() -> None:
    sd = statistics.stdev(VALUES)
    text = said(seeded(VALUES))
    assert (
        "Over 5 seeds “A” has a mean test accuracy of 88.1%, from 86.8% to 90.2%, with a standard "
        f"deviation of {100 * sd:.2f} points."
    ) in text
    assert f"±{200 * sd:.1f} points, are what luck of the seed may do: less than the ±3.0" in text
    narrow = said(seeded(VALUES, half=0.01))
    assert f"±{200 * sd:.1f} points, are what luck of the seed may do: more than the ±1.0" in narrow
    assert "Average over seeds before you believe it." in narrow
    (sentence,) = [
        s
        for s in advise(results(models=[seeded(VALUES)]), {})["sentences"]
        if s["topic"] == "seeds"
    ]
    assert sentence["rows"] == ["models/a/seeds", "models/a"]


def test_seeds_that_diverged_are_told() -> None:
    entry = seeded(VALUES, asked=7)
    assert "2 seeds more diverged." in said(entry)
    table = seed_tables.seeds(results(models=[entry]), "a")
    assert table is not None
    assert "Diverged, and left out: 2 seeds of “A”." in table.note
    assert "diverged" not in said(seeded(VALUES)).lower()


def test_one_seed_says_nothing_of_luck() -> None:
    assert said(model("a", 0.9)) == ""
    assert said(model("a", 0.9, seeds=None)) == ""
    assert seed_tables.seeds(results(models=[model("a", 0.9)]), "a") is None


def test_the_best_model_with_seeds_is_spoken_of() -> None:
    worse = {**seeded(VALUES), "name": "b", "title": "B"}
    worse["metrics"] = {"val": {"accuracy": score(0.5)}, "test": {"accuracy": score(0.5)}}
    assert "“A”" in said(worse, seeded(VALUES))
    assert "“B”" in said(worse, model("a", 0.9))


def test_every_value_of_every_seed_is_in_the_table(evidence_run: Path) -> None:
    whole = read(evidence_run)
    rows = iter(tables(build_view(evidence_run))["seeds"].rows)
    for entry in whole["models"]:
        for split in ("val", "test") if entry.get("seeds") else ():
            of = entry["seeds"][split]["accuracy"]
            row = next(rows)
            each = ", ".join(f"{100 * v:.1f}" for v in of["values"])
            assert row.cells[2:] == (f"{100 * of['mean']:.1f}", f"{100 * of['sd']:.2f}", each)
            assert (f"models/{entry['name']}/seeds" in row.refs) == (split == "test")
    assert next(rows, None) is None


def test_a_regression_shows_both_errors_over_seeds() -> None:
    values = {"values": [0.0213, 0.0224], "mean": 0.02185, "sd": 0.00077782}
    record = {"seeds": [0, 1], "val": {"mse": values, "mae": values}, "test": {"mse": values}}
    entry = model("a", 0.0, seeds=record)
    entry["metrics"] = {s: {"mse": score(0.0213, 0.0009)} for s in ("val", "test")}
    data = {"goal": "regression", "noun": "sequence"}
    table = seed_tables.seeds(results(models=[entry], data=data), "a")
    assert table is not None
    assert [row.cells[1] for row in table.rows] == ["validation MSE", "validation MAE", "test MSE"]
    assert table.rows[0].cells[2:] == ("0.0219", "0.00078", "0.0213, 0.0224")
    text = said(entry, data=data)
    assert "mean test mean squared error of 0.0219, from 0.0213 to 0.0224" in text
    assert "±0.0016, are what luck of the seed may do: more than the ±0.00090" in text


def test_earlier_looks_at_the_test_split_come_first() -> None:
    problem = {"kind": "unreadable", "severity": "error", "count": 3, "text": "3 broken."}
    everything = results(
        models=[model("a", 0.9)], data={"problems": [problem]}, test_looks=looks(2)
    )
    first, second, *_ = advise(everything, {})["sentences"]
    assert first["topic"] == "data"
    assert first["rows"] == ["test_looks"]
    assert first["text"].startswith(
        "The test split of this run was read by 2 other experiments before (flowers-before-a, "
        "profile full, 11 November 2026; flowers-before-b, 12 November 2026)"
    )
    assert second["text"] == "Mend the data first: 3 broken."


@pytest.mark.parametrize("number", [0, 1, 5])
def test_looks_are_counted_and_named(number: int) -> None:
    text = texts(advise(results(models=[model("a", 0.9)], test_looks=looks(number)), {}), "data")
    if number == 0:
        assert text == ""
    elif number == 1:
        assert "read by 1 other experiment before (flowers-before-a, profile full" in text
    else:
        assert "read by 5 other experiments before" in text
        assert "flowers-before-c" in text
        assert "flowers-before-d" not in text
        assert "; 2 others)" in text
    assert advise(results(models=[model("a", 0.9)], test_looks=None), {}) == advise(
        results(models=[model("a", 0.9)]), {}
    )


def test_looks_stand_in_the_table_of_caveats_and_do_not_hide_errors(
    evidence_run: Path, tmp_path: Path
) -> None:
    def change(whole: dict[str, Any]) -> None:
        whole["test_looks"] = looks(8)
        whole["data"]["problems"] = [
            {"kind": "x", "severity": "error", "count": 1, "text": "One is broken."},
            {"kind": "y", "severity": "warning", "count": 2, "text": "Two are odd."},
        ]
        whole["recommendation"] = advise(whole, {})

    view = changed(evidence_run, tmp_path / "run", change)
    rows = tables(view)["caveats"].rows
    assert [row.refs for row in rows] == [
        *(("data/problems/0",), ("test_looks",), ("data/problems/1",))
    ]
    assert rows[1].cells[:2] == ("warning", "8")
    for look in looks(8)["earlier"]:
        assert look["study"] in rows[1].cells[2]
    assert "flowers-before-a" in view.abstract[0]
    assert view.abstract[1].startswith("Mend the data first: One is broken")

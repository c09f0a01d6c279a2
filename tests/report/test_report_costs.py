"""Costs, ensembles and pretrained classifiers are shown as the results have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_makers import changed, plots, read, tables

from headstart.report import build_view, lookup
from headstart.report.cost_plotting import front
from headstart.report.ensemble_tables import verdict

Make = Callable[[str], Path]


def test_costs_are_those_of_the_prediction_step(run_folder: Make) -> None:
    results = read(run_folder("staged"))
    rows = tables(build_view(run_folder("staged")))["costs"].rows
    members = sum(m["prediction"]["seconds"] for m in results["models"][1:6:2])
    for model, row in zip(results["models"], rows, strict=True):
        seconds = model["prediction"]["seconds"] if model["prediction"] else members
        test = model["metrics"]["test"]["accuracy"]
        assert row.cells[0] == model["title"]
        assert row.cells[1] == f"{model['parameters_total']:,}"
        assert float(row.cells[2]) == pytest.approx(model["size_bytes"] / 2**20, rel=0.005)
        assert float(row.cells[3]) == pytest.approx(seconds, abs=0.051)
        assert float(row.cells[4]) == pytest.approx(1000 * seconds / test["n"], rel=0.005)
        assert row.cells[5:] == (
            f"{100 * test['value']:.1f}",
            f"{100 * test['low']:.1f}–{100 * test['high']:.1f}",
        )
        assert row.strong == (model["name"] == results["recommendation"]["model"])


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=9),
)
def test_the_front_is_what_nothing_beats(entries: list[tuple[int, int]]) -> None:
    best = front([c for c, _ in entries], [g for _, g in entries])
    kept = [e for e, on in zip(entries, best, strict=True) if on]
    for (cost, gain), on in zip(entries, best, strict=True):
        # The best gain at this cost or less, got at the least cost, is on the front.
        most = max(g for c, g in entries if c <= cost)
        least = min(c for c, g in entries if g >= gain)
        assert on == (gain == most and cost == least)
    assert kept


def test_the_chart_of_costs_needs_three_models(run_folder: Make, tmp_path: Path) -> None:
    results = read(run_folder("staged"))
    points = plots(build_view(run_folder("staged")))["trade"].points
    assert [p.title for p in points] == [m["title"] for m in results["models"]]
    assert [p.cost for p in points[:6:2]] == pytest.approx([21.4, 12.9, 8.3])
    assert [p.ensemble for p in points] == [False] * 7 + [True] * 2
    assert {p.title for p in points if p.front} >= {max(points, key=lambda p: p.score.value).title}

    def two(results: dict[str, Any]) -> None:
        results["models"] = results["models"][:3:2]

    def untimed(results: dict[str, Any]) -> None:
        for model in results["models"][:-2]:
            model["prediction"] = None

    def alike(results: dict[str, Any]) -> None:
        results["models"] = results["models"][:7]
        for i, model in enumerate(results["models"]):
            model["prediction"]["seconds"] = 4.0 + 0.1 * i
            model["size_bytes"] = 1000

    assert "trade" not in plots(changed(run_folder("staged"), tmp_path / "two", two))
    assert "trade" not in plots(changed(run_folder("staged"), tmp_path / "alike", alike))
    by_size = plots(changed(run_folder("staged"), tmp_path / "untimed", untimed))["trade"]
    assert by_size.points[0].cost == results["models"][0]["size_bytes"] / 2**20


def test_ensembles_show_their_gain_weights_and_pairs(run_folder: Make) -> None:
    results = read(run_folder("staged"))
    found = tables(build_view(run_folder("staged")))
    votes = results["models"][-2:]
    for model, row in zip(votes, found["ensembles"].rows, strict=True):
        gain = model["ensemble"]["gain"]
        assert row.refs == (f"models/{model['name']}/ensemble",)
        assert row.cells[2] == "Resnet, fine-tuned"
        assert float(row.cells[5].replace("−", "-")) == round(100 * gain["value"], 1)
        assert float(row.cells[9]) == pytest.approx(12.9 + 8.3)
    assert [row.cells[3:] for row in found["members"].rows] == [
        ("0.333", "0.500"),
        ("0.333", "0.125"),
        ("0.333", "0.375"),
    ]
    # Both ensembles hold the same pairs: each stands once, the most unlike first.
    unlike = [float(row.cells[2]) for row in found["pairs"].rows]
    assert len(unlike) == 3
    assert unlike == sorted(unlike, reverse=True)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.01, 0.03, "cannot be told apart"),
        (0.0, 0.0, "cannot be told apart"),
        (0.001, 0.03, "better"),
        (-0.03, -0.001, "worse"),
        (None, None, "–"),
    ],
)
def test_a_gain_is_judged_by_its_interval(low: float, high: float, words: str) -> None:
    gain = {"value": 0.01, "low": low, "high": high, "n": 100}
    assert verdict({}, {"name": "vote", "ensemble": {"gain": gain}}) == words


def test_classifiers_as_they_are_stand_side_by_side(run_folder: Make) -> None:
    found = tables(build_view(run_folder("zero-shot")))
    padded, resized = found["zero-shot"].rows
    assert padded.cells[2:7] == ("padded", "4.2", "2.2–6.2", "10.2", "8.2–12.2")
    assert resized.cells[2:7] == ("stretched", "31.2", "29.2–33.2", "55.3", "53.3–57.3")
    picture = found["zero-shot-picture-1"]
    assert "val_12.JPEG" in picture.caption
    assert "goldfish (n01443537)" in picture.caption
    assert [c.group for c in picture.columns] == ["", *["Padded"] * 3, *["Resized"] * 3]
    assert len(picture.rows) == 10
    assert picture.rows[0].cells == (
        *("1", "n99999990", "thing number 0", "40.0"),
        *("n01443537", "goldfish ←", "40.0"),
    )
    assert picture.note == "← the label; “Padded” does not name it here."
    assert "zero-shot-picture-2" in found


def test_the_fit_is_recommended_where_it_was_varied(run_folder: Make) -> None:
    rows = tables(build_view(run_folder("zero-shot")))["recommended"].rows
    assert ("Pictures are", "padded") in [row.cells for row in rows]


def test_a_single_classifier_has_a_plain_table(run_folder: Make, tmp_path: Path) -> None:
    def padded_alone(results: dict[str, Any]) -> None:
        results["models"] = results["models"][:1]

    view = changed(run_folder("zero-shot"), tmp_path / "run", padded_alone)
    picture = tables(view)["zero-shot-picture-1"]
    assert [c.title for c in picture.columns] == ["Rank", "id", "name", "%"]
    assert picture.note == "The label is not among them."


def test_classes_go_by_their_names_for_people(run_folder: Make) -> None:
    words = lookup.class_words(read(run_folder("zero-shot")))
    assert words["n01443537"] == "goldfish"
    assert words["n02012849"] == "crane (n02012849)"  # a bird, and a machine
    assert len(set(words.values())) == len(words)
    view = build_view(run_folder("zero-shot"))
    assert plots(view)["confusion"].classes == tuple(words.values())
    assert [row.cells[:2] for row in tables(view)["per-class"].rows] == [
        (word, name) for name, word in words.items()
    ]
    assert tables(view)["counts"].rows[0].cells[0] == "goldfish"


def test_the_recommended_values_of_an_ensemble_are_its_members(
    run_folder: Make, tmp_path: Path
) -> None:
    def change(results: dict[str, Any]) -> None:
        results["recommendation"]["model"] = "weighted"

    view = changed(run_folder("staged"), tmp_path / "run", change)
    rows = tables(view)["recommended"].rows
    assert [row.cells for row in rows] == [
        ("Voting", "weighted"),
        ("Weight of “Resnet, fine-tuned”", "0.500"),
        ("Weight of “Inception, fine-tuned”", "0.125"),
        ("Weight of “Efficient, fine-tuned”", "0.375"),
    ]
    assert all(row.citations for row in rows)

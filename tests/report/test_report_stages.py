"""Stages of training are shown as the results have them, and only where there are any."""

import copy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import report_stages
from report_makers import changed, plots, read, tables

from headstart.report import build_view, figures, stage_tables
from headstart.report.records import Advice, Facts, Figure
from headstart.types import StepRecord

Make = Callable[[str], Path]
SPACES = str.maketrans({"\u2007": "", "\u2008": "", "\u00a0": " "})
NEW = {"stages", "stage-costs", "stage-settings", "costs", "ensembles", "members", "pairs"}


@pytest.mark.parametrize("name", ["flowers", "few-labels", "bare", "all-diverged"])
def test_studies_of_heads_alone_show_none_of_it(run_folder: Make, name: str) -> None:
    view = build_view(run_folder(name))
    assert not NEW & tables(view).keys()
    assert "trade" not in plots(view)
    keys = [s.key for s in view.sections]
    assert not {"zero-shot", "ensembles", "costs", "discussion"} & set(keys)


def test_each_stage_is_a_row_with_its_own_figures(run_folder: Make) -> None:
    results = read(run_folder("staged"))
    found = tables(build_view(run_folder("staged")))
    stages = [(m, i, s) for m in results["models"] for i, s in enumerate(m["stages"])]
    assert len(stages) == 10
    for (model, i, stage), row, cost in zip(
        stages, found["stages"].rows, found["stage-costs"].rows, strict=True
    ):
        cells = [c.translate(SPACES) for c in row.cells]
        assert cells == [
            model["title"],
            f"{i + 1} {stage['trainable']}",
            "nothing" if stage["cut"] == "input" else stage["cut"],
            "adam",
            f"{stage['learning_rate']:.5f}".rstrip("0"),
            str(stage["epochs"]),
            str(stage["best_epoch"]),
            f"{stage['parameters_trainable']:,}",
            f"{stage['parameters_frozen']:,}",
        ]
        assert row.refs == (f"models/{model['name']}/stages/{i}",)
        assert cost.cells[2:] == (
            stage["features"],
            stage["replayed_from"] or "–",
            f"{stage['extraction_seconds']:.1f}",
            f"{stage['wall_seconds']:.1f}",
            f"{stage['disk_bytes'] / 1e6:.1f}",
        )


def test_what_steps_compute_in_is_said_where_it_is_not_float32(run_folder: Make) -> None:
    results = read(run_folder("staged"))
    stages = [s for model in results["models"] for s in model["stages"]]
    for stage in stages:
        stage |= {"precision": "float32", "compiled": False}

    def column() -> list[str] | None:
        table = stage_tables.stages(results)
        assert table is not None
        titles = [c.title for c in table.columns]
        if "Steps in" not in titles:
            return None
        return [row.cells[titles.index("Steps in")] for row in table.rows]

    assert column() is None
    stages[1] |= {"precision": "bfloat16", "compiled": True}
    assert column() == ["float32", "bfloat16, compiled", *["float32"] * (len(stages) - 2)]


def test_training_accuracy_stands_beside_the_others(run_folder: Make) -> None:
    table = tables(build_view(run_folder("staged")))["scores"]
    assert table.columns[1].group == "Training accuracy, %"
    for model, row in zip(read(run_folder("staged"))["models"], table.rows, strict=True):
        score = model["metrics"].get("train", {}).get("accuracy")
        assert row.cells[1] == ("–" if score is None else f"{100 * score['value']:.1f}")


def test_an_optimizer_without_a_learning_rate_has_none(run_folder: Make, tmp_path: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        results["models"][0]["stages"][0].update(optimizer="lbfgs", learning_rate=0.0)

    row = tables(changed(run_folder("staged"), tmp_path / "run", change))["stages"].rows[0]
    assert row.cells[3:5] == ("lbfgs", "–")


def test_a_name_of_its_own_stands_beside_what_a_stage_trains(
    run_folder: Make, tmp_path: Path
) -> None:
    def change(results: dict[str, Any]) -> None:
        results["models"][1]["stages"][1]["name"] = "everything else"

    table = tables(changed(run_folder("staged"), tmp_path / "run", change))["stages"]
    assert [c.title for c in table.columns[1:3]] == ["Stage", "Trained"]
    assert table.rows[2].cells[1:3] == ("2 everything else", "last 3")


def test_settings_of_stages_are_shown_with_the_stages(run_folder: Make) -> None:
    view = build_view(run_folder("staged"))
    found = tables(view)
    assert {
        tuple(row.cells[1:]) for row in found["stage-settings"].rows if "3" in row.cells[1]
    } == {("2\u00a0last\u00a03", "batch size 500, learning rate of layer4 0.0005")}
    facts = [dict(b.items) for s in view.sections for b in s.blocks if isinstance(b, Facts)]
    shared = {k: v for items in facts for k, v in items.items()}
    assert shared["Beta1"] == "0.9"
    assert shared["Precision"] == "float32"
    assert shared["Seed"] == "0"
    assert not {"Epochs", "Optimizer", "Learning rate", "Crop", "From scratch"} & shared.keys()
    heads = [c.title for c in found["models"].columns]
    assert heads == ["Model", "Mode", "Backbone", "From scratch", "Epochs run"]
    assert [row.cells[3] for row in found["models"].rows] == [*["no"] * 6, "yes"]


def test_a_model_without_stages_of_its_own_is_held_against_those_with(
    run_folder: Make, tmp_path: Path
) -> None:
    def change(results: dict[str, Any]) -> None:
        results["models"][0]["mode"] = "cached"
        results["models"][0]["hyperparameters"] = {
            **{"seed": 1, "from_scratch": False, "batch_size": 32, "epochs": 10},
            **{"optimizer.kind": "adam", "optimizer.learning_rate": 0.001, "optimizer.beta1": 0.9},
        }

    found = tables(changed(run_folder("staged"), tmp_path / "run", change))
    heads = [c.title for c in found["models"].columns]
    # Epochs, optimizer and learning rate are in the table of stages; beta1 is 0.9 everywhere.
    assert heads == [
        *("Model", "Mode", "Backbone", "Seed", "From scratch", "Batch size", "Epochs run")
    ]
    assert [row.cells[5] for row in found["models"].rows[:3]] == ["32", "by stage", "32"]
    rows = {row.cells[0]: row.cells[1] for row in found["recommended"].rows}
    assert list(rows) == ["Seed", "From scratch", "Stage 1 trains", "Stage 2 trains", "Backbone"]

    def choose(results: dict[str, Any]) -> None:
        change(results)
        results["recommendation"]["model"] = "resnet-frozen"

    found = tables(changed(run_folder("staged"), tmp_path / "other", choose))
    rows = {row.cells[0]: row.cells[1] for row in found["recommended"].rows}
    # Cached against staged is no choice of mode.
    assert list(rows) == ["Seed", "From scratch", "Batch size", "Stage 1 trains", "Backbone"]
    assert rows["Seed"] == "1"


def test_the_discussion_stands_apart_from_the_advice(run_folder: Make) -> None:
    sections = {s.key: s for s in build_view(run_folder("staged")).sections}
    topics = {
        key: {s.topic for b in sections[key].blocks if isinstance(b, Advice) for s in b.sentences}
        for key in ("discussion", "conclusions")
    }
    assert topics["discussion"] == {
        *("Transfer learning", "Frozen layers", "Size and computation", "Ensembles")
    }
    assert topics["conclusions"] == {"Model", "Fit"}
    assert list(sections).index("discussion") == list(sections).index("conclusions") - 1


def test_curves_run_on_over_stages_whose_starts_are_named(run_folder: Make) -> None:
    plot = plots(build_view(run_folder("staged")))["curves"]
    (panel,) = [p for p in plot.panels if p.title == "Resnet, fine-tuned"]
    for curves in (panel.loss, panel.accuracy):
        assert [split for split, _ in curves] == ["train", "val"]
        assert all(c.epochs == tuple(range(1, 15)) for _, c in curves)
    assert panel.boundaries == (10,)
    assert panel.kept_epochs == (9, 13)
    assert panel.stages == ("head", "last 3")
    (whole,) = [p for p in plot.panels if p.title == "Resnet, frozen"]
    assert (whole.boundaries, whole.stages) == ((), ())
    svg = figures.draw(plot, "print", "k")
    assert svg.count(">last 3</text>") == 3


def test_what_is_off_is_not_listed(run_folder: Make, tmp_path: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        settings = results["models"][1]["hyperparameters"]
        off = {"augmentation.rotate": 0.0, "augmentation.flip": False, "features": "auto"}
        settings |= {f"stages.0.{k}": v for k, v in off.items()}
        settings["stages.1.augmentation.flip"] = True

    rows = tables(changed(run_folder("staged"), tmp_path / "run", change))["stage-settings"].rows
    words = {row.cells[:2]: row.cells[2] for row in rows}
    assert words["Resnet, fine-tuned", "1\u00a0head"] == "batch size 32"
    assert "flip yes" in words["Resnet, fine-tuned", "2\u00a0last\u00a03"]


def test_a_speed_comparison_of_staged_models_decides_no_mode(
    run_folder: Make, tmp_path: Path
) -> None:
    def change(results: dict[str, Any]) -> None:
        results["models"][0]["mode"] = "cached"
        results["models"][2]["mode"] = "standard"
        results["recommendation"]["model"] = "resnet-frozen"
        results["comparisons"][0].update(agreement=1.0, speedup=9.0)

    rows = tables(changed(run_folder("staged"), tmp_path / "run", change))["recommended"].rows
    assert {row.cells[0]: row.cells[1] for row in rows}["Mode"] == "cached"


def test_a_model_of_one_epoch_has_no_curve_and_is_not_said_to_diverge(
    run_folder: Make, tmp_path: Path
) -> None:
    def caption(name: str, change: Callable[[dict[str, Any]], None]) -> str:
        view = changed(run_folder("staged"), tmp_path / name, change)
        blocks = [b for s in view.sections for b in s.blocks]
        return next(b.caption for b in blocks if isinstance(b, Figure) and b.key == "curves")

    def short(results: dict[str, Any]) -> None:
        results["models"][0]["history"] = "models/short.parquet"
        steps = [StepRecord(0, 0, 1, s, 0.5, 0.5, 0.1, 0.1) for s in ("train", "val")]
        file = tmp_path / results["name"] / "models/short.parquet"
        file.parent.mkdir()
        pq.write_table(pa.Table.from_pylist([asdict(s) for s in steps]), file)

    assert "of every model by epoch" in caption("whole", lambda _: None)
    assert "every model with several epochs" in caption("a", lambda r: short({**r, "name": "a"}))

    def lost(results: dict[str, Any]) -> None:
        short({**results, "name": "b"})
        results["models"][0]["state"] = "diverged"

    assert "did not diverge at once" in caption("b", lost)


@pytest.mark.parametrize("name", list(report_stages.STUDIES))
def test_every_row_that_the_advice_rests_on_is_shown(run_folder: Make, name: str) -> None:
    view = build_view(run_folder(name))
    shown = {ref for t in tables(view).values() for row in t.rows for ref in row.refs}
    shown |= {ref for t in tables(view).values() for ref in t.refs}
    advice = [b for s in view.sections for b in s.blocks if isinstance(b, Advice)]
    wanted = {ref for block in advice for s in block.sentences for ref in s.rests_on}
    assert wanted
    assert wanted <= shown


@pytest.mark.parametrize("name", list(report_stages.STUDIES))
def test_any_part_of_the_new_records_may_be_missing(
    run_folder: Make, tmp_path: Path, name: str
) -> None:
    whole = read(run_folder(name))
    owners = ("stages", "prediction", "ensemble", "zero_shot")
    places: set[tuple[str, ...]] = {(k,) for m in whole["models"] for k in m if k != "name"}
    for model in whole["models"]:
        for owner in owners:
            parts = model.get(owner) or {}
            for part in parts if isinstance(parts, list) else [parts]:
                places |= {(owner, key) for key in part}
    for i, place in enumerate(sorted(places)):
        for j, drop in enumerate((True, False)):

            def change(results: dict[str, Any], place: tuple[str, ...] = place) -> None:
                for model in results["models"]:
                    _remove(model, place, drop)  # noqa: B023

            view = changed(run_folder(name), tmp_path / f"{i}-{j}", change)
            assert view.sections


def _remove(model: dict[str, Any], place: tuple[str, ...], drop: bool) -> None:
    owner, *rest = place
    held = model.get(owner) or {}
    parts = [model] if not rest else held if isinstance(held, list) else [held]
    for part in parts:
        if place[-1] in part:
            if drop:
                del part[place[-1]]
            else:
                part[place[-1]] = None


def test_lines_of_a_learning_curve_are_of_one_way_of_training(
    run_folder: Make, tmp_path: Path
) -> None:
    def change(results: dict[str, Any]) -> None:
        frozen, tuned = results["models"][0], results["models"][1]
        results["models"] = []
        for labels in (10, 20):
            for model in (frozen, tuned):
                entry = copy.deepcopy(model)
                entry.update(name=f"{model['name']}-{labels}", labels_per_class=labels)
                results["models"].append(entry)

    series = plots(changed(run_folder("staged"), tmp_path / "run", change))["labels"].series
    assert [s.title for s in series] == ["trained: head", "trained: head, then last 3"]
    assert [[n for n, _ in s.points] for s in series] == [[10, 20], [10, 20]]


def test_the_recommended_values_of_a_staged_model_are_those_of_its_stages(
    run_folder: Make,
) -> None:
    rows = {r.cells[0]: r for r in tables(build_view(run_folder("staged")))["recommended"].rows}
    assert rows["Stage 2 trains"].cells[1] == "last 3, 4 epochs, adam, learning rate 0.00005"
    assert rows["Backbone"].cells[1] == "torchvision/resnet101"
    assert all(row.citations for row in rows.values())

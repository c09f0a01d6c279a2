"""The view says what the results say, cites what is there, and shortens without lying."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import report_studies

from headstart.errors import RunError
from headstart.report import ReportView, build_view
from headstart.report.load import load_run
from headstart.report.records import Advice, Figure, Sentence, Table
from headstart.report.shortening import DENSITIES, shortened

Make = Callable[[str], Path]
STUDIES = list(report_studies.STUDIES)


def tables(view: ReportView) -> dict[str, Table]:
    return {b.key: b for s in view.sections for b in s.blocks if isinstance(b, Table)}


def sentences(view: ReportView) -> list[Sentence]:
    advice = [b for s in view.sections for b in s.blocks if isinstance(b, Advice)]
    return [s for block in advice for s in block.sentences]


def figures(view: ReportView) -> list[Figure]:
    return [b for s in view.sections for b in s.blocks if isinstance(b, Figure)]


def changed(source: Path, target: Path, change: Callable[[dict], None]) -> Path:
    results = json.loads((source / "results.json").read_text())
    change(results)
    target.mkdir()
    (target / "results.json").write_text(json.dumps(results))
    return target


def test_the_table_of_scores_holds_the_models_own_figures(run_folder: Make) -> None:
    results = json.loads((run_folder("flowers") / "results.json").read_text())
    table = tables(build_view(run_folder("flowers")))["scores"]
    assert [c.group for c in table.columns[1:5]] == [
        *["Validation accuracy, %"] * 2,
        *["Test accuracy, %"] * 2,
    ]
    for model, row in zip(results["models"], table.rows, strict=True):
        val, test = (model["metrics"][s]["accuracy"] for s in ("val", "test"))
        expected = [
            f"{100 * val['value']:.1f}",
            f"{100 * val['low']:.1f}–{100 * val['high']:.1f}",
            f"{100 * test['value']:.1f}",
            f"{100 * test['low']:.1f}–{100 * test['high']:.1f}",
            f"{model['metrics']['test']['loss']['value']:.3f}",
        ]
        assert list(row.cells[1:6]) == expected
        assert row.refs == (f"models/{model['name']}",)
        assert row.strong == (model["name"] == results["recommendation"]["model"])
        assert row.label == model["part"]


def test_a_figure_of_the_results_is_shown_wherever_it_belongs(
    run_folder: Make, tmp_path: Path
) -> None:
    def change(results: dict) -> None:
        results["models"][1]["metrics"]["test"]["accuracy"]["value"] = 0.12345
        results["sweeps"][1]["members"][0]["metrics"]["val"]["loss"]["value"] = 7.65432
        results["data"]["counts"]["val"]["rose"] = 98765
        results["targets"][2]["got"] = 77.7

    view = build_view(changed(run_folder("flowers"), tmp_path / "run", change))
    found = tables(view)
    assert found["scores"].rows[1].cells[3] == "12.3"
    assert "7.654" in found["sweep-c"].rows[0].cells
    assert "98,765" in found["counts"].rows[2].cells
    assert found["counts"].rows[-1].cells[-1] == f"{98765 + 900 - 40:,}"
    assert found["targets"].rows[2].cells[3] == "77.7×"


@pytest.mark.parametrize("name", STUDIES)
def test_every_citation_leads_to_a_row_at_every_density(run_folder: Make, name: str) -> None:
    full = build_view(run_folder(name))
    for density in DENSITIES:
        view = shortened(full, density)
        anchors = set()
        for table in tables(view).values():
            anchors.add(f"table-{table.number}")
            labels = [row.label for row in table.rows if table.labelled]
            assert len(set(labels)) == len(labels)
            anchors.update(f"table-{table.number}-row-{label}" for label in labels)
        for sentence, whole in zip(sentences(view), sentences(full), strict=True):
            assert sentence.citations
            assert {c.anchor for c in sentence.citations} <= anchors
            # The same rows, under the same letters, whatever the number of their table.
            rows = [c.text.partition(",")[2] for c in sentence.citations]
            assert rows == [c.text.partition(",")[2] for c in whole.citations]
        numbers = [t.number for t in tables(view).values()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert [f.number for f in figures(view)] == list(range(1, len(figures(view)) + 1))


def test_citations_name_table_and_row(run_folder: Make) -> None:
    view = build_view(run_folder("flowers"))
    rate = next(s for s in sentences(view) if s.topic == "Learning rate")
    table = tables(view)["sweep-b"]
    (best,) = [row.label for row in table.rows if row.strong]
    assert [c.text for c in rate.citations] == [f"Table\u00a0{table.number}, row\u00a0{best}"]


def test_each_density_says_less_and_says_so(run_folder: Make) -> None:
    full = build_view(run_folder("many-classes"))
    sizes = []
    for density in DENSITIES:
        view = shortened(full, density)
        kept = tables(view)
        sizes.append(sum(len(t.rows) for t in kept.values()) + 10 * len(figures(view)))
        gone = len(kept) < len(tables(full)) or len(figures(view)) < len(figures(full))
        assert bool(view.left_out) == gone
        for key, table in kept.items():
            before = len(tables(full)[key].rows)
            if len(table.rows) < before:
                assert f"{len(table.rows)} of {before} rows" in table.note
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 4


def test_many_classes_are_summed_up_hardest_first(run_folder: Make) -> None:
    found = tables(build_view(run_folder("many-classes")))
    hardest = [float(row.cells[5]) for row in found["per-class"].rows]
    assert len(hardest) == 200
    assert hardest == sorted(hardest)
    taken = [int(row.cells[2]) for row in found["worst-pairs"].rows]
    assert taken == sorted(taken, reverse=True)
    assert len(found["counts"].rows) == 3


def test_data_problems_stand_first_errors_before_notes(run_folder: Make) -> None:
    view = build_view(run_folder("many-classes"))
    assert [r.cells[0] for r in tables(view)["caveats"].rows] == ["error", "warning", "note"]
    assert view.abstract[0].startswith("Mend the data first")
    assert len(tables(view)["left-out"].rows) == 40


@pytest.mark.parametrize(("agreement", "mode"), [(1.0, "cached"), (0.9, "standard")])
def test_the_accelerated_mode_is_recommended_only_where_it_does_the_same(
    run_folder: Make, tmp_path: Path, agreement: float, mode: str
) -> None:
    def change(results: dict) -> None:
        results["recommendation"]["model"] = "c"
        results["comparisons"][0]["agreement"] = agreement

    view = build_view(changed(run_folder("flowers"), tmp_path / "run", change))
    rows = tables(view)["recommended"].rows
    assert {row.cells[0]: row.cells[1] for row in rows}["Mode"] == mode
    assert all(row.citations for row in rows)


def test_charts_draw_the_results_own_figures(run_folder: Make) -> None:
    results = json.loads((run_folder("flowers") / "results.json").read_text())
    plots = {f.key: f.plot for f in figures(build_view(run_folder("flowers")))}
    for sweep, panel in zip(results["sweeps"], plots["sweeps"].panels, strict=True):
        for member, point in zip(sweep["members"], panel.points, strict=True):
            score = member["metrics"]["val"]["accuracy"]
            assert [point.value] == list(member["values"].values())
            assert point.score.interval == (score["low"], score["high"])
            assert point.best == member["best"]
    chosen = results["recommendation"]["model"]
    (model,) = [m for m in results["models"] if m["name"] == chosen]
    assert [list(row) for row in plots["confusion"].matrix] == model["confusion"]["test"]
    steps = load_run(run_folder("flowers")).histories["a"]
    drawn = dict(plots["curves"].panels[0].loss)["val"]
    assert list(drawn.values) == [s.loss for s in steps if s.split == "val"]
    slow, fast = plots["times"].bars
    assert slow.other_seconds == results["comparisons"][0]["seconds_b"]
    assert fast.extraction_seconds == results["sweeps"][2]["extraction_seconds"]


@pytest.mark.parametrize("name", STUDIES)
def test_pieces_may_be_missing_or_null(run_folder: Make, tmp_path: Path, name: str) -> None:
    whole = json.loads((run_folder(name) / "results.json").read_text())
    for i, key in enumerate(k for k in whole if k != "schema_version"):
        without = changed(run_folder(name), tmp_path / f"a{i}", lambda r, k=key: r.pop(k))
        nothing = changed(
            run_folder(name), tmp_path / f"b{i}", lambda r, k=key: r.update({k: None})
        )
        assert build_view(without).sections is not None
        assert build_view(nothing).title


def test_parts_of_models_and_sweeps_may_be_missing(run_folder: Make, tmp_path: Path) -> None:
    whole = json.loads((run_folder("flowers") / "results.json").read_text())
    keys = [(p, k) for p in ("models", "sweeps", "comparisons") for k in whole[p][0]]
    for i, (part, key) in enumerate(keys):
        if key in ("name", "a", "b"):  # what an entry is called by, always there
            continue

        def change(results: dict, part: str = part, key: str = key) -> None:
            for entry in results[part]:
                entry[key] = None

        assert build_view(changed(run_folder("flowers"), tmp_path / str(i), change)).sections


def test_a_folder_that_is_no_run_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected the file results\.json"):
        build_view(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        build_view(tmp_path)
    (tmp_path / "results.json").write_text('{"schema_version": 99}')
    with pytest.raises(RunError, match="expected schema_version 1, got 99"):
        build_view(tmp_path)


def test_histories_are_read_from_inside_the_run_folder_only(
    run_folder: Make, tmp_path: Path
) -> None:
    outside = run_folder("flowers") / "models/a/history.parquet"
    run = tmp_path / "run"

    def change(results: dict) -> None:
        results["models"][0]["history"] = str(outside)
        results["models"][1]["history"] = f"../../{outside}"

    changed(run_folder("flowers"), run, change)
    assert load_run(run).histories == {}
    assert set(load_run(run_folder("flowers")).histories) >= {"a", "b", "sweeps/b"}

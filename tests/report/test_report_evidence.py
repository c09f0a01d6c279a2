"""A report that says how far its figures can be believed holds together as a whole."""

import copy
import io
import json
import shutil
from pathlib import Path
from typing import Any

import number_tracer
import pypdf
import pytest
import report_page
from report_makers import read, tables

from headstart.report import advise, build_view
from headstart.report.html import to_html
from headstart.report.load import load_run
from headstart.report.pdf import typeset
from headstart.report.records import Advice
from headstart.report.shortening import DENSITIES, shortened

NEW = ("tests", "test_looks", "analysis")
NEW_OF_MODELS = ("calibration", "seeds")


def test_every_citation_leads_to_a_row_at_every_density(evidence_run: Path) -> None:
    full = build_view(evidence_run)
    wanted = [
        s for v in full.sections for b in v.blocks if isinstance(b, Advice) for s in b.sentences
    ]
    assert {s.topic for s in wanted} >= {"Data", "Model", "Seeds", "Fit", "Calibration", "Labels"}
    for density in DENSITIES:
        view = shortened(full, density)
        anchors = set()
        refs = set()
        for table in tables(view).values():
            anchors.add(f"table-{table.number}")
            anchors |= {f"table-{table.number}-row-{row.label}" for row in table.rows if row.label}
            refs |= {*table.refs, *(ref for row in table.rows for ref in row.refs)}
        said = [
            s for v in view.sections for b in v.blocks if isinstance(b, Advice) for s in b.sentences
        ]
        for sentence in said:
            assert {*sentence.rests_on} <= refs
            assert sentence.citations
            assert {c.anchor for c in sentence.citations} <= anchors


def test_the_sections_stand_in_their_order(evidence_run: Path) -> None:
    keys = [s.key for s in build_view(evidence_run).sections]
    wanted = ["results", "errors", "calibration", "labels", "costs", "conclusions"]
    assert [k for k in keys if k in wanted] == wanted
    found = [*tables(build_view(evidence_run))]
    assert found.index("scores") < found.index("tests") < found.index("seeds")
    assert found.index("seeds") < found.index("per-class")


def test_an_older_run_has_none_of_it(evidence_run: Path, tmp_path: Path) -> None:
    """Pieces that a run does not have change nothing, be they missing, null or empty."""
    whole = read(evidence_run)
    views = []
    for i, value in enumerate(("missing", None)):
        results = copy.deepcopy(whole)
        owners = [(results, NEW), *((m, NEW_OF_MODELS) for m in results["models"])]
        for owner, keys in owners:
            for key in keys:
                owner[key] = value
                if value == "missing":
                    del owner[key]
        results["recommendation"] = advise(results, {})
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results))
        views.append(build_view(folder))
    assert views[0] == views[1]
    assert not {"errors", "calibration", "labels"} & {s.key for s in views[0].sections}
    assert not {"tests", "seeds", "caveats"} & {*tables(views[0])}


@pytest.mark.parametrize("key", [*NEW, *NEW_OF_MODELS])
def test_parts_of_the_new_pieces_may_be_missing(
    evidence_run: Path, tmp_path: Path, key: str
) -> None:
    whole = read(evidence_run)

    def owners(results: dict[str, Any]) -> list[dict[str, Any]]:
        holders = results["models"] if key in NEW_OF_MODELS else [results]
        return [h[key] for h in holders if h.get(key)]

    def inner(owner: dict[str, Any], names: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = []
        for name, value in owner.items():
            found.append((*names, name))
            if isinstance(value, dict):
                found += inner(value, (*names, name))
        return found

    for i, names in enumerate(inner(owners(whole)[0])):
        results = copy.deepcopy(whole)
        for owner in owners(results):
            for name in names[:-1]:
                owner = owner[name]  # noqa: PLW2901
            owner[names[-1]] = None
        advice = advise(results, {})
        assert advice["model"] == whole["recommendation"]["model"]
        results["recommendation"] = advice
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results))
        assert build_view(folder).sections, names


def test_pages_are_sound_and_no_more_than_allowed(evidence_run: Path) -> None:
    view = build_view(evidence_run)
    report_page.assert_sound(to_html(view))
    assert len(pypdf.PdfReader(io.BytesIO(typeset(view, 4))).pages) <= 4


def test_means_over_classes_have_their_intervals(evidence_run: Path) -> None:
    table = tables(build_view(evidence_run))["class-means"]
    for model, row in zip(read(evidence_run)["models"], table.rows, strict=True):
        expected = [model["title"]]
        for key in ("precision_macro", "recall_macro", "f1_macro", "auc_macro"):
            score = model["metrics"]["test"][key]
            expected.append(f"{100 * score['value']:.1f}")
            expected.append(f"{100 * score['low']:.1f}–{100 * score['high']:.1f}")
        assert list(row.cells) == expected


def test_advice_says_the_same_after_the_file(evidence_run: Path) -> None:
    run = load_run(evidence_run)
    assert advise(run.results, run.histories) == run.results["recommendation"]


def test_every_number_leads_back_to_the_results(evidence_run: Path) -> None:
    found = number_tracer.untraced(evidence_run)
    assert [(t.token, t.place.where) for t in found] == []


def test_a_report_is_rendered_from_a_copy_alike(evidence_run: Path, tmp_path: Path) -> None:
    shutil.copytree(evidence_run, tmp_path / "moved")
    assert to_html(build_view(tmp_path / "moved")) == to_html(build_view(evidence_run))

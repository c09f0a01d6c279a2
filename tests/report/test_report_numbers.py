"""No number of a report differs from results.json, and the check that says so has teeth."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import number_tracer
import pytest
import report_analyses
import report_evidence
import report_studies
from number_tracer import Place, Tracer, places, trace_view, untraced
from report_makers import read

from headstart.report import advise, build_view
from headstart.report.load import load_run
from headstart.report.text import probability

Make = Callable[[str], Path]
Change = Callable[[dict[str, Any]], None]


def changed(source: Path, target: Path, change: Change, *, advised: bool = True) -> Path:
    """Copy a run folder with other results; the advice is given anew unless it is to be stale."""
    results = read(source)
    change(results)
    target.mkdir()
    for file in source.rglob("*.parquet"):
        copied = target / file.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(file.read_bytes())
    (target / "results.json").write_text(json.dumps(results))
    if advised:
        results["recommendation"] = advise(results, load_run(target).histories)
        (target / "results.json").write_text(json.dumps(results))
    return target


def analysed(results: dict[str, Any]) -> None:
    results["analysis"] = report_analyses.analysis()


@pytest.mark.parametrize("name", report_studies.STUDIES)
def test_every_number_leads_back_to_the_results(run_folder: Make, name: str) -> None:
    found = untraced(run_folder(name))
    assert [(t.token, t.place.where) for t in found] == []


def test_every_number_of_the_analysis_leads_back_to_the_results(
    run_folder: Make, tmp_path: Path
) -> None:
    folder = changed(run_folder("flowers"), tmp_path / "run", analysed)
    assert [(t.token, t.place.where) for t in untraced(folder)] == []
    shown = {p.where.partition(",")[0] for p in places(build_view(folder))}
    keys = ("near-duplicates", "near-duplicate-scores", "suspicious-labels", "learning-curve-0")
    assert all(any(f"({key})" in where for where in shown) for key in keys)


def test_every_number_of_calibration_tests_and_seeds_leads_back(tmp_path: Path) -> None:
    folder = report_evidence.finished(tmp_path / "run")
    assert [(t.token, t.place.where) for t in untraced(folder)] == []


def test_a_stale_sentence_is_found(run_folder: Make, tmp_path: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        (model,) = [m for m in results["models"] if m["name"] == results["recommendation"]["model"]]
        model["metrics"]["test"]["accuracy"].update(value=0.9137, low=0.8791, high=0.9391)

    folder = changed(run_folder("flowers"), tmp_path / "run", change, advised=False)
    found = untraced(folder)
    # The tables follow the results; what was said of them before does not.
    assert {t.place.where for t in found} == {"advice on Model", "summary 1"}
    assert untraced(changed(run_folder("flowers"), tmp_path / "other", change)) == []


def test_only_a_p_value_is_a_p_value(tmp_path: Path) -> None:
    tracer = Tracer(load_run(report_evidence.finished(tmp_path / "run")))
    pairs = tracer.results["tests"]["pairs"]
    place = Place("here", "", ("tests/0",))

    def how(text: str) -> list[str]:
        return [t.how for t in tracer.trace(replace(place, text=text))]

    assert how(f"p\u00a0=\u00a0{probability(pairs[0]['p_holm'])}") == ["cited"]
    # The difference is held by the row too, and is none.
    assert how(f"p = {abs(pairs[0]['difference']['value']):.3f}") == [""]
    assert how("differ (p < 10⁻³⁰⁰)") == []


def spoilt(tracer: Tracer, place: Place) -> Iterator[tuple[str, bool]]:
    """Change each number of a text in its last digit; yield how it was traced, and if it is now."""
    text = " ".join(place.text.split())
    before = list(tracer.trace(place))
    for traced in before:
        number = re.search(r"[\d.,]*\d", traced.token)
        if number is None or traced.token not in text:
            continue
        figure = number.group()
        wrong = figure[:-1] + str((int(figure[-1]) + 3) % 10)
        token = traced.token.replace(figure, wrong, 1)
        after = tracer.trace(replace(place, text=text.replace(traced.token, token, 1)))
        yield traced.how, [t.how for t in after] != [t.how for t in before]


def test_a_wrong_digit_is_found(run_folder: Make, tmp_path: Path) -> None:
    folder = changed(run_folder("flowers"), tmp_path / "run", analysed)
    run = load_run(folder)
    tracer = Tracer(run)
    found: dict[str, list[bool]] = {}
    for place in places(build_view(folder)):
        for how, noticed in spoilt(tracer, place):
            found.setdefault(how, []).append(noticed)
    # A score with its interval cannot be mistaken for another. A short number on its own may by
    # chance be some other value of the rows that it cites, and does so in a quarter of the cases.
    assert len(found["interval"]) > 30
    assert all(found["interval"])
    assert len(found["cited"]) > 100
    assert sum(found["cited"]) > 0.7 * len(found["cited"])


def numbers_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every measured number below a JSON value."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        if isinstance(child, dict | list):
            yield from numbers_of(child, (*path, key))
        elif isinstance(child, float):
            yield (*path, key)


SHOWN_SCORES = [
    *[("models", i, "metrics", s, "accuracy", k) for i in (3,) for s in ("val", "test")
      for k in ("value", "low", "high")],
    *[("sweeps", 1, "members", i, "metrics", "val", "accuracy", k) for i in (0,)
      for k in ("value", "low", "high")],
    ("models", 2, "metrics", "test", "loss", "value"),
    ("models", 1, "stages", 0, "wall_seconds"),
    ("comparisons", 0, "speedup"),
    ("comparisons", 0, "agreement"),
    ("comparisons", 1, "accuracy_difference", "low"),
    ("targets", 0, "got"),
    ("data", "counts", "train", "rose"),
]  # fmt: skip


def words(folder: Path) -> list[str]:
    return [place.text for place in places(build_view(folder))]


def moved(path: tuple[Any, ...]) -> Change:
    """Return a change of one number by about a seventh."""

    def change(results: dict[str, Any]) -> None:
        owner: Any = results
        for key in path[:-1]:
            owner = owner[key]
        before = owner[path[-1]]
        owner[path[-1]] = before * 1.15 + 0.01 if before <= 0.5 or before > 1 else before * 0.86
        if isinstance(before, int):
            owner[path[-1]] = before + 7

    return change


@pytest.mark.parametrize("path", SHOWN_SCORES, ids=lambda p: ".".join(map(str, p)))
def test_a_changed_score_changes_the_text(
    run_folder: Make, tmp_path: Path, path: tuple[Any, ...]
) -> None:
    before = words(run_folder("flowers"))
    folder = changed(run_folder("flowers"), tmp_path / "run", moved(path))
    assert words(folder) != before
    assert [(t.token, t.place.where) for t in untraced(folder)] == []


def test_every_number_of_the_analysis_is_shown(run_folder: Make, tmp_path: Path) -> None:
    whole = changed(run_folder("flowers"), tmp_path / "whole", analysed)
    before = words(whole)
    few = report_analyses.analysis(
        near_duplicates=report_analyses.near_duplicates(3),
        suspicious_labels=report_analyses.suspicious_labels(3),
    )
    few["near_duplicates"]["models"] = few["near_duplicates"]["models"][:1]
    # The draws behind a mean are counted, not shown one by one.
    paths = [p for p in numbers_of(few) if "values" not in p]
    assert len(paths) > 40
    before = words(changed(whole, tmp_path / "few", lambda r: r.update(analysis=few)))
    for i, path in enumerate(paths):
        folder = tmp_path / str(i)

        def change(results: dict[str, Any], path: tuple[Any, ...] = path) -> None:
            moved(path)(results["analysis"])

        folder = changed(tmp_path / "few", folder, change, advised=False)
        assert words(folder) != before, path


def test_the_tracer_runs_on_run_folders(
    run_folder: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert number_tracer.main([str(run_folder("flowers"))]) == 0
    assert "cited" in capsys.readouterr().out

    def change(results: dict[str, Any]) -> None:
        results["recommendation"]["sentences"][0]["text"] += " It is right on 43.21%."

    wrong = changed(run_folder("flowers"), tmp_path / "run", change, advised=False)
    assert number_tracer.main([str(wrong)]) == 1
    assert "43.21%" in capsys.readouterr().out
    assert any(t.how == "interval" for t in trace_view(load_run(wrong), build_view(wrong)))

"""The page of all runs as a page: sound, escaped, readable, and the same figures as the files."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import report_studies
from report_page import Page

from headstart.report.load import read_results
from headstart.report.run_rows import Cell, Found, RunRow, State, broken_row, row_of
from headstart.report.runs_page import runs_html
from headstart.types import JsonDict

STATES: tuple[State, ...] = ("running", "complete", "partial", "stopped", "failed", "damaged")


def found(place: Path, record: JsonDict, state: State = "complete", note: str = "") -> Found:
    about = {"created": "2026-05-01T12:34:00+02:00", "wall_seconds": 90.0, "command": "x"}
    return Found(place, "run", state, note, about, record)


@pytest.fixture(scope="module")
def flowers(run_folder: Callable[[str], Path]) -> JsonDict:
    return read_results(run_folder("flowers"))


@pytest.fixture
def rows(flowers: JsonDict, tmp_path: Path) -> list[RunRow]:
    made = []
    for number, state in enumerate(STATES[:-1]):
        place = tmp_path / f"flowers-{number}"
        place.mkdir()
        (place / "report.html").touch()
        made.append(row_of(found(place, flowers, state, "a note")))
    return [*made, broken_row(tmp_path / "lost", "nothing is in it")]


def test_a_row_has_the_figures_of_the_recommended_model(flowers: JsonDict, tmp_path: Path) -> None:
    row = row_of(found(tmp_path / "flowers-1", flowers))
    name = flowers["recommendation"]["model"]
    (model,) = [m for m in flowers["models"] if m["name"] == name]
    score = model["metrics"]["test"]["accuracy"]
    assert row.model.text == model["title"]
    assert row.score.text == f"{100 * score['value']:.1f}%"
    assert row.score.detail == f"{100 * score['low']:.1f}–{100 * score['high']:.1f}\ntest accuracy"
    assert row.size.order == model["size_bytes"]
    assert row.took == Cell("90\u00a0s", "", 90.0)
    assert (row.started.text, row.started.detail) == ("1\u00a0May\u00a02026", "12:34")
    met = sum(t["met"] for t in flowers["targets"])
    assert row.targets.text == f"{met} of {len(flowers['targets'])}"


@pytest.mark.parametrize("study", sorted(report_studies.STUDIES))
def test_every_kind_of_study_has_a_row(study: str, tmp_path: Path) -> None:
    results = report_studies.STUDIES[study]().results
    row = row_of(found(tmp_path / "one", results))
    text = runs_html([row], "runs")
    assert Page(text).text.count("complete") >= 2
    assert "None" not in Page(text).text
    assert "nan" not in Page(text).text


def test_whatever_users_write_is_text(tmp_path: Path) -> None:
    results = report_studies.hostile().results
    for name in ("a b#c?d%e&f", "<img src=x>", 'quo"te', "back\\slash", "ümläut"):
        place = tmp_path / name
        place.mkdir()
        (place / "report.html").touch()
        row = row_of(found(place, results, "failed", report_studies.NASTY[0]))
        (href,) = [address for words, address in row.links if words == "report"]
        text = runs_html([row], report_studies.NASTY[1])
        page = Page(text)
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == 1
        assert "img" not in tags
        assert [a["href"] for tag, a in page.elements if tag == "a"][1:] == [href, href]
        assert re.fullmatch(r"\./[\w.~%-]+/report\.html", href)
        assert name in page.text
        text.encode("utf-8")


def test_the_page_needs_nothing_from_elsewhere(rows: list[RunRow]) -> None:
    text = runs_html(rows, "runs")
    page = Page(text)
    assert not [a for _, a in page.elements if "src" in a or any(k.startswith("on") for k in a)]
    for href in [a["href"] for tag, a in page.elements if tag == "a"]:
        assert str(href).startswith(("#", "./"))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert not re.findall(r"https?://|url\(|@import", text)


def test_the_page_can_be_read_without_its_script_and_by_a_reader(rows: list[RunRow]) -> None:
    page = Page(runs_html(rows, "runs"))
    (tools,) = [a for _, a in page.elements if a.get("class") == "tools"]
    assert "hidden" in tools  # the script shows what needs it
    assert dict(page.elements)["html"]["lang"] == "en"
    ids = {a["id"] for _, a in page.elements if a.get("id")}
    assert {a["for"] for tag, a in page.elements if tag == "label"} <= ids
    names = [a.get("aria-label") for tag, a in page.elements if tag == "a"]
    assert "report of flowers-1" in names
    for state in STATES:
        assert state in page.text
    for tag, attributes in page.elements:
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_in_light_and_in_dark() -> None:
    text = runs_html([], "runs")
    found = re.findall(r"--(\w[\w-]*): (#[0-9a-f]{3,6});", text)
    roles: dict[str, list[str]] = {}
    for name, colour in found:
        roles.setdefault(name, []).append(colour)
    for name in ("ink", "muted", "link", "good", "bad", "warn"):
        assert len(roles[name]) == len(roles["paper"]) == 2, name
        for colour, paper in zip(roles[name], roles["paper"], strict=True):
            light, dark = sorted((luminance(colour), luminance(paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, colour)  # WCAG 2.2, AA


def test_a_folder_without_runs_says_how_to_begin() -> None:
    assert "headstart fit FOLDER" in Page(runs_html([], "runs")).text


@pytest.fixture
def opened(browser: object, tmp_path: Path):
    """Open a page of some rows in a real browser."""
    contexts = []

    def go(rows: list[RunRow], width: int, **options: object):
        path = tmp_path / "index.html"
        path.write_text(runs_html(rows, "runs"), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.goto(path.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()


def titles(page) -> list[str]:
    return page.locator("tbody tr:visible .title").all_inner_texts()


def made(name: str, order: float | None, state: State = "complete") -> RunRow:
    return RunRow(name, "run", name, "", state, score=Cell(str(order), "", order))


def test_rows_are_sorted_and_found_in_a_browser(opened) -> None:
    rows = [made("b", 0.5), made("c", None), made("a", 10.0, "failed"), made("d", 9.0)]
    page = opened(rows, 1400)
    head = page.get_by_role("columnheader", name="Score")
    head.get_by_role("button").click()
    assert titles(page) == ["a", "d", "b", "c"]  # what is not known comes last
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").press("Enter")
    assert titles(page) == ["b", "d", "a", "c"]
    page.get_by_label("State").select_option("failed")
    assert titles(page) == ["a"]
    assert page.locator("output").inner_text() == "1 of 4 shown"
    page.get_by_label("State").select_option("")
    page.get_by_label("Find").fill("B")
    assert titles(page) == ["b"]


@pytest.mark.parametrize("width", [360, 800, 1201, 1366])
def test_nothing_is_cut_off_at_any_width(opened, rows: list[RunRow], width: int) -> None:
    page = opened(rows, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for column in ("Score", "Targets"):
        # Beside the figure on a phone, at the head of the column on a desk.
        shown = page.evaluate(
            """column => [...document.querySelectorAll("thead th")].some(
                 th => th.textContent === column && th.offsetParent)
               || getComputedStyle(document.querySelector(`td[data-head=${column}]`), "::before")
                 .content.includes(column)""",
            column,
        )
        assert shown, json.dumps(column)


def test_every_row_is_there_without_scripts(opened, rows: list[RunRow]) -> None:
    page = opened(rows, 1366, java_script_enabled=False)
    assert page.locator("tbody tr:visible").count() == len(rows)
    assert not page.locator(".tools").is_visible()

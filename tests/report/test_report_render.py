"""Both files are written whole, show users' text literally, trace to the results, and fit."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdf
import pytest
import report_page
import report_studies
from report_page import Page, pdf_text, squeezed

from headstart.errors import RunError
from headstart.report import build_view, render
from headstart.report.html import to_html
from headstart.report.pdf import typeset

Make = Callable[[str], Path]
STUDIES = list(report_studies.STUDIES)


@pytest.fixture(scope="module")
def html(run_folder: Make) -> Callable[[str], str]:
    made: dict[str, str] = {}

    def get(name: str) -> str:
        if name not in made:
            made[name] = to_html(build_view(run_folder(name)))
        return made[name]

    return get


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_is_sound_accessible_and_needs_no_network(
    html: Callable[[str], str], name: str
) -> None:
    report_page.assert_sound(html(name))


def contrast(a: str, b: str) -> float:
    """Source: WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        if len(colour) == 4:
            colour = "#" + "".join(2 * c for c in colour[1:])
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_light_and_dark_have_enough_contrast(html: Callable[[str], str]) -> None:
    modes = re.findall(r":root \{([^}]*--paper[^}]*)\}", html("bare"))
    assert len(modes) == 2
    for mode in modes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", mode))
        for name in ("ink", "muted", "link", "chart-muted"):
            assert contrast(colours[name], colours["paper"]) >= 4.5
            assert contrast(colours[name], colours["soft"]) >= 4.5
        for name in ("chart-blue", "chart-orange"):
            assert contrast(colours[name], colours["chart-paper"]) >= 3


def test_markup_in_names_is_shown_literally_and_never_run(
    run_folder: Make, html: Callable[[str], str]
) -> None:
    page = Page(html("hostile"))
    in_pdf = squeezed(pdf_text(typeset(build_view(run_folder("hostile")))))
    for text in report_studies.NASTY:
        assert text in page.text
        assert squeezed(text) in in_pdf
    assert "54019" not in page.text  # {{ 7717*7 }} was not worked out
    assert "<script" not in html("hostile").lower()


def test_markup_in_stages_votes_and_classifiers_is_shown_literally_too(
    run_folder: Make, tmp_path: Path
) -> None:
    staged = json.loads((run_folder("staged") / "results.json").read_text())
    nasty = report_studies.NASTY
    tuned, vote = staged["models"][1], staged["models"][-1]
    tuned["stages"][1].update(name=nasty[0], cut=nasty[1], optimizer=nasty[2])
    vote["title"] = nasty[3]
    vote["ensemble"]["voting"] = nasty[4]
    as_it_is = json.loads((run_folder("zero-shot") / "results.json").read_text())
    table = as_it_is["models"][0]["zero_shot"]["tables"][0]
    table["image"], table["label"] = nasty[:2]
    table["rows"][0].update(id=nasty[2], name=nasty[4])
    as_it_is["data"]["class_names"]["n01443537"] = nasty[3]
    for i, results in enumerate((staged, as_it_is)):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results))
        view = build_view(folder)
        page, in_pdf = Page(to_html(view)).text, squeezed(pdf_text(typeset(view)))
        for text in nasty:
            assert text in page
            assert squeezed(text) in in_pdf


@pytest.fixture(scope="module")
def flowers_view(run_folder: Make) -> Any:
    return build_view(run_folder("flowers"))


@pytest.mark.parametrize("most", [8, 4, 2])
def test_no_more_pages_than_allowed(flowers_view: Any, most: int) -> None:
    pages = pypdf.PdfReader(io.BytesIO(typeset(flowers_view, most))).pages
    assert len(pages) <= most
    text = squeezed(pages[0].extract_text())
    assert ("leftouthere" in text) == (most < 6)


@pytest.mark.parametrize("name", ["many-classes", "few-labels", "hostile", "zero-shot"])
def test_other_studies_fit_four_pages_too(run_folder: Make, name: str) -> None:
    pages = pypdf.PdfReader(io.BytesIO(typeset(build_view(run_folder(name)), 4))).pages
    assert len(pages) <= 4


def test_too_few_pages_is_an_error_that_leaves_nothing_behind(
    run_folder: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder("few-labels"), folder, ignore=shutil.ignore_patterns("report.*"))
    with pytest.raises(RunError, match=r"does not fit 1 page: .* allow at least 2"):
        render(folder, max_pages=1)
    with pytest.raises(RunError, match="expected at least 1, got 0"):
        render(folder, max_pages=0)
    assert not list(folder.glob("report.*"))
    assert not list(folder.glob(".*"))


def test_render_writes_both_files_and_repeats_itself(run_folder: Make) -> None:
    folder = run_folder("bare")
    html_path, pdf_path = render(folder)
    assert (html_path, pdf_path) == (folder / "report.html", folder / "report.pdf")
    first = html_path.read_bytes(), pdf_path.read_bytes()
    render(folder, max_pages=8)
    assert (html_path.read_bytes(), pdf_path.read_bytes()) == first
    assert not list(folder.glob(".*"))


def test_the_pdf_has_a_title_an_outline_tags_and_its_own_faces(flowers_view: Any) -> None:
    reader = pypdf.PdfReader(io.BytesIO(typeset(flowers_view)))
    assert reader.metadata is not None
    assert reader.metadata.title == flowers_view.title
    outline = [str(entry["/Title"]) for entry in reader.outline if not isinstance(entry, list)]
    assert [re.sub(r"^[\d.]+\s*", "", entry) for entry in outline] == [
        section.title for section in flowers_view.sections
    ]
    assert reader.root_object["/Lang"] == "en-GB"
    assert "/StructTreeRoot" in reader.root_object
    text = pdf_text(typeset(flowers_view))
    assert "learning rate 0.001" in text  # charts hold text, not outlines of letters
    for page in reader.pages:
        for font in page["/Resources"]["/Font"].values():
            name = str(font.get_object()["/BaseFont"])
            assert "Libertinus" in name or "DejaVuSansMono" in name


def test_the_pdf_holds_the_same_figures_as_the_page(flowers_view: Any) -> None:
    text = squeezed(pdf_text(typeset(flowers_view)))
    for section in flowers_view.sections:
        for block in section.blocks:
            if block.kind == "table":
                for row in block.rows:
                    assert all(squeezed(cell) in text for cell in row.cells)
            elif block.kind == "advice":
                assert all(squeezed(s.text) in text for s in block.sentences)

"""Both files are written whole, show users' text literally, trace to the results, and fit."""

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pypdf
import pytest
import report_studies

from headstart.errors import RunError
from headstart.report import build_view, render
from headstart.report.html import to_html
from headstart.report.pdf import typeset

Make = Callable[[str], Path]
STUDIES = list(report_studies.STUDIES)
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page's elements, and its text without charts, styles, numbering and citations."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[tuple[str, bool]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            hidden = tag in ("svg", "style", "nav", "strong") or (
                attributes.get("class") in ("number", "cites", "letter")
            )
            self.open.append((tag, hidden))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop()[0] == tag
        if tag in ("td", "th", "dd", "dt", "p", "li", "caption", "h1", "h2"):
            self.words.append("\n")

    def handle_data(self, data: str) -> None:
        if not any(hidden for _, hidden in self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


@pytest.fixture(scope="module")
def html(run_folder: Make) -> Callable[[str], str]:
    made: dict[str, str] = {}

    def get(name: str) -> str:
        if name not in made:
            made[name] = to_html(build_view(run_folder(name)))
        return made[name]

    return get


def pdf_text(data: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages)


def squeezed(text: str) -> str:
    """Text without spaces and hyphens, which line ends may add or take."""
    return re.sub(r"[\s\u200b\u00ad\u2010-]+", "", text)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def numbers_in(text: str) -> set[str]:
    return {n.rstrip(",") for n in NUMBER.findall(text)}


def ways_to_write(value: float) -> set[str]:
    value = abs(value)
    ways = {f"{value:,.{d}f}" for d in range(4)} | {f"{value:#.3g}"}
    ways |= {f"{value:.12f}".rstrip("0").rstrip("."), f"{value:.3g}"}
    ways |= {f"{value / unit:,.{d}f}" for unit in (60, 3600) for d in (1, 2)}
    if value <= 1:
        ways |= {f"{100 * value:.{d}f}" for d in range(4)}
        ways |= numbers_in(f"{value:.1e}".partition("e")[0])
    if value >= 1000:
        ways.add(f"{value / 1e6:,.1f}")
    return ways


def allowed_numbers(results: dict[str, Any]) -> set[str]:
    """All ways to write a number of the results, and the sums that a reader expects."""
    allowed = {"95", "10"}  # 95% intervals; powers of ten
    for leaf in leaves({k: v for k, v in results.items() if k != "schema_version"}):
        if isinstance(leaf, str):
            allowed |= numbers_in(leaf)
            allowed |= numbers_in(leaf[:16])  # digests are shortened
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
            allowed |= ways_to_write(leaf)
    data = results["data"]
    counts = data.get("counts") or {s: {"": n} for s, n in data["tokens"].items()}
    by_class = [
        sum(split.get(c, 0) for split in counts.values()) for c in results["data"]["classes"]
    ]
    totals = [sum(split.values()) for split in counts.values()]
    lengths = [len(results[k]) for k in ("targets", "models")]
    lengths += [len(results["data"][k]) for k in ("classes", "left_out")]
    lengths += [sum(bool(t["met"]) for t in results["targets"])]
    for number in [*by_class, *totals, sum(totals), *lengths]:
        allowed.add(f"{number:,}")
    for model in results["models"]:
        for matrix in (model.get("confusion") or {}).values():
            allowed |= {f"{sum(row):,}" for row in matrix}
    for number in derived_numbers(results):
        allowed |= ways_to_write(number)
    created = results.get("created") or ""
    return allowed | {str(int(n)) for n in re.findall(r"\d+", created)}


def derived_numbers(results: dict[str, Any]) -> Iterator[float]:
    """What a reader of costs expects: times per picture, MiB, sums, ratios, differences."""
    models = [m for m in results["models"] if m.get("kind") in ("model", "ensemble")]
    samples = [m["prediction"]["samples"] for m in models if m.get("prediction")]
    costs = []
    for model in models:
        seconds = (model.get("prediction") or {}).get("seconds")
        if model.get("ensemble"):
            seconds = model["ensemble"]["prediction_seconds"]
        if seconds is not None:
            costs += [1000 * seconds / samples[0], model["size_bytes"] / 2**20]
        yield sum(s["wall_seconds"] for s in model["stages"])
    yield from costs
    yield from (a / b for a in costs for b in costs)
    yield from (a - b for a in costs for b in costs)
    scored = [m["metrics"][s] for m in models for s in m["metrics"]]
    scores = [s["accuracy"]["value"] for s in scored if "accuracy" in s]
    yield from (a - b for a in scores for b in scores)
    for backbone in results["backbones"]:
        spec, cut = backbone["input"], backbone.get("truncation")
        if "width" in spec:
            width, height = results["data"]["sizes"]["median"]
            yield width * height / (spec["width"] * spec["height"])
        if cut:
            yield cut["truncated"] / cut["texts"]
            yield cut["tokens_lost"] / cut["tokens"]
    if results["data"].get("goal") == "regression":
        yield 500  # points of a cloud that are drawn


@pytest.mark.parametrize("name", [n for n in STUDIES if n != "bare"])
def test_every_number_in_the_text_comes_from_the_results(
    run_folder: Make, html: Callable[[str], str], name: str
) -> None:
    results = json.loads((run_folder(name) / "results.json").read_text())
    text = Page(html(name)).text.replace("\u2007", "").replace("\u2008", "")
    found = numbers_in(text)
    assert len(found) > 20
    assert found - allowed_numbers(results) == set()


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_is_sound_accessible_and_needs_no_network(
    html: Callable[[str], str], name: str
) -> None:
    page = Page(html(name))
    tags = [tag for tag, _ in page.elements]
    assert not set(tags) & {"script", "link", "iframe", "object", "embed", "img", "base", "form"}
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.elements:
        assert not [a for a in attributes if a.startswith("on")]
        assert "src" not in attributes
        href = attributes.get("href")
        if href is not None and not href.startswith("data:image/png;base64,"):
            assert href.startswith("#")
            assert href[1:] in ids
        for pointer in ("aria-labelledby",):
            if attributes.get(pointer):
                assert attributes[pointer] in ids
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes.get("scope") in ("row", "col", "colgroup")
    assert dict(page.elements)["html"]["lang"] == "en"
    assert tags.count("h1") == 1
    assert not set(tags) & {"h3", "h4", "h5", "h6"}
    assert tags.count("caption") == tags.count("table")
    assert tags.count("figcaption") == tags.count("figure")
    styles = html(name)
    assert "@import" not in styles
    assert re.findall(r"url\((?!#)", styles) == []
    assert set(re.findall(r"https?://[^\s\"'<>]+", styles)) <= {"http://www.w3.org/2000/svg"}


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

"""Contact sheets show the run's own small pictures, and nothing from outside its folder."""

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdf
import pytest
import report_page
import report_studies
from PIL import Image
from report_evidence import jpeg
from report_makers import read
from report_page import Page, pdf_text, squeezed

from headstart.report import ReportView, build_view
from headstart.report.html import to_html
from headstart.report.load import load_run
from headstart.report.pdf import typeset
from headstart.report.pictures import LARGEST_BYTES, LARGEST_EDGE, read_picture
from headstart.report.records import Quote, Sheet, Table
from headstart.report.shortening import DENSITIES, shortened

Change = Callable[[dict[str, Any]], None]


def altered(source: Path, target: Path, change: Change) -> Path:
    """Copy a run with its pictures and change its results."""
    shutil.copytree(source, target)
    whole = read(target)
    change(whole)
    (target / "results.json").write_text(json.dumps(whole))
    return target


def sheet(view: ReportView, key: str = "mistakes") -> Sheet:
    (found,) = [b for s in view.sections for b in s.blocks if isinstance(b, Sheet) and b.key == key]
    return found


def test_every_mistake_is_shown_with_its_own_picture_and_words(evidence_run: Path) -> None:
    whole = read(evidence_run)
    shots = sheet(build_view(evidence_run)).shots
    for shot, mistake in zip(shots, whole["analysis"]["mistakes"], strict=True):
        assert shot.picture is not None
        assert shot.picture.data == (evidence_run / mistake["image"]).read_bytes()
        assert shot.lines == (
            f"predicted {mistake['predicted']}",
            f"true {mistake['label']}",
            f"confidence {100 * mistake['confidence']:.1f}%",
            mistake["name"],
        )
        assert mistake["name"] in shot.alt
    assert len(shots) == 30


def test_the_page_holds_the_pictures_themselves(evidence_run: Path) -> None:
    html = to_html(build_view(evidence_run))
    report_page.assert_sound(html)
    held = [base64.b64decode(d) for d in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)]
    listed = read(evidence_run)["analysis"]["mistakes"]
    assert held == [(evidence_run / m["image"]).read_bytes() for m in listed]
    # The policy that the page sets itself allows no picture from elsewhere.
    assert "img-src data:" in html


def test_the_pdf_holds_as_many_pictures_as_it_says(evidence_run: Path) -> None:
    view = build_view(evidence_run)
    data = typeset(view)
    pages = pypdf.PdfReader(io.BytesIO(data)).pages
    assert sum(len(page.images) for page in pages) == 20
    assert squeezed("20 of 30; all are in report.html.") in squeezed(pdf_text(data))
    assert squeezed(sheet(view).shots[0].lines[0]) in squeezed(pdf_text(data))


def test_shorter_reports_keep_the_most_confident_mistakes(evidence_run: Path) -> None:
    full = build_view(evidence_run)
    for density in DENSITIES:
        view = shortened(full, density)
        found = [b for s in view.sections for b in s.blocks if isinstance(b, Sheet)]
        assert bool(found) == (density.priority >= 3)
        for of in found:
            most = min(density.rows, 30)
            assert of.shots == sheet(full).shots[:most]
            assert of.note.startswith(f"{most} of 30")
        numbers = [
            b.number for s in view.sections for b in s.blocks if b.kind in ("figure", "sheet")
        ]
        assert numbers == list(range(1, len(numbers) + 1))
    assert "figure" in shortened(full, DENSITIES[-1]).left_out
    # What introduced them goes with them.
    keys = {s.key: s.blocks for s in shortened(full, DENSITIES[-1]).sections}
    assert not any(b.kind == "paragraph" for b in keys.get("errors", ()))


OUTSIDE = "not of this run"


@pytest.mark.parametrize(
    "path",
    ["../secret.jpg", "analysis/../../secret.jpg", "{outside}", "analysis/link.jpg",
     "linked/secret.jpg", "analysis/none.jpg", "analysis", "", "a\0b"],
)  # fmt: skip
def test_no_file_outside_the_run_folder_is_opened(
    evidence_run: Path, tmp_path: Path, path: str
) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(99))

    def change(whole: dict[str, Any]) -> None:
        whole["analysis"]["mistakes"][0]["image"] = path.format(outside=secret)
        whole["analysis"]["mistakes"][0]["label"] = OUTSIDE

    folder = altered(evidence_run, tmp_path / "run", change)
    (folder / "analysis/link.jpg").symlink_to(secret)
    os.symlink(tmp_path, folder / "linked")
    view = build_view(folder)
    if path:
        assert sheet(view).shots[0].picture is None
        assert f"true {OUTSIDE}" in sheet(view).shots[0].lines
        assert "empty frame" in sheet(view).caption
    html = to_html(view)
    assert base64.b64encode(jpeg(99)).decode() not in html
    report_page.assert_sound(html)
    typeset(view)


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    return buffer.getvalue()


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (jpeg(1), "jpeg"),
        (png((8, 8)), "png"),
        (png((LARGEST_EDGE, 1)), "png"),
        (png((LARGEST_EDGE + 1, 1)), None),
        (jpeg(1) + b" " * LARGEST_BYTES, None),
        (jpeg(1)[:-200], None),
        (png((64, 64))[:60], None),
        (gif(), None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"", None),
    ],
    ids=["jpeg", "png", "wide", "too-wide", "too-big", "torn", "torn-png", "gif", "svg", "empty"],
)
def test_only_small_whole_pictures_are_taken(tmp_path: Path, data: bytes, kind: str | None) -> None:
    (tmp_path / "x.jpg").write_bytes(data)
    found = read_picture(tmp_path, "x.jpg")
    assert (found.kind if found else None) == kind
    if found:
        assert found.data == data
        assert Image.open(io.BytesIO(data)).size == (found.width, found.height)


def test_suspicious_labels_have_their_pictures_too(evidence_run: Path, tmp_path: Path) -> None:
    def change(whole: dict[str, Any]) -> None:
        whole["analysis"]["suspicious_labels"]["list"][0]["image"] = "analysis/mistake-02.jpg"
        whole["analysis"]["suspicious_labels"]["list"][1]["image"] = ["no", "path"]

    folder = altered(evidence_run, tmp_path / "run", change)
    assert "analysis/mistake-02.jpg" in load_run(folder).pictures
    found = sheet(build_view(folder), "suspicious-pictures")
    assert found.shots[0].picture is not None
    assert found.shots[1].picture is None


def texts_instead(second: str | None = None) -> Change:
    def change(whole: dict[str, Any]) -> None:
        whole["data"]["noun"] = "text"
        for i, mistake in enumerate(whole["analysis"]["mistakes"]):
            mistake |= {"image": None, "text": f"Review {i}: " + "word " * 300, "second": second}

    return change


def test_mistaken_texts_are_quoted_shortened(evidence_run: Path, tmp_path: Path) -> None:
    folder = altered(evidence_run, tmp_path / "run", texts_instead("and a second one"))
    view = build_view(folder)
    quotes = [b for s in view.sections for b in s.blocks if isinstance(b, Quote)]
    listed = read(folder)["analysis"]["mistakes"]
    assert 4 < len(quotes) < len(listed)
    for i, (quote, mistake) in enumerate(zip(quotes, listed, strict=False)):
        assert quote.text.startswith(f"Review {i}: word")
        assert quote.text.endswith("word …\nand a second one")
        assert len(quote.text) < 480
        assert quote.about == (
            f"Predicted {mistake['predicted']}, true {mistake['label']}, confidence "
            f"{100 * mistake['confidence']:.1f}% ({mistake['name']})."
        )
    fewer = shortened(view, DENSITIES[3])
    kept = [b for s in fewer.sections for b in s.blocks if isinstance(b, Quote)]
    assert kept == quotes[:4]
    assert f"{len(quotes) - 4} texts" in fewer.left_out


def test_mistakes_without_picture_or_text_are_named(evidence_run: Path, tmp_path: Path) -> None:
    def change(whole: dict[str, Any]) -> None:
        for mistake in whole["analysis"]["mistakes"]:
            mistake["image"] = None

    view = build_view(altered(evidence_run, tmp_path / "run", change))
    (table,) = [
        b for s in view.sections for b in s.blocks if isinstance(b, Table) and b.key == "mistakes"
    ]
    first = read(evidence_run)["analysis"]["mistakes"][0]
    assert table.rows[0].cells[:3] == (first["name"], first["label"], first["predicted"])


def test_markup_in_what_was_mistaken_is_shown_literally(evidence_run: Path, tmp_path: Path) -> None:
    nasty = report_studies.NASTY

    def change(whole: dict[str, Any]) -> None:
        whole["analysis"]["mistakes"][0] |= {"name": nasty[0], "label": nasty[1]}
        whole["analysis"]["mistakes"][1] |= {"name": nasty[4], "label": nasty[2]}
        whole["analysis"]["mistakes"][2] |= {"label": nasty[3], "image": "../x"}
        whole["test_looks"]["earlier"][0]["study"] = nasty[0]

    def quoted(whole: dict[str, Any]) -> None:
        texts_instead()(whole)
        for i in range(4):
            whole["analysis"]["mistakes"][i] |= {"text": nasty[i], "second": nasty[(i + 1) % 5]}

    for i, how in enumerate((change, quoted)):
        view = build_view(altered(evidence_run, tmp_path / str(i), how))
        html = to_html(view)
        report_page.assert_sound(html)
        page, in_pdf = Page(html).text, squeezed(pdf_text(typeset(view)))
        for text in nasty:
            assert text in page
            assert squeezed(text) in in_pdf
        assert "<script" not in html.lower()
        assert "54019" not in page

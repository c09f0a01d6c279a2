"""Typesets a view as PDF with Typst, on at most as many pages as are allowed."""

import dataclasses
import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

from headstart.errors import RunError
from headstart.report import figures
from headstart.report.numbering import row_anchor
from headstart.report.records import Figure, ReportView, Sheet, Table
from headstart.report.shortening import DENSITIES, Density, shortened
from headstart.types import JsonDict

_TEMPLATE = "report.typ"
# Typst brings faces for these scripts itself; for others it may look among those of the system.
_LAST_EMBEDDED_LETTER = "\u052f"  # Latin, Greek, Cyrillic
_SYMBOLS = range(0x2000, 0x2E00)  # punctuation, arrows, operators


def typeset(view: ReportView, max_pages: int | None = None) -> bytes:
    """Typeset a report.

    What matters least is left out until the report fits: first everything is set tighter, then
    figures and tables go by their priority.

    Args:
        view: The full view.
        max_pages: The most pages there may be, or None for the full report.

    Returns:
        The PDF.

    Raises:
        RunError: Even the shortest form has more pages than allowed.
    """
    fewest = 0
    with tempfile.TemporaryDirectory(prefix="headstart-report-") as folder:
        root = Path(folder)
        template = Path(__file__).parent / "templates" / _TEMPLATE
        (root / _TEMPLATE).write_bytes(template.read_bytes())
        for density in DENSITIES:
            pdf, pages = _compile(shortened(view, density), density, root)
            if max_pages is None or pages <= max_pages:
                return pdf
            fewest = pages if fewest == 0 else min(fewest, pages)
    raise RunError(
        f"the report does not fit {max_pages} page{'' if max_pages == 1 else 's'}: its shortest "
        f"form has {fewest}; allow at least {fewest}"
    )


def _compile(view: ReportView, density: Density, root: Path) -> tuple[bytes, int]:
    """Return the PDF of one density and its number of pages, as Typst counts them."""
    import typst

    data = _data(view, density, root)
    (root / "view.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    fonts = typst.Fonts(include_system_fonts=_needs_system_fonts(data))
    compiler = typst.Compiler(root / _TEMPLATE, root=root, font_paths=fonts)
    try:
        pdf = compiler.compile(format="pdf")
        pages = json.loads(compiler.query("<pages>", field="value", one=True))
    except typst.TypstError as error:
        raise RunError(f"Typst could not typeset the report: {error.message}") from error
    assert isinstance(pdf, bytes)  # one file: no output path was given, and PDF is not per page
    return pdf, int(pages)


def _data(view: ReportView, density: Density, root: Path) -> JsonDict:
    """Return what the template reads, and write figures and pictures beside it."""
    data: JsonDict = dataclasses.asdict(
        dataclasses.replace(view, sections=()),
    )
    data["tight"] = density.tight
    data["date"] = _date(view.created)
    data["sections"] = [
        {"title": section.title, "blocks": [_block(block, root) for block in section.blocks]}
        for section in view.sections
    ]
    return data


def _block(block: Any, root: Path) -> JsonDict:
    if isinstance(block, Figure):
        file = f"figure-{block.number}.svg"
        svg = figures.draw(block.plot, "print", f"figure-{block.number}")
        (root / file).write_text(svg, encoding="utf-8")
        return {
            "kind": block.kind,
            "caption": block.caption,
            "alt": block.alt,
            "file": file,
            "anchor": f"figure-{block.number}",
        }
    if isinstance(block, Sheet):
        return _sheet(block, root)
    entry: JsonDict = dataclasses.asdict(block)
    if isinstance(block, Table):
        entry["labelled"] = block.labelled
        entry["anchor"] = f"table-{block.number}"
        for row, record in zip(entry["rows"], block.rows, strict=True):
            row["anchor"] = row_anchor(block, record)
    return entry


def _sheet(sheet: Sheet, root: Path) -> JsonDict:
    """Return what the template reads of a contact sheet, and write its pictures beside it."""
    shots = []
    for i, shot in enumerate(sheet.shots):
        file = None
        if shot.picture is not None:
            file = f"figure-{sheet.number}-{i}.{shot.picture.kind}"
            (root / file).write_bytes(shot.picture.data)
        shots.append({"file": file, "alt": shot.alt, "lines": list(shot.lines)})
    return {
        "kind": sheet.kind,
        "caption": f"{sheet.caption} {sheet.note}".strip(),
        "shots": shots,
        "anchor": f"figure-{sheet.number}",
    }


def _date(created: str) -> dict[str, int] | None:
    try:
        moment = datetime.datetime.fromisoformat(created)
    except ValueError:
        return None
    return {
        "year": moment.year,
        "month": moment.month,
        "day": moment.day,
        "hour": moment.hour,
        "minute": moment.minute,
        "second": moment.second,
    }


def _needs_system_fonts(data: JsonDict) -> bool:
    """Return whether some text is in a script that the embedded faces do not have."""
    text = json.dumps(data, ensure_ascii=False)
    return any(c > _LAST_EMBEDDED_LETTER and ord(c) not in _SYMBOLS for c in text)

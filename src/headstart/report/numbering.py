"""Gives tables, figures, sections and rows their numbers, and citations their words."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headstart.report.records import (
    Advice,
    Block,
    Citation,
    Figure,
    ReportView,
    Row,
    Section,
    Sheet,
    Table,
)
from headstart.report.text import listing


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a reference is found; `row` is empty for a whole table."""

    table: int
    row: str
    anchor: str


def number(view: ReportView) -> ReportView:
    """Return the view with numbers and citations, in the order in which things appear.

    A reference to something that the view does not show has no citation: what a shortened report
    leaves out is not cited.

    Args:
        view: A view, numbered or not.

    Returns:
        The same view with `number`, `label` and `citations` set everywhere.
    """
    tables = figures = 0
    sections = []
    for section_number, section in enumerate(view.sections, start=1):
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Table):
                tables += 1
                blocks.append(replace(block, number=tables, rows=_labelled(block)))
            elif isinstance(block, Figure | Sheet):
                figures += 1
                blocks.append(replace(block, number=figures))
            else:
                blocks.append(block)
        sections.append(replace(section, number=section_number, blocks=tuple(blocks)))
    places = _places(sections)
    return replace(
        view,
        sections=tuple(
            replace(s, blocks=tuple(_cited(block, places) for block in s.blocks)) for s in sections
        ),
    )


def _letters(position: int) -> str:
    """Return the letter of a row: a, b … z, then aa, ab and so on."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = string.ascii_lowercase[rest] + letters
    return letters


def _labelled(table: Table) -> tuple[Row, ...]:
    """Return the rows with letters; labels that are given and unique stay."""
    if not table.labelled:
        return table.rows
    given = [row.label for row in table.rows]
    if all(given) and len(set(given)) == len(given):
        return table.rows
    return tuple(replace(row, label=_letters(i)) for i, row in enumerate(table.rows))


def _places(sections: Sequence[Section]) -> dict[str, _Place]:
    """Return where each reference is found; a row is a better place than its whole table."""
    places: dict[str, _Place] = {}
    tables = [b for s in sections for b in s.blocks if isinstance(b, Table)]
    for table in tables:
        for row in table.rows:
            for ref in row.refs:
                places.setdefault(ref, _Place(table.number, row.label, row_anchor(table, row)))
    for table in tables:
        for ref in table.refs:
            places.setdefault(ref, _Place(table.number, "", f"table-{table.number}"))
    return places


def row_anchor(table: Table, row: Row) -> str:
    """Return the identifier of a row in the rendered report."""
    return f"table-{table.number}-row-{row.label}"


def _merged(places: Sequence[_Place]) -> tuple[Citation, ...]:
    """Return one citation per table: Table 5, rows a, c and d. It leads to the first row."""
    tables: dict[int, list[_Place]] = {}
    for place in dict.fromkeys(places):
        tables.setdefault(place.table, []).append(place)
    citations = []
    for number, found in sorted(tables.items()):
        text = f"Table\u00a0{number}"  # no line may break inside
        rows = sorted((p.row for p in found if p.row), key=lambda row: (len(row), row))
        if rows:
            text += f", row{'s' if len(rows) > 1 else ''}\u00a0{listing(rows)}"
        citations.append(Citation(text, found[0].anchor))
    return tuple(citations)


def _cited(block: Block, places: Mapping[str, _Place]) -> Block:
    def look_up(refs: Sequence[str]) -> tuple[Citation, ...]:
        return _merged([places[ref] for ref in refs if ref in places])

    if isinstance(block, Advice):
        return replace(
            block,
            sentences=tuple(replace(s, citations=look_up(s.rests_on)) for s in block.sentences),
        )
    if isinstance(block, Table):
        return replace(
            block, rows=tuple(replace(r, citations=look_up(r.rests_on)) for r in block.rows)
        )
    return block

"""Makes a report shorter: what matters least goes first, and the report says what went."""

from dataclasses import dataclass, replace

from headstart.report import numbering
from headstart.report.records import (
    Advice,
    Block,
    Facts,
    Figure,
    Quote,
    ReportView,
    Row,
    Section,
    Sheet,
    Table,
)
from headstart.report.text import count, listing, plural

_Optional = Table | Figure | Facts | Quote | Sheet
_INTRODUCED = ("facts", "command", "quote", "sheet")  # by a paragraph with a colon


@dataclass(frozen=True, slots=True)
class Density:
    """How much of a report is kept, and how tightly it is set.

    Attributes:
        name: ``full``, ``compact`` or ``essential``.
        priority: The least important priority that stays.
        rows: The most rows of a table; rows that are cited, bold or first are kept. Also the most
            pictures of a contact sheet, the first ones.
        tight: Whether type and margins are the smaller ones.
    """

    name: str
    priority: int
    rows: int
    tight: bool


DENSITIES = (
    Density("full", 5, 20, False),
    Density("compact", 5, 16, True),
    Density("compact", 4, 12, True),
    Density("compact", 3, 12, True),
    Density("essential", 2, 8, True),
    Density("essential", 2, 4, True),
    Density("essential", 1, 4, True),
)


def shortened(view: ReportView, density: Density) -> ReportView:
    """Return a view with only what a density keeps.

    Args:
        view: The full view.
        density: What to keep. Tables that the advice cites stay at every density.

    Returns:
        The shorter view with its own numbers and citations, and words on what was left out.
    """
    cited = _cited_refs(view)
    tables = figures = texts = 0
    sections: list[Section] = []
    for section in view.sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if not isinstance(block, _Optional) or _stays(block, density, cited):
                blocks.append(_fewer(block, density.rows, cited))
            elif isinstance(block, Table):
                tables += 1
            elif isinstance(block, Figure | Sheet):
                figures += 1
            elif isinstance(block, Quote):
                texts += 1
        sections.append(replace(section, blocks=tuple(_introduced(blocks))))
    counts = ((tables, "table"), (figures, "figure"), (texts, "text"))
    gone = [plural(n, word) for n, word in counts if n]
    words = ""
    if gone:
        words = f"For space {listing(gone)} {_verb(tables + figures + texts)} left out here."
    kept = tuple(s for s in sections if s.blocks)
    return numbering.number(replace(view, sections=kept, left_out=words))


def _verb(number: int) -> str:
    return "is" if number == 1 else "are"


def _fewer(block: Block, most: int, cited: frozenset[str]) -> Block:
    """Return a table with fewer rows, a contact sheet with fewer pictures, or what it was."""
    if isinstance(block, Table):
        return _fewer_rows(block, most, cited)
    if isinstance(block, Sheet) and len(block.shots) > most:
        said = f"{count(most)} of {count(len(block.shots))}; all are in report.html."
        return replace(block, shots=block.shots[:most], note=said)
    return block


def _introduced(blocks: list[Block]) -> list[Block]:
    """Return the blocks without paragraphs that end in a colon and introduce nothing any more."""
    return [
        block
        for i, block in enumerate(blocks)
        if block.kind != "paragraph"
        or not block.text.endswith(":")
        or (i + 1 < len(blocks) and blocks[i + 1].kind in _INTRODUCED)
    ]


def _cited_refs(view: ReportView) -> frozenset[str]:
    refs: set[str] = set()
    for section in view.sections:
        for block in section.blocks:
            if isinstance(block, Advice):
                refs.update(ref for s in block.sentences for ref in s.rests_on)
            elif isinstance(block, Table):
                refs.update(ref for row in block.rows for ref in row.rests_on)
    return frozenset(refs)


def _stays(block: _Optional, density: Density, cited: frozenset[str]) -> bool:
    if isinstance(block, Table):
        refs = {*block.refs, *(ref for row in block.rows for ref in row.refs)}
        if refs & cited:
            return True
    return block.priority <= density.priority


def _fewer_rows(table: Table, most: int, cited: frozenset[str]) -> Table:
    """Return the table with the rows that matter, in their order, and a note on the others."""
    if len(table.rows) <= most:
        return table

    def weight(position: int) -> tuple[bool, bool, int]:
        row: Row = table.rows[position]
        return (not cited.intersection(row.refs), not row.strong, position)

    # Cited rows always stay: a sentence must not point at something that is not there.
    must = sum(bool(cited.intersection(row.refs)) for row in table.rows)
    kept = sorted(sorted(range(len(table.rows)), key=weight)[: max(most, must)])
    gone = len(table.rows) - len(kept)
    if not gone:
        return table
    said = f"{count(len(kept))} of {count(len(table.rows))} rows; all are in report.html."
    note = f"{table.note} {said}".strip()
    return replace(table, rows=tuple(table.rows[i] for i in kept), note=note)

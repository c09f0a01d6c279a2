"""`headstart compare`: finished runs side by side."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:  # NumPy comes with it: not for --help
    from headstart.runs.across import Across, Setting
    from headstart.runs.across_entries import Entry
    from headstart.runs.across_pairs import Unpaired

_WIDTH = 140  # of a table that goes to a file
_LONGEST = 40  # letters of a setting's value in a table; JSON has all of it
_MOST_SETTINGS = 40
_MOST_COLUMNS = 3  # of more parts each value is written once, with the parts that have it


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as texts.

    Attributes:
        title: What it shows.
        head: Heads of the columns.
        rows: One text for each column.
        left: How many columns, from the first, are words; the rest are numbers.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int


@dataclass(frozen=True, slots=True)
class Page:
    """What is printed: tables with the sentences under each.

    Attributes:
        parts: Tables, each with its sentences; a table may be missing.
    """

    parts: tuple[tuple[Grid | None, tuple[str, ...]], ...]


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Run folders, or RUN/PART for one part of a run.", metavar="RUN..."),
    ],
    split: Annotated[str, typer.Option(help="test, val, or test-NAME of a further set.")] = "test",
    metric: Annotated[
        str | None, typer.Option(help="Another figure than accuracy, MSE or perplexity.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every part of a run, not the recommended one.")
    ] = False,
    format_: Annotated[
        Literal["table", "json", "markdown"], typer.Option("--format", help="How it is written.")
    ] = "table",
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
) -> None:
    """Compare finished runs: scores, costs, settings that differ, paired tests."""
    from headstart._util import files
    from headstart.runs.across import compare_runs

    found = compare_runs(runs, split=split, metric=metric, every=every)
    if format_ == "json":
        text = json.dumps(found.describe(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    elif format_ == "markdown":
        text = _markdown(page(found))
    else:
        text = _table(page(found), None if out is None else _WIDTH)
    if out is None:
        typer.echo(text, nl=False)
    else:
        files.write_text(out, text)
        typer.echo(str(out))


def page(across: "Across") -> Page:
    """Return a comparison as tables and sentences.

    Args:
        across: The comparison.

    Returns:
        What each format prints.
    """
    sentences = _choice(across)
    if across.caution is not None:
        sentences.append(across.caution)
    tests, untested = _tests(across)
    settings, left_out = _settings(across)
    return Page(
        (
            (_parts(across), ()),
            (_scores(across), tuple(sentences)),
            (tests, tuple(untested)),
            (settings, left_out),
        )
    )


def _parts(across: "Across") -> Grid:
    from headstart.report.text import MISSING

    rows = tuple(
        (
            e.key + _mark(across, e),
            e.run,
            e.part,
            MISSING if e.backbone is None else str(e.backbone["name"]),
        )
        for e in across.entries
    )
    return Grid("", ("#", "run", "part", "backbone"), rows, 4)


def _scores(across: "Across") -> Grid:
    from headstart.report.lookup import split_word
    from headstart.report.text import MISSING, capital, decimal, duration, megabytes

    measure = across.measure
    with_val = across.split != "val"
    head = ["#", split_word(across.split), "95% interval", *(["val"] if with_val else [])]
    head += ["training", "weights", "MB", "ms"]
    rows = []
    for entry in across.entries:
        val = measure.cells(entry.score("val", measure.key))[:1] if with_val else []
        latency = entry.latency_ms
        rows.append(
            (
                entry.key + _mark(across, entry),
                *measure.cells(entry.score(across.split, measure.key)),
                *val,
                duration(entry.seconds),
                _millions(entry.model["parameters_total"]),
                megabytes(entry.model["size_bytes"]),
                MISSING if latency is None else decimal(latency, 2),
            )
        )
    return Grid(capital(measure.head), tuple(head), tuple(rows), 1)


def _millions(number: int) -> str:
    from headstart.report.text import count, quantity

    return count(number) if number < 1e5 else f"{quantity(number / 1e6)} M"


def _mark(across: "Across", entry: "Entry") -> str:
    if entry.number == across.best:
        return "*"
    return "≈" if entry.number in across.group else ""


def _choice(across: "Across") -> list[str]:
    """Say what validation chooses, and what it cannot tell from that."""
    from headstart.report.text import listing

    if across.best is None:
        reason = (
            "their tasks are not the same"
            if any(e.score("val", across.measure.key) for e in across.entries)
            else "no part has a validation score"
        )
        return [f"Nothing is chosen: {reason}."]
    own = {entry.number: f"{entry.key} ({entry.run}/{entry.part})" for entry in across.entries}
    others = [own[number] for number in across.group if number != across.best]
    text = f"* Validation chooses {own[across.best]}"
    if not others:
        return [text + "; every other part is distinguishably worse there."]
    return [text + f"; ≈ it cannot tell {listing(others)} from it."]


def _tests(across: "Across") -> tuple[Grid | None, list[str]]:
    from headstart.report.lookup import measured, split_word
    from headstart.report.text import capital, probability

    measure, tests = across.measure, across.tests
    untested = _untested(tests.unpaired)
    if not tests.pairs:
        return None, untested
    rows = []
    for pair in tests.pairs:
        difference = measured(asdict(pair.difference))
        only = [] if tests.method != "mcnemar-exact" else [f"{pair.a_only} / {pair.b_only}"]
        verdict = "differ" if pair.distinguishable else "indistinguishable"
        rows.append(
            (
                f"{pair.a} − {pair.b}",
                verdict,
                *measure.gain_cells(difference),
                *only,
                probability(pair.p_holm),
            )
        )
    unit = "points" if measure.digits is None else measure.short
    names = {"mcnemar-exact": "McNemar's exact test", "paired-bootstrap": "paired bootstrap"}
    head = ["pair", "verdict", unit, "95% interval"]
    head += ["only one right"] if tests.method == "mcnemar-exact" else []
    head += ["p (Holm)"]
    title = f"{names[str(tests.method)]} on the same {split_word(across.split)} samples"
    return Grid(capital(title), tuple(head), tuple(rows), 2), untested


def _untested(unpaired: "Sequence[Unpaired]") -> list[str]:
    """Say for which pairs there are intervals only, each reason once."""
    from headstart.report.text import listing

    by_reason: dict[str, list[str]] = {}
    for pair in unpaired:
        by_reason.setdefault(pair.reason, []).append(f"{pair.a} − {pair.b}")
    return [f"{listing(pairs)}: intervals only: {why}." for why, pairs in by_reason.items()]


def _settings(across: "Across") -> tuple[Grid | None, tuple[str, ...]]:
    from headstart.report.text import plural

    some = [row for row in across.settings if _tells(row)]
    few = len(across.entries) <= _MOST_COLUMNS
    head = ("setting", *(e.key for e in across.entries)) if few else ("setting", "value: parts")
    rows = tuple(
        (row.name, *(_values(row) if few else [_grouped(across, row)]))
        for row in some[:_MOST_SETTINGS]
    )
    more = len(across.settings) - len(rows)
    note = (f"{plural(more, 'further setting')} in --format json.",) if more > 0 else ()
    if not rows:
        return None, ("No setting differs.", *note)
    return Grid("What differs", head, rows, len(head)), note


def _tells(row: "Setting") -> bool:
    """Return whether a setting has two values; that some kinds of parts lack it says little."""
    known = [value for value in row.values if value is not None]
    own = row.name.partition(".")[0] in ("part", "backbone", "input")
    return not own or any(value != known[0] for value in known)


def _values(row: "Setting") -> list[str]:
    from headstart.report.text import MISSING, setting

    texts = [MISSING if v is None else setting(v) for v in row.values]
    return [_cut(_short(row.name, text)) for text in texts]


def _grouped(across: "Across", row: "Setting") -> str:
    """Write each value once, with the parts that have it."""
    found: dict[str, list[str]] = {}
    for entry, text in zip(across.entries, _values(row), strict=True):
        found.setdefault(text, []).append(entry.key)
    return "; ".join(f"{text}: {', '.join(keys)}" for text, keys in found.items())


def _short(name: str, text: str) -> str:
    """Shorten a digest to what tells it from others."""
    return text[:12] if name.endswith(("digest", "fingerprint", "tokenizer")) else text


def _cut(text: str) -> str:
    """Shorten a long text in its middle: paths and names differ at their ends."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[: half - 1]}…{text[-half:]}"


def _table(shown: Page, width: int | None) -> str:
    """Write a page for a terminal, or with a given width for a file."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    to_terminal = Console(highlight=False)
    file = io.StringIO()
    console = Console(
        file=file,
        highlight=False,
        width=to_terminal.width if width is None else width,
        force_terminal=to_terminal.is_terminal and width is None,
    )
    for grid, sentences in shown.parts:
        if grid is not None:
            table = Table(
                title=escape(grid.title) or None, box=box.SIMPLE_HEAD, collapse_padding=True
            )
            table.title_justify = "left"
            for index, name in enumerate(grid.head):
                # A terminal that is too narrow breaks words, never a figure.
                word = 0 < index < grid.left
                table.add_column(
                    escape(name),
                    justify="left" if index < grid.left else "right",
                    overflow="fold",
                    no_wrap=not word,
                )
            for row in grid.rows:
                table.add_row(*(escape(cell) for cell in row))
            console.print(table)
        for sentence in sentences:
            console.print(escape(sentence))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _markdown(shown: Page) -> str:
    lines: list[str] = []
    for grid, sentences in shown.parts:
        if grid is not None:
            rules = [":--" if index < grid.left else "--:" for index in range(len(grid.head))]
            table = [grid.head, tuple(rules), *grid.rows]
            lines += [f"**{grid.title}**", ""] if grid.title else []
            lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in table]
            lines.append("")
        for sentence in sentences:
            lines += [_cell(sentence), ""]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    """Write a text so that Markdown takes no letter of it for its own."""
    for letter in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(letter, "\\" + letter)
    return text.replace("\n", " ")

"""Tables of texts: CSV, TSV, JSON lines and Parquet, read as columns of text."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.data.rows import counted
from headstart.data.text import decode_text
from headstart.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
"""File name endings, in lower case, by which a file counts as a table."""

# Headers (in lower case) of the tables of the GLUE benchmark: there quotes are part of the text,
# and some rows are broken.
_GLUE = (
    {"promptid", "pairid", "sentence1", "sentence2"},
    {"index", "sentence1", "sentence2"},
    {"index", "question", "sentence"},
    {"qid1", "qid2", "question1", "question2"},
    {"#1 id", "#2 id", "#1 string", "#2 string"},
)
_COLA = ("source", "label", "mark", "sentence")


@dataclass(frozen=True, slots=True)
class Rows:
    """Some columns of a table.

    Attributes:
        lines: The line of the file at which each row is or begins; of Parquet its number from 1.
        cells: The rows, each with the columns asked for; an empty cell is the empty text.
    """

    lines: list[int]
    cells: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of which not all columns need to be read.

    Attributes:
        names: The columns' names.
        take: Reads some columns by name.
        notes: What was left out or had to be guessed.
    """

    names: tuple[str, ...]
    take: Callable[[Sequence[str]], Rows]
    notes: tuple[str, ...] = ()


def open_table(name: str, content: bytes, origin: str) -> Table:
    """Read a table.

    Args:
        name: The file's name, which says the format.
        content: The file.
        origin: The file, for messages.

    Returns:
        The table.

    Raises:
        DataError: The file is damaged or empty, or its rows differ in their number of cells. (In
            files of the GLUE benchmark such rows are left out and counted.)
    """
    suffix = "." + name.lower().rpartition(".")[2]
    if suffix == ".parquet":
        return _parquet(content, origin)
    text, notes = _decoded(name, content)
    if not text.strip():
        raise DataError(f"{origin}: the table is empty")
    if suffix == ".tsv":
        return _tsv(name, text, origin, notes)
    if suffix == ".csv":
        return _csv(text, origin, notes)
    return _json(text, origin, notes)


def _decoded(name: str, content: bytes) -> tuple[str, list[str]]:
    """Return a file as text; only the lines that are no UTF-8 are read otherwise."""
    text, problem = decode_text(content)
    if problem is None or not problem.startswith("not UTF-8"):
        return text, []  # what else is wrong is told of each text
    lines = content.split(b"\n")
    read = [decode_text(line) for line in lines]
    bad = [n for n, (_, trouble) in enumerate(read, 1) if (trouble or "").startswith("not UTF-8")]
    note = (
        f"{counted(len(bad), 'line')} of {name} not in UTF-8, read as Windows-1252 "
        f"(the first is line {bad[0]:,})"
    )
    return "\n".join(line for line, _ in read), [note]


def _csv(text: str, origin: str, notes: list[str]) -> Table:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # the first of these where none occurs
    try:
        found = list(_quoted(text, delimiter, strict=False))
    except csv.Error as error:
        raise DataError(
            f"{origin}: {error}; is a quotation mark never closed? A table of long texts is safer "
            "as Parquet or JSON lines"
        ) from error
    return _of_cells(found, origin, notes)


def _tsv(name: str, text: str, origin: str, notes: list[str]) -> Table:
    # Not splitlines: texts may hold line separators of other kinds.
    lines = [(n, line.rstrip("\r")) for n, line in enumerate(text.split("\n"), start=1)]
    plain = [(n, line.split("\t")) for n, line in lines if line]
    header = [cell.strip().lower() for cell in plain[0][1]]
    if _is_cola(plain[0][1]):
        plain = [(0, list(_COLA)), *plain]
    elif not any(known <= set(header) for known in _GLUE):
        return _of_cells(_quoted_or_plain(text, plain), origin, notes)
    kept = [(n, cells) for n, cells in plain if len(cells) == len(plain[0][1])]
    if len(kept) < len(plain):
        count = len(plain) - len(kept)
        notes = [
            *notes,
            f"{counted(count, 'broken row')} of {name} (too few or too many cells) left out",
        ]
    return _of_cells(kept, origin, notes)


def _is_cola(first: list[str]) -> bool:
    """Say whether a line is one of CoLA's, which has no header: source, label, mark, sentence."""
    return len(first) == 4 and first[1] in ("0", "1") and first[2] in ("", "*")


def _quoted_or_plain(text: str, plain: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Return the rows of a TSV file, of which nobody says whether quotation marks mean anything.

    They do where that gives a table without contradictions, and as many rows as lines, or lines
    alone would give none.
    """
    try:
        quoted = list(_quoted(text, "\t", strict=True))
    except csv.Error:
        return plain
    if not _is_even(quoted) or (_is_even(plain) and len(plain) != len(quoted)):
        return plain
    return quoted


def _quoted(text: str, delimiter: str, *, strict: bool) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    start = 1
    for cells in reader:
        if cells:
            yield start, cells
        start = reader.line_num + 1


def _is_even(found: list[tuple[int, list[str]]]) -> bool:
    return len({len(cells) for _, cells in found}) == 1


def _of_cells(found: list[tuple[int, list[str]]], origin: str, notes: list[str]) -> Table:
    (_, head), rows = found[0], found[1:]
    header = [cell.strip() for cell in head]
    for line, cells in rows:
        if len(cells) != len(header):
            raise DataError(
                f"{origin}: line {line:,} has {len(cells)} cells, the header has {len(header)}"
            )

    def take(names: Sequence[str]) -> Rows:
        places = [header.index(name) for name in names]
        cells = [tuple(row[place] for place in places) for _, row in rows]
        return Rows([line for line, _ in rows], cells)

    return Table(tuple(header), take, tuple(notes))


def _json(text: str, origin: str, notes: list[str]) -> Table:
    """Return one object a line, or an array of objects."""
    if text.lstrip().startswith("["):
        try:
            records = list(enumerate(json.loads(text), start=1))
        except ValueError as error:
            raise DataError(f"{origin}: not readable as JSON: {error}") from error
        parse: Callable[[int, Any], dict[str, Any]] = lambda n, value: _object(value, n, origin)  # noqa: E731
    else:
        lines = enumerate(text.split("\n"), start=1)
        records = [(n, line) for n, line in lines if line.strip()]
        parse = lambda n, line: _line(line, n, origin)  # noqa: E731
    # Rows may lack keys; those of the first ones tell enough.
    names = dict.fromkeys(key for n, record in records[:100] for key in parse(n, record))

    def take(wanted: Sequence[str]) -> Rows:
        rows = Rows([], [])
        for n, record in records:
            values = parse(n, record)
            rows.lines.append(n)
            rows.cells.append(tuple(_cell(values.get(name), name, n, origin) for name in wanted))
        return rows

    return Table(tuple(names), take, tuple(notes))


def _line(line: str, number: int, origin: str) -> dict[str, Any]:
    try:
        return _object(json.loads(line), number, origin)
    except ValueError as error:
        raise DataError(f"{origin}: line {number:,} is no JSON: {error}") from error


def _object(value: Any, number: int, origin: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"{origin}: expected one JSON object in line {number:,}, got {type(value).__name__}"
        )
    return value


def _parquet(content: bytes, origin: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pa.BufferReader(content))
        names = tuple(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{origin}: not a readable Parquet file: {error}") from error

    def take(wanted: Sequence[str]) -> Rows:
        try:
            table = file.read(columns=list(dict.fromkeys(wanted)))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{origin}: not a readable Parquet file: {error}") from error
        columns = [
            [_cell(v, name, n, origin) for n, v in enumerate(table[name].to_pylist(), start=1)]
            for name in wanted
        ]
        return Rows(list(range(1, table.num_rows + 1)), list(zip(*columns, strict=True)))

    return Table(names, take)


def _cell(value: Any, column: str, number: int, origin: str) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case bytes():
            return decode_text(value)[0]
    raise DataError(
        f"{origin}: row {number:,}: expected text in the column {column!r}, "
        f"got {type(value).__name__}"
    )

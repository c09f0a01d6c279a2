"""Rows of tables as samples, read as they come: CSV, JSON lines, Parquet; others as a whole."""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from headstart.data.text import decode_text
from headstart.data.text_names import roles_of
from headstart.data.text_tables import open_table
from headstart.errors import DataError
from headstart.predict.input_lines import numbered_lines
from headstart.predict.samples import MAX_BYTES, Input, failed, read_file, sample_of, text_pair

_AT_ONCE = 1024  # rows of Parquet

_Cells = tuple[int, list[str] | str]
"""A row's line, and its cells in the order of the columns that are wanted; or what is wrong."""


def rows_of(path: str, columns: Mapping[str, str], *, pairs: bool) -> Iterator[Input]:
    """Yield the rows of a table of texts.

    CSV, JSON lines and Parquet are read piece by piece. TSV and JSON arrays are read as a whole:
    what quotation marks mean in a TSV file shows only at its end.

    Args:
        path: The file; its ending says the format.
        columns: Names of columns by role, ``text`` and ``pair``; the usual ones where not said.
        pairs: Whether a sample is a pair of texts.

    Yields:
        One input for each row, named ``PATH:LINE``; one named as the file where it cannot be read
        on.
    """
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == ".parquet":
            found = _parquet(path, columns, pairs)
        elif suffix in (".tsv", ".json"):
            found = _whole(path, columns, pairs)
        else:
            with open(path, "rb") as file:
                found = (_csv if suffix == ".csv" else _json_lines)(file, columns, pairs)
                yield from _samples(found, path, pairs)
            return
        yield from _samples(found, path, pairs)
    except DataError as error:
        yield failed(path, str(error))
    except OSError as error:
        yield failed(path, error.strerror or str(error))


def rows_of_lines(
    stream: io.BufferedReader, name: str, columns: Mapping[str, str], *, pairs: bool
) -> Iterator[Input]:
    """Yield the rows of a stream of JSON lines, as `rows_of` does.

    Args:
        stream: Where from.
        name: What it is called.
        columns: Names of columns by role.
        pairs: Whether a sample is a pair of texts.

    Yields:
        One input for each line.
    """
    try:
        yield from _samples(_json_lines(stream, columns, pairs), name, pairs)
    except DataError as error:
        yield failed(name, str(error))


def _samples(found: Iterator[_Cells], name: str, pairs: bool) -> Iterator[Input]:
    for line, cells in found:
        own = f"{name}:{line}"
        if isinstance(cells, str):
            yield failed(own, cells)
        elif pairs:
            yield Input(own, partial(text_pair, *cells))
        else:
            yield Input(own, partial(sample_of, cells[0], "text"))


def _wanted(names: Sequence[str], columns: Mapping[str, str], pairs: bool) -> list[str]:
    """Return the columns of the text, or of both texts of a pair."""
    for role, name in columns.items():
        if name not in names:
            raise DataError(f"no column {name!r} for the {role}, only: {', '.join(names)}")
    roles = roles_of(names, columns, "the table")
    if pairs and roles.text is not None and roles.pair is not None:
        return [roles.text, roles.pair]
    # Where the usual names are those of a pair, nobody said which of the two is the text.
    if not pairs and roles.text is not None and (roles.pair is None or "text" in columns):
        return [roles.text]
    options = "--text-column and --pair-column" if pairs else "--text-column"
    raise DataError(f"cannot tell which column is the text: say {options}, of: {', '.join(names)}")


def _csv(stream: io.BufferedReader, columns: Mapping[str, str], pairs: bool) -> Iterator[_Cells]:
    lines = _decoded(stream)
    head = next(lines, "")
    if not head.strip():
        raise DataError("the table has no header")
    delimiter = max(",;\t", key=head.count)  # the first of these where none occurs
    reader = csv.reader(itertools.chain([head], lines), delimiter=delimiter)
    try:
        header = [cell.strip() for cell in next(reader)]
        places = [header.index(name) for name in _wanted(header, columns, pairs)]
        start = reader.line_num + 1
        empty = 0  # lines since the last row: whether they lie between rows shows at the next one
        for cells in reader:
            if not cells:
                empty += 1
            else:
                if len(header) == 1:  # with more columns it is no row, as for other readers of CSV
                    yield from ((start - left, "empty: no words") for left in range(empty, 0, -1))
                empty = 0
                if len(cells) == len(header):
                    yield start, [cells[place] for place in places]
                else:
                    yield start, f"the row has {len(cells)} cells, the header has {len(header)}"
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num:,}: {error}; is a quotation mark never closed?"
        ) from error


def _decoded(stream: io.BufferedReader) -> Iterator[str]:
    """Yield lines as the csv module takes them: a cell in quotes may go on in the next one."""
    for number, line in numbered_lines(stream):
        if isinstance(line, str):
            raise DataError(f"line {number:,}: {line}")
        yield decode_text(line)[0] + "\n"


def _json_lines(
    stream: io.BufferedReader, columns: Mapping[str, str], pairs: bool
) -> Iterator[_Cells]:
    wanted: list[str] | None = None
    for number, line in numbered_lines(stream):
        if isinstance(line, str):
            yield number, line
            continue
        if not line.strip():
            yield number, "empty: no words"
            continue
        try:
            row = _object(line)
            # Where nobody told the columns, the first row does; each row may lack some.
            wanted = wanted or _wanted([*row, *columns.values()], columns, pairs)
            if missing := [name for name in wanted if name not in row]:
                raise DataError(f"no column {missing[0]!r}, only: {', '.join(row)}")
            yield number, [_text(row[name], name) for name in wanted]
        except DataError as error:
            if wanted is None and line.lstrip().startswith(b"{"):
                raise  # no row can be read without knowing its columns
            yield number, str(error)


def _object(line: bytes) -> dict[str, object]:
    try:
        row = json.loads(decode_text(line)[0])
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected a JSON object: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object, got {type(row).__name__}")
    return row


def _parquet(path: str, columns: Mapping[str, str], pairs: bool) -> Iterator[_Cells]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = _wanted(file.schema_arrow.names, columns, pairs)
            number = 0
            for batch in file.iter_batches(_AT_ONCE, columns=list(dict.fromkeys(wanted))):
                rows = zip(*(batch.column(name).to_pylist() for name in wanted), strict=True)
                for row in rows:
                    number += 1
                    try:
                        yield number, [_text(v, n) for v, n in zip(row, wanted, strict=True)]
                    except DataError as error:
                        yield number, str(error)
    except pa.ArrowException as error:
        raise DataError(f"not a readable Parquet file: {error}") from error


def _whole(path: str, columns: Mapping[str, str], pairs: bool) -> Iterator[_Cells]:
    if os.path.getsize(path) > MAX_BYTES:
        raise DataError(
            f"a table of this kind is read as a whole, and this one has more than {MAX_BYTES:,} "
            "bytes: save it as CSV, JSON lines or Parquet"
        )
    table = open_table(path, read_file(path), path)
    rows = table.take(_wanted(table.names, columns, pairs))
    for line, cells in zip(rows.lines, rows.cells, strict=True):
        yield line, list(cells)


def _text(value: object, column: str) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case int() | float() if not isinstance(value, bool):
            return str(value)
    raise DataError(f"expected text in the column {column!r}, got {type(value).__name__}")

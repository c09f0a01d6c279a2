"""A table of pictures: CSV or Parquet with the columns path, label and maybe split and group."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.data.archive import safe_path
from headstart.data.folder import SPLIT_NAMES
from headstart.data.rows import Row, Samples, Source
from headstart.data.tree import Tree, natural_key, without_single_top
from headstart.errors import DataError, nearest

_SUFFIXES = (".csv", ".tsv", ".parquet")
_ROLES = ("path", "label", "split", "group")


def is_manifest(path: Path) -> bool:
    """Say whether a file is a table, by the ending of its name."""
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def holds_manifest(tree: Tree, columns: Mapping[str, str] | None = None) -> bool:
    """Say whether a tree has exactly one table at its top that lists pictures."""
    return len(_tables_of(without_single_top(tree), columns)) == 1


def open_manifest(where: Path | Tree, columns: Mapping[str, str] | None = None) -> Source:
    """Read a table that lists pictures.

    Args:
        where: The table's path, or a tree with one such table at its top. The paths in the table
            are relative to the table's folder; those of a table that is a file of its own may
            also be absolute.
        columns: Names of the columns where they are not ``path``, ``label``, ``split``,
            ``group``.

    Returns:
        The source, in natural order of the paths. A path that leads to no file is a row all the
        same: reading it is an error, and the preflight scan lists it.

    Raises:
        DataError: Columns are missing; labels or paths are empty; a path occurs twice; a split is
            not train, val or test, or is given for some rows only.
    """
    names = _column_names(columns)
    if isinstance(where, Path):
        origin = str(where)
        table = _read_table(where.name, where.read_bytes(), origin)
        folder = where.parent
        read: Callable[[str], bytes] = lambda path: _read_file(folder / path)  # noqa: E731
        place: Callable[[str], str | None] = lambda path: str(folder.absolute() / path)  # noqa: E731
        close: Callable[[], None] = lambda: None  # noqa: E731
    else:
        tree = without_single_top(where)
        tables = _tables_of(tree, columns)
        if len(tables) != 1:
            raise DataError(
                f"{tree.origin}: expected one CSV or Parquet table at the top with the columns "
                f"'{names['path']}' and '{names['label']}', found {', '.join(tables) or 'none'}"
            )
        origin = f"{tree.origin} ({tables[0]})"
        table = _read_table(tables[0], tree.read(tables[0]), origin)
        read = lambda path: _read_member(tree, path)  # noqa: E731
        place = lambda path: tree.place(path) if path in tree.sizes else None  # noqa: E731
        close = tree.close
    entries = _entries(table, names, origin, explicit=tuple(columns or ()))
    entries.sort(key=lambda entry: natural_key(entry.path))
    classes = tuple(sorted({entry.label for entry in entries}, key=natural_key))
    position = {name: index for index, name in enumerate(classes)}
    return Samples(
        origin=origin,
        classes=classes,
        rows=tuple(
            Row(entry.path, position[entry.label], entry.split, entry.group) for entry in entries
        ),
        reader=lambda index: read(entries[index].path),
        placer=lambda index: place(entries[index].path),
        closer=close,
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    label: str
    split: str | None
    group: str | None


def _column_names(columns: Mapping[str, str] | None) -> dict[str, str]:
    names = {role: role for role in _ROLES}
    for role, name in (columns or {}).items():
        if role not in names:
            raise DataError(f"unknown column role {role!r}: {nearest(role, _ROLES)}")
        names[role] = name
    return names


def _tables_of(tree: Tree, columns: Mapping[str, str] | None) -> list[str]:
    names = _column_names(columns)
    tables = []
    for path in tree.sizes:
        if "/" not in path and path.lower().endswith(_SUFFIXES):
            table = _read_table(path, tree.read(path), f"{tree.origin}/{path}")
            if names["path"] in table and names["label"] in table:
                tables.append(path)
    return tables


def _read_table(name: str, content: bytes, origin: str) -> dict[str, list[str]]:
    """Return the columns as text; an empty cell is the empty text."""
    if name.lower().endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(pa.BufferReader(content))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{origin}: not a readable Parquet file: {error}") from error
        return {
            column: ["" if value is None else str(value) for value in table[column].to_pylist()]
            for column in table.column_names
        }
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{origin}: expected UTF-8 text: {error}") from error
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # the first of these where none occurs
    lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if line]
    if not lines:
        raise DataError(f"{origin}: the table is empty")
    header = [cell.strip() for cell in lines[0]]
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise DataError(
                f"{origin}: line {number} has {len(line)} cells, the header has {len(header)}"
            )
    return {
        column: [line[index].strip() for line in lines[1:]] for index, column in enumerate(header)
    }


def _entries(
    table: Mapping[str, list[str]], names: Mapping[str, str], origin: str, explicit: Sequence[str]
) -> list[_Entry]:
    for role in dict.fromkeys(("path", "label", *explicit)):
        if names[role] not in table:
            raise DataError(
                f"{origin}: no column '{names[role]}' for the {role}; the table has "
                f"{', '.join(table)}. Set data.{role}_column to the name of one of these"
            )
    paths = [_plain(path) for path in table[names["path"]]]
    labels = table[names["label"]]
    if not paths:
        raise DataError(f"{origin}: the table lists no pictures")
    splits = table.get(names["split"], [""] * len(paths))
    groups = table.get(names["group"], [""] * len(paths))
    problems = []
    if count := sum(not path for path in paths):
        problems.append(f"{count:,} rows have no path")
    if count := sum(not label for label in labels):
        first = labels.index("")
        problems.append(f"{count:,} rows have no label (the first is {paths[first]!r})")
    twice = [path for path, count in Counter(paths).items() if count > 1 and path]
    if twice:
        problems.append(f"{len(twice):,} paths occur more than once (such as {twice[0]!r})")
    unknown = sorted({split for split in splits if split and split.lower() not in SPLIT_NAMES})
    if unknown:
        problems.append(f"splits that are not train, val or test: {', '.join(unknown[:5])}")
    if 0 < sum(not split for split in splits) < len(splits):
        problems.append("some rows have a split and some have none")
    if problems:
        raise DataError(f"{origin}: " + "; ".join(problems))
    return [
        _Entry(path, label, SPLIT_NAMES.get(split.lower()), group or None)
        for path, label, split, group in zip(paths, labels, splits, groups, strict=True)
    ]


def _plain(path: str) -> str:
    """Return a path with slashes also where a Windows program wrote the table."""
    if "\\" in path and "/" not in path:
        path = path.replace("\\", "/")
    return path.removeprefix("./")


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error


def _read_member(tree: Tree, path: str) -> bytes:
    name = safe_path(tree.origin, path)
    if name not in tree.sizes:
        raise DataError(f"there is no file {name} in {tree.origin}")
    return tree.read(name)

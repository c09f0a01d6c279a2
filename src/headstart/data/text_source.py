"""The door to texts and pairs of texts with labels: folders, tables, Hugging Face data sets."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from headstart.data.archive import missing, open_tree
from headstart.data.huggingface import is_saved, open_huggingface
from headstart.data.rows import Row, Samples, Source, counted
from headstart.data.text import pair_bytes, text_bytes
from headstart.data.text_folder import open_text_folder, text_files
from headstart.data.text_names import Part, Roles, part_of, roles_of, settle
from headstart.data.text_tables import SUFFIXES, Table, open_table
from headstart.data.tree import Tree, natural_key, what_is_there, without_single_top
from headstart.errors import DataError, nearest

TextKind = Literal["auto", "folder", "table", "huggingface"]

# Labels that say that there is none: MultiNLI's annotators did not agree; hidden test labels.
_NO_AGREEMENT = "-"
_HIDDEN = frozenset({"-1", "-100", "?", "hidden", "unknown"})
_SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")


def open_text(
    path_or_name: str,
    *,
    columns: Mapping[str, str] | None = None,
    allow_network: bool = False,
    kind: TextKind = "auto",
) -> Source:
    """Open texts, or pairs of texts, with labels.

    Args:
        path_or_name: A folder of .txt files per class; a table (CSV, TSV, JSON lines, Parquet), or
            a folder with one such table, or one per split, such as MultiNLI's and GLUE's; an
            archive of these; a folder written by ``save_to_disk`` of `datasets`, or a name on the
            Hugging Face hub.
        columns: Columns of a table where they have not the usual names, by role: ``text``,
            ``pair`` (the second text of a pair), ``label``, ``split``, ``group``.
        allow_network: Whether data may be downloaded.
        kind: ``auto`` finds out which of these it is.

    Returns:
        The source, of the noun ``text`` or ``pair``; close it when done. Rows without a label, and
        parts without labels, are left out and noted.

    Raises:
        DataError: Nothing is there, or it is not laid out in any of these ways.
    """
    if kind not in get_args(TextKind):
        raise DataError(f"unknown kind of text data {kind!r}: {nearest(kind, get_args(TextKind))}")
    path = Path(path_or_name).expanduser()
    if kind == "huggingface" or is_saved(path) or (allow_network and not path.exists()):
        return open_huggingface(path_or_name, allow_network=allow_network, columns=columns)
    if not path.exists():
        raise missing(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        if kind == "folder":
            raise DataError(f"{path}: this is a table, so the kind is table, not folder")
        table = open_table(path.name, path.read_bytes(), str(path))
        return _of_tables({path.name: table}, {}, columns, str(path), lambda: None)
    whole = open_tree(path)
    try:
        return _open_tree(without_single_top(whole, keep=_SPLIT_FOLDERS), kind, columns)
    except BaseException:
        whole.close()
        raise


def _open_tree(tree: Tree, kind: TextKind, columns: Mapping[str, str] | None) -> Source:
    tops = [path for path in tree.sizes if "/" not in path and path.lower().endswith(SUFFIXES)]
    named = {path: part_of(path.rpartition(".")[0]) for path in tops}
    parts = {path: part for path, part in named.items() if part is not None}
    if kind == "folder" or (kind == "auto" and not tops):
        return _folder(tree, columns)
    if any(part.kind == "train" for part in parts.values()):
        tables = {path: _table(tree, path) for path in parts}
        notes = [f"the table '{path}' is not used" for path in tops if path not in parts]
        return _of_tables(tables, parts, columns, tree.origin, tree.close, notes)
    # Any other .json is more likely about the data than data.
    tables = {path: _table(tree, path) for path in tops if not path.lower().endswith(".json")}
    usable = {p: table for p, table in tables.items() if _is_usable(p, table, columns, tree)}
    if len(usable) == 1:
        return _of_tables(usable, {}, columns, tree.origin, tree.close)
    if not usable and kind == "auto" and text_files(tree):
        return _folder(tree, columns)
    raise DataError(
        f"{tree.origin}: expected one table of texts at the top, or one for each split (train.csv, "
        f"test.csv), with a column of texts and one of labels; found {', '.join(usable or tops)}. "
        "Set data.text_column and data.label_column where they have other names"
    )


def _folder(tree: Tree, columns: Mapping[str, str] | None) -> Source:
    if columns:
        raise DataError(
            f"{tree.origin}: columns {dict(columns)} are for tables, and this is a folder with "
            f"{what_is_there(tree)}"
        )
    return open_text_folder(tree)


def _table(tree: Tree, path: str) -> Table:
    return open_table(path, tree.read(path), f"{tree.origin}/{path}")


def _is_usable(path: str, table: Table, columns: Mapping[str, str] | None, tree: Tree) -> bool:
    try:
        roles = roles_of(table.names, columns, f"{tree.origin}/{path}")
    except DataError:
        return False
    return roles.text is not None and roles.label is not None


@dataclass(frozen=True, slots=True)
class _Entry:
    part: str
    name: str
    text: str
    pair: str
    label: str
    group: str


def _of_tables(
    tables: Mapping[str, Table],
    parts: Mapping[str, Part],
    columns: Mapping[str, str] | None,
    origin: str,
    closer: Callable[[], None],
    notes: Sequence[str] = (),
) -> Source:
    """Return the source of one table, or of one table for each of `parts`."""
    told = [*notes, *(note for table in tables.values() for note in table.notes)]
    roles = {
        path: roles_of(table.names, columns, f"{origin} ({path})") for path, table in tables.items()
    }
    _refuse_roles(tables, roles, origin)
    entries: list[_Entry] = []
    for path, table in tables.items():
        if roles[path].label is not None:
            entries += _entries(path, table, roles[path], by_file=bool(parts))
    noun: Literal["pair", "text"] = "pair" if roles[next(iter(tables))].pair else "text"
    if not parts and any(one.split is not None for one in roles.values()):
        parts = _parts_of_cells(entries, origin)
    hidden = _hidden_parts(entries, parts)
    kept, without = _with_labels([one for one in entries if one.part not in hidden], noun)
    if not kept:
        raise DataError(f"{origin}: there is no {noun} with a label in it")
    present = {one.part for one in kept}
    splits, decided = settle(origin, parts, {part: part in present for part in parts})
    if parts:
        kept = [one for one in kept if one.part in splits]
    classes = tuple(sorted({one.label for one in kept}, key=natural_key))
    position = {name: index for index, name in enumerate(classes)}

    def read(index: int) -> bytes:
        one = kept[index]
        return pair_bytes(one.text, one.pair) if noun == "pair" else text_bytes(one.text)

    return Samples(
        origin=origin,
        classes=classes,
        rows=tuple(
            Row(one.name, position[one.label], splits.get(one.part), one.group or None)
            for one in kept
        ),
        reader=read,
        closer=closer,
        notes=(*told, *without, *decided),
        noun=noun,
    )


def _refuse_roles(tables: Mapping[str, Table], roles: Mapping[str, Roles], origin: str) -> None:
    for path, one in roles.items():
        if one.text is None:
            raise DataError(
                f"{origin}: cannot tell which column of {path} is the text; set data.text_column "
                f"(and data.pair_column for pairs) to one of: {', '.join(tables[path].names)}"
            )
    if all(one.label is None for one in roles.values()):
        path, table = next(iter(tables.items()))
        raise DataError(
            f"{origin}: cannot tell which column of {path} is the label; set data.label_column "
            f"to one of: {', '.join(table.names)}"
        )
    if len({one.pair is None for one in roles.values()}) > 1:
        single = ", ".join(path for path, one in roles.items() if one.pair is None)
        raise DataError(f"{origin}: some tables hold pairs of texts, and some do not: {single}")


def _entries(path: str, table: Table, roles: Roles, *, by_file: bool) -> list[_Entry]:
    """Return the rows of a table; their part is the file, or the cell of the column `split`."""
    wanted = (roles.text, roles.pair, roles.label, roles.group, None if by_file else roles.split)
    rows = table.take([name for name in wanted if name is not None])
    found = []
    for line, cells in zip(rows.lines, rows.cells, strict=True):
        values = iter(cells)
        text, pair, label, group, split = ("" if name is None else next(values) for name in wanted)
        part = path if by_file else split.strip()
        found.append(_Entry(part, f"{path}:{line}", text, pair, label.strip(), group.strip()))
    return found


def _parts_of_cells(entries: Sequence[_Entry], origin: str) -> dict[str, Part]:
    values = dict.fromkeys(one.part for one in entries)
    parts = {value: part_of(value, whole=True) for value in values}
    unknown = [value for value, part in parts.items() if part is None and value]
    if unknown:
        raise DataError(
            f"{origin}: splits that are not train, val, test or test-NAME: {', '.join(unknown[:5])}"
        )
    if "" in parts and len(parts) > 1:
        raise DataError(f"{origin}: some rows have a split and some have none")
    return {value: part for value, part in parts.items() if part is not None}


def _hidden_parts(entries: Sequence[_Entry], parts: Mapping[str, Part]) -> set[str]:
    """Return the test sets in which one placeholder stands for all labels."""
    labels: dict[str, set[str]] = {part: set() for part in parts}
    for one in entries:
        if one.part in labels:
            labels[one.part].add(one.label)
    known = {x for name, part in parts.items() if part.kind == "train" for x in labels[name]}
    return {
        name
        for name, part in parts.items()
        if part.kind == "test" and len(labels[name]) == 1 and labels[name] <= _HIDDEN - known
    }


def _with_labels(entries: Sequence[_Entry], noun: str) -> tuple[list[_Entry], list[str]]:
    """Return the entries that have a label, and notes on the others."""
    kept, unlabelled, disputed = [], Counter[str](), Counter[str]()
    for one in entries:
        file = one.name.rpartition(":")[0]
        if one.label == _NO_AGREEMENT:
            disputed[file] += 1
        elif not one.label:
            unlabelled[file] += 1
        else:
            kept.append(one)
    notes = [
        f"{counted(count, noun)} of {file} labelled '-' (the annotators did not agree) left out"
        for file, count in disputed.items()
    ]
    notes += [
        f"{counted(count, noun)} of {file} without a label left out"
        for file, count in unlabelled.items()
    ]
    return kept, notes

"""Texts in folders: a folder of .txt files per class, under a folder per split where there are."""

from collections import Counter
from collections.abc import Iterable, Mapping

from headstart.data.rows import Row, Samples, Source, counted
from headstart.data.text_names import Part, part_of, settle
from headstart.data.tree import Tree, natural_key, what_is_there
from headstart.errors import DataError

# Folders of texts that nobody labelled, such as aclImdb's train/unsup.
_UNLABELLED = frozenset({"unsup", "unsupervised", "unlabeled", "unlabelled"})


def text_files(tree: Tree) -> list[str]:
    """Return the paths of all texts that lie in a folder."""
    return [path for path in tree.sizes if path.lower().endswith(".txt") and "/" in path]


def open_text_folder(tree: Tree) -> Source:
    """Read a class-per-folder layout of texts.

    The class is the first folder below the root, or below ``train``, ``val`` (or ``dev``) and
    ``test`` where these hold folders. What lies beside the class folders is left out, and so are
    folders of texts without labels, such as ``unsup``.

    Args:
        tree: The files.

    Returns:
        The source; classes and texts are in natural order.

    Raises:
        DataError: No text lies in a class folder, or two folders declare the same split.
    """
    paths = text_files(tree)
    parts = _split_folders(paths)
    labelled: list[tuple[str, str, str | None]] = []
    unused: Counter[str] = Counter()
    for path in paths:
        top, _, rest = path.partition("/")
        below = rest if parts else path
        name, _, inside = below.partition("/")
        if parts and top not in parts:
            unused[f"in '{top}', outside the folders of the splits, left out"] += 1
        elif not inside:
            unused[f"in '{top}', in no class folder, left out"] += 1
        elif name.lower() in _UNLABELLED:
            folder = f"{top}/{name}" if parts else name
            unused[f"in '{folder}', without labels, left out"] += 1
        else:
            labelled.append((path, name, top if parts else None))
    notes = [f"{counted(count, 'text')} {where}" for where, count in unused.items()]
    if not labelled:
        raise DataError(
            f"{tree.origin}: expected one folder per class with .txt files in it, optionally "
            f"inside train, val and test folders; found {what_is_there(tree)}"
        )
    used = {top for _, _, top in labelled}
    splits, decided = settle(tree.origin, parts, {top: top in used for top in parts})
    return _source(tree, labelled, splits, [*notes, *decided])


def _split_folders(paths: Iterable[str]) -> dict[str, Part]:
    """Return the top folders that declare a split; none where the top folders are classes."""
    # A folder "test" with texts right in it and no folders is a class.
    tops = dict.fromkeys(path.partition("/")[0] for path in paths if path.count("/") >= 2)
    named = {top: part_of(top, whole=True) for top in tops}
    parts = {top: part for top, part in named.items() if part is not None}
    trains = any(part.kind == "train" for part in parts.values())
    return parts if trains or len(parts) == len(tops) else {}


def _source(
    tree: Tree,
    labelled: list[tuple[str, str, str | None]],
    splits: Mapping[str, str],
    notes: list[str],
) -> Source:
    found = [
        (path, name, None if top is None else splits[top])
        for path, name, top in labelled
        if top is None or top in splits
    ]
    classes = tuple(sorted({name for _, name, _ in found}, key=natural_key))
    position = {name: index for index, name in enumerate(classes)}
    files = [path for path, _, _ in found]
    return Samples(
        origin=tree.origin,
        classes=classes,
        rows=tuple(Row(path, position[name], split) for path, name, split in found),
        reader=lambda index: tree.read(files[index]),
        closer=tree.close,
        notes=tuple(notes),
        noun="text",
    )

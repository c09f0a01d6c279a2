"""Pictures in folders: a folder per class, under a folder per split where there are splits."""

from collections import Counter
from collections.abc import Iterable

from headstart.data.image import SUFFIXES
from headstart.data.rows import Row, Samples, Source
from headstart.data.tree import Tree, natural_key, what_is_there, without_single_top
from headstart.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names, in lower case, by which folders and manifests declare a split."""


def is_picture(path: str) -> bool:
    """Say whether a file counts as a picture, by the ending of its name."""
    return "." + path.rpartition(".")[2].lower() in SUFFIXES


def open_folder(tree: Tree) -> Source:
    """Read a class-per-folder layout.

    The class is the first folder below the root, or below ``train``, ``val`` and ``test`` (also
    ``Training``, ``valid``, ``validation``, ``Testing``; upper or lower case). Pictures may lie
    deeper. Single folders around everything are passed over. A split folder with a file
    ``<split>_annotations.txt`` of lines "file, tab, class" (Tiny-ImageNet) takes its classes
    from there.

    Args:
        tree: The files.

    Returns:
        The source; classes and pictures are in natural order.

    Raises:
        DataError: No picture lies in a class folder, or two folders declare the same split.
    """
    tree = without_single_top(tree, keep=SPLIT_NAMES)
    pictures = [path for path in tree.sizes if is_picture(path)]
    splits = _split_folders(tree, pictures)
    labelled, notes = _labelled(tree, pictures, splits)
    if not labelled:
        raise DataError(
            f"{tree.origin}: expected one folder per class with pictures in it "
            f"({', '.join(sorted(SUFFIXES))}), optionally inside train, val and test folders; "
            f"found {what_is_there(tree)}{_texts_hint(tree)}"
        )
    classes = tuple(sorted({name for _, name, _ in labelled}, key=natural_key))
    position = {name: index for index, name in enumerate(classes)}
    paths = [path for path, _, _ in labelled]
    return Samples(
        origin=tree.origin,
        classes=classes,
        rows=tuple(Row(path, position[name], split) for path, name, split in labelled),
        reader=lambda index: tree.read(paths[index]),
        placer=lambda index: tree.place(paths[index]),
        closer=tree.close,
        notes=tuple(notes),
    )


def _split_folders(tree: Tree, pictures: Iterable[str]) -> dict[str, str]:
    """Map top folders to the splits they declare; empty where the top folders are classes."""
    depth: dict[str, int] = {}
    for path in pictures:
        top = path.partition("/")[0]
        depth[top] = min(depth.get(top, path.count("/")), path.count("/"))
    # A folder "train" with pictures right in it is a class: the vehicle.
    found = {
        top: SPLIT_NAMES[top.lower()]
        for top, least in depth.items()
        if top.lower() in SPLIT_NAMES and least >= 2
    }
    for split, count in Counter(found.values()).items():
        if count > 1:
            same = sorted(top for top, name in found.items() if name == split)
            raise DataError(
                f"{tree.origin}: the folders {', '.join(same)} all mean the split '{split}'; "
                "keep one of them"
            )
    return found if "train" in found.values() or len(found) == len(depth) else {}


def _labelled(
    tree: Tree, pictures: list[str], splits: dict[str, str]
) -> tuple[list[tuple[str, str, str | None]], list[str]]:
    """Return (path, class, split) of every picture that has a class, and notes on the others."""
    labelled: list[tuple[str, str, str | None]] = []
    unused: Counter[str] = Counter()
    annotations = {folder: _annotations(tree, folder) for folder in splits}
    for path in pictures:
        top, _, rest = path.partition("/")
        if not splits:
            if rest:
                labelled.append((path, top, None))
            else:
                unused["at the top, in no class folder"] += 1
        elif top not in splits:
            unused[f"in '{top}', outside the train, val and test folders"] += 1
        elif not annotations[top]:
            labelled.append((path, rest.partition("/")[0], splits[top]))
        elif (name := annotations[top].get(rest.rpartition("/")[2])) is not None:
            labelled.append((path, name, splits[top]))
        else:
            unused[f"in '{top}' without a line in its annotations"] += 1
    known = {name for _, name, split in labelled if split == "train"}
    if splits and known:
        for folder, split in splits.items():
            names = {name for _, name, of in labelled if of == split}
            # test/images/…: pictures of a competition whose labels are not given away.
            if names and names.isdisjoint(known) and len(names) == 1:
                count = sum(of == split for _, _, of in labelled)
                unused[f"in '{folder}', whose only folder '{names.pop()}' is no class"] += count
                labelled = [item for item in labelled if item[2] != split]
    notes = [f"{count:,} pictures {where}, are not used" for where, count in unused.items()]
    return labelled, notes


def _annotations(tree: Tree, folder: str) -> dict[str, str]:
    path = f"{folder}/{folder}_annotations.txt"
    if path not in tree.sizes:
        return {}
    lines = tree.read(path).decode("utf-8", errors="replace").splitlines()
    cells = [line.split("\t") for line in lines if "\t" in line]
    return {file: name for file, name, *_ in cells}


def _texts_hint(tree: Tree) -> str:
    texts = any(path.lower().endswith(".txt") for path in tree.sizes)
    return "; for texts set data.kind to text (check-data: --kind text)" if texts else ""

"""Tiny ImageNet's layout: WordNet ids in wnids.txt, their names in words.txt, val annotated."""

from collections import Counter
from collections.abc import Iterator, Mapping

from headstart.data.folder import SPLIT_NAMES, is_picture
from headstart.data.rows import Row, Samples, Source
from headstart.data.tree import Tree, natural_key, without_single_top
from headstart.errors import DataError

_IDS = "wnids.txt"
_WORDS = "words.txt"
_VAL = "val/images/"
_ANNOTATIONS = "val/val_annotations.txt"


def holds_tiny_imagenet(tree: Tree) -> bool:
    """Say whether a tree has a file wnids.txt and pictures in train/CLASS/images."""
    tree = without_single_top(tree, keep=SPLIT_NAMES)
    return _IDS in tree.sizes and any(
        is_picture(path) and _is_training(path.split("/")) for path in tree.sizes
    )


def open_tiny_imagenet(tree: Tree) -> Source:
    """Read ``wnids.txt``, ``words.txt``, ``train/CLASS/images`` and ``val/images``.

    The labelled val part is the split ``test``: the part that the authors call test has no labels
    and is not used. So a run draws its validation from train, and what it reports was seen by no
    choice. Boxes are not used.

    The classes are the WordNet ids of ``wnids.txt``, sorted: the file lists them in no order, while
    sorted they are in the order of ImageNet's classifiers.

    Args:
        tree: The files; single folders around everything are passed over.

    Returns:
        The source; its `class_names` are those of ``words.txt``.

    Raises:
        DataError: A file is missing or damaged, a picture of val has no annotation, or a class is
            used that ``wnids.txt`` does not list.
    """
    tree = without_single_top(tree, keep=SPLIT_NAMES)
    if _IDS not in tree.sizes:
        raise DataError(
            f"{tree.origin}: expected Tiny ImageNet's files {_IDS}, {_WORDS}, train/CLASS/images "
            f"and val/images; there is no {_IDS}"
        )
    ids = [line.strip() for line in _lines(tree, _IDS) if line.strip()]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice or not ids:
        what = f"lists {', '.join(twice[:5])} more than once" if twice else "lists no class"
        raise DataError(f"{tree.origin}: {_IDS} {what}")
    classes = tuple(sorted(ids, key=natural_key))
    position = {name: index for index, name in enumerate(classes)}
    rows: list[Row] = []
    unused: Counter[str] = Counter()
    annotations = _annotations(tree)
    pictures = [path for path in tree.sizes if is_picture(path)]
    for path in pictures:
        parts = path.split("/")
        if _is_training(parts):
            rows.append(Row(path, _label(tree, position, parts[1], path), "train"))
        elif path.startswith(_VAL) and (name := annotations.get(path[len(_VAL) :])) is not None:
            rows.append(Row(path, _label(tree, position, name, path), "test"))
        elif parts[0] == "val" and len(parts) > 1:
            raise _unlabelled(tree, pictures, annotations)
        else:
            unused[_place(parts)] += 1
    if not any(row.split == "train" for row in rows):
        raise DataError(f"{tree.origin}: expected pictures in train/CLASS/images, found none")
    class_names, name_notes = _names(tree, classes)
    return Samples(
        origin=tree.origin,
        classes=classes,
        rows=tuple(rows),
        reader=lambda index: tree.read(rows[index].name),
        placer=lambda index: tree.place(rows[index].name),
        closer=tree.close,
        notes=(*_notes(rows, annotations, unused), *name_notes),
        class_names=class_names,
    )


def _is_training(parts: list[str]) -> bool:
    return len(parts) == 4 and parts[0] == "train" and parts[2] == "images"


def _lines(tree: Tree, path: str) -> list[str]:
    # utf-8-sig: editors on Windows put a mark at the beginning, which belongs to no class.
    return tree.read(path).decode("utf-8-sig", errors="replace").splitlines()


def _annotations(tree: Tree) -> dict[str, str]:
    """Return the class of each file of val: lines of file, class and box, parted by tabs."""
    found: dict[str, str] = {}
    if _ANNOTATIONS not in tree.sizes:
        return found
    for number, line in enumerate(_lines(tree, _ANNOTATIONS), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        where = f"{tree.origin}: {_ANNOTATIONS}, line {number}"
        if len(cells) < 2 or not cells[0] or not cells[1]:
            raise DataError(
                f"{where}: expected a file's name, a tab and its class, got {line[:60]!r}"
            )
        if found.setdefault(cells[0], cells[1]) != cells[1]:
            raise DataError(
                f"{where}: {cells[0]} is {cells[1]} here and {found[cells[0]]} above: a picture "
                "has one class"
            )
    return found


def _label(tree: Tree, position: Mapping[str, int], name: str, path: str) -> int:
    if name in position:
        return position[name]
    by = _ANNOTATIONS if path.startswith(_VAL) else "its folder"
    raise DataError(
        f"{tree.origin}: {path} is of the class {name!r} by {by}, but {_IDS} does not list that "
        f"class: add it there, or remove its pictures and annotations"
    )


def _unlabelled(tree: Tree, pictures: list[str], annotations: Mapping[str, str]) -> DataError:
    """Return the error for pictures of val of which nothing says what they show."""
    paths = [
        path
        for path in pictures
        if path.startswith("val/")
        and not (path.startswith(_VAL) and path[len(_VAL) :] in annotations)
    ]
    some = ", ".join(paths[:3]) + (" …" if len(paths) > 3 else "")
    if all(path.startswith(_VAL) for path in paths):
        there = (
            f"no line in {_ANNOTATIONS}"
            if _ANNOTATIONS in tree.sizes
            else f"no class, since there is no file {_ANNOTATIONS}"
        )
        return DataError(
            f"{tree.origin}: {len(paths):,} pictures of val have {there}: {some}. "
            "Add what is missing, or remove them"
        )
    return DataError(
        f"{tree.origin}: {len(paths):,} pictures of val lie elsewhere than expected, in val/images "
        f"with their classes in {_ANNOTATIONS}: {some}. If val has a folder per class, set "
        "data.kind: folder"
    )


def _place(parts: list[str]) -> str:
    """Return where a picture lies that is not used, to complete "5 pictures …"."""
    if len(parts) == 1:
        return "at the top are not used"
    if parts[0] == "train":
        return "in 'train', outside the folders train/CLASS/images, are not used"
    if parts[0] == "test":
        return "in 'test' have no labels and are not used"
    return f"in '{parts[0]}', outside train and val, are not used"


def _names(tree: Tree, classes: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Return the names of words.txt, and notes on what it lacks."""
    if _WORDS not in tree.sizes:
        return {}, [f"there is no {_WORDS}: the classes are called by their WordNet ids"]
    known = {}
    for line in _lines(tree, _WORDS):
        name, _, words = line.partition("\t")
        known[name.strip()] = words.strip()
    names = {name: words for name in classes if (words := known.get(name, ""))}
    lacking = [name for name in classes if name not in names]
    if not lacking:
        return names, []
    some = ", ".join(lacking[:5]) + (" …" if len(lacking) > 5 else "")
    return names, [
        f"{_WORDS} has no name for {len(lacking):,} of {len(classes):,} classes, which are called "
        f"by their WordNet ids: {some}"
    ]


def _notes(rows: list[Row], annotations: Mapping[str, str], unused: Counter[str]) -> Iterator[str]:
    labelled = sum(row.split == "test" for row in rows)
    if labelled:
        yield (
            "Tiny ImageNet's own test part has no labels: unless data.split is set, the "
            f"{labelled:,} pictures of val are the test split, and validation is drawn from train"
        )
    if len(annotations) > labelled:
        yield (
            f"{_ANNOTATIONS} names {len(annotations) - labelled:,} pictures that are not in "
            "val/images"
        )
    yield from (f"{count:,} pictures {where}" for where, count in unused.items())

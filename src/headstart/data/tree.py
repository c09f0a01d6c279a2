"""Files under one root, read by relative path: a folder, or an archive as if it were one."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from headstart.errors import DataError

_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"})


class Tree(Protocol):
    """A read-only set of files; `headstart.data.archive.open_tree` makes one from a path."""

    @property
    def origin(self) -> str:
        """The folder or archive, as the user gave it."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Size in bytes of every file by its relative path with slashes, in natural order."""
        ...

    def read(self, path: str) -> bytes:
        """Return one file's content; safe to call in threads."""
        ...

    def place(self, path: str) -> str | None:
        """Return where one file lies, as an absolute path; None inside an archive."""
        ...

    def close(self) -> None:
        """Give back open files."""
        ...


class DirectoryTree:
    """A folder of the file system. Links are followed; a link that leads in circles is not."""

    def __init__(self, root: Path, origin: str | None = None) -> None:
        self._root = root
        # Not normalised: "link/.." is not the folder that the link lies in.
        self._absolute = str(root.absolute())
        self.origin = str(root) if origin is None else origin
        self.sizes: Mapping[str, int] = in_natural_order(_walk(root))

    def read(self, path: str) -> bytes:
        """Return one file's content."""
        return (self._root / path).read_bytes()

    def place(self, path: str) -> str | None:
        """Return where one file lies."""
        return os.path.join(self._absolute, path)

    def close(self) -> None:
        """Nothing is kept open."""


class SubTree:
    """One folder of another tree, as a tree of its own."""

    def __init__(self, tree: Tree, folder: str) -> None:
        self._tree = tree
        self._prefix = folder + "/"
        self.origin = tree.origin
        self.sizes: Mapping[str, int] = {
            path.removeprefix(self._prefix): size
            for path, size in tree.sizes.items()
            if path.startswith(self._prefix)
        }

    def read(self, path: str) -> bytes:
        """Return one file's content."""
        return self._tree.read(self._prefix + path)

    def place(self, path: str) -> str | None:
        """Return where one file lies."""
        return self._tree.place(self._prefix + path)

    def close(self) -> None:
        """Close the tree underneath."""
        self._tree.close()


def without_single_top(tree: Tree, keep: Iterable[str] = ()) -> Tree:
    """Descend while everything lies in one folder, as archives often have it.

    Args:
        tree: Any tree.
        keep: Folder names, in lower case, that mean something and are not descended into.

    Returns:
        The tree itself, or the part of it under its single folders.
    """
    kept = frozenset(keep)
    while True:
        tops = {path.partition("/")[0] for path in tree.sizes}
        if len(tops) != 1:
            return tree
        (top,) = tops
        if top in tree.sizes or top.lower() in kept:
            return tree
        tree = SubTree(tree, top)


def ignored(path: str) -> bool:
    """Say whether a relative path is hidden or left behind by a file manager."""
    return any(part.startswith(".") or part.lower() in _JUNK for part in path.split("/"))


def natural_key(path: str) -> tuple[tuple[tuple[str | int, ...], ...], str]:
    """Return a sorting key that puts ``image_2`` before ``image_10``, folder by folder."""
    parts = tuple(
        # Text and number take turns, so that equal positions always compare equal types.
        tuple(
            int(piece) if position % 2 else piece
            for position, piece in enumerate(re.split(r"([0-9]+)", part.casefold()))
        )
        for part in path.split("/")
    )
    return parts, path


def in_natural_order(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the same files in natural order."""
    return {path: sizes[path] for path in sorted(sizes, key=natural_key)}


def _walk(root: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    # Each folder with the identities of the folders above it: a link back to one of them is a
    # circle, while two links to the same place elsewhere are not.
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        try:
            status = os.stat(root / folder)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = folder + "/" + entry.name if folder else entry.name
                    if ignored(entry.name):
                        continue
                    _require_unicode(path)
                    if entry.is_dir():
                        pending.append((path, above | {identity}))
                    elif entry.is_file():
                        sizes[path] = entry.stat().st_size
        except OSError as error:
            raise DataError(f"the folder {root / folder} cannot be read: {error}") from error
    return sizes


def _require_unicode(path: str) -> None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the file name {path!a} is not valid UTF-8: rename it, since it is to be written "
            "into reports"
        ) from error


def what_is_there(tree: Tree) -> str:
    """Say in a few words which files a tree holds, for messages."""
    endings = Counter("." + path.rpartition(".")[2] for path in tree.sizes)
    tops = sorted({path.partition("/")[0] for path in tree.sizes}, key=natural_key)
    common = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(4))
    shown = f"{', '.join(tops[:6])}{' …' if len(tops) > 6 else ''}"
    return f"{common} in {shown}" if tops else "no files"

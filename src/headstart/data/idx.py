"""MNIST's IDX files: one file of pictures and one of labels per split."""

import gzip
import io
import re
import zlib
from collections.abc import Sequence

from headstart.data.archive import Limits
from headstart.data.folder import is_picture
from headstart.data.rows import Row, Samples, Source
from headstart.data.tree import Tree
from headstart.errors import DataError

_NAME = re.compile(
    r"(?:.*/)?(?:[\w-]+-)?(train|t10k|test|val)-(images|labels)[-.]idx\d-ubyte(\.gz)?"
)
_SPLITS = {"train": "train", "val": "val", "t10k": "test", "test": "test"}
_UNSIGNED_BYTES = 0x08


def holds_idx(tree: Tree) -> bool:
    """Say whether a tree has IDX files with MNIST's names, and no pictures."""
    return any(_NAME.fullmatch(path) for path in tree.sizes) and not any(
        is_picture(path) for path in tree.sizes
    )


def open_idx(tree: Tree) -> Source:
    """Read IDX files named ``train-images-idx3-ubyte`` and so on, gzipped or not.

    Each picture is given out as PGM bytes (PPM for files with three channels), so that it is
    decoded like any other. Classes are the numbers that occur as labels.

    Args:
        tree: The files, in any folder.

    Returns:
        The source, with the splits that its files declare (``t10k`` is the test split).

    Raises:
        DataError: Files are missing, or their magic numbers, sizes or counts are wrong.
    """
    found: dict[tuple[str, str], str] = {}
    for path in tree.sizes:
        match = _NAME.fullmatch(path)
        if match is None:
            continue
        key = (_SPLITS[match[1]], match[2])
        other = found.get(key)
        # The gzipped and the unpacked form of one file often lie side by side.
        if other is not None and other.removesuffix(".gz") != path.removesuffix(".gz"):
            raise DataError(
                f"{tree.origin}: both {other} and {path} hold the {match[2]} of the split "
                f"'{key[0]}': keep one data set per folder"
            )
        if other is None or other.endswith(".gz"):
            found[key] = path
    splits = [split for split in ("train", "val", "test") if (split, "images") in found]
    if not splits:
        raise DataError(
            f"{tree.origin}: expected train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz) "
            f"and t10k-… files, found {', '.join(list(tree.sizes)[:6]) or 'no files'}"
        )
    pictures: list[bytes] = []
    labels: list[int] = []
    names: list[tuple[str, str]] = []
    for split in splits:
        if (split, "labels") not in found:
            raise DataError(
                f"{tree.origin}: {found[split, 'images']} has no file of labels beside it"
            )
        some, marks = _split(tree, found[split, "images"], found[split, "labels"])
        names.extend((f"{split}/{index:05d}", split) for index in range(len(marks)))
        pictures.extend(some)
        labels.extend(marks)
    values = sorted(set(labels))
    position = {value: index for index, value in enumerate(values)}
    return Samples(
        origin=tree.origin,
        classes=tuple(str(value) for value in values),
        rows=tuple(
            Row(name, position[label], split)
            for (name, split), label in zip(names, labels, strict=True)
        ),
        reader=lambda index: pictures[index],
        closer=tree.close,
    )


def as_pnm(pixels: bytes, width: int, height: int, channels: int = 1) -> bytes:
    """Return raw 8-bit pixels as a PGM file (one channel) or a PPM file (three)."""
    return b"P%d\n%d %d\n255\n" % (5 if channels == 1 else 6, width, height) + pixels


def _split(tree: Tree, images_path: str, labels_path: str) -> tuple[list[bytes], list[int]]:
    shape, pixels = _read(tree, images_path, dimensions=(3, 4))
    (count,), marks = _read(tree, labels_path, dimensions=(1,))
    if shape[0] != count:
        raise DataError(
            f"{tree.origin}: {images_path} holds {shape[0]:,} pictures, "
            f"{labels_path} holds {count:,} labels"
        )
    height, width, channels = shape[1], shape[2], shape[3] if len(shape) == 4 else 1
    if channels not in (1, 3) or height * width == 0:
        raise DataError(
            f"{tree.origin}: {images_path}: expected pictures of one or three channels, "
            f"got {height}x{width} with {channels} channels"
        )
    size = height * width * channels
    pictures = [
        as_pnm(pixels[start : start + size], width, height, channels)
        for start in range(0, len(pixels), size)
    ]
    return pictures, list(marks)


def _read(tree: Tree, path: str, dimensions: Sequence[int]) -> tuple[tuple[int, ...], bytes]:
    """Return the shape and the values of one IDX file."""
    raw = tree.read(path)
    where = f"{tree.origin}: {path}"
    stream: io.BufferedIOBase = io.BytesIO(raw)
    if raw.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=io.BytesIO(raw))
    try:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTES:
            raise DataError(
                f"{where}: expected an IDX file of unsigned bytes (it begins with 00 00 08), "
                f"found {magic.hex(' ') or 'an empty file'}"
            )
        if magic[3] not in dimensions:
            wanted = " or ".join(str(number) for number in dimensions)
            raise DataError(f"{where}: expected {wanted} dimensions, found {magic[3]}")
        header = stream.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            raise DataError(f"{where}: cut off inside its header")
        shape = tuple(
            int.from_bytes(header[start : start + 4], "big") for start in range(0, len(header), 4)
        )
        expected = 1
        for length in shape:
            expected *= length
        # Before anything of that size is unpacked.
        Limits().check(tree.origin, path, expected, len(raw))
        values = stream.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{where}: damaged or cut off: {error}") from error
    if len(values) != expected:
        more = "more" if len(values) > expected else f"{len(values):,}"
        raise DataError(
            f"{where}: its header announces {' x '.join(map(str, shape))} = {expected:,} bytes, "
            f"it holds {more}"
        )
    return shape, values

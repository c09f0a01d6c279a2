"""Data sets of torchvision by name, from files that are there or, when allowed, downloaded."""

import inspect
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from headstart._util.files import cache_root
from headstart.data.rows import Row, Samples, Source
from headstart.errors import DataError, nearest

_BY_FLAG: Mapping[str, Mapping[str, object]] = {"train": {"train": True}, "test": {"train": False}}
_TWO: Mapping[str, Mapping[str, object]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: Mapping[str, Mapping[str, object]] = {
    "train": {"split": "train"},
    "val": {"split": "val"},
    "test": {"split": "test"},
}
_WHOLE: Mapping[str, Mapping[str, object]] = {"all": {}}

# Which arguments of each data set's constructor give which split.
_SPLITS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "CIFAR10": _BY_FLAG,
    "CIFAR100": _BY_FLAG,
    "Caltech101": _WHOLE,
    "Caltech256": _WHOLE,
    "Country211": {
        "train": {"split": "train"},
        "val": {"split": "valid"},
        "test": {"split": "test"},
    },
    "DTD": _THREE,
    "EuroSAT": _WHOLE,
    "FGVCAircraft": _THREE,
    "FashionMNIST": _BY_FLAG,
    "Flowers102": _THREE,
    "Food101": _TWO,
    "GTSRB": _TWO,
    "Imagenette": {"train": {"split": "train"}, "val": {"split": "val"}},
    "KMNIST": _BY_FLAG,
    "MNIST": _BY_FLAG,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "PCAM": _THREE,
    "RenderedSST2": _THREE,
    "STL10": _TWO,
    "SUN397": _WHOLE,
    "SVHN": _TWO,
    "StanfordCars": _TWO,
    "USPS": _BY_FLAG,
}


def open_torchvision(name: str, *, root: Path | None = None, allow_network: bool = False) -> Source:
    """Open one of torchvision's labelled picture data sets.

    Args:
        name: Its class name in ``torchvision.datasets``, such as ``Caltech101``.
        root: The folder that torchvision calls ``root``; ``torchvision`` in Headstart's cache
            where None.
        allow_network: Whether torchvision may download what is missing.

    Returns:
        The source, with torchvision's own splits. Pictures that are files are given out as those
        files' bytes, others (MNIST, CIFAR) as lossless PGM, PPM or PNG.

    Raises:
        DataError: The name is not known, or files are missing.
    """
    if name not in _SPLITS:
        raise DataError(f"unknown torchvision data set {name!r}: {nearest(name, _SPLITS)}")
    import torchvision

    folder = cache_root() / "torchvision" if root is None else root
    factory = getattr(torchvision.datasets, name)
    takes_loader = "loader" in inspect.signature(factory).parameters
    takes_download = "download" in inspect.signature(factory).parameters
    parts: dict[str, Any] = {}
    for split, arguments in _SPLITS[name].items():
        options = dict(arguments)
        if takes_loader:
            options["loader"] = _read_file
        if takes_download and allow_network:
            options["download"] = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            parts[split] = factory(root=str(folder), **options)
        except (RuntimeError, OSError) as error:
            # Downloads fail with URLError, an OSError; missing files with RuntimeError.
            raise DataError(
                f"torchvision {name}: its files are not complete in {folder} ({error}). Put them "
                "there as torchvision lays them out, give their folder as data.path, or allow the "
                "download (--allow-network)"
            ) from error
    return _as_source(name, parts, takes_loader)


def _as_source(name: str, parts: Mapping[str, Any], takes_loader: bool) -> Source:
    places: list[tuple[str, int]] = []
    labels: list[int] = []
    for split, part in parts.items():
        marks = _labels(part)
        places.extend((split, index) for index in range(len(marks)))
        labels.extend(marks)
    known = _class_names(next(iter(parts.values())))
    values = sorted(set(labels))
    position = {value: index for index, value in enumerate(values)}
    classes = tuple(known[value] if 0 <= value < len(known) else str(value) for value in values)
    if len(set(classes)) < len(classes):
        classes = tuple(str(value) for value in values)

    def read(row: int) -> bytes:
        split, index = places[row]
        picture = parts[split][index][0]
        return picture if takes_loader and isinstance(picture, bytes) else _encode(picture)

    return Samples(
        origin=f"torchvision {name}",
        classes=classes,
        rows=tuple(
            Row(f"{split}/{index:05d}", position[label], None if split == "all" else split)
            for (split, index), label in zip(places, labels, strict=True)
        ),
        reader=read,
    )


def _read_file(path: str | Path) -> bytes:
    return Path(path).read_bytes()


def _labels(part: Any) -> list[int]:
    for attribute in ("targets", "labels", "y"):
        values = getattr(part, attribute, None)
        if values is not None and len(values) == len(part):
            return [int(value) for value in values]
    return [int(part[index][1]) for index in range(len(part))]


def _class_names(part: Any) -> Sequence[str]:
    for attribute in ("classes", "categories"):
        names = getattr(part, attribute, None)
        if names:
            return [name if isinstance(name, str) else ", ".join(name) for name in names]
    return ()


def _encode(picture: Image.Image) -> bytes:
    """Return a picture that torchvision opened as bytes: its file's own where it has one."""
    filename = getattr(picture, "filename", "")
    if filename:
        picture.close()
        return Path(filename).read_bytes()
    buffer = io.BytesIO()
    picture.save(buffer, "PPM" if picture.mode in ("L", "RGB") else "PNG")
    return buffer.getvalue()

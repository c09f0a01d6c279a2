"""Data sets of the Hugging Face library `datasets`: from the disk, or by name from the hub."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart._util.imports import optional
from headstart.data.archive import missing
from headstart.data.folder import SPLIT_NAMES
from headstart.data.rows import Pictures, Row, Source
from headstart.data.tree import natural_key
from headstart.errors import DataError, nearest

_ROLES = ("image", "label", "group", "config")


def open_huggingface(
    path_or_name: str, *, allow_network: bool, columns: Mapping[str, str] | None = None
) -> Source:
    """Open a data set of the library `datasets`.

    Args:
        path_or_name: A folder written by ``save_to_disk``, any other folder that ``load_dataset``
            can read, or a name on the hub such as ``cifar10`` or ``owner/name``.
        allow_network: Whether the hub may be asked; without it only folders are opened.
        columns: Where they cannot be told by their types: the names of the columns ``image``,
            ``label``, ``group``; and ``config``, the configuration to load.

    Returns:
        The source. Its splits are the data set's own where it has more than one of train,
        validation and test.

    Raises:
        DataError: Nothing is there, or no column of pictures or labels can be told.
    """
    datasets = optional("datasets", extra="datasets", purpose="data sets of Hugging Face")
    for role in columns or ():
        if role not in _ROLES:
            raise DataError(f"unknown column role {role!r}: {nearest(role, _ROLES)}")
    chosen = dict(columns or {})
    parts = _load(datasets, path_or_name, chosen.pop("config", None), allow_network)
    parts, notes = _known_splits(parts, path_or_name)
    names: list[str] = [split for split in ("train", "val", "test") if split in parts]
    features = parts[names[0]].features
    image = _column(features, chosen.get("image"), datasets.Image, "image", path_or_name)
    label = _column(features, chosen.get("label"), datasets.ClassLabel, "label", path_or_name)
    group = chosen.get("group")
    if group is not None and group not in features:
        raise DataError(f"{path_or_name}: no column {group!r}: {nearest(group, features)}")
    labels, groups, unlabelled = _labels(parts, names, label, group)
    if unlabelled:
        notes.append(f"{unlabelled:,} pictures without a label are not used")
    classes = _classes(datasets, features[label], labels)
    position = {name: index for index, name in enumerate(classes)}
    pictures = {
        split: parts[split].select_columns([image]).cast_column(image, datasets.Image(decode=False))
        for split in names
    }
    declared = len(names) > 1
    rows = tuple(
        Row(f"{split}/{index}", position[name], split if declared else None, groups[split, index])
        for (split, index), name in labels.items()
    )
    places = list(labels)

    def read(row: int) -> bytes:
        split, index = places[row]
        return _bytes(pictures[split][index][image], allow_network)

    if not rows:
        raise DataError(f"{path_or_name}: the data set holds no labelled pictures")
    return Pictures(f"huggingface {path_or_name}", classes, rows, read, notes=tuple(notes))


def _load(datasets: Any, path_or_name: str, config: str | None, allow_network: bool) -> Any:
    path = Path(path_or_name).expanduser()
    try:
        if path.exists():
            if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
                return datasets.load_from_disk(str(path))
            return datasets.load_dataset(str(path), config)
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path_or_name):
            raise missing(path)
        if not allow_network:
            raise DataError(
                f"{path_or_name}: there is no such folder; if it is a name on the Hugging Face "
                "hub, allow the network (--allow-network), or download it elsewhere, "
                "write it with save_to_disk and give that folder"
            )
        return datasets.load_dataset(path_or_name, config)
    except DataError:
        raise
    except Exception as error:
        # The library raises errors of a dozen kinds for what is missing, offline or malformed.
        raise DataError(f"{path_or_name}: cannot be loaded by datasets: {error}") from error


def _known_splits(loaded: Any, origin: str) -> tuple[dict[str, Any], list[str]]:
    """Return the parts by split name, and notes on the parts that are none."""
    if not isinstance(loaded, Mapping):
        return {"train": loaded}, []
    parts: dict[str, Any] = {}
    notes = []
    for name, part in loaded.items():
        split = SPLIT_NAMES.get(str(name).lower())
        if split is None and len(loaded) > 1:
            notes.append(f"the part '{name}' ({len(part):,} pictures) is not used")
            continue
        split = split or "train"
        if split in parts:
            raise DataError(f"{origin}: two of the parts {list(loaded)} mean the split '{split}'")
        parts[split] = part
    if not parts:
        raise DataError(f"{origin}: none of its parts is train, validation or test: {list(loaded)}")
    return parts, notes


def _column(
    features: Mapping[str, Any], chosen: str | None, kind: type, role: str, origin: str
) -> str:
    if chosen is not None:
        if chosen not in features:
            raise DataError(f"{origin}: no column {chosen!r}: {nearest(chosen, features)}")
        return chosen
    found = [name for name, feature in features.items() if isinstance(feature, kind)]
    if len(found) == 1:
        return found[0]
    # Several, or labels that are plain numbers or words: the usual name decides.
    if role in (found or features):
        return role
    listed = ", ".join(f"{name}: {feature}" for name, feature in features.items())
    raise DataError(
        f"{origin}: cannot tell which column is the {role}; "
        f"set data.{role}_column to one of: {listed}"
    )


def _labels(
    parts: Mapping[str, Any], names: list[str], label: str, group: str | None
) -> tuple[dict[tuple[str, int], str], dict[tuple[str, int], str | None], int]:
    """Return class name and group of each labelled picture, and how many have no label."""
    labels: dict[tuple[str, int], str] = {}
    groups: dict[tuple[str, int], str | None] = {}
    unlabelled = 0
    wanted = [label] if group is None else [label, group]
    for split in names:
        feature = parts[split].features[label]
        table = parts[split].select_columns(wanted).with_format(None)[:]
        for index, value in enumerate(table[label]):
            if value is None or (hasattr(feature, "int2str") and value < 0):
                unlabelled += 1
                continue
            name = feature.int2str(value) if hasattr(feature, "int2str") else str(value)
            labels[split, index] = name
            own = None if group is None else table[group][index]
            groups[split, index] = None if own is None else str(own)
    return labels, groups, unlabelled


def _classes(datasets: Any, feature: Any, labels: Mapping[tuple[str, int], str]) -> tuple[str, ...]:
    used = Counter(labels.values())
    if isinstance(feature, datasets.ClassLabel):
        return tuple(name for name in feature.names if used[name])
    return tuple(sorted(used, key=natural_key))


def _bytes(cell: Any, allow_network: bool) -> bytes:
    if cell is None:
        raise DataError("the cell is empty")
    if cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    path = cell.get("path")
    if not path:
        raise DataError("the cell holds neither bytes nor a path")
    if "://" in path:
        reason = "is read from the hub only while loading" if allow_network else "needs the network"
        raise DataError(f"{path} {reason}: load the data set with its pictures embedded")
    return Path(path).read_bytes()

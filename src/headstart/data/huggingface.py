"""Data sets of the Hugging Face library `datasets`: from the disk, or by name from the hub."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from headstart._util.imports import optional
from headstart.data.archive import missing
from headstart.data.folder import SPLIT_NAMES
from headstart.data.rows import Row, Samples, Source, counted
from headstart.data.text import pair_bytes, text_bytes
from headstart.data.text_names import Roles, part_of, roles_of, settle
from headstart.data.tree import natural_key
from headstart.errors import DataError, nearest

_ROLES = ("image", "text", "pair", "label", "group", "config")


def is_saved(path: Path) -> bool:
    """Say whether a folder was written by ``save_to_disk``."""
    return (path / "dataset_dict.json").exists() or (path / "state.json").exists()


def open_huggingface(
    path_or_name: str, *, allow_network: bool, columns: Mapping[str, str] | None = None
) -> Source:
    """Open a data set of pictures, texts or pairs of texts of the library `datasets`.

    It is one of texts where `columns` name a text, or where no column holds pictures.

    Args:
        path_or_name: A folder written by ``save_to_disk``, any other folder that ``load_dataset``
            can read, or a name on the hub such as ``cifar10`` or ``owner/name``.
        allow_network: Whether the hub may be asked; without it only folders are opened.
        columns: Where they cannot be told by their types or usual names: the names of the columns
            ``image``, ``text``, ``pair`` (a second text), ``label``, ``group``; and ``config``,
            the configuration to load.

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
    loaded = _load(datasets, path_or_name, chosen.pop("config", None), allow_network)
    roles = _text_roles(datasets, loaded, chosen, path_or_name)
    if roles is not None:
        return _open_texts(datasets, loaded, roles, path_or_name)
    parts, notes = _known_splits(loaded, path_or_name)
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
    return Samples(f"huggingface {path_or_name}", classes, rows, read, notes=tuple(notes))


def _text_roles(datasets: Any, loaded: Any, chosen: Mapping[str, str], origin: str) -> Roles | None:
    """Return the columns of texts, or None where the data set is one of pictures."""
    features = _parts(loaded)[0][1].features
    pictures = any(isinstance(feature, datasets.Image) for feature in features.values())
    if "image" in chosen or (pictures and "text" not in chosen):
        return None
    roles = roles_of(list(features), chosen, origin)
    if roles.text is None:
        return None
    classes = [n for n, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if "label" not in chosen and len(classes) == 1:
        return replace(roles, label=classes[0])
    if roles.label is None:
        raise DataError(
            f"{origin}: cannot tell which column is the label; set data.label_column to one of: "
            f"{', '.join(features)}"
        )
    return roles


def _parts(loaded: Any) -> list[tuple[str, Any]]:
    if isinstance(loaded, Mapping):
        return [(str(name), part) for name, part in loaded.items()]
    return [("train", loaded)]


def _open_texts(datasets: Any, loaded: Any, roles: Roles, origin: str) -> Source:
    found = dict(_parts(loaded))
    named = {name: part_of("train" if len(found) == 1 else name, whole=True) for name in found}
    known = {name: part for name, part in named.items() if part is not None}
    assert roles.text is not None
    assert roles.label is not None
    labels, groups, unlabelled = _labels(found, list(known), roles.label, roles.group)
    labelled = {name for name, _ in labels}
    splits, decided = settle(origin, known, {name: name in labelled for name in known})
    places = [(name, index) for name, index in labels if name in splits]
    used = {place: labels[place] for place in places}
    if not used:
        raise DataError(f"{origin}: the data set holds no labelled texts")
    feature = found[next(iter(splits))].features[roles.label]
    classes = _classes(datasets, feature, used)
    position = {name: index for index, name in enumerate(classes)}
    columns = [column for column in (roles.text, roles.pair) if column is not None]
    texts = {name: found[name].select_columns(columns).with_format(None)[:] for name in splits}
    noun: Literal["pair", "text"] = "text" if roles.pair is None else "pair"
    declared = len(found) > 1

    def read(row: int) -> bytes:
        name, index = places[row]
        cells = [texts[name][column][index] for column in columns]
        text, *second = ["" if cell is None else str(cell) for cell in cells]
        return pair_bytes(text, *second) if second else text_bytes(text)

    notes = [
        f"the part '{n}' ({len(found[n]):,} rows) is not used" for n in found if n not in known
    ]
    shown = sum(len(found[name]) for name in splits) - len(used)
    if unlabelled and shown:
        notes.append(f"{counted(shown, noun)} without a label left out")
    return Samples(
        origin=f"huggingface {origin}",
        classes=classes,
        rows=tuple(
            Row(
                f"{name}/{index}",
                position[used[name, index]],
                splits[name] if declared else None,
                groups[name, index],
            )
            for name, index in places
        ),
        reader=read,
        notes=(*notes, *decided),
        noun=noun,
    )


def _load(datasets: Any, path_or_name: str, config: str | None, allow_network: bool) -> Any:
    path = Path(path_or_name).expanduser()
    try:
        if path.exists():
            if is_saved(path):
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
    texts = ", or data.text_column where the samples are texts," if role == "image" else ""
    raise DataError(
        f"{origin}: cannot tell which column is the {role}; "
        f"set data.{role}_column{texts} to one of: {listed}"
    )


def _labels(
    parts: Mapping[str, Any], names: list[str], label: str, group: str | None
) -> tuple[dict[tuple[str, int], str], dict[tuple[str, int], str | None], int]:
    """Return class name and group of each labelled row, and how many have no label."""
    labels: dict[tuple[str, int], str] = {}
    groups: dict[tuple[str, int], str | None] = {}
    unlabelled = 0
    wanted = [label] if group is None else [label, group]
    for split in names:
        feature = parts[split].features[label]
        table = parts[split].select_columns(wanted).with_format(None)[:]
        for index, value in enumerate(table[label]):
            if value in (None, "-") or (hasattr(feature, "int2str") and value < 0):
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

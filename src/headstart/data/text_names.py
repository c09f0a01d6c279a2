"""What files, parts and columns of text data are usually called, and what that means."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from headstart.errors import DataError, nearest

ROLES = ("text", "pair", "label", "split", "group")
"""What a column may be for."""

_TEXTS = (
    "text",
    "sentence",
    "review",
    "content",
    "document",
    "body",
    "comment",
    "message",
    "tweet",
    "utterance",
    "description",
    "sms",
    "question",
    "title",
    "headline",
)
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("#1 string", "#2 string"),
)
_LABELS = (
    "gold_label",
    "label",
    "labels",
    "sentiment",
    "class",
    "category",
    "target",
    "polarity",
    "quality",
    "is_duplicate",
    "intent",
    "topic",
    "stars",
    "rating",
)

_KINDS: dict[str, Literal["train", "val", "dev", "test"]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "dev",
    "devel": "dev",
    "development": "dev",
    "test": "test",
    "testing": "test",
}
_PART = re.compile(
    rf"(?P<before>.*[._ -])?(?P<kind>{'|'.join(_KINDS)})(?:[._ -](?P<extra>.+))?", re.IGNORECASE
)
# The pieces of one table, as the Hugging Face hub stores it: train-00000-of-00002.parquet.
_PIECE = re.compile(r"-[0-9]{5}-of-[0-9]{5}(?=\.[a-z]+$|$)")
# What says nothing when it follows: "train_data" is train. MultiNLI's matched sets are the usual
# ones, of the genres that are trained on.
_FILLERS = frozenset({"data", "set", "dataset", "split", "labeled", "labelled", "matched"})


@dataclass(frozen=True, slots=True)
class Part:
    """What the name of a part of a data set says.

    Attributes:
        kind: What the part is for; ``dev`` is validation or test, whichever is lacking.
        extra: What is special about it, such as ``mismatched``, or None.
    """

    kind: Literal["train", "val", "dev", "test"]
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class Roles:
    """The columns of one table by what they are for; None where there is none.

    Attributes:
        text: The text, or the first text of a pair.
        pair: The second text of a pair.
        label: The class.
        split: What the row is for.
        group: What must stay together.
    """

    text: str | None
    pair: str | None
    label: str | None
    split: str | None
    group: str | None


def part_of(name: str, *, whole: bool = False) -> Part | None:
    """Read the name of a part.

    Args:
        name: A file's name without its ending, a folder's or a split's name, such as ``train`` or
            ``multinli_1.0_dev_mismatched``.
        whole: Whether nothing may come before the word, as in the cells of a column.

    Returns:
        What it says, or None where it says nothing.
    """
    match = _PART.fullmatch(_PIECE.sub("", name))
    if match is None or (whole and match["before"]):
        return None
    kind = _KINDS[match["kind"].lower()]
    extra = re.sub(r"[^a-z0-9]+", "-", (match["extra"] or "").lower()).strip("-")
    if not extra or extra in _FILLERS:
        return Part(kind)
    return None if kind == "train" else Part(kind, extra)


def settle(
    origin: str, parts: Mapping[str, Part], labelled: Mapping[str, bool]
) -> tuple[dict[str, str], list[str]]:
    """Decide which split each part of a data set is.

    A development set is ``val`` where there is a test set with labels too, else ``test``. So is a
    validation set beside a test set whose labels were not given away. Parts without labels are
    left out.

    Args:
        origin: The data set, for messages.
        parts: What each part's name says.
        labelled: Whether each part has labels.

    Returns:
        The split of each part that is used, and notes on what was decided.

    Raises:
        DataError: Two parts mean the same split.
    """
    notes = [f"'{name}' has no labels and is left out" for name in parts if not labelled[name]]
    used = {name: part for name, part in parts.items() if labelled[name]}
    tested = any(part == Part("test") for part in used.values())
    hidden = any(part.kind == "test" and not labelled[name] for name, part in parts.items())
    splits: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name, part in used.items():
        split: str | None = part.kind
        if part.kind in ("val", "dev"):
            is_test = not tested and (part.kind == "dev" or hidden)
            split = "test" if is_test else "val" if part.extra is None else None
            if is_test and part.extra is None:
                notes.append(f"'{name}' is the test split, since there is no test set with labels")
        if split is None:
            notes.append(f"'{name}' is not used: there is a test set of its own")
            continue
        split += f"-{part.extra}" if part.extra is not None else ""
        whole = _PIECE.sub("", name)
        if taken.setdefault(split, whole) != whole:
            raise DataError(
                f"{origin}: '{taken[split]}' and '{whole}' both mean the split '{split}'; keep one"
            )
        splits[name] = split
    return splits, notes


def roles_of(names: Sequence[str], columns: Mapping[str, str] | None, origin: str) -> Roles:
    """Find out which column of a table is for what.

    Args:
        names: The table's columns.
        columns: Columns by role where they were said; they win over the usual names.
        origin: The table, for messages.

    Returns:
        The roles. A label that was said and is not there is None: the table has no labels.

    Raises:
        DataError: A role is unknown, or a column that was said (but the label) is not there.
    """
    said = dict(columns or {})
    for role, name in said.items():
        if role not in ROLES:
            raise DataError(f"unknown column role {role!r}: {nearest(role, ROLES)}")
        if role != "label" and name not in names:
            raise DataError(f"{origin}: no column {name!r} for the {role}: {nearest(name, names)}")
    if "pair" in said and "text" not in said:
        raise DataError("data.pair_column: say data.text_column, the first text of the pair, too")
    usual = {name.strip().lower(): name for name in reversed(names)}
    text, pair = said.get("text"), said.get("pair")
    if text is None:
        text, pair = next(
            ((usual[a], usual[b]) for a, b in _PAIRS if a in usual and b in usual),
            (_first(usual, _TEXTS), None),
        )
    if "label" in said:
        label = said["label"] if said["label"] in names else None
    else:
        label = _first({k: v for k, v in usual.items() if v not in (text, pair)}, _LABELS)
    return Roles(
        text=text,
        pair=pair,
        label=label,
        split=said.get("split", usual.get("split")),
        group=said.get("group", usual.get("group")),
    )


def _first(usual: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    return next((usual[name] for name in wanted if name in usual), None)

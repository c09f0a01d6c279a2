"""Predictions as lines of a table, of JSON and of CSV."""

import csv
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # torch comes with it: not for --help
    from headstart.predict import BundleInfo
    from headstart.predict.stream import Outcome
    from headstart.types import JsonDict

Format = Literal["table", "json", "csv"]
Line = Callable[["Outcome"], str]

_NAME_CELLS = 40
_LABEL_CELLS = 24


def lines_of(format_: Format, info: "BundleInfo", top: int) -> tuple[str, Line]:
    """Return how predictions are written.

    Args:
        format_: ``table``: for people; ``json``: one object a line; ``csv``: one row each, with a
            column for errors.
        info: Of the model.
        top: How many classes are told at most.

    Returns:
        What comes first, and a function from an outcome to its line; both end with a newline,
        where they are not empty.
    """
    from headstart.predict.answers import answer, failed

    def record(outcome: "Outcome") -> "JsonDict":
        if outcome.row is None:
            return failed(outcome.name, str(outcome.error))
        return answer(info, outcome.name, outcome.row, top)

    if format_ == "json":
        return "", lambda outcome: _json(record(outcome))
    if format_ == "csv":
        columns = _columns(info, top)
        return _row(columns), lambda outcome: _csv(record(outcome), columns)
    if info.goal == "regression":
        return _joined("input", "value"), lambda outcome: _value(record(outcome))
    label = min(_LABEL_CELLS, max(map(_width, (*info.classes, "label"))))
    head = _joined("input", _fitted("label", label), " prob.", "next" if top > 1 else "")
    return head, lambda outcome: _classes(record(outcome), label)


def _json(record: "JsonDict") -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _columns(info: "BundleInfo", top: int) -> list[str]:
    """Name the columns: the same for every row, so that the file is one table."""
    if info.goal == "regression":
        return ["input", "value", "error"]
    places = range(2, min(top, len(info.classes)) + 1)
    others = [f"{what}_{place}" for place in places for what in ("label", "probability")]
    return ["input", "label", "probability", *others, "error"]


def _csv(record: "JsonDict", columns: list[str]) -> str:
    cells = dict(record)
    for place, one in enumerate(record.get("top", []), start=1):
        cells |= {f"{what}_{place}": value for what, value in one.items()}
    return _row([cells.get(name, "") for name in columns])


def _row(cells: list[str]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(cells)
    return file.getvalue()


def _value(record: "JsonDict") -> str:
    said = _said(record)
    return _joined(record["input"], f"{record['value']:.6g}" if said is None else said)


def _classes(record: "JsonDict", label: int) -> str:
    said = _said(record)
    if said is not None:
        return _joined(record["input"], said)
    others = ", ".join(f"{_plain(one['label'])} {_percent(one)}" for one in record["top"][1:])
    best = (_fitted(record["label"], label), f"{_percent(record):>6}")
    return _joined(record["input"], *best, others)


def _said(record: "JsonDict") -> str | None:
    return f"error: {_plain(record['error'])}" if "error" in record else None


def _percent(one: "JsonDict") -> str:
    return f"{100 * one['probability']:.1f}%"


def _joined(name: str, *cells: str) -> str:
    return "  ".join([_fitted(name, _NAME_CELLS), *cells]).rstrip() + "\n"


def _fitted(text: str, cells: int) -> str:
    """Pad or shorten a text to so many columns of a terminal, in its middle: paths end alike."""
    from rich.cells import cell_len, set_cell_size

    plain = _plain(text)
    if cell_len(plain) > cells:
        half = cells // 2
        plain = set_cell_size(plain, half - 1) + "…" + set_cell_size(plain[::-1], half)[::-1]
    return set_cell_size(plain, cells)


def _plain(text: str) -> str:
    """Return a text on one line that cannot steer a terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in text)


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(_plain(text))

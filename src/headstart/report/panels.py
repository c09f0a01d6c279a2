"""What charts of several panels share: titles, legends, and how lines tell splits apart."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report.style import PAPER, TRAIN, VAL

# How the lines of splits look.
LINES: Mapping[str, dict[str, Any]] = {
    "train": {"color": TRAIN, "linestyle": "-"},
    "val": {
        "color": VAL,
        "linestyle": (0, (4, 1.6)),
        "marker": "o",
        "markerfacecolor": PAPER,
        "markeredgewidth": 0.9,
    },
}


def wrapped(text: str, width: int, lines: int = 2) -> list[str]:
    """Break a title into lines; what does not fit ends in an ellipsis."""
    pieces = text.split(", ")
    if len(text) > width and all(len(piece) < width for piece in pieces):
        # Textwrap leaves hard spaces alone: lines then break after commas only.
        text = ", ".join(piece.replace(" ", "\u00a0") for piece in pieces)
    return textwrap.wrap(text, width, max_lines=lines, placeholder=" …") or [" "]


def title(axes: Any, lines: Sequence[str], lift: float = 0.0) -> None:
    """Set a title line by line: lines of one text would be placed by Matplotlib's own face."""
    for i, line in enumerate(reversed(lines)):
        axes.annotate(
            line,
            (0.5, 1.0),
            xycoords="axes fraction",
            xytext=(0, 4 + lift + 9.5 * i),
            textcoords="offset points",
            ha="center",
            va="bottom",
        )


def columns_of(panels: int, most: int) -> int:
    """Return how many panels stand in a row, so that rows are of equal length where possible."""
    return math.ceil(panels / math.ceil(panels / most))


def legend(
    figure: Any, entries: Sequence[tuple[str, dict[str, Any]]], columns: int | None = None
) -> None:
    """Set the names of lines above a chart, in so many columns, or all in one row."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **style) for _, style in entries]
    names = [name for name, _ in entries]
    figure.legend(handles, names, loc="outside upper center", ncols=columns or len(names))

"""Charts made of cells: heat maps of sweeps, and confusion matrices of few classes.

One hue is used, and the value is its opacity: it reads on white and on black paper, and in grey.
"""

from typing import Any

import numpy as np

from headstart.report import large_confusion
from headstart.report.plots import ConfusionPlot, HeatPlot
from headstart.report.style import INK, MUTED, NARROW_INCHES, ON_SHADE, SHADE, VAL, WIDE_INCHES
from headstart.report.text import count, percent, quantity

READABLE_CLASSES = 20  # with more, names and numbers in the cells are too small to read
_READABLE_CELLS = 72
_DARK = 0.55  # opacity from which text on the cell must be light
_NAME_LETTERS = 18


def heat(figure: Any, plot: HeatPlot, narrow: bool) -> None:
    """Draw a sweep over two settings.

    Args:
        figure: An empty Matplotlib figure.
        plot: The data.
        narrow: Whether it is for a phone.
    """
    rows, columns = len(plot.y_values), len(plot.x_values)
    width = min(NARROW_INCHES if narrow else WIDE_INCHES, 1.4 + 0.62 * columns)
    figure.set_size_inches(max(width, 2.6), 0.75 + 0.36 * rows)
    axes = figure.subplots()
    known = [v for line in plot.cells for v in line if v is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    written = rows * columns <= _READABLE_CELLS
    for i, line in enumerate(plot.cells):
        for j, value in enumerate(line):
            if value is None:
                axes.plot([j], [i], color=VAL, marker="x", markersize=6, linestyle="")
                continue
            share = 0.08 + 0.87 * (value - low) / (high - low) if high > low else 0.5
            _cell(axes, j, i, share)
            if written:
                text = percent(value, sign="") if plot.shares else quantity(value)
                _write(axes, j, i, text, share)
    if plot.best is not None:
        i, j = plot.best
        _frame(axes, j, i)
    axes.set_xticks(range(columns), plot.x_values)
    axes.set_yticks(range(rows), plot.y_values)
    axes.set_xlabel(plot.x_axis)
    axes.set_ylabel(plot.y_axis)
    _square_up(axes, columns, rows)


def confusion(figure: Any, plot: ConfusionPlot, narrow: bool) -> None:
    """Draw a confusion matrix: numbers in the cells where they can be read, else shades alone.

    Args:
        figure: An empty Matplotlib figure.
        plot: The data.
        narrow: Whether it is for a phone.
    """
    matrix = np.asarray(plot.matrix, dtype=float)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    if len(plot.classes) > READABLE_CLASSES:
        large_confusion.draw(figure, plot, shares, narrow)
        return
    n = len(plot.classes)
    names = [_short(name) for name in plot.classes]
    letters = max(len(name) for name in names)
    most = NARROW_INCHES if narrow else WIDE_INCHES
    margin = 0.35 + 0.065 * letters
    cell = min(0.7, (most - margin) / n)
    upright = 0.07 * letters > cell  # names across the foot would run into each other
    height = min(0.32, cell)
    foot = 0.35 + (0.065 * letters if upright else 0.15)
    figure.set_size_inches(min(most, margin + cell * n), foot + height * n)
    axes = figure.subplots()
    small = cell < 0.3
    for i, j in np.argwhere(matrix):
        # The root lifts what is rare: one picture in a hundred can be seen.
        opacity = 0.06 + 0.9 * float(np.sqrt(shares[i, j]))
        _cell(axes, j, i, opacity)
        _write(axes, j, i, count(int(matrix[i, j])), opacity, size=5.5 if small else 8.0)
    axes.set_yticks(range(n), names)
    turned = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"}
    axes.set_xticks(range(n), names, **(turned if upright else {}))
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    _square_up(axes, n, n)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"


def _cell(axes: Any, x: float, y: float, opacity: float) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=SHADE, alpha=opacity, linewidth=0))


def _write(axes: Any, x: float, y: float, text: str, opacity: float, *, size: float = 8.0) -> None:
    color = ON_SHADE if opacity > _DARK else INK
    axes.text(x, y, text, ha="center", va="center", color=color, fontsize=size)


def _frame(axes: Any, x: float, y: float) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle(
            (x - 0.5, y - 0.5),
            1,
            1,
            fill=False,
            edgecolor=INK,
            linewidth=1.6,
            clip_on=False,
            zorder=6,
        )
    )


def _square_up(axes: Any, columns: int, rows: int) -> None:
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(length=0)
    _box(axes)


def _box(axes: Any) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(MUTED)

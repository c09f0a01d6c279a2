"""Draws the reliability diagram: accuracy against confidence, with the number of answers below."""

import math
from typing import Any

from headstart.report.panels import title
from headstart.report.plots import ReliabilityPanel, ReliabilityPlot
from headstart.report.style import GRID, INK, MUTED, NARROW_INCHES, PAPER, TRAIN, WIDE_INCHES
from headstart.report.text import count

_SMALLEST, _LARGEST = 2.0, 6.5  # points, in diameter
_MOST_NUMBERED = 16  # bins whose counts fit above their bars


def reliability(figure: Any, plot: ReliabilityPlot, narrow: bool) -> None:
    """Draw the panels side by side, below each other on a phone.

    Args:
        figure: An empty Matplotlib figure with constrained layout.
        plot: The data.
        narrow: Whether it is for a phone.
    """
    columns = 1 if narrow else len(plot.panels)
    rows = len(plot.panels) if narrow else 1
    width = NARROW_INCHES if narrow or columns == 1 else WIDE_INCHES
    figure.set_size_inches(width, 2.75 * rows)
    grid = figure.subplots(
        2 * rows,
        columns,
        squeeze=False,
        sharex=True,
        sharey="row" if not narrow else False,
        height_ratios=[2.2, 1.0] * rows,
    )
    for i, panel in enumerate(plot.panels):
        row, column = (i, 0) if narrow else (0, i)
        upper, lower = grid[2 * row][column], grid[2 * row + 1][column]
        _accuracy(upper, panel)
        _counts(lower, panel)
        title(upper, [panel.title])
        if column == 0:
            upper.set_ylabel("accuracy, %")
            lower.set_ylabel("answers")
        lower.set_xlabel("confidence, %")
        lower.tick_params(labelbottom=True)


def _accuracy(axes: Any, panel: ReliabilityPanel) -> None:
    """Bars of accuracy, a point at each bin's mean confidence, and the line where both agree."""
    axes.plot([0, 100], [0, 100], color=MUTED, linestyle=(0, (4, 2)), linewidth=0.9, zorder=4)
    for b in panel.bins:
        left, width = 100 * b.low, 100 * (b.high - b.low)
        axes.bar(left, 100 * b.accuracy, width, align="edge", color=TRAIN, alpha=0.16)
    xs = [100 * b.confidence for b in panel.bins]
    ys = [100 * b.accuracy for b in panel.bins]
    axes.plot(xs, ys, color=TRAIN, linewidth=0.7, zorder=5)
    # Points are the larger the more answers they stand for: few answers say little.
    most = max(b.n for b in panel.bins)
    for b, x, y in zip(panel.bins, xs, ys, strict=True):
        size = _SMALLEST + (_LARGEST - _SMALLEST) * math.sqrt(b.n / most)
        style = {"markerfacecolor": PAPER, "markeredgewidth": 1.1, "markersize": size}
        axes.plot([x], [y], color=TRAIN, marker="o", zorder=6, **style)
    axes.grid(axis="y", color=GRID)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)


def _counts(axes: Any, panel: ReliabilityPanel) -> None:
    """Bars of how many answers each bin holds, the number above each."""
    for b in panel.bins:
        bar = {"align": "edge", "color": PAPER, "edgecolor": TRAIN, "linewidth": 0.8}
        axes.bar(100 * b.low, b.n, 100 * (b.high - b.low), **bar)
        if len(panel.bins) <= _MOST_NUMBERED:
            axes.annotate(
                count(b.n),
                (50 * (b.low + b.high), b.n),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                rotation=90,
                fontsize=6.0,
                color=INK,
            )
    # Room above the tallest bar for its number.
    axes.set_ylim(0, 1.6 * max(b.n for b in panel.bins))
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=3)

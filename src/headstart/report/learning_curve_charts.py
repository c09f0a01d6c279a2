"""The chart of learning curves: what was measured, the fitted law, and its extrapolation."""

from typing import Any

from headstart.report.panels import legend, wrapped
from headstart.report.plots import LearningCurve, LearningCurvesPlot
from headstart.report.style import INK, MUTED, NARROW_INCHES, PAPER, TRAIN, VAL
from headstart.report.text import setting

_STYLES = ((TRAIN, "o"), (VAL, "s"), (INK, "^"), (MUTED, "D"))
_DASHES = (0, (4, 2))
_LETTERS = 34
_APART = 1.35  # ratio of neighbouring numbers of labels below which their names would collide


def learning_curves(figure: Any, plot: LearningCurvesPlot, narrow: bool) -> None:
    """Draw accuracy against the number of labels, on a logarithmic axis.

    Args:
        figure: An empty Matplotlib figure.
        plot: The data.
        narrow: Whether it is for a phone.
    """
    figure.set_size_inches(NARROW_INCHES if narrow else 4.9, 2.8)
    axes = figure.subplots()
    entries = []
    for line, (colour, marker) in zip(plot.curves, _STYLES, strict=False):
        style = {"color": colour, "marker": marker, "linestyle": "-", "markersize": 4.5}
        _draw(axes, line, colour, marker)
        entries.append((wrapped(line.title, _LETTERS, 1)[0], style))
    axes.set_xscale("log")
    measured = sorted({n for line in plot.curves for n, _, _ in line.points})
    expected = sorted({n for line in plot.curves for n, _ in line.expected})
    ticks = _apart(measured + expected, _APART * (1.3 if narrow else 1.0))
    axes.set_xticks(ticks, [setting(n) for n in ticks])
    axes.minorticks_off()
    if expected:
        edge = max(n for line in plot.curves for n, _, _ in line.points)
        axes.axvline(edge, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
    axes.yaxis.get_major_locator().set_params(nbins=7)
    axes.grid(axis="y")
    axes.set_xlabel("training labels")
    axes.set_ylabel("accuracy, %")
    legend(figure, entries, 1 if narrow else 2)


def _draw(axes: Any, line: LearningCurve, colour: str, marker: str) -> None:
    if line.band:
        places = [n for n, _, _ in line.band]
        edges = ([100 * low for _, low, _ in line.band], [100 * high for _, _, high in line.band])
        axes.fill_between(places, *edges, color=colour, alpha=0.16, linewidth=0)
    for points, dash in ((line.fitted, "-"), (line.beyond, _DASHES)):
        xs, ys = [n for n, _ in points], [100 * v for _, v in points]
        axes.plot(xs, ys, color=colour, linestyle=dash, linewidth=1.1)
    for n, mean, sd in line.points:
        if sd:
            ends = [100 * (mean - sd), 100 * (mean + sd)]
            axes.plot([n, n], ends, color=colour, linewidth=1.0)
            axes.plot([n, n], ends, color=colour, linestyle="", marker="_", markersize=5)
        axes.plot([n], [100 * mean], color=colour, marker=marker, markersize=4.5, linestyle="")
    for n, score in line.expected:
        if score.interval is not None:
            ends = [100 * end for end in score.interval]
            axes.plot([n, n], ends, color=colour, linewidth=0.9)
        open_marker = {"markerfacecolor": PAPER, "markeredgecolor": colour, "markeredgewidth": 1.1}
        axes.plot([n], [100 * score.value], marker=marker, markersize=4.5, **open_marker)


def _apart(numbers: list[int], ratio: float) -> list[int]:
    """Return those numbers whose names do not run into each other; the largest stay."""
    kept: list[int] = []
    for n in sorted(set(numbers), reverse=True):
        if not kept or kept[-1] / n >= ratio:
            kept.append(n)
    return kept[::-1]

"""Charts of regressions: training losses over many steps, and predictions against the truth."""

import math
from typing import Any

from headstart.report.panels import legend, wrapped
from headstart.report.plots import EstimatePlot, TracePlot
from headstart.report.style import INK, MUTED, NARROW_INCHES, TRAIN, VAL, WIDE_INCHES
from headstart.report.text import setting

_LOG_SPAN = 10.0  # a loss that spans more than a decade gets a logarithmic axis
_FEW_DECADES = 2.5
_COLOURS = (TRAIN, VAL, INK, MUTED)
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)))
_LETTERS = 28
MOST_LINES = 2 * len(_COLOURS)  # lines that can be told apart


def losses(figure: Any, plot: TracePlot, narrow: bool) -> None:
    """Draw the training loss of each model over the optimiser's steps.

    Args:
        figure: An empty Matplotlib figure.
        plot: The data.
        narrow: Whether it is for a phone.
    """
    width = NARROW_INCHES if narrow else WIDE_INCHES
    columns = 1 if narrow else 3
    figure.set_size_inches(width, 2.4 + 0.17 * math.ceil(len(plot.series) / columns))
    axes = figure.subplots()
    entries = []
    for i, series in enumerate(plot.series):
        # Each colour comes with another dash the second time.
        dash = _DASHES[(i + i // len(_COLOURS)) % len(_DASHES)]
        style = {"color": _COLOURS[i % len(_COLOURS)], "linestyle": dash, "linewidth": 1.0}
        axes.plot([x for x, _ in series.points], [y for _, y in series.points], **style)
        entries.append((wrapped(series.title, _LETTERS, 1)[0], style))
    known = [y for series in plot.series for _, y in series.points]
    if min(known) > 0 and max(known) / min(known) > _LOG_SPAN:
        axes.set_yscale("log")
        # Within two decades the powers of ten alone would leave one number or two.
        few = math.log10(max(known) / min(known)) < _FEW_DECADES
        axes.yaxis.get_major_locator().set_params(subs=(1.0, 2.0, 5.0) if few else (1.0,))
        axes.yaxis.set_major_formatter(lambda value, _: setting(float(f"{value:.3g}")))
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=5 if narrow else 8)
    axes.grid(axis="y")
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel(plot.metric)
    legend(figure, entries, min(columns, len(entries)))


def estimates(figure: Any, plot: EstimatePlot, narrow: bool) -> None:
    """Draw predicted against true values, with the line on which both are equal.

    Args:
        figure: An empty Matplotlib figure.
        plot: The data.
        narrow: Whether it is for a phone.
    """
    figure.set_size_inches(NARROW_INCHES if narrow else 3.6, 3.0)
    axes = figure.subplots()
    ends = [v for point in plot.points for v in point]
    margin = 0.04 * (max(ends) - min(ends)) or 0.1
    low, high = min(ends) - margin, max(ends) + margin
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.plot(
        [x for x, _ in plot.points],
        [y for _, y in plot.points],
        color=TRAIN,
        marker="o",
        markersize=2.2,
        markeredgewidth=0,
        alpha=0.45,
        linestyle="",
    )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.grid()
    axes.set_xlabel("true value")
    axes.set_ylabel("predicted value")

"""The charts themselves: each function draws one kind of plot on an empty Matplotlib figure."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from headstart.report import (
    calibration_charts,
    curve_charts,
    learning_curve_charts,
    maps,
    scatter,
    traces,
)
from headstart.report.panels import LINES, columns_of, legend, title, wrapped
from headstart.report.plots import (
    ConfusionPlot,
    CostPlot,
    CurvesPlot,
    EstimatePlot,
    HeatPlot,
    LabelsPlot,
    LearningCurvesPlot,
    Plot,
    RankPlot,
    ReliabilityPlot,
    SweepPanel,
    SweepPlot,
    SweepPoint,
    TimePlot,
    TracePlot,
)
from headstart.report.style import GRID, INK, MUTED, NARROW_INCHES, PAPER, TRAIN, VAL, WIDE_INCHES
from headstart.report.text import Measured, duration, setting


def draw_on(figure: Any, plot: Plot, narrow: bool) -> None:
    """Draw a plot on an empty figure, and give the figure its size.

    Args:
        figure: A Matplotlib figure with constrained layout.
        plot: The data.
        narrow: Whether it is for a phone: fewer columns, less width.
    """
    match plot:
        case CurvesPlot():
            curve_charts.curves(figure, plot, narrow)
        case SweepPlot():
            _sweeps(figure, plot, narrow)
        case HeatPlot():
            maps.heat(figure, plot, narrow)
        case RankPlot():
            _ranking(figure, plot, narrow)
        case LabelsPlot():
            _labels(figure, plot, narrow)
        case LearningCurvesPlot():
            learning_curve_charts.learning_curves(figure, plot, narrow)
        case ConfusionPlot():
            maps.confusion(figure, plot, narrow)
        case TimePlot():
            _times(figure, plot, narrow)
        case CostPlot():
            scatter.costs(figure, plot, narrow)
        case TracePlot():
            traces.losses(figure, plot, narrow)
        case EstimatePlot():
            traces.estimates(figure, plot, narrow)
        case ReliabilityPlot():
            calibration_charts.reliability(figure, plot, narrow)


def _sweeps(figure: Any, plot: SweepPlot, narrow: bool) -> None:
    """Points with intervals over each sweep's setting; the axis of the score is shared."""
    columns = columns_of(len(plot.panels), 1 if narrow else 3)
    rows = math.ceil(len(plot.panels) / columns)
    width = NARROW_INCHES if narrow else WIDE_INCHES if columns > 1 else 4.2
    figure.set_size_inches(width, 0.1 + 2.0 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        axes = grid[row][column]
        if place >= len(plot.panels):
            axes.set_axis_off()
            continue
        _sweep(axes, plot.panels[place], plot.scale)
        axes.yaxis.get_major_locator().set_params(integer=plot.scale == 100, nbins=6)
        title(axes, wrapped(plot.panels[place].title, round(14 * width / columns)))
        if column == 0:
            axes.set_ylabel(plot.metric)


def _sweep(axes: Any, panel: SweepPanel, scale: float) -> None:
    values = [p.value for p in panel.points]
    places = _places(axes, values)
    scored = [(x, p, p.score) for x, p in zip(places, panel.points, strict=True) if p.score]
    axes.plot([x for x, _, _ in scored], [scale * s.value for _, _, s in scored], color=GRID)
    for x, point, score in scored:
        _interval(axes, x, score, INK if point.best else TRAIN, scale)
        _point(axes, x, scale * score.value, point)
    for x, point in zip(places, panel.points, strict=True):
        if point.score is None:
            cross = {"color": VAL, "marker": "x", "markersize": 5, "linestyle": ""}
            axes.plot([x], [0.04], transform=axes.get_xaxis_transform(), clip_on=False, **cross)
    axes.grid(axis="y")
    axes.set_xlabel(panel.axis)


def _places(axes: Any, values: Sequence[float]) -> list[float]:
    """Return where values stand: on a log axis, a plain one, or evenly where they would collide."""
    low, high = min(values), max(values)
    spread = sorted(set(values))
    gaps = [b - a for a, b in pairwise(spread)]
    places = list(values)
    if low > 0 and high / low >= 20:
        axes.set_xscale("log")
        axes.set_xlim(low / 2, high * 2)
    elif gaps and min(gaps) < 0.15 * (high - low):
        places = [float(spread.index(v)) for v in values]
        axes.set_xlim(-0.5, len(spread) - 0.5)
    elif gaps:
        margin = 0.12 * (high - low)
        axes.set_xlim(low - margin, high + margin)
    step = max(1, math.ceil(len(values) / 7))
    axes.set_xticks(places[::step], [setting(v) for v in values[::step]])
    axes.minorticks_off()
    return places


def _interval(axes: Any, x: float, score: Measured, color: str, scale: float = 100.0) -> None:
    if score.interval is None:
        return
    ends = [scale * end for end in score.interval]
    axes.plot([x, x], ends, color=color, linewidth=1.0)
    axes.plot([x, x], ends, color=color, linestyle="", marker="_", markersize=5)


def _point(axes: Any, x: float, y: float, point: SweepPoint) -> None:
    if point.best:
        axes.plot([x], [y], color=INK, marker="s", markersize=5.5, linestyle="", zorder=5)
    else:
        style = {"markerfacecolor": PAPER, "markeredgecolor": TRAIN, "markeredgewidth": 1.1}
        axes.plot([x], [y], marker="o", markersize=4.5, linestyle="", zorder=5, **style)


def _ranking(figure: Any, plot: RankPlot, narrow: bool) -> None:
    """Members from best to worst, one line each."""
    width = NARROW_INCHES if narrow else WIDE_INCHES
    figure.set_size_inches(width, 0.6 + 0.2 * max(1, len(plot.labels)))
    axes = figure.subplots()
    for i, score in enumerate(plot.scores):
        if score.interval is not None:
            ends = [plot.scale * end for end in score.interval]
            axes.plot(ends, [i, i], color=TRAIN, linewidth=1.0)
        _point(axes, plot.scale * score.value, i, SweepPoint(0.0, score, best=i == 0))
    axes.set_yticks(
        range(len(plot.labels)),
        [wrapped(text, 26 if narrow else 60, 1)[0] for text in plot.labels],
    )
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.set_xlabel(plot.metric)


def _labels(figure: Any, plot: LabelsPlot, narrow: bool) -> None:
    """Accuracy against labels per class, with bands."""
    figure.set_size_inches(NARROW_INCHES if narrow else 4.6, 2.5)
    axes = figure.subplots()
    styles: list[dict[str, Any]] = [
        {**LINES["val"], "markersize": 4.5},
        {"color": TRAIN, "linestyle": "-", "marker": "s", "markersize": 4.5},
        {"color": INK, "linestyle": (0, (1, 1.5)), "marker": "^", "markersize": 4.5},
        {"color": MUTED, "linestyle": (0, (6, 1.5, 1, 1.5)), "marker": "D", "markersize": 4},
    ]
    entries = []
    numbers = sorted({n for series in plot.series for n, _ in series.points})
    for i, series in enumerate(plot.series):
        style = styles[i % len(styles)] if len(plot.series) > 1 else styles[1]
        xs = [n for n, _ in series.points]
        axes.plot(xs, [100 * s.value for _, s in series.points], zorder=4, **style)
        banded = [(n, *s.interval) for n, s in series.points if s.interval is not None]
        if len(banded) == len(xs) and len(set(xs)) == len(xs):
            _, lows, highs = zip(*banded, strict=True)
            edges = ([100 * v for v in lows], [100 * v for v in highs])
            axes.fill_between(xs, *edges, color=style["color"], alpha=0.16, linewidth=0)
        else:
            for n, score in series.points:
                _interval(axes, n, score, str(style["color"]))
        entries.append((series.title, style))
    axes.set_xscale("log")
    axes.set_xticks(numbers, [setting(n) for n in numbers])
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.set_xlabel("labels per class")
    axes.set_ylabel(plot.metric)
    legend(figure, entries)


def _times(figure: Any, plot: TimePlot, narrow: bool) -> None:
    """Horizontal bars, the time written at the end of each."""
    width = NARROW_INCHES if narrow else WIDE_INCHES
    figure.set_size_inches(width, 0.75 + 0.46 * len(plot.bars))
    axes = figure.subplots()
    longest = max(b.extraction_seconds + b.other_seconds for b in plot.bars)
    unit, size = ("seconds", 1.0) if longest < 600 else ("minutes", 60.0)
    if longest >= 36000:
        unit, size = "hours", 3600.0
    for i, bar in enumerate(plot.bars):
        first, rest = bar.extraction_seconds / size, bar.other_seconds / size
        axes.barh(i, first, 0.5, color=PAPER, edgecolor=TRAIN, hatch="/////", linewidth=0.8)
        axes.barh(i, rest, 0.5, left=first, color=TRAIN, edgecolor=TRAIN, linewidth=0.8)
        total = bar.extraction_seconds + bar.other_seconds
        axes.annotate(
            duration(total),
            (first + rest, i),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
        name = wrapped(bar.title, 48 if narrow else 90, 1)[0]
        offset = {"xytext": (0, 1), "textcoords": "offset points"}
        axes.annotate(name, (0, i - 0.31), va="bottom", **offset)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(plot.bars) - 0.6, -0.75)
    axes.set_xlim(0, 1.12 * longest / size)
    axes.grid(axis="x")
    axes.set_xlabel(unit)
    if any(b.extraction_seconds for b in plot.bars):
        _bar_legend(figure)


def _bar_legend(figure: Any) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=PAPER, edgecolor=TRAIN, hatch="/////"),
        Patch(facecolor=TRAIN, edgecolor=TRAIN),
    ]
    names = ["extracting features, once", "training"]
    figure.legend(handles, names, loc="outside upper center", ncols=2)

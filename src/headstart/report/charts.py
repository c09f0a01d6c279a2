"""The charts themselves: each function draws one kind of plot on an empty Matplotlib figure."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from headstart.report import maps, scatter
from headstart.report.plots import (
    ConfusionPlot,
    CostPlot,
    Curve,
    CurvePanel,
    CurvesPlot,
    HeatPlot,
    LabelsPlot,
    Plot,
    RankPlot,
    SweepPanel,
    SweepPlot,
    SweepPoint,
    TimePlot,
)
from headstart.report.style import GRID, INK, MUTED, NARROW_INCHES, PAPER, TRAIN, VAL, WIDE_INCHES
from headstart.report.text import Measured, duration, setting

_LOG_SPAN = 40.0  # a loss that spans more than this factor gets a logarithmic axis

_LINES: Mapping[str, dict[str, Any]] = {
    "train": {"color": TRAIN, "linestyle": "-"},
    "val": {
        "color": VAL,
        "linestyle": (0, (4, 1.6)),
        "marker": "o",
        "markerfacecolor": PAPER,
        "markeredgewidth": 0.9,
    },
}


def draw_on(figure: Any, plot: Plot, narrow: bool) -> None:
    """Draw a plot on an empty figure, and give the figure its size.

    Args:
        figure: A Matplotlib figure with constrained layout.
        plot: The data.
        narrow: Whether it is for a phone: fewer columns, less width.
    """
    match plot:
        case CurvesPlot():
            _curves(figure, plot, narrow)
        case SweepPlot():
            _sweeps(figure, plot, narrow)
        case HeatPlot():
            maps.heat(figure, plot, narrow)
        case RankPlot():
            _ranking(figure, plot, narrow)
        case LabelsPlot():
            _labels(figure, plot, narrow)
        case ConfusionPlot():
            maps.confusion(figure, plot, narrow)
        case TimePlot():
            _times(figure, plot, narrow)
        case CostPlot():
            scatter.costs(figure, plot, narrow)


def _wrapped(text: str, width: int, lines: int = 2) -> list[str]:
    """Break a title into lines; what does not fit ends in an ellipsis."""
    pieces = text.split(", ")
    if len(text) > width and all(len(piece) < width for piece in pieces):
        # Textwrap leaves hard spaces alone: lines then break after commas only.
        text = ", ".join(piece.replace(" ", "\u00a0") for piece in pieces)
    return textwrap.wrap(text, width, max_lines=lines, placeholder=" …") or [" "]


def _title(axes: Any, lines: Sequence[str], lift: float = 0.0) -> None:
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


def _columns(panels: int, most: int) -> int:
    """Return how many panels stand in a row, so that rows are of equal length where possible."""
    return math.ceil(panels / math.ceil(panels / most))


def _curves(figure: Any, plot: CurvesPlot, narrow: bool) -> None:
    """Loss above accuracy, one column per model; a single model's two stand side by side."""
    panels = plot.panels
    width = NARROW_INCHES if narrow else WIDE_INCHES
    single = len(panels) == 1 and not narrow
    columns = 1 if len(panels) == 1 else _columns(len(panels), 2 if narrow else 4)
    bands = math.ceil(len(panels) / columns)
    figure.set_size_inches(width, 2.1 if single else 0.35 + 2.75 * bands)
    grid = figure.subplots(1, 2) if single else figure.subplots(2 * bands, columns, squeeze=False)
    limits = _loss_limits(panels)
    lowest = min((v for p in panels for _, c in p.accuracy for v in _known(c)), default=0.0)
    floor = max(0.0, math.floor(10 * lowest - 0.001) * 10.0)
    last = max((e for p in panels for _, c in p.loss for e in c.epochs), default=1)
    lift = 9.5 if any(p.stages for p in panels) else 0.0
    for i, panel in enumerate(panels):
        band, column = divmod(i, columns)
        above, below = grid if single else (grid[2 * band][column], grid[2 * band + 1][column])
        _lines(above, panel.loss, panel, 1.0)
        _lines(below, panel.accuracy, panel, 100.0)
        if limits is not None:
            above.set_ylim(*limits)
            if limits[0] > 0 and limits[1] / limits[0] > _LOG_SPAN:
                above.set_yscale("log")
                above.yaxis.set_major_formatter(lambda value, _: setting(float(value)))
                above.minorticks_off()
        below.set_ylim(floor, 101)
        name = f"{panel.title} (diverged)" if panel.diverged else panel.title
        title = _wrapped(name, 60 if single else round(14 * width / columns))
        if len(panels) > 1:
            _title(above, title, lift)
        for axes in (above, below) if single else (above,):
            _stage_names(axes, panel, last, width / (2 if single else columns) - 0.45)
        for axes in (above, below):
            axes.set_xlim(0.5 if last > 1 else 0, last + 0.5)
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)
            axes.grid(axis="y")
            axes.tick_params(labelleft=column == 0)
        if column == 0:
            above.set_ylabel("loss")
            below.set_ylabel("accuracy, %")
        above.tick_params(labelbottom=single)
        if single:
            above.set_xlabel("epoch")
        if single or i + columns >= len(panels):
            below.set_xlabel("epoch")
    if not single:
        for place in range(len(panels), bands * columns):
            band, column = divmod(place, columns)
            grid[2 * band][column].set_axis_off()
            grid[2 * band + 1][column].set_axis_off()
    _legend(figure, [("training", _LINES["train"]), ("validation", _LINES["val"])])


def _known(curve: Curve) -> list[float]:
    return [v for v in curve.values if v is not None]


def _loss_limits(panels: Sequence[CurvePanel]) -> tuple[float, float] | None:
    """Return one loss axis for all panels; those that diverged do not stretch it."""
    calm = [p for p in panels if not p.diverged] or list(panels)
    values = [v for p in calm for _, curve in p.loss for v in _known(curve)]
    if not values:
        return None
    low, high = max(min(values), 1e-6), max(values)
    if high / low > _LOG_SPAN:
        return low / 1.3, high * 1.3
    margin = 0.06 * (high - low) or 0.1 * high or 0.1
    return max(low - margin, 0.0), high + margin


def _lines(axes: Any, curves: Sequence[tuple[str, Curve]], panel: CurvePanel, scale: float) -> None:
    for split, curve in curves:
        values = [math.nan if v is None else scale * v for v in curve.values]
        every = max(1, len(values) // 7)
        axes.plot(curve.epochs, values, markevery=every, **_LINES.get(split, {"color": MUTED}))
    for boundary in panel.boundaries:
        axes.axvline(boundary + 0.5, color=MUTED, linewidth=0.6)
    for epoch in panel.kept_epochs:
        axes.axvline(epoch, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))


def _stage_names(axes: Any, panel: CurvePanel, last: int, inches: float) -> None:
    """Set each stage's name above the epochs that it took, as much of it as there is room for."""
    starts = [0, *panel.boundaries]
    ends = [*panel.boundaries, last]
    for name, start, end in zip(panel.stages, starts, ends, strict=False):
        letters = int(inches * (end - start) / last / 0.05)
        short = name if len(name) <= letters else name[: max(0, letters - 1)].rstrip() + "…"
        if letters < 2:
            continue
        axes.annotate(
            short,
            (start + 0.5, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(1.5, 3),
            textcoords="offset points",
            color=MUTED,
            fontsize=7,
            ha="left",
            va="bottom",
        )


def _legend(figure: Any, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **style) for _, style in entries]
    names = [name for name, _ in entries]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))


def _sweeps(figure: Any, plot: SweepPlot, narrow: bool) -> None:
    """Points with intervals over each sweep's setting; the accuracy axis is shared."""
    columns = _columns(len(plot.panels), 1 if narrow else 3)
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
        _sweep(axes, plot.panels[place])
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=6)
        _title(axes, _wrapped(plot.panels[place].title, round(14 * width / columns)))
        if column == 0:
            axes.set_ylabel(plot.metric)


def _sweep(axes: Any, panel: SweepPanel) -> None:
    values = [p.value for p in panel.points]
    places = _places(axes, values)
    scored = [(x, p, p.score) for x, p in zip(places, panel.points, strict=True) if p.score]
    axes.plot([x for x, _, _ in scored], [100 * s.value for _, _, s in scored], color=GRID)
    for x, point, score in scored:
        _interval(axes, x, score, INK if point.best else TRAIN)
        _point(axes, x, 100 * score.value, point)
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


def _interval(axes: Any, x: float, score: Measured, color: str) -> None:
    if score.interval is None:
        return
    low, high = score.interval
    axes.plot([x, x], [100 * low, 100 * high], color=color, linewidth=1.0)
    axes.plot([x, x], [100 * low, 100 * high], color=color, linestyle="", marker="_", markersize=5)


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
            low, high = score.interval
            axes.plot([100 * low, 100 * high], [i, i], color=TRAIN, linewidth=1.0)
        _point(axes, 100 * score.value, i, SweepPoint(0.0, score, best=i == 0))
    axes.set_yticks(
        range(len(plot.labels)),
        [_wrapped(text, 26 if narrow else 60, 1)[0] for text in plot.labels],
    )
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.set_xlabel(plot.metric)


def _labels(figure: Any, plot: LabelsPlot, narrow: bool) -> None:
    """Accuracy against labels per class, with bands."""
    figure.set_size_inches(NARROW_INCHES if narrow else 4.6, 2.5)
    axes = figure.subplots()
    styles: list[dict[str, Any]] = [
        {**_LINES["val"], "markersize": 4.5},
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
    _legend(figure, entries)


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
        name = _wrapped(bar.title, 48 if narrow else 90, 1)[0]
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

"""Learning curves: loss above accuracy, one column per model."""

import math
from collections.abc import Sequence
from typing import Any

from headstart.report.panels import LINES, columns_of, legend, title, wrapped
from headstart.report.plots import Curve, CurvePanel, CurvesPlot
from headstart.report.style import MUTED, NARROW_INCHES, WIDE_INCHES
from headstart.report.text import setting

# A loss that spans more than this factor gets a logarithmic axis: beside an accuracy, and alone.
_LOG_SPAN = 40.0
_LOG_SPAN_ALONE = 10.0


def curves(figure: Any, plot: CurvesPlot, narrow: bool) -> None:
    """Draw loss above accuracy, one column per model; a single model's two stand side by side.

    Args:
        figure: An empty Matplotlib figure.
        plot: The data; where no model has an accuracy, the loss is drawn alone.
        narrow: Whether it is for a phone.
    """
    panels = plot.panels
    both = any(p.accuracy for p in panels)
    width = NARROW_INCHES if narrow else WIDE_INCHES if both or len(panels) > 1 else 4.6
    single = len(panels) == 1 and not narrow
    columns = 1 if len(panels) == 1 else columns_of(len(panels), 2 if narrow else 4)
    bands = math.ceil(len(panels) / columns)
    rows = 2 if both else 1
    height = 2.1 if single else 0.35 + (2.75 if both else 1.75) * bands
    figure.set_size_inches(width, height)
    if single:
        grid = figure.subplots(1, rows, squeeze=False).T
    else:
        grid = figure.subplots(rows * bands, columns, squeeze=False)
    span = _LOG_SPAN if both else _LOG_SPAN_ALONE
    limits = _loss_limits(panels, span)
    last = max((e for p in panels for _, c in p.loss for e in c.epochs), default=1)
    lift = 9.5 if any(p.stages for p in panels) else 0.0
    inches = width / (rows if single else columns) - 0.45
    for i, panel in enumerate(panels):
        band, column = divmod(i, columns)
        cells = [grid[rows * band + k][column] for k in range(rows)]
        _loss(cells[0], panel, limits, span)
        if both:
            _accuracy(cells[1], panel, panels)
        if len(panels) > 1:
            name = f"{panel.title} (diverged)" if panel.diverged else panel.title
            title(cells[0], wrapped(name, round(14 * width / columns)), lift)
        for axes in cells if single else cells[:1]:
            _stage_names(axes, panel, last, inches)
        for axes, label in zip(cells, (plot.loss, "accuracy, %"), strict=False):
            axes.set_xlim(0.5 if last > 1 else 0, last + 0.5)
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)
            axes.grid(axis="y")
            axes.tick_params(labelleft=column == 0)
            if column == 0:
                axes.set_ylabel(label)
        foot = single or i + columns >= len(panels)
        for k, axes in enumerate(cells):
            axes.tick_params(labelbottom=single or k == rows - 1)
            if single or (foot and k == rows - 1):
                axes.set_xlabel("epoch")
    for place in range(len(panels), bands * columns):
        band, column = divmod(place, columns)
        for k in range(rows):
            grid[rows * band + k][column].set_axis_off()
    legend(figure, [("training", LINES["train"]), ("validation", LINES["val"])])


def _loss(axes: Any, panel: CurvePanel, limits: tuple[float, float] | None, span: float) -> None:
    _lines(axes, panel.loss, panel, 1.0)
    if limits is None:
        return
    axes.set_ylim(*limits)
    if limits[0] > 0 and limits[1] / limits[0] > span:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: setting(float(value)))
        axes.minorticks_off()


def _accuracy(axes: Any, panel: CurvePanel, panels: Sequence[CurvePanel]) -> None:
    _lines(axes, panel.accuracy, panel, 100.0)
    lowest = min((v for p in panels for _, c in p.accuracy for v in _known(c)), default=0.0)
    axes.set_ylim(max(0.0, math.floor(10 * lowest - 0.001) * 10.0), 101)


def _known(curve: Curve) -> list[float]:
    return [v for v in curve.values if v is not None]


def _loss_limits(panels: Sequence[CurvePanel], span: float) -> tuple[float, float] | None:
    """Return one loss axis for all panels; those that diverged do not stretch it."""
    calm = [p for p in panels if not p.diverged] or list(panels)
    values = [v for p in calm for _, curve in p.loss for v in _known(curve)]
    if not values:
        return None
    low, high = max(min(values), 1e-6), max(values)
    if high / low > span:
        return low / 1.3, high * 1.3
    margin = 0.06 * (high - low) or 0.1 * high or 0.1
    return max(low - margin, 0.0), high + margin


def _lines(axes: Any, curves: Sequence[tuple[str, Curve]], panel: CurvePanel, scale: float) -> None:
    for split, curve in curves:
        values = [math.nan if v is None else scale * v for v in curve.values]
        every = max(1, len(values) // 7)
        axes.plot(curve.epochs, values, markevery=every, **LINES.get(split, {"color": MUTED}))
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

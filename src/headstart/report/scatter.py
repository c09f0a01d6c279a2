"""The chart of accuracy against cost: points with intervals, each with its name beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from headstart.report.plots import CostPlot, CostPoint
from headstart.report.style import INK, MUTED, NARROW_INCHES, PAPER, TRAIN, WIDE_INCHES
from headstart.report.text import setting

_LETTER_INCHES = 0.056  # at 7.5 points, on average
_LINE_INCHES = 0.13
_GAP_INCHES = 0.07
_THIN = 0.01  # half the width of a line
_FAR = 0.02  # how much may be hidden, in square inches, to save an inch of distance
_TICKS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle in inches."""

    left: float
    low: float
    right: float
    high: float

    def overlap(self, other: "_Box") -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.high, other.high) - max(self.low, other.low)
        return max(0.0, width) * max(0.0, height)


def costs(figure: Any, plot: CostPlot, narrow: bool) -> None:
    """Draw accuracy against cost.

    Args:
        figure: An empty Matplotlib figure.
        plot: The data; costs are greater than 0.
        narrow: Whether it is for a phone.
    """
    width, height = (NARROW_INCHES, 4.2) if narrow else (WIDE_INCHES, 3.0)
    figure.set_size_inches(width, height)
    axes = figure.subplots()
    points = plot.points
    low, high = min(p.cost for p in points), max(p.cost for p in points)
    margin = max((high / low) ** 0.12, 1.25)
    limits = (low / margin, high * margin)
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    ticks = _ticks(*limits)
    axes.set_xticks(ticks, [setting(t) for t in ticks])
    axes.minorticks_off()
    floor, ceiling = _span(points)
    axes.set_ylim(floor, ceiling)
    best = sorted((p for p in points if p.front), key=lambda p: p.cost)
    xs, ys = [p.cost for p in best], [100 * p.score.value for p in best]
    axes.plot(
        xs, ys, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), drawstyle="steps-post", zorder=1
    )
    for point in points:
        _mark(axes, point)
    room = (width - 0.75, height - 0.6)
    names = [_short(p.title, narrow) for p in points]
    places = [_place(p.cost, p.score.value, limits, (floor, ceiling), room) for p in points]
    lines = _lines(points, limits, (floor, ceiling), room)
    for point, name, (side, x, y) in zip(
        points, names, _beside(names, places, lines, room), strict=True
    ):
        axes.annotate(
            name,
            (point.cost, 100 * point.score.value),
            xytext=(72 * x, 72 * y),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=7.5,
        )
    axes.grid(axis="y")
    axes.set_xlabel(plot.axis)
    axes.set_ylabel(plot.metric)


def _span(points: Sequence[CostPoint]) -> tuple[float, float]:
    """Return the ends of the axis of accuracy: all intervals, and some room."""
    ends = [100 * v for p in points for v in (p.score.interval or (p.score.value,))]
    margin = max(1.0, 0.08 * (max(ends) - min(ends)))
    return max(-1.0, min(ends) - margin), min(101.0, max(ends) + margin)


def _mark(axes: Any, point: CostPoint) -> None:
    color = INK if point.front else TRAIN
    if point.score.interval is not None:
        low, high = point.score.interval
        axes.plot([point.cost] * 2, [100 * low, 100 * high], color=color, linewidth=0.9, zorder=2)
    axes.plot(
        [point.cost],
        [100 * point.score.value],
        linestyle="",
        marker="D" if point.ensemble else "o",
        markersize=5.0,
        markeredgewidth=1.1,
        markeredgecolor=color,
        markerfacecolor=color if point.front else PAPER,
        zorder=5,
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return round values on a logarithmic axis, three at least where the axis is long enough."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in _TICKS:
        found = [float(f"{s * 10.0**d:.2g}") for d in decades for s in steps]
        found = [t for t in found if low <= t <= high]
        if len(found) >= 3:
            return found
    return found or [float(f"{math.sqrt(low * high):.2g}")]


def _short(title: str, narrow: bool) -> str:
    most = 22 if narrow else 34
    return title if len(title) <= most else title[: most - 1].rstrip() + "…"


def _place(cost: float, share: float, limits: Pair, span: Pair, room: Pair) -> Pair:
    """Return where a point stands, in inches from the corner of the axes."""
    across = math.log(cost / limits[0]) / math.log(limits[1] / limits[0])
    return room[0] * across, room[1] * (100 * share - span[0]) / (span[1] - span[0])


def _lines(points: Sequence[CostPoint], limits: Pair, span: Pair, room: Pair) -> list[_Box]:
    """Return the boxes of the intervals, and of the steps between the points on the front."""
    found = []
    for point in points:
        if point.score.interval is not None:
            (x, low), (_, high) = (
                _place(point.cost, share, limits, span, room) for share in point.score.interval
            )
            found.append(_Box(x - _THIN, low, x + _THIN, high))
    best = sorted((p for p in points if p.front), key=lambda p: p.cost)
    for a, b in pairwise(best):
        (left, low), (right, high) = (
            _place(p.cost, p.score.value, limits, span, room) for p in (a, b)
        )
        found += [
            _Box(left, low - _THIN, right, low + _THIN),
            _Box(right - _THIN, low, right + _THIN, high),
        ]
    return found


def _beside(
    names: Sequence[str], places: Sequence[Pair], lines: Sequence[_Box], room: Pair
) -> list[tuple[str, float, float]]:
    """Return where each name stands: the side that it is set from, and its offset in inches.

    From the top down, each name takes the place around its point that hides least of the points,
    the lines and the names set before it, and lies near.
    """
    marks = [_Box(x - 0.05, y - 0.05, x + 0.05, y + 0.05) for x, y in places]
    taken: list[_Box] = []
    found: dict[int, tuple[str, float, float]] = {}
    for i in sorted(range(len(names)), key=lambda i: -places[i][1]):
        x, y = places[i]
        length = _LETTER_INCHES * len(names[i])
        options: list[tuple[float, int, _Box, tuple[str, float, float]]] = []
        for k, (side, dx, dy) in enumerate(_offsets()):
            left = x + dx - {"left": 0.0, "right": length, "center": length / 2}[side]
            middle = y + dy
            box = _Box(left, middle - _LINE_INCHES / 2, left + length, middle + _LINE_INCHES / 2)
            hidden = sum(box.overlap(other) for other in (*marks, *lines, *taken))
            inside = box.overlap(_Box(0.0, 0.0, *room))
            hidden += 2.0 * (length * _LINE_INCHES - inside) + _FAR * abs(dy)
            options.append((round(hidden, 4), k, box, (side, dx, dy)))
        _, _, box, place = min(options, key=lambda o: o[:2])
        taken.append(box)
        found[i] = place
    return [found[i] for i in range(len(names))]


def _offsets() -> tuple[tuple[str, float, float], ...]:
    near, line = _GAP_INCHES, _LINE_INCHES
    beside = [(side, sign * near, k * line) for k in (0, 1, -1, 2, -2) for side, sign in _SIDES]
    return (*beside, ("center", 0.0, line), ("center", 0.0, -line))


_SIDES = (("left", 1.0), ("right", -1.0))

"""Builds the chart of accuracy against cost, and finds the front of best trades."""

from collections.abc import Sequence

from headstart.report import kinds, lookup, nouns
from headstart.report.plots import CostPlot, CostPoint
from headstart.report.records import Figure
from headstart.report.text import Measured
from headstart.types import JsonDict

_LEAST_MODELS = 3
_LEAST_SPREAD = 1.25  # below, models cost the same, and the front would be of noise


def trade(results: JsonDict) -> Figure | None:
    """Return test accuracy against prediction time, or against size where no time was taken.

    Args:
        results: The content of results.json.

    Returns:
        The figure, or None where fewer than three models have both an accuracy and a cost, or all
        cost the same.
    """
    scored = [
        (m, score)
        for m in lookup.models(results)
        if lookup.complete(m) and (score := lookup.metric(m, "test", "accuracy")) is not None
    ]
    timed = [(m, s, t) for m, s in scored if (t := kinds.prediction_ms(results, m))]
    if _spread([t for _, _, t in timed]):
        noun = nouns.one(results)
        return _figure(timed, f"prediction time, ms per {noun}", f"prediction time per {noun}")
    sized = [(m, s, size / 2**20) for m, s in scored if (size := m.get("size_bytes"))]
    if _spread([size for _, _, size in sized]) and (timed or kinds.staged(results)):
        return _figure(sized, "size of the weights, MiB", "size of the weights")
    return None


def _spread(costs: Sequence[float]) -> bool:
    """Return whether there are enough costs, and far enough apart, to be worth a chart."""
    return len(costs) >= _LEAST_MODELS and max(costs) / min(costs) >= _LEAST_SPREAD


def front(costs: Sequence[float], gains: Sequence[float]) -> tuple[bool, ...]:
    """Return which entries no other beats: at least as good in both, and better in one.

    Args:
        costs: What each entry costs, less is better.
        gains: What each entry gains, more is better.

    Returns:
        One truth value per entry.
    """
    return tuple(
        not any(
            c <= cost and g >= gain and (c < cost or g > gain)
            for c, g in zip(costs, gains, strict=True)
        )
        for cost, gain in zip(costs, gains, strict=True)
    )


def _figure(entries: Sequence[tuple[JsonDict, Measured, float]], axis: str, against: str) -> Figure:
    best = front([cost for _, _, cost in entries], [score.value for _, score, _ in entries])
    points = tuple(
        CostPoint(str(m.get("title") or m["name"]), cost, score, on_front, kinds.is_ensemble(m))
        for (m, score, cost), on_front in zip(entries, best, strict=True)
    )
    votes = " A diamond is an ensemble." if any(p.ensemble for p in points) else ""
    return Figure(
        key="trade",
        caption=f"Test accuracy against {against}, with 95% intervals; the axis of cost is "
        f"logarithmic. Filled, on the dashed line: models that no other beats in both.{votes}",
        alt=f"Chart of test accuracy against {against} of "
        + "; ".join(p.title for p in points)
        + ". The table of costs gives the figures.",
        plot=CostPlot(points, axis, "test accuracy, %"),
        priority=1,
    )

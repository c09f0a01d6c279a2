"""How much data: tables and the chart of accuracy against the number of training labels."""

from typing import Any

from headstart.report import evidence, lookup
from headstart.report.plots import LearningCurve, LearningCurvesPlot
from headstart.report.records import Block, Column, Figure, Row, Table
from headstart.report.text import (
    MISSING,
    Measured,
    count,
    percent,
    percent_cells,
    quantity,
    setting,
)
from headstart.types import JsonDict

_MOST_LINES = 4
_STEPS = 40  # a drawn curve is made of so many straight pieces


def blocks(results: JsonDict) -> list[Block]:
    """Return the learning curves from the analysis: the chart, and a table for each curve.

    Args:
        results: The content of results.json.

    Returns:
        Nothing where none was measured.
    """
    curves = evidence.curves(results)
    if not curves:
        return []
    chart = _chart(results, [c for _, c in curves])
    tables = [_table(results, i, c) for i, c in curves]
    return [*([chart] if chart is not None else []), *tables]


def _table(results: JsonDict, position: int, curve: JsonDict) -> Table:
    rows = []
    for point in evidence.points(curve):
        accuracy = point["accuracy"]
        values = accuracy.get("values") or ()
        rows.append(
            Row(
                (
                    percent(point.get("share"), 0),
                    count(point["n"]),
                    percent(accuracy["mean"], sign=""),
                    percent(accuracy.get("sd"), 2, ""),
                    MISSING,
                    count(len(values)) if values else MISSING,
                )
            )
        )
    for forecast in forecasts(curve):
        value, interval = percent_cells(lookup.measured(forecast["accuracy"]))
        rows.append(
            Row(
                (
                    _multiple(forecast.get("factor")),
                    count(forecast["n"]),
                    value,
                    MISSING,
                    interval,
                    MISSING,
                )
            )
        )
    return Table(
        key=f"learning-curve-{position}",
        caption="Cross-validated accuracy of a probe on the "
        f"{evidence.features(results, curve)} by the number of training labels.",
        columns=(
            Column("Share drawn" if curve.get("labels") else "Share of the labels"),
            Column("Labels", "right"),
            Column("value", "right", "Accuracy, %"),
            Column("SD", "right", "Accuracy, %"),
            Column("95% interval", "right", "Accuracy, %"),
            Column("Draws", "right"),
        ),
        rows=tuple(rows),
        refs=(f"{evidence.LEARNING_CURVES}/{position}",),
        note=_drawn(curve) + _law(curve),
        priority=2,
    )


def _multiple(factor: Any) -> str:
    return "all (forecast)" if factor == 1 else f"{setting(factor)} × all (forecast)"


def _drawn(curve: JsonDict) -> str:
    """Say what the shares are of: a fold is held out, so not of all labels that there are."""
    if not curve.get("labels"):
        return ""
    return (
        f"There are {count(curve['labels'])} labels in all; each time some are held out to be "
        "tested on, and the share is drawn from the rest. "
    )


def _law(curve: JsonDict) -> str:
    """Write the fitted law with its parameters' intervals."""
    fit = curve.get("fit")
    if not fit:
        return "No power law could be fitted."
    text = f"Fitted: {str(fit.get('form')).replace('*', '·').replace('-c', '−c')}"
    said = []
    for name in "abc":
        value = lookup.measured(fit.get(name))
        if value is None:
            continue
        interval = value.interval
        ends = "" if interval is None else f" ({' to '.join(quantity(end) for end in interval)})"
        said.append(f"{name} = {quantity(value.value)}{ends}")
    return text + (f", with {', '.join(said)}." if said else ".")


def expected_of_all(curve: JsonDict) -> Measured | None:
    """Return the accuracy that is expected of all labels that there are.

    Args:
        curve: An entry of ``analysis.learning_curves``.

    Returns:
        The forecast for one times the labels; None where no law was fitted, or an older run made
        none.
    """
    if not curve.get("fit"):
        return None
    found = [f for f in forecasts(curve) if f.get("factor") == 1]
    return lookup.measured(found[0]["accuracy"]) if found else None


def forecasts(curve: JsonDict) -> list[JsonDict]:
    """Return what is expected of more labels than were trained on, the fewest first.

    Args:
        curve: An entry of ``analysis.learning_curves``.

    Returns:
        Those entries of its forecast that lie beyond the measured points and have a value.
    """
    last = max((int(p["n"]) for p in evidence.points(curve)), default=0)
    known = [
        dict(f)
        for f in curve.get("forecast") or ()
        if f.get("n") and int(f["n"]) > last and lookup.measured(f.get("accuracy")) is not None
    ]
    return sorted(known, key=lambda f: int(f["n"]))


def _chart(results: JsonDict, curves: list[JsonDict]) -> Figure | None:
    drawn = [c for c in curves if len(evidence.points(c)) > 1][:_MOST_LINES]
    if not drawn:
        return None
    lines = tuple(_line(results, c) for c in drawn)
    caption = (
        "Learning curve: accuracy of a probe on frozen features against the number of training "
        "labels. Points are means over draws, with their standard deviation."
    )
    labels = next((c["labels"] for c in drawn if c.get("labels")), None)
    if labels:
        caption += (
            f" There are {count(labels)} labels in all; each time some are held out to be tested "
            "on, so the last point lies at fewer."
        )
    if any(line.fitted for line in lines):
        caption += " Solid: the fitted power law."
    if any(line.expected for line in lines):
        caption += (
            " Dashed: its extrapolation, with 95% intervals; it holds only if new labels are like "
            "those that are there."
        )
    return Figure(
        key="learning-curves",
        caption=caption,
        alt="Line chart of accuracy against the number of training labels for "
        + "; ".join(line.title for line in lines)
        + ". The tables of learning curves give the figures.",
        plot=LearningCurvesPlot(lines),
        priority=2,
    )


def _line(results: JsonDict, curve: JsonDict) -> LearningCurve:
    points = tuple(
        (int(p["n"]), float(p["accuracy"]["mean"]), _spread(p)) for p in evidence.points(curve)
    )
    expected = tuple(
        (int(f["n"]), score)
        for f in forecasts(curve)
        if (score := lookup.measured(f["accuracy"])) is not None
    )
    first, last = points[0][0], points[-1][0]
    beyond = _fitted(curve, last, expected[-1][0]) if expected else ()
    if expected and not beyond:
        beyond = ((float(last), points[-1][1]), *((float(n), s.value) for n, s in expected))
    return LearningCurve(
        title=evidence.network(results, curve),
        points=points,
        fitted=_fitted(curve, first, last),
        beyond=beyond,
        expected=expected,
        band=_band(curve, last, beyond, expected),
    )


def _spread(point: JsonDict) -> float | None:
    sd = point["accuracy"].get("sd")
    return None if sd is None else float(sd)


def _fitted(curve: JsonDict, first: int, last: int) -> tuple[tuple[float, float], ...]:
    """Return the fitted law between two numbers of labels as (labels, accuracy)."""
    fit = curve.get("fit") or {}
    found = [lookup.measured(fit.get(name)) for name in "abc"]
    if any(v is None for v in found):
        return ()
    a, b, c = (v.value for v in found if v is not None)
    places = [first * (last / first) ** (i / _STEPS) for i in range(_STEPS + 1)]
    return tuple((n, 1.0 - min(1.0, max(0.0, a + b * n**-c))) for n in places)


def _band(
    curve: JsonDict,
    last: int,
    beyond: tuple[tuple[float, float], ...],
    expected: tuple[tuple[int, Measured], ...],
) -> tuple[tuple[float, float, float], ...]:
    """Return (labels, low, high) of the band around the curve.

    Where the run does not say how sure the fit is at the measured points, the band opens at the
    last of them: intervals of a, b and c alone do not make one, for the three depend on each other.
    """
    given = [
        (float(p["n"]), *score.interval)
        for p in (curve.get("fit") or {}).get("band") or ()
        if p.get("n")
        and (score := lookup.measured(p.get("accuracy"))) is not None
        and score.interval is not None
    ]
    if given:
        return tuple(sorted(given))
    ends = [(float(n), *s.interval) for n, s in expected if s.interval is not None]
    return ((float(last), beyond[0][1], beyond[0][1]), *ends) if ends and beyond else ()

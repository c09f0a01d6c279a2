"""Builds the charts of regressions: losses within the epochs, and predictions against the truth."""

from collections.abc import Sequence

from headstart.report import lookup, nouns
from headstart.report.load import Run
from headstart.report.plots import EstimatePlot, TracePlot, TraceSeries
from headstart.report.records import Figure
from headstart.report.text import count
from headstart.report.traces import MOST_LINES
from headstart.types import JsonDict

_MOST_POINTS = 500  # of a cloud: more hide each other
_LONGEST_LINE = 300

Points = Sequence[tuple[float, float]]


def traces(run: Run) -> Figure | None:
    """Return the training loss of every model over the optimiser's steps, the best if many."""
    ranked = [m["name"] for m in lookup.by_preference(run.results)]
    names = [m["name"] for m in lookup.models(run.results) if m["name"] in run.traces]
    if len(names) > MOST_LINES:
        kept = [n for n in ranked if n in names][:MOST_LINES]
        names = [n for n in names if n in kept]
    series = tuple(
        TraceSeries(lookup.title(run.results, n), _thinned(run.traces[n]))
        for n in names
        if len(run.traces[n]) > 1
    )
    if not series:
        return None
    return Figure(
        key="traces",
        caption="Training loss over the optimiser’s steps: each point is the mean since the point "
        "before.",
        alt="Line chart of the training loss over the steps of "
        + "; ".join(s.title for s in series)
        + ". The table of scores gives the final figures.",
        plot=TracePlot(series, "training loss"),
        priority=1,
    )


def _thinned(points: Points) -> tuple[tuple[int, float], ...]:
    """Return at most `_LONGEST_LINE` points: neighbours become their mean, at the last's place."""
    size = -(-len(points) // _LONGEST_LINE)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return tuple((int(g[-1][0]), sum(y for _, y in g) / len(g)) for g in groups)


def estimates(run: Run, model: JsonDict | None) -> Figure | None:
    """Return predicted against true values of one model on test.

    Args:
        run: The run.
        model: The model, or None.

    Returns:
        The figure, or None where the model's predictions are not there.
    """
    points = run.estimates.get(model["name"], ()) if model is not None else ()
    if model is None or not points:
        return None
    step = -(-len(points) // _MOST_POINTS)
    shown = tuple(points[::step])
    some = f"; {count(len(shown))} of {count(len(points))} are drawn" if step > 1 else ""
    name = lookup.title(run.results, model["name"])
    return Figure(
        key="estimates",
        caption=f"Predicted against true values of “{name}” on the test {nouns.many(run.results)}"
        f"{some}. On the dashed line both are equal.",
        alt=f"Chart of predicted against true values of {name}; the table of scores gives the "
        "errors.",
        plot=EstimatePlot(shown),
        priority=2,
    )

"""The table of trainings that differ in their seed alone."""

from collections.abc import Mapping
from typing import Any

from headstart.report import lookup, measures
from headstart.report.measures import MAE, MSE, Measure
from headstart.report.records import Column, Row, Table
from headstart.report.text import MISSING, count, decimal, listing, plural, quantity
from headstart.types import JsonDict

_SPLITS = ("val", "test")


def entries(results: JsonDict) -> list[tuple[JsonDict, JsonDict]]:
    """Return the models that were trained from several seeds, with what came of it."""
    return [(m, m["seeds"]) for m in lookup.models(results) if m.get("seeds")]


def spread(seeds: Mapping[str, Any], split: str, measure: Measure) -> Mapping[str, Any] | None:
    """Return ``values``, ``mean`` and ``sd`` of a score over the seeds, or None."""
    found: Mapping[str, Any] | None = (seeds.get(split) or {}).get(measure.key)
    return found if found and found.get("mean") is not None else None


def seeds(results: JsonDict, recommended: str | None) -> Table | None:
    """Return mean, standard deviation and every value of the trainings from several seeds.

    Args:
        results: The content of results.json.
        recommended: The name of the recommended model, or None.

    Returns:
        The table, or None where every model was trained once.
    """
    rows = []
    numbers = set()
    for model, found in entries(results):
        numbers.add(len(found.get("seeds") or ()))
        for split in _SPLITS:
            for measure in _wanted(results):
                of = spread(found, split, measure)
                if of is None:
                    continue
                name = model["name"]
                refs = [f"models/{name}/seeds/{split}/{measure.key}"]
                # The first row of a model stands for all; the advice cites that on test.
                if split == "test" and measure is measures.chosen_by(results):
                    refs.append(f"models/{name}/seeds")
                rows.append(
                    Row(
                        (
                            str(model.get("title") or name),
                            f"{lookup.split_word(split)} {measure.short}",
                            _value(measure, of["mean"]),
                            deviation(measure, of.get("sd")),
                            ", ".join(_value(measure, v) for v in of.get("values") or ()),
                        ),
                        refs=tuple(refs),
                        strong=name == recommended,
                    )
                )
    if not rows:
        return None
    shares = measures.chosen_by(results).digits is None
    sign = ", in per cent; SD in points" if shares else ""
    many = listing([count(n) for n in sorted(numbers)], "or")
    return Table(
        key="seeds",
        caption=f"Scores of trainings that differ in their seed alone, over {many} seeds{sign}.",
        columns=(
            Column("Model"),
            Column("Score"),
            Column("Mean", "right"),
            Column("SD", "right"),
            Column("Of each seed"),
        ),
        rows=tuple(rows),
        note="SD: standard deviation over the seeds. The other tables have the model’s own seed."
        + _diverged(results),
        priority=2,
    )


def lost(seeds: Mapping[str, Any]) -> int:
    """Return how many seeds diverged, and so have no score."""
    run = len(seeds.get("seeds") or ())
    return max(0, int(seeds.get("asked") or run) - run)


def _diverged(results: JsonDict) -> str:
    """Say of which models some seeds diverged."""
    said = [
        f"{plural(lost(found), 'seed')} of {lookup.quoted(results, m['name'])}"
        for m, found in entries(results)
        if lost(found)
    ]
    return f" Diverged, and left out: {listing(said)}." if said else ""


def _wanted(results: JsonDict) -> list[Measure]:
    measure = measures.chosen_by(results)
    return [measure, MAE] if measure is MSE else [measure]


def _value(measure: Measure, value: float | None) -> str:
    """Write a score without its sign: 88.4, 0.0214."""
    return measure.value(value).removesuffix("%")


def deviation(measure: Measure, sd: float | None) -> str:
    """Write a standard deviation: of a share in percentage points, 0.42."""
    if sd is None:
        return MISSING
    return decimal(100 * sd, 2) if measure.digits is None else quantity(sd, 2)

"""The table of what each model costs: parameters, size, and time of the prediction step."""

from collections.abc import Sequence

from headstart.report import kinds, lookup, measures, nouns
from headstart.report.records import Column, Row, Table
from headstart.report.text import (
    MISSING,
    count,
    durations,
    listing,
    mebibytes,
    quantity,
)
from headstart.types import JsonDict


def costs(results: JsonDict, recommended: str | None) -> Table | None:
    """Return parameters, size and prediction time of all models beside their test score.

    Args:
        results: The content of results.json.
        recommended: The name of the recommended model, or None.

    Returns:
        The table, or None where no prediction was timed.
    """
    models = [m for m in lookup.models(results) if lookup.complete(m)]
    times = [kinds.prediction_ms(results, m) for m in models]
    if all(t is None for t in times):
        return None
    unit, seconds = durations([kinds.test_seconds(m) for m in models])
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("Model"), [str(m.get("title") or m["name"]) for m in models]),
        (Column("Parameters", "right"), [count(m.get("parameters_total")) for m in models]),
        (Column("Size, MiB", "right"), [mebibytes(m.get("size_bytes")) for m in models]),
        (Column(f"all, {unit}", "right", "Prediction on test"), seconds),
        (
            Column(f"ms per {nouns.one(results)}", "right", "Prediction on test"),
            [MISSING if t is None else quantity(t) for t in times],
        ),
    ]
    measure = measures.chosen_by(results)
    scores = [measure.cells(lookup.metric(m, "test", measure.key)) for m in models]
    for k, head in enumerate(("value", "95% interval")):
        texts = [cells[k] for cells in scores]
        columns.append((Column(head, "right", f"Test {measure.head}"), texts))
    return Table(
        key="costs",
        caption="Size of each model, and the time of the prediction step alone.",
        columns=tuple(column for column, _ in columns),
        rows=tuple(
            Row(
                tuple(texts[i] for _, texts in columns),
                refs=(f"models/{model['name']}/prediction",),
                strong=model["name"] == recommended,
            )
            for i, model in enumerate(models)
        ),
        note=_conditions(results, models),
        priority=1 if len({m.get("size_bytes") for m in models}) > 1 else 3,
    )


def _conditions(results: JsonDict, models: Sequence[JsonDict]) -> str:
    """Say how prediction was timed."""
    timed = [m["prediction"] for m in models if m.get("prediction")]
    work = {"picture": "reading and decoding", "sequence": "reading"}.get(
        nouns.one(results), "reading and tokenising"
    )
    text = (
        f"The network’s forward pass over the whole test split; {work} the "
        f"{nouns.many(results)} is not counted"
    )
    repeats = sorted({t["repeats"] for t in timed if t.get("repeats")})
    if repeats and repeats != [1]:
        text += f"; the median of {listing([count(n) for n in repeats], 'or')} repeats"
    batches = sorted({t["batch_size"] for t in timed if t.get("batch_size")})
    if batches:
        text += f", in batches of {listing([count(n) for n in batches], 'or')}"
    devices = sorted({str(t["device"]) for t in timed if t.get("device")})
    if devices:
        text += f", on {listing(devices)}"
    text += "."
    if any(kinds.is_ensemble(m) for m in models):
        text += " An ensemble takes the time of all its members."
    return text

"""Tables of models side by side: paired comparisons, and where their seconds went."""

from headstart.report import lookup
from headstart.report.records import Column, Row, Table
from headstart.report.text import (
    MISSING,
    count,
    durations,
    percent,
    points,
    points_interval,
    quantity,
    times,
)
from headstart.types import JsonDict


def comparisons(results: JsonDict) -> Table | None:
    """Return the paired comparisons."""
    pairs = results.get("comparisons") or ()
    if not pairs:
        return None
    both = [p.get("seconds_a") for p in pairs] + [p.get("seconds_b") for p in pairs]
    unit, seconds = durations(both)
    timed = any(p.get("speedup") is not None for p in pairs)
    weighed = any(p.get("weights_relative_difference") is not None for p in pairs)
    rows = []
    for i, pair in enumerate(pairs):
        difference = lookup.measured(pair.get("accuracy_difference"))
        cells = [
            lookup.title(results, pair["a"]),
            lookup.title(results, pair["b"]),
            percent(pair.get("agreement"), sign=""),
            count(pair.get("agreement_n")),
            points(difference.value if difference else None),
            points_interval(difference),
        ]
        if weighed:
            cells.append(quantity(pair.get("weights_relative_difference"), 2))
        if timed:
            cells += [seconds[i], seconds[i + len(pairs)], times(pair.get("speedup"))]
        rows.append(Row(tuple(cells), refs=(f"comparisons/{i}",)))
    columns = [
        Column("Model A"),
        Column("Model B"),
        Column("%", "right", "Same class"),
        Column("of", "right", "Same class"),
        Column("A − B", "right", "Accuracy, points"),
        Column("95% interval", "right", "Accuracy, points"),
    ]
    if weighed:
        columns.append(Column("rel. diff.", "right", "Weights"))
    if timed:
        group = f"Time, {unit}"
        columns += [Column("A", "right", group), Column("B", "right", group)]
        columns.append(Column("Gain", "right"))
    return Table(
        key="comparisons",
        caption="Models compared picture by picture"
        + ("; the gain is B’s time over A’s." if timed else "."),
        columns=tuple(columns),
        rows=tuple(rows),
        priority=1,
    )


def times_of_models(results: JsonDict) -> Table | None:
    """Return where each model's seconds went, and how many pictures went through the backbone."""
    entries = [m for m in lookup.models(results) if m.get("stages")]
    if not entries:
        return None
    extraction = [sum(s.get("extraction_seconds") or 0.0 for s in m["stages"]) for m in entries]
    total = [lookup.training_seconds(m) for m in entries]
    unit, texts = durations([*extraction, *total])
    rows = tuple(
        Row(
            (
                str(m.get("title") or m["name"]),
                str(m.get("mode") or MISSING),
                str(m.get("engine") or MISSING),
                count(m.get("images_extracted")),
                count(m.get("images_reused")),
                texts[i],
                texts[i + len(entries)],
            )
        )
        for i, m in enumerate(entries)
    )
    return Table(
        key="times",
        caption="Pictures sent through the backbone once and stored, pictures whose features were "
        "already in the store, and time.",
        columns=(
            Column("Model"),
            Column("Mode"),
            Column("Engine"),
            Column("extracted", "right", "Features of pictures"),
            Column("reused", "right", "Features of pictures"),
            Column("extraction", "right", f"Time, {unit}"),
            Column("all", "right", f"Time, {unit}"),
        ),
        rows=rows,
        priority=4,
    )

"""Tables of models side by side: paired comparisons, and where their seconds went."""

from headstart.report import differences, lookup, measures, nouns
from headstart.report.records import Column, Row, Table
from headstart.report.text import (
    MISSING,
    capital,
    count,
    durations,
    percent,
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
    noun = nouns.one(results)
    measure = measures.chosen_by(results)
    classes = measure is measures.ACCURACY
    timed = any(p.get("speedup") is not None for p in pairs)
    weighed = any(p.get("weights_relative_difference") is not None for p in pairs)
    further = len({pair.get("split") for pair in pairs}) > 1
    rows = []
    for i, pair in enumerate(pairs):
        cells = [lookup.title(results, pair["a"]), lookup.title(results, pair["b"])]
        if further:
            cells.append(lookup.split_word(str(pair.get("split") or "test")))
        if classes:
            cells.append(percent(pair.get("agreement"), sign=""))
            cells.append(count(pair.get("agreement_n")))
        cells += measure.gain_cells(differences.paired(results, pair))
        if weighed:
            cells.append(quantity(pair.get("weights_relative_difference"), 2))
        if timed:
            cells += [seconds[i], seconds[i + len(pairs)], times(pair.get("speedup"))]
        rows.append(Row(tuple(cells), refs=(f"comparisons/{i}",)))
    columns = [Column("Model A"), Column("Model B")]
    if further:
        columns.append(Column("Split"))
    if classes:
        columns += [Column("%", "right", "Same class"), Column("of", "right", "Same class")]
    group = "Accuracy, points" if classes else capital(measure.short)
    columns += [Column("A − B", "right", group), Column("95% interval", "right", group)]
    if weighed:
        columns.append(Column("rel. diff.", "right", "Weights"))
    if timed:
        group = f"Time, {unit}"
        columns += [Column("A", "right", group), Column("B", "right", group)]
        columns.append(Column("Gain", "right"))
    return Table(
        key="comparisons",
        caption=f"Models compared {noun} by {noun}"
        + ("; the gain is B’s time over A’s." if timed else "."),
        columns=tuple(columns),
        rows=tuple(rows),
        priority=1,
    )


def times_of_models(results: JsonDict) -> Table | None:
    """Return where each model's seconds went, and how many samples went through the backbone."""
    entries = [m for m in lookup.models(results) if m.get("stages")]
    sent = [m.get("images_extracted") or m.get("images_reused") for m in entries]
    if not entries or (measures.goal(results) != "classification" and not any(sent)):
        return None
    many = nouns.many(results)
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
        caption=f"{nouns.heading(results)} sent through the backbone once and stored, {many} whose "
        "features were already in the store, and time.",
        columns=(
            Column("Model"),
            Column("Mode"),
            Column("Engine"),
            Column("extracted", "right", f"Features of {many}"),
            Column("reused", "right", f"Features of {many}"),
            Column("extraction", "right", f"Time, {unit}"),
            Column("all", "right", f"Time, {unit}"),
        ),
        rows=rows,
        priority=4,
    )

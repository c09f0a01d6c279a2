"""Tables of pretrained classifiers as they are: their scores, and their answers to pictures."""

from collections.abc import Sequence
from typing import Any

from headstart.report import data_tables, kinds, lookup
from headstart.report.records import Column, Paragraph, Row, Table
from headstart.report.text import MISSING, Measured, count, listing, percent, percent_cells
from headstart.types import JsonDict

HIT = "←"  # in every face that reports are set in
_NAMED_IN_FULL = 2  # with more classifiers side by side there is no room for identifiers


def top(model: JsonDict, number: int) -> Measured | None:
    """Return the share of pictures whose class is among the `number` most probable of all."""
    key = f"top{number}"
    found = lookup.measured((model.get("zero_shot") or {}).get(key))
    return found or lookup.metric(model, "test", key)


def opening(results: JsonDict) -> Paragraph | None:
    """Return in words what is measured here."""
    entries = kinds.zero_shots(results)
    if not entries:
        return None
    shot = entries[0]["zero_shot"]
    among = (
        f"all its {count(shot['classes'])} classes" if shot.get("classes") else "all its classes"
    )
    mapped = f", {count(shot['mapped'])} of which are the data set’s" if shot.get("mapped") else ""
    return Paragraph(
        "Nothing was trained here: the network keeps its own classifier. Top-1 and top-5 are "
        f"taken among {among}{mapped}; accuracy is taken among the data set’s classes alone."
    )


def scores(results: JsonDict) -> Table | None:
    """Return top-1, top-5 and accuracy of each classifier, side by side with its input."""
    entries = kinds.zero_shots(results)
    if not entries:
        return None
    rows = []
    for model in entries:
        backbone = kinds.backbone(results, model) or {}
        spec = backbone.get("input") or {}
        test = [lookup.metric(model, "test", "accuracy"), top(model, 1), top(model, 5)]
        sizes = [s.n for s in test if s is not None and s.n]
        rows.append(
            Row(
                (
                    str(model.get("title") or model["name"]),
                    str(backbone.get("name") or model.get("backbone") or MISSING),
                    data_tables.FITS.get(str(spec.get("fit")), MISSING),
                    *percent_cells(test[1]),
                    *percent_cells(test[2]),
                    *percent_cells(test[0]),
                    count(sizes[0] if sizes else None),
                ),
                refs=(f"models/{model['name']}/zero_shot",),
            )
        )
    return Table(
        key="zero-shot",
        caption="Pretrained classifiers as they are, on test.",
        columns=(
            Column("Classifier"),
            Column("Backbone"),
            Column("Pictures are"),
            *(
                Column(head, "right", group)
                for group in ("Top-1, %", "Top-5, %", "Accuracy, %")
                for head in ("value", "95% interval")
            ),
            Column("Pictures", "right"),
        ),
        rows=tuple(rows),
        priority=1,
    )


def pictures(results: JsonDict) -> tuple[Table, ...]:
    """Return the most probable classes of each chosen picture, all classifiers side by side."""
    found: dict[str, list[tuple[JsonDict, JsonDict]]] = {}
    for model in kinds.zero_shots(results):
        for table in model["zero_shot"].get("tables") or ():
            found.setdefault(str(table.get("image")), []).append((model, table))
    return tuple(
        _picture(results, i, image, entries)
        for i, (image, entries) in enumerate(found.items(), start=1)
    )


def _picture(
    results: JsonDict, number: int, image: str, entries: Sequence[tuple[JsonDict, JsonDict]]
) -> Table:
    """Return one picture's table: rank by rank, one group of columns per classifier."""
    label = str(entries[0][1].get("label") or "")
    name = first_name(entries[0][1].get("label_name"))
    full = len(entries) <= _NAMED_IN_FULL
    heads = (("id", True), ("name", False)) if full else (("name", False),)
    columns = [Column("Rank", "right")]
    for model, _ in entries:
        group = str(model.get("title") or model["name"]) if len(entries) > 1 else ""
        columns += [Column(head, "left", group, code) for head, code in heads]
        columns.append(Column("%", "right", group))
    rows = [
        Row(
            (count(rank + 1), *(text for _, t in entries for text in _answer(t, rank, label, full)))
        )
        for rank in range(max(len(t.get("rows") or ()) for _, t in entries))
    ]
    missed = [
        lookup.quoted(results, m["name"])
        for m, t in entries
        if not any(str(r.get("id")) == label for r in t.get("rows") or ())
    ]
    if len(missed) == len(entries):
        note = "The label is not among them."
    else:
        note = f"{HIT} the label"
        does = "does" if len(missed) == 1 else "do"
        note += f"; {listing(missed)} {does} not name it here." if missed else "."
    labelled = f"{name} ({label})" if name and name != label else label or "unknown"
    return Table(
        key=f"zero-shot-picture-{number}",
        caption=f"The most probable classes of “{image}”, whose label is {labelled}.",
        columns=tuple(columns),
        rows=tuple(rows),
        note=note,
        priority=3 if number == 1 else 4,
    )


def _answer(table: JsonDict, rank: int, label: str, full: bool) -> list[str]:
    """Return the cells of one classifier's answer at a rank, empty where it gave fewer."""
    rows = table.get("rows") or ()
    if rank >= len(rows):
        return [""] * (3 if full else 2)
    row = rows[rank]
    name = first_name(row.get("name")) or str(row.get("id") or MISSING)
    if label and str(row.get("id")) == label:
        name += f" {HIT}"
    identifier = [str(row.get("id") or MISSING)] if full else []
    return [*identifier, name, percent(row.get("probability"), sign="")]


def first_name(names: Any) -> str:
    """Return the first of a class's names: WordNet gives several, with commas between."""
    return str(names or "").split(",")[0].strip()

"""Tables about texts: what was cut off, and what a model says of given texts."""

from collections.abc import Mapping
from typing import Any

from headstart.report import lookup, nouns
from headstart.report.records import Column, Row, Table
from headstart.report.text import MISSING, count, percent
from headstart.types import JsonDict

_MOST_CLASSES = 6  # whose probabilities stand side by side


def truncation(results: JsonDict) -> Table | None:
    """Return how many texts were longer than what each network reads, and what was lost."""
    entries = [b for b in results.get("backbones") or () if b.get("truncation")]
    if not entries:
        return None
    return Table(
        key="truncation",
        caption=f"{nouns.heading(results)} that are longer than what a network reads.",
        columns=(
            Column("Backbone"),
            Column("Most tokens", "right"),
            Column(nouns.heading(results), "right"),
            Column("number", "right", "Cut off"),
            Column("%", "right", "Cut off"),
            Column("lost", "right", "Tokens"),
            Column("%", "right", "Tokens"),
        ),
        rows=tuple(
            Row(
                (
                    str(entry.get("name") or entry.get("key")),
                    count(entry["truncation"].get("max_length")),
                    count(entry["truncation"].get("texts")),
                    count(entry["truncation"].get("truncated")),
                    _share(entry["truncation"], "truncated", "texts"),
                    count(entry["truncation"].get("tokens_lost")),
                    _share(entry["truncation"], "tokens_lost", "tokens"),
                ),
                refs=(f"backbones/{entry.get('key')}/truncation",),
            )
            for entry in entries
        ),
        note=f"Of a {nouns.one(results)} that is too long, the end is not read.",
        priority=3,
    )


def _share(cut: Mapping[str, Any], part: str, whole: str) -> str:
    if cut.get(part) is None or not cut.get(whole):
        return MISSING
    return percent(cut[part] / cut[whole], sign="")


def examples(results: JsonDict) -> Table | None:
    """Return what each model says of the texts that it was given, with the probabilities."""
    entries = [(m, e) for m in lookup.models(results) for e in m.get("examples") or ()]
    if not entries:
        return None
    words = lookup.class_words(results)
    several = len({m["name"] for m, _ in entries}) > 1
    paired = any(e.get("second") for _, e in entries)
    classes = list(dict.fromkeys(str(c) for _, e in entries for c in e.get("probabilities") or ()))
    full = 0 < len(classes) <= _MOST_CLASSES
    columns = [Column("First text" if paired else "Text")]
    columns += [Column("Second text")] if paired else []
    columns += [Column("Model")] if several else []
    columns.append(Column("Predicted"))
    group = "Probability, %"
    if full:
        columns += [Column(words.get(c, c), "right", group) for c in classes]
    else:
        columns.append(Column(group, "right"))
    rows = []
    for model, example in entries:
        predicted = str(example.get("predicted") or MISSING)
        probabilities = example.get("probabilities") or {}
        cells = [str(example.get("text") or "")]
        cells += [str(example.get("second") or MISSING)] if paired else []
        cells += [str(model.get("title") or model["name"])] if several else []
        cells.append(words.get(predicted, predicted))
        shown = classes if full else [predicted]
        rows.append(Row((*cells, *(percent(probabilities.get(c), sign="") for c in shown))))
    return Table(
        key="examples",
        caption="Predictions for given texts.",
        columns=tuple(columns),
        rows=tuple(rows),
        priority=1,
    )

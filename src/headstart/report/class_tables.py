"""Tables about classes: precision and recall of each, and which are taken for which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.report import clusters, lookup, nouns
from headstart.report.records import Column, Row, Table
from headstart.report.text import Measured, count, percent, percent_cells, plural
from headstart.types import JsonDict

_FEW_CLASSES = 20
_WORST_PAIRS = 10


def per_class(results: JsonDict, model: JsonDict) -> Table | None:
    """Return precision and recall per class, the hardest first where there are many classes."""
    words = lookup.class_words(results)
    entries = (model.get("per_class") or {}).get("test") or ()
    if not entries:
        return None
    many = len(entries) > _FEW_CLASSES
    if many:
        entries = sorted(entries, key=lambda e: _f1(e).value)
    named = any(words.get(str(e.get("class")), e.get("class")) != e.get("class") for e in entries)
    rows = []
    for entry in entries:
        precision, recall = (lookup.measured(entry.get(k)) for k in ("precision", "recall"))
        name = str(entry.get("class"))
        # The name on the disk stays beside one for people: it leads to the folder.
        rows.append(
            Row(
                (
                    words.get(name, name),
                    *([name] if named else []),
                    *percent_cells(precision),
                    *percent_cells(recall),
                    percent(_f1(entry).value if entry.get("f1") else None, sign=""),
                    count(entry.get("support")),
                )
            )
        )
    title = model.get("title") or model["name"]
    return Table(
        key="per-class",
        caption=f"Precision and recall per class of “{title}” on test"
        + (", the hardest classes first." if many else "."),
        columns=(
            Column("Class"),
            *([Column("Folder", code=True)] if named else []),
            Column("value", "right", "Precision, %"),
            Column("95% interval", "right", "Precision, %"),
            Column("value", "right", "Recall, %"),
            Column("95% interval", "right", "Recall, %"),
            Column("F1, %", "right"),
            Column(nouns.heading(results), "right"),
        ),
        rows=tuple(rows),
        priority=2,
    )


def _f1(entry: Mapping[str, Any]) -> Measured:
    return lookup.measured(entry.get("f1")) or Measured(0.0)


def per_class_of_all(results: JsonDict) -> Table | None:
    """Return precision and recall per class of all models side by side, where they are few."""
    chosen = [m for m in lookup.models(results) if (m.get("per_class") or {}).get("test")]
    if not 2 <= len(chosen) <= 5:
        return None
    tables = [m["per_class"]["test"] for m in chosen]
    names = [[str(e.get("class")) for e in t] for t in tables]
    if len(names[0]) > _FEW_CLASSES or any(n != names[0] for n in names):
        return None
    words = lookup.class_words(results)
    columns = [Column("Class")]
    for m in chosen:
        group = str(m.get("title") or m["name"])
        columns += [Column("precision", "right", group), Column("recall", "right", group)]
    rows = []
    for i, name in enumerate(names[0]):
        cells = [words.get(name, name)]
        for t in tables:
            pair = (lookup.measured(t[i].get(k)) for k in ("precision", "recall"))
            cells += [percent(s.value if s else None, sign="") for s in pair]
        rows.append(Row(tuple(cells)))
    return Table(
        key="per-class-all",
        caption="Precision and recall per class of every model on test, in per cent.",
        columns=tuple(columns),
        rows=tuple(rows),
        priority=4,
    )


def worst_pairs(results: JsonDict, model: JsonDict) -> Table | None:
    """Return the classes most often taken for another, where the matrix is too large to read.

    Args:
        results: The content of results.json.
        model: The model whose mistakes are shown.

    Returns:
        A row for each of the worst pairs, in the direction in which it is mistaken more often, the
        other direction beside it; None with few classes or without a mistake.
    """
    matrix = (model.get("confusion") or {}).get("test") or ()
    classes = [str(c) for c in (results.get("data") or {}).get("classes") or ()]
    if len(matrix) <= clusters.MANY_CLASSES or len(classes) != len(matrix):
        return None
    pairs = _pairs(matrix)
    if not pairs:
        return None
    words = lookup.class_words(results)
    names = [words[c] for c in classes]
    errors = sum(p.there + p.back for p in pairs)
    shown = pairs[:_WORST_PAIRS]
    rows = tuple(
        Row(
            (
                names[p.true],
                names[p.predicted],
                count(p.there),
                count(sum(matrix[p.true])),
                count(p.back),
                percent((p.there + p.back) / errors, sign=""),
            )
        )
        for p in shown
    )
    of_these = sum(p.there + p.back for p in shown)
    return Table(
        key="worst-pairs",
        caption="Classes most often taken for another, and how often the other for them.",
        columns=(
            Column("True class"),
            Column("Taken for"),
            Column(nouns.heading(results), "right"),
            Column("of", "right"),
            Column("The other way", "right"),
            Column("Of all mistakes, %", "right"),
        ),
        rows=rows,
        note=f"Both ways together these are {count(of_these)} of {count(errors)} mistakes "
        f"({percent(of_these / errors)}); {plural(len(pairs), 'pair')} of classes "
        f"{'is' if len(pairs) == 1 else 'are'} confused at all.",
        priority=2,
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two classes that are confused: `there` counts the true taken for the predicted."""

    true: int
    predicted: int
    there: int
    back: int


def _pairs(matrix: Sequence[Sequence[int]]) -> list[_Pair]:
    """Return every two classes that are confused once, the most frequent mistake first."""
    pairs = []
    for i, line in enumerate(matrix):
        for j, there in enumerate(line):
            back = matrix[j][i]
            if there + back and i != j and (there, -i) > (back, -j):
                pairs.append(_Pair(i, j, int(there), int(back)))
    return sorted(pairs, key=lambda p: (-p.there, -p.back, p.true, p.predicted))

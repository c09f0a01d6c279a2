"""The table of tests between models: difference, who is right alone, and whether it survives."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.compare.tests import LEVEL
from headstart.report import lookup, measures, pairwise
from headstart.report.records import Column, Row, Table
from headstart.report.text import align, capital, count, plural, probability, setting
from headstart.types import JsonDict

_MOST_PAIRS = 15  # where there are more, only those with the recommended model are shown


def tests(results: JsonDict, recommended: str | None) -> Table | None:
    """Return the tests between models.

    Args:
        results: The content of results.json.
        recommended: The name of the recommended model, or None.

    Returns:
        The pairs with the recommended model first, and alone where there are many; None where the
        run made no tests.
    """
    pairs = list(enumerate(pairwise.pairs(results)))
    if not pairs:
        return None
    own = [p for p in pairs if recommended in (p[1].get("a"), p[1].get("b"))]
    others = [p for p in pairs if p not in own]
    hidden = others if own and len(pairs) > _MOST_PAIRS else []
    shown = own if hidden else [*own, *others]
    measure = measures.chosen_by(results)
    alone = any(p.get("a_only") is not None for _, p in pairs)
    group = "Accuracy, points" if measure.digits is None else capital(measure.short)
    columns = [
        *(Column("Model A"), Column("Model B")),
        *(Column("A − B", "right", group), Column("95% interval", "right", group)),
    ]
    if alone:
        columns += [Column("A", "right", "Right alone"), Column("B", "right", "Right alone")]
    columns += [Column("p", "right"), Column("p, Holm", "right"), Column("Verdict")]
    return Table(
        key="tests",
        caption=f"Tests between models on {pairwise.on(results)}, by {pairwise.method(results)} "
        f"over {plural(len(pairs), 'pair')}.",
        columns=tuple(columns),
        rows=_rows(results, shown, alone),
        note=_note(hidden, alone),
        priority=2,
    )


def verdict(pair: Mapping[str, Any]) -> str:
    """Return in a word what a test says."""
    return "differ" if pair.get("distinguishable") else "indistinguishable"


def _rows(
    results: JsonDict, shown: Sequence[tuple[int, Mapping[str, Any]]], alone: bool
) -> tuple[Row, ...]:
    measure = measures.chosen_by(results)
    p, holm = (align([probability(pair.get(k)) for _, pair in shown]) for k in ("p", "p_holm"))
    rows = []
    for i, (index, pair) in enumerate(shown):
        cells = [lookup.title(results, str(pair.get(side))) for side in ("a", "b")]
        cells += measure.gain_cells(lookup.measured(pair.get("difference")))
        if alone:
            cells += [count(pair.get("a_only")), count(pair.get("b_only"))]
        cells += [p[i], holm[i], verdict(pair)]
        rows.append(Row(tuple(cells), refs=(f"tests/{index}",)))
    return tuple(rows)


def _note(hidden: Sequence[tuple[int, Mapping[str, Any]]], alone: bool) -> str:
    text = (
        f"Two models differ where p, corrected for the number of pairs, is below "
        f"{setting(LEVEL)}; else they are indistinguishable."
    )
    if alone:
        text += " Right alone: how often one model is right where the other is wrong."
    if hidden:
        apart = sum(bool(pair.get("distinguishable")) for _, pair in hidden)
        text += (
            f" Not shown: {plural(len(hidden), 'pair')} without the recommended model, of which "
            f"{count(apart)} differ."
        )
    return text

"""Tables of ensembles: what voting gained, who votes with which weight, and how members differ."""

from collections.abc import Sequence
from typing import Any

from headstart.report import differences, kinds, lookup, nouns
from headstart.report.records import Column, Paragraph, Row, Table
from headstart.report.text import (
    MISSING,
    count,
    decimal,
    listing,
    percent,
    percent_cells,
    points,
    points_interval,
    quantity,
)
from headstart.types import JsonDict

_MOST_PAIRS = 8
_MOST_COLUMNS = 5


def gains(results: JsonDict, recommended: str | None) -> Table | None:
    """Return each ensemble's accuracy, what it gained over its best member, and its added time."""
    entries = kinds.ensembles(results)
    if not entries:
        return None
    rows = []
    for model in entries:
        vote = model["ensemble"]
        best = lookup.model_named(results, vote.get("best_member"))
        gain = lookup.measured(vote.get("gain"))
        own = lookup.metric(best or {}, "test", "accuracy")
        together = lookup.metric(model, "test", "accuracy")
        rows.append(
            Row(
                (
                    str(model.get("title") or model["name"]),
                    str(vote.get("voting") or MISSING),
                    MISSING if best is None else str(best.get("title") or best["name"]),
                    *(percent(s.value if s else None, sign="") for s in (together, own)),
                    points(gain.value if gain else None),
                    points_interval(gain),
                    verdict(results, model),
                    percent(vote.get("disagreement"), sign=""),
                    _added(results, model, best),
                ),
                refs=(f"models/{model['name']}/ensemble",),
                strong=model["name"] == recommended,
            )
        )
    gained = "Gain, points"
    return Table(
        key="ensembles",
        caption="Ensembles against their best member, which validation chose, on the same test "
        f"{nouns.many(results)}.",
        columns=(
            Column("Ensemble"),
            Column("Voting"),
            Column("Best member"),
            Column("vote", "right", "Test accuracy, %"),
            Column("member", "right", "Test accuracy, %"),
            Column("value", "right", gained),
            Column("95% interval", "right", gained),
            Column("Verdict"),
            Column("Differ, %", "right"),
            Column("Added, ms", "right"),
        ),
        rows=tuple(rows),
        note=f"Differ: the share of {nouns.many(results)} on which two members answer differently, "
        "mean over all pairs of members. Added: how much longer than its best member the vote "
        f"takes per {nouns.one(results)}.",
        priority=1,
    )


def _added(results: JsonDict, model: JsonDict, best: JsonDict | None) -> str:
    """Return how many more milliseconds a picture takes than with the best member alone."""
    together = kinds.prediction_ms(results, model)
    alone = None if best is None else kinds.prediction_ms(results, best)
    return MISSING if together is None or alone is None else quantity(together - alone)


def verdict(results: JsonDict, model: JsonDict) -> str:
    """Return in words what an ensemble's gain over its best member is worth."""
    words = {"better": "better", "worse": "worse", "same": "cannot be told apart"}
    return words.get(differences.of_vote(results, model), MISSING)


def members(results: JsonDict) -> Table | None:
    """Return the members' own scores, and their weight in each ensemble."""
    entries = kinds.ensembles(results)[:_MOST_COLUMNS]
    names = list(dict.fromkeys(str(n) for m in entries for n in m["ensemble"].get("members") or ()))
    if not names:
        return None
    rows = []
    for name in names:
        model = lookup.model_named(results, name) or {}
        cells = [lookup.title(results, name)]
        for split in ("val", "test"):
            cells += percent_cells(lookup.metric(model, split, "accuracy"))[:1]
        cells += [_weight(m["ensemble"], name) for m in entries]
        rows.append(Row(tuple(cells)))
    lone = len(entries) == 1
    return Table(
        key="members",
        caption="Members of the ensembles and their weights.",
        columns=(
            Column("Member"),
            Column("validation", "right", "Accuracy, %"),
            Column("test", "right", "Accuracy, %"),
            *(
                Column("Weight", "right")
                if lone
                else Column(str(m.get("title") or m["name"]), "right", "Weight in")
                for m in entries
            ),
        ),
        rows=tuple(rows),
        priority=2,
    )


def _weight(vote: JsonDict, name: str) -> str:
    weights: Sequence[Any] = vote.get("weights") or ()
    found = [i for i, n in enumerate(vote.get("members") or ()) if n == name]
    if not found:
        return MISSING
    return decimal(weights[found[0]], 3) if found[0] < len(weights) else MISSING


def pairs(results: JsonDict) -> Table | None:
    """Return the pairs of members that differ most; a pair of several ensembles stands once."""
    known: dict[tuple[str, ...], JsonDict] = {}
    for model in kinds.ensembles(results):
        for pair in model["ensemble"].get("pairs") or ():
            known.setdefault(tuple(sorted((str(pair["a"]), str(pair["b"])))), pair)
    if not known:
        return None
    ordered = sorted(known.values(), key=lambda p: -(p.get("disagreement") or 0.0))
    rows = tuple(
        Row(
            (
                lookup.title(results, str(p["a"])),
                lookup.title(results, str(p["b"])),
                percent(p.get("disagreement"), sign=""),
                percent(p.get("double_fault"), sign=""),
                decimal(p.get("q_statistic"), 2),
            )
        )
        for p in ordered[:_MOST_PAIRS]
    )
    few = f", the {count(_MOST_PAIRS)} that differ most" if len(ordered) > _MOST_PAIRS else ""
    return Table(
        key="pairs",
        caption=f"How members differ, pair by pair{few}.",
        columns=(
            Column("Member"),
            Column("Member"),
            Column("Disagreement, %", "right"),
            Column("Both wrong, %", "right"),
            Column("Q", "right"),
        ),
        rows=rows,
        note=f"Q is Yule’s: 1 where both are right on the same {nouns.many(results)}, 0 where "
        "their errors have nothing to do with each other, below 0 where they err on different "
        "ones.",
        priority=3,
    )


def opening(results: JsonDict) -> Paragraph | None:
    """Return in words how the ensembles vote."""
    ways = {
        "soft": "soft voting takes the mean of its members’ probabilities",
        "weighted": "weighted voting a mean whose weights were fitted on validation",
        "hard": "hard voting gives each member one vote",
        "greedy": "greedy selection adds members one by one while validation gains",
    }
    used = list(dict.fromkeys(m["ensemble"].get("voting") for m in kinds.ensembles(results)))
    said = [ways[str(v)] for v in used if v in ways]
    if not said:
        return None
    text = "An ensemble combines the stored probabilities of its members: " + listing(said) + "."
    if {"weighted", "greedy"} & {str(v) for v in used}:
        text += " What was fitted on validation flatters there; test is fair to all."
    return Paragraph(text)

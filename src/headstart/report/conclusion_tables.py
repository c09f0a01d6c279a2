"""Tables that end a report: the recommended values and the targets."""

from typing import Any

from headstart.report import lookup
from headstart.report.advice import AGREEMENT_WANTED
from headstart.report.records import Column, Row, Table
from headstart.report.text import MISSING, percent, quantity, setting, times
from headstart.types import JsonDict

_OPERATORS = {">=": "≥", "<=": "≤", ">": ">", "<": "<", "==": "="}
_SHARES = ("accuracy", "precision", "recall", "f1", "macro", "agreement")


def recommended_values(results: JsonDict, model: JsonDict | None) -> Table | None:
    """Return the value of each setting that was varied, with the rows that it rests on."""
    if model is None:
        return None
    own = f"models/{model['name']}"
    values = lookup.hyperparameters(model)
    swept = list(dict.fromkeys(k for s in results.get("sweeps") or () for k in lookup.axes(s)))
    varied = [k for k in lookup.differing(lookup.models(results)) if k in values]
    keys = [*(k for k in swept if k in values), *(k for k in varied if k not in swept)]
    rows = [
        Row(
            (_capital(words), setting(values[key])),
            rests_on=_evidence(results, key, values[key]) or (own,),
        )
        for key, words in lookup.setting_names(keys).items()
    ]
    entries = lookup.models(results)
    if len({m.get("mode") for m in entries}) > 1:
        rows.append(_mode(results, model))
    if len({m.get("backbone") for m in entries}) > 1:
        keyed = {b.get("key"): b.get("name") for b in results.get("backbones") or ()}
        name = str(keyed.get(model.get("backbone"), model.get("backbone")))
        rows.append(Row(("Backbone", name), rests_on=(own,)))
    if len({m.get("labels_per_class") for m in entries}) > 1:
        rows.append(
            Row(("Labels per class", setting(model.get("labels_per_class"))), rests_on=(own,))
        )
    if not rows:
        return None
    return Table(
        key="recommended",
        caption=f"Recommended values: those of “{model.get('title') or model['name']}”.",
        columns=(Column("Setting"), Column("Value", "right")),
        rows=tuple(rows),
        evidence="Rests on",
        priority=1,
    )


def _mode(results: JsonDict, model: JsonDict) -> Row:
    """Return the mode to train in: the faster one, where it was shown to do the same."""
    for i, pair in enumerate(results.get("comparisons") or ()):
        same = (pair.get("agreement") or 0.0) >= AGREEMENT_WANTED
        fast = lookup.model_named(results, pair["a"])
        if same and (pair.get("speedup") or 0.0) > 1 and fast is not None:
            return Row(("Mode", str(fast.get("mode"))), rests_on=(f"comparisons/{i}",))
    return Row(("Mode", str(model.get("mode"))), rests_on=(f"models/{model['name']}",))


def _evidence(results: JsonDict, key: str, value: Any) -> tuple[str, ...]:
    """Return the sweeps whose best member has this value."""
    found = []
    for entry in results.get("sweeps") or ():
        index = lookup.best_member(entry)
        if index is not None and entry["members"][index]["values"].get(key) == value:
            found.append(f"sweeps/{entry['name']}")
    return tuple(found)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def targets(results: JsonDict) -> Table | None:
    """Return the figures that the study set out to reach."""
    entries = results.get("targets") or ()
    if not entries:
        return None
    rows = []
    for i, target in enumerate(entries):
        what = str(target.get("metric"))
        against = f" against {target['against']}" if target.get("against") else ""
        operator = _OPERATORS.get(str(target.get("op")), str(target.get("op")))
        rows.append(
            Row(
                (
                    str(target.get("part") or MISSING),
                    what.replace(".", " ").replace("_", " ") + against,
                    f"{operator} {_figure(what, target.get('value'))}",
                    _figure(what, target.get("got")),
                    "met" if target.get("met") else "missed",
                ),
                refs=(f"targets/{i}",),
                strong=not target.get("met"),
            )
        )
    return Table(
        key="targets",
        caption="Targets of the study.",
        columns=(
            Column("Part"),
            Column("Measure"),
            Column("Wanted", "right"),
            Column("Got", "right"),
            Column("Outcome"),
        ),
        rows=tuple(rows),
        priority=1,
    )


def _figure(measure: str, value: float | None) -> str:
    last = measure.rpartition(".")[2]
    if value is None:
        return MISSING
    if any(last.startswith(word) or last.endswith(word) for word in _SHARES):
        return percent(value)
    return times(value) if last == "speedup" else quantity(value)

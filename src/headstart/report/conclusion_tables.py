"""Tables that end a report: the recommended values and the targets."""

from typing import Any

from headstart.report import data_tables, kinds, lookup, nouns, stage_tables
from headstart.report.advice import AGREEMENT_WANTED
from headstart.report.records import Column, Row, Table
from headstart.report.text import (
    MISSING,
    capital,
    decimal,
    percent,
    plural,
    quantity,
    setting,
    times,
)
from headstart.types import JsonDict

_OPERATORS = {">=": "≥", "<=": "≤", ">": ">", "<": "<", "==": "="}
_STAGED = "staged"  # the mode of a training whose stages each say how they get their features
_SHARES = ("accuracy", "precision", "recall", "f1", "macro", "agreement")


def recommended_values(results: JsonDict, model: JsonDict | None) -> Table | None:
    """Return the value of each setting that was varied, with the rows that it rests on."""
    if model is None or kinds.is_baseline(model):
        return None
    rows = _vote(results, model) if kinds.is_ensemble(model) else _settings(results, model)
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


def _settings(results: JsonDict, model: JsonDict) -> list[Row]:
    """Return what was decided about a single model."""
    own = (f"models/{model['name']}",)
    rows = _varied(results, model)
    if kinds.staged(results):
        rows += _stages(model)
    entries = [*kinds.trained(results), *kinds.zero_shots(results)]
    name = (kinds.backbone(results, model) or {}).get("name", model.get("backbone"))
    modes = {m.get("mode") for m in kinds.trained(results)} - {_STAGED}
    if len(modes) > 1 and model.get("mode") != _STAGED and not kinds.is_zero_shot(model):
        rows.append(_mode(results, model))
    if len({m.get("backbone") for m in entries}) > 1:
        rows.append(Row(("Backbone", str(name)), rests_on=own))
    fit = _fit(kinds.backbone(results, model))
    twins = [b for b in results.get("backbones") or () if b.get("name") == name]
    if len({_fit(b) for b in twins}) > 1:
        rows.append(
            Row((f"{nouns.heading(results)} are", data_tables.FITS.get(fit, fit)), rests_on=own)
        )
    if len({m.get("labels_per_class") for m in entries}) > 1:
        rows.append(Row(("Labels per class", setting(model.get("labels_per_class"))), rests_on=own))
    return rows


def _fit(backbone: JsonDict | None) -> str:
    return str(((backbone or {}).get("input") or {}).get("fit"))


def _varied(results: JsonDict, model: JsonDict) -> list[Row]:
    """Return the settings of a trained model that were swept, or in which models differ."""
    hidden = stage_tables.SHOWN if kinds.staged(results) else ()
    values = {k: v for k, v in lookup.hyperparameters(model).items() if k not in hidden}
    swept = list(dict.fromkeys(k for s in results.get("sweeps") or () for k in lookup.axes(s)))
    varied = [k for k in lookup.differing(kinds.trained(results)) if k in values]
    keys = [*(k for k in swept if k in values), *(k for k in varied if k not in swept)]
    return [
        Row(
            (capital(words), setting(values[key])),
            rests_on=_evidence(results, key, values[key]) or (f"models/{model['name']}",),
        )
        for key, words in lookup.setting_names(keys).items()
    ]


def _stages(model: JsonDict) -> list[Row]:
    """Return what each stage of a model's training does."""
    rows = []
    for i, stage in enumerate(kinds.stages(model)):
        said = [str(stage["trainable"])] if stage.get("trainable") else []
        said += [plural(stage["epochs"], "epoch")] if stage.get("epochs") else []
        said += [str(stage["optimizer"])] if stage.get("optimizer") else []
        if stage.get("learning_rate"):
            said.append(f"learning rate {setting(float(stage['learning_rate']))}")
        rows.append(
            Row(
                (f"Stage {i + 1} trains", ", ".join(said) or MISSING),
                rests_on=(f"models/{model['name']}/stages/{i}",),
            )
        )
    return rows


def _vote(results: JsonDict, model: JsonDict) -> list[Row]:
    """Return how an ensemble votes, and the weight of each member."""
    vote = model.get("ensemble") or {}
    own = (f"models/{model['name']}/ensemble",)
    rows = [Row(("Voting", str(vote.get("voting") or MISSING)), rests_on=own)]
    members = [str(n) for n in vote.get("members") or ()]
    weights = list(vote.get("weights") or ())
    for i, name in enumerate(members):
        weight = decimal(weights[i], 3) if i < len(weights) else MISSING
        words = f"Weight of {lookup.quoted(results, name)}"
        rows.append(Row((words, weight), rests_on=(f"models/{name}",)))
    return rows


def _mode(results: JsonDict, model: JsonDict) -> Row:
    """Return the mode to train in: the faster one, where it was shown to do the same."""
    for i, pair in enumerate(results.get("comparisons") or ()):
        same = (pair.get("agreement") or 0.0) >= AGREEMENT_WANTED
        fast = lookup.model_named(results, pair["a"])
        gained = (pair.get("speedup") or 0.0) > 1
        if same and gained and fast is not None and fast.get("mode") != _STAGED:
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

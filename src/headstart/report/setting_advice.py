"""Rules over sweeps: the best value of each setting, and whether the grid reached far enough."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import lookup, measures
from headstart.report.measures import Measure
from headstart.report.text import Measured, listing, setting
from headstart.types import JsonDict

_TOPICS = {"learning_rate": "learning-rate", "momentum": "momentum"}
_MOMENTUM = "optimizer.momentum"
_SIDE_SETTINGS = ("optimizer.nesterov",)  # means nothing where momentum is 0


def sweeps(results: JsonDict) -> list[JsonDict]:
    """Return one sentence per setting and grid; sweeps over the same grid share it.

    Args:
        results: The content of results.json.

    Returns:
        Sentences of the recommendation, each citing its sweeps and the models compared with.
    """
    grids: dict[str, list[JsonDict]] = {}
    for sweep in results.get("sweeps") or ():
        grids.setdefault(json.dumps(lookup.axes(sweep), sort_keys=True), []).append(sweep)
    said = []
    for same in grids.values():
        rows = [f"sweeps/{s['name']}" for s in same]
        if all(lookup.best_member(s) is None for s in same):
            titles = listing([_title(s) for s in same])
            for key in lookup.axes(same[0]):
                text = (
                    f"{titles}: every member diverged, so there is no value to recommend for "
                    f"{_name(same[0], key)}; try values below {_smallest(same[0], key)}."
                )
                said.append({"topic": _topic(key), "text": text, "rows": rows})
            continue
        for key in lookup.axes(same[0]):
            text, cited = _axis(results, same, key)
            said.append({"topic": _topic(key), "text": text, "rows": [*rows, *cited]})
    return said


def at_edge(values: Sequence[Any], best: Any) -> str | None:
    """Say at which end of a grid its best value lies.

    Args:
        values: The grid of one setting.
        best: The value that won.

    Returns:
        ``low``, ``high`` or None. A best value of 0 is no low edge: there is nothing below it to
        try. Neither has a grid of one value, or of words, any edge.
    """
    numbers = sorted(v for v in values if isinstance(v, int | float) and not isinstance(v, bool))
    if len(set(numbers)) < 2 or len(numbers) != len(values):
        return None
    if best == numbers[-1]:
        return "high"
    return "low" if best == numbers[0] and best != 0 else None


def _topic(key: str) -> str:
    return _TOPICS.get(key.rpartition(".")[2], "model")


def _name(sweep: Mapping[str, Any], key: str) -> str:
    return lookup.setting_names(list(lookup.axes(sweep)))[key]


def _title(sweep: Mapping[str, Any]) -> str:
    return f"“{sweep.get('title') or sweep['name']}”"


def _smallest(sweep: Mapping[str, Any], key: str) -> str:
    values = lookup.axes(sweep)[key]
    numbers = [v for v in values if isinstance(v, int | float)]
    return setting(min(numbers)) if numbers else setting(values[0])


def _axis(results: JsonDict, same: Sequence[JsonDict], key: str) -> tuple[str, list[str]]:
    """Return what one setting's sweep says, and which models it was compared with."""
    first = next(s for s in same if lookup.best_member(s) is not None)
    split = (first.get("select") or {}).get("split") or "val"
    word = lookup.split_word(split)
    index = lookup.best_member(first)
    assert index is not None
    winner = first["members"][index]
    best = winner["values"][key]
    measure = measures.chosen_by(results)
    score = lookup.metric(winner, split, measure.key)
    line = _line(first, winner, key)
    name = _name(first, key)
    grid = _values(lookup.axes(first)[key])
    text = f"Of the values {grid} for {name}, {setting(best)} is best"
    text += "." if score is None else f", with {measure.score(score)} on {word}."
    text += _rivals(measure, line, score, key, split)
    dead = [m["values"][key] for m in line if not lookup.complete(m)]
    if dead:
        text += f" Training diverged with {_values(dead)}."
    cited: list[str] = []
    reference = None
    if key == _MOMENTUM and best != 0 and score is not None:
        reference, where = _without_momentum(results, first, winner, split)
        if reference is not None:
            text += _gain(measure, score, reference, word)
            cited = where
    text += _edge(first, key, best, known_zero=reference is not None)
    for other in same:
        if other is not first:
            text += _echo(other, key, best)
    return text, cited


def _line(sweep: Mapping[str, Any], winner: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the members that differ from the best one in this setting alone."""
    rest = {k: v for k, v in winner["values"].items() if k != key}
    return [
        m for m in sweep["members"] if {k: v for k, v in m["values"].items() if k != key} == rest
    ]


def _values(values: Sequence[Any]) -> str:
    return listing([setting(v) for v in values])


def _rivals(
    measure: Measure,
    line: Sequence[Mapping[str, Any]],
    best: Measured | None,
    key: str,
    split: str,
) -> str:
    """Say which other values of the setting cannot be told from the best."""
    scores = [
        (m["values"][key], lookup.metric(m, split, measure.key)) for m in line if not m.get("best")
    ]
    known = [(v, s) for v, s in scores if s is not None]
    if best is None or not known:
        return ""
    near = [(v, s) for v, s in known if not measure.apart(best, s)]
    if not near:
        return f" Every other value lies {measure.beyond} its interval."
    named = listing([f"{setting(v)} ({measure.value(s.value)})" for v, s in near])
    return f" Inside its interval, and so indistinguishable from it: {named}."


def _edge(sweep: Mapping[str, Any], key: str, best: Any, known_zero: bool) -> str:
    """Say whether the best value lies at an end of the grid, and where to look next."""
    values = lookup.axes(sweep)[key]
    edge = at_edge(values, best)
    # A run with momentum 0 beside the sweep extends its grid downwards.
    if edge is None or (edge == "low" and key == _MOMENTUM and known_zero):
        return ""
    numbers = sorted(values)
    neighbour = numbers[-2] if edge == "high" else numbers[1]
    text = f" It lies at the {edge} end of the grid, so a better value may lie beyond: try "
    if key.rpartition(".")[2] == "momentum" or not (best > 0 and neighbour > 0):
        return text + f"{'larger' if edge == 'high' else 'smaller'} values."
    step = float(f"{best * best / neighbour:.3g}")  # one more step of the grid's own factor
    return text + f"{setting(step)}."


def _echo(sweep: Mapping[str, Any], key: str, best: Any) -> str:
    """Say whether another sweep over the same grid agrees."""
    name = _title(sweep)
    index = lookup.best_member(sweep)
    if index is None:
        return f" In {name} every member diverged."
    other = sweep["members"][index]["values"][key]
    if other == best:
        return f" {name} agrees."
    return f" {name} prefers {setting(other)}."


def _without_momentum(
    results: JsonDict, sweep: Mapping[str, Any], winner: Mapping[str, Any], split: str
) -> tuple[Measured | None, list[str]]:
    """Return the score of the same training with momentum 0, and the row that holds it.

    It is looked for in the sweep itself, then among the models: one whose settings are those of
    the sweep's best model, momentum apart.
    """
    rest = {k: v for k, v in winner["values"].items() if k != _MOMENTUM}
    score = measures.chosen_by(results).key
    for member in sweep["members"]:
        if member["values"] == {**rest, _MOMENTUM: 0}:
            return lookup.metric(member, split, score), []
    model = lookup.model_named(results, sweep.get("best_model"))
    if model is None:
        return None, []

    def others(m: Mapping[str, Any]) -> tuple[Any, ...]:
        settings = {
            k: v
            for k, v in lookup.hyperparameters(m).items()
            if k != _MOMENTUM and k not in _SIDE_SETTINGS
        }
        return settings, m.get("backbone"), m.get("labels_per_class")

    same = [
        m
        for m in lookup.models(results)
        if lookup.hyperparameters(m).get(_MOMENTUM) == 0
        and others(m) == others(model)
        and lookup.metric(m, split, score) is not None
    ]
    same.sort(key=lambda m: m.get("mode") != sweep.get("mode"))
    if not same:
        return None, []
    return lookup.metric(same[0], split, score), [f"models/{same[0]['name']}"]


def _gain(measure: Measure, best: Measured, reference: Measured, word: str) -> str:
    """Say whether momentum gained more than the noise."""
    gain = f"{measure.gain(best.value - reference.value)} on {word}"
    text = f" Against momentum 0 ({measure.value(reference.value)}) that is {gain}, "
    if not measure.apart(best, reference):
        return text + "inside the interval: no difference that could be told from noise."
    if measure.rank(best) < measure.rank(reference):
        return text + "more than the interval: a real gain."
    return text + "a real loss: leave momentum at 0."

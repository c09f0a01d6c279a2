"""A rule on how much of a score is the luck of its seed."""

from collections.abc import Sequence

from headstart.report import lookup, measures, nouns, seed_tables
from headstart.report.measures import Measure
from headstart.report.text import Measured, count, decimal, plural, quantity
from headstart.types import JsonDict


def luck(results: JsonDict, ranked: Sequence[JsonDict]) -> list[JsonDict]:
    """Return how far the seed alone moves a score, against the interval of one training.

    The interval says what another test split of the same size would change; the spread over seeds
    what another training on the same data would. Neither holds the other.

    Args:
        results: The content of results.json.
        ranked: The finished models, the one to choose first.

    Returns:
        One sentence on the first of the models that was trained from several seeds, or nothing.
    """
    trained = {m["name"]: found for m, found in seed_tables.entries(results)}
    measure = measures.chosen_by(results)
    for model in ranked:
        found = trained.get(model["name"])
        of = None if found is None else seed_tables.spread(found, "test", measure)
        values = (of or {}).get("values") or ()
        if of is None or of.get("sd") is None or len(values) < 2:
            continue
        sd = seed_tables.deviation(measure, of["sd"])
        unit = " points" if measure.digits is None else ""
        text = (
            f"Over {count(len(values))} seeds {lookup.quoted(results, model['name'])} has a mean "
            f"test {measure.words} of {measure.value(of['mean'])}, from "
            f"{measure.value(min(values))} to {measure.value(max(values))}, with a standard "
            f"deviation of {sd}{unit}."
        )
        if found is not None and (gone := seed_tables.lost(found)):
            text += f" {plural(gone, 'seed')} more diverged."
        text += _against(results, measure, of["sd"], lookup.metric(model, "test", measure.key))
        rows = [f"models/{model['name']}/seeds", f"models/{model['name']}"]
        return [{"topic": "seeds", "text": text, "rows": rows}]
    return []


def _against(results: JsonDict, measure: Measure, sd: float, score: Measured | None) -> str:
    """Hold the spread of seeds against the interval of one training."""
    if score is None or score.interval is None:
        return ""
    low, high = score.interval
    half = (high - low) / 2
    figures = f"Two of these, ±{_width(measure, 2 * sd)}, are what luck of the seed may do: "
    if 2 * sd <= half:
        return (
            f" {figures}less than the ±{_width(measure, half)} of the interval, which is owed to "
            f"the number of test {nouns.many(results)}."
        )
    return (
        f" {figures}more than the ±{_width(measure, half)} of the interval, which knows one "
        "training only: a difference of that size between two models may be luck. Average over "
        "seeds before you believe it."
    )


def _width(measure: Measure, value: float) -> str:
    if measure.digits is None:
        return f"{decimal(100 * value, 1)} points"
    return quantity(value, 2)

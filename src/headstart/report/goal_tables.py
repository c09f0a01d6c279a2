"""The table of scores of models that do not classify: regressions and language models."""

from collections.abc import Sequence

from headstart.report import kinds, lookup, measures, nouns, score_tables
from headstart.report.measures import MAE, MSE, PERPLEXITY, Measure
from headstart.report.records import Column, Row, Table
from headstart.report.text import MISSING, capital, count, durations
from headstart.types import JsonDict


def scores(results: JsonDict, recommended: str | None) -> Table | None:
    """Return the scores of all models, with what they cost to train.

    Args:
        results: The content of results.json of a regression or a language model.
        recommended: The name of the recommended model, or None.

    Returns:
        The table, or None where there are no models.
    """
    models = lookup.models(results)
    if not models:
        return None
    columns: list[tuple[Column, Sequence[str]]] = [(Column("Model"), [_name(m) for m in models])]
    for split, measure in _wanted(results):
        cells = [measure.cells(lookup.metric(m, split, measure.key)) for m in models]
        group = f"{capital(lookup.split_word(split))} {measure.head}"
        columns.append((Column("value", "right", group), [c[0] for c in cells]))
        columns.append((Column("95% interval", "right", group), [c[1] for c in cells]))
    parameters = [m.get("parameters_total") for m in models]
    if any(parameters):
        columns.append((Column("Parameters", "right"), [count(n) for n in parameters]))
    epochs = [sum(s.get("epochs") or 0 for s in kinds.stages(m)) for m in models]
    if any(epochs) and measures.chosen_by(results) is PERPLEXITY:  # else in the table of stages
        columns.append((Column("Epochs", "right"), [count(n) if n else MISSING for n in epochs]))
    unit, seconds = durations([lookup.training_seconds(m) for m in models])
    if any(text != MISSING for text in seconds):
        columns.append((Column(f"Training, {unit}", "right"), seconds))
    rows = [
        Row(
            tuple(texts[i] for _, texts in columns),
            refs=(f"models/{model['name']}",),
            strong=model["name"] == recommended,
            label=str(model.get("part") or ""),
        )
        for i, model in enumerate(models)
    ]
    return Table(
        key="scores",
        caption=score_tables.caption(recommended),
        columns=tuple(column for column, _ in columns),
        rows=score_tables.with_own_letters(rows),
        note=f"{_meaning(results)} {score_tables.remarks(results)}".strip(),
        priority=1,
    )


def _name(model: JsonDict) -> str:
    title = str(model.get("title") or model["name"])
    return title if lookup.complete(model) else f"{title} ({model.get('state')})"


def _wanted(results: JsonDict) -> list[tuple[str, Measure]]:
    """Return the scores that some model has, validation before test."""
    measure = measures.chosen_by(results)
    wanted = [("val", measure), ("test", measure)]
    if measure is MSE:
        wanted.append(("test", MAE))
    models = lookup.models(results)
    return [(s, of) for s, of in wanted if any(lookup.metric(m, s, of.key) for m in models)]


def _meaning(results: JsonDict) -> str:
    """Say what the scores and their intervals mean."""
    if measures.chosen_by(results) is PERPLEXITY:
        return (
            "Perplexity is the exponential of the mean loss per token. Its interval comes from "
            "resampling blocks of neighbouring tokens, which depend on each other."
        )
    return (
        "MSE: mean squared error; MAE: mean absolute error. Their intervals come from resampling "
        f"{nouns.many(results)}."
    )

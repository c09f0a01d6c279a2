"""Rules on the models that look at no input: whether learning anything beats them."""

from headstart.report import differences, kinds, lookup, measures, nouns, pairwise
from headstart.types import JsonDict


def against(results: JsonDict, best: JsonDict) -> list[JsonDict]:
    """Return how the recommended model does against the best baseline.

    Args:
        results: The content of results.json.
        best: The recommended model.

    Returns:
        One sentence, or nothing where the run has no baseline with a score.
    """
    split = lookup.choosing_split(results)
    measure = measures.chosen_by(results)
    scored = [
        (m, score)
        for m in kinds.baselines(results)
        if (score := lookup.metric(m, split, measure.key)) is not None
    ]
    reached = lookup.metric(best, split, measure.key)
    if not scored or reached is None:
        return []
    model, score = min(scored, key=lambda pair: measure.rank(pair[1]))
    word, noun = lookup.split_word(split), nouns.one(results)
    name, other = (lookup.quoted(results, m["name"]) for m in (best, model))
    figures = f"{measure.score(reached)} against {measure.score(score)} on {word}"
    if best is model:
        text = (
            f"No model was better than {name}, which says the same of every {noun}: nothing was "
            "learnt that helps. Train longer, or with another learning rate, before using any."
        )
        return [{"topic": "model", "text": text, "rows": [f"models/{model['name']}"]}]
    said_same = f"{other}, which says the same of every {noun}"
    tested = pairwise.between(results, best["name"], model["name"])
    if tested is not None:
        figures += f"; {differences.paired_text(results, tested.difference, 'test', tested)}"
    if tested is not None and differences.survived(results, tested) == "worse":
        text = f"{name} is worse on test than {said_same}: {figures}."
    elif pairwise.apart(results, best, model, split):
        text = f"{name} beats {said_same}: {figures}."
    else:
        text = f"{name} cannot be told from {said_same}: {figures}."
    rows = [f"models/{m['name']}" for m in (best, model)]
    rows += pairwise.rows(results, (best, model))
    return [{"topic": "model", "text": text, "rows": rows}]

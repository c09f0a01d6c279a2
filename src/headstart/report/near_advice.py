"""Rules on the models that cannot be told from the recommended one, and on what they cost."""

from collections.abc import Sequence

from headstart.report import differences, kinds, lookup, measures, nouns, pairwise
from headstart.report.pairwise import Tested
from headstart.report.text import count, duration, listing, quantity
from headstart.types import JsonDict

_MOST_NAMED = 5  # a sentence that names more models is not read
_CHEAPER = 0.9  # times that differ by less than a tenth are not called shorter


def near(results: JsonDict, best: JsonDict, others: Sequence[JsonDict]) -> list[JsonDict]:
    """Return which models cannot be told from the recommended one.

    Tests between models decide where the run made them: a difference that does not survive the
    correction for their number is none. Else validation scores do, by the report's rule for scores
    without a test (`Measure.apart`).

    Args:
        results: The content of results.json.
        best: The recommended model.
        others: The other finished models, baselines left out.

    Returns:
        Sentences of the recommendation.
    """
    candidates = [m for m in others if _comparable(results, best, m)]
    if not pairwise.pairs(results):
        return _by_intervals(results, best, candidates)
    tested = [
        (m, found)
        for m in candidates
        if (found := pairwise.between(results, m["name"], best["name"])) is not None
    ]
    return [*_same(results, best, tested), *_better(results, best, tested)]


def _comparable(results: JsonDict, best: JsonDict, model: JsonDict) -> bool:
    """Return whether a model is to be held against the best one here.

    Other numbers of labels have a sentence of their own, and so have ensembles whose figure is
    better on the split that chooses (`cost_advice.why_single`).
    """
    split = lookup.choosing_split(results)
    measure = measures.chosen_by(results)
    chosen, score = (lookup.metric(m, split, measure.key) for m in (best, model))
    if chosen is None or score is None:
        return False
    if kinds.is_ensemble(model) and measure.rank(score) < measure.rank(chosen):
        return False
    return bool(model.get("labels_per_class") == best.get("labels_per_class"))


def _sentence(text: str, best: JsonDict, models: Sequence[JsonDict], *rows: str) -> JsonDict:
    named = [f"models/{m['name']}" for m in (best, *models)]
    return {"topic": "model", "text": text, "rows": [*named, *dict.fromkeys(rows)]}


def _shown(models: Sequence[JsonDict]) -> Sequence[JsonDict]:
    return models if len(models) <= _MOST_NAMED else models[: _MOST_NAMED - 1]


def _same(
    results: JsonDict, best: JsonDict, tested: Sequence[tuple[JsonDict, Tested]]
) -> list[JsonDict]:
    """Say which differences do not survive the tests, and which of those models costs less."""
    if not tested:
        return []
    close = [(m, found) for m, found in tested if not found.distinguishable]
    name, way = lookup.quoted(results, best["name"]), pairwise.method(results)
    if not close:
        named = lookup.naming(results, [m["name"] for m, _ in tested], _MOST_NAMED)
        shown = _shown([m for m, _ in tested])
        text = f"On {pairwise.on(results)}, {way} tells {name} from {named}."
        return [_sentence(text, best, shown, *(t.row for _, t in tested[: len(shown)]))]
    models = [m for m, _ in close]
    shown = _shown(models)
    one = len(close) == 1
    text = (
        f"On {pairwise.on(results)}, {lookup.naming(results, [*_names(models)], _MOST_NAMED)} "
        f"{'is' if one else 'are'} indistinguishable from {name}: "
    )
    if len(close) <= _MOST_NAMED:
        gains = [_figures(results, found) for _, found in close]
        text += f"{'the difference' if one else 'the differences'}, {listing(gains)}, "
        text += f"{'does' if one else 'do'} not survive {way}."
    else:
        text += f"none of these differences survives {way}."
    cheaper = _cheapest(results, best, models)
    if cheaper is None:
        text += _training_time(best, models)
        return [_sentence(text, best, shown, *(t.row for _, t in close[: len(shown)]))]
    text += _costs_less(results, best, cheaper)
    shown = [*shown, *([] if cheaper in shown else [cheaper])]
    rows = [t.row for m, t in close if m in shown]
    rows += [f"models/{m['name']}/prediction" for m in (best, cheaper)]
    return [_sentence(text, best, shown, *rows)]


def _names(models: Sequence[JsonDict]) -> list[str]:
    return [m["name"] for m in models]


def _figures(results: JsonDict, tested: Tested) -> str:
    text = differences.paired_text(results, tested.difference, "test", tested)
    return text.removesuffix(f" on {pairwise.on(results)}")


def _better(
    results: JsonDict, best: JsonDict, tested: Sequence[tuple[JsonDict, Tested]]
) -> list[JsonDict]:
    """Say where test contradicts the choice, which it must not change."""
    said = []
    for model, found in tested[:_MOST_NAMED]:
        if differences.survived(results, found) != "better":
            continue
        one, name = (lookup.quoted(results, m["name"]) for m in (model, best))
        word = lookup.split_word(lookup.choosing_split(results))
        text = (
            f"{one} is better than {name} on test, {_figures(results, found)}, yet {word} chose "
            f"{name}. Test takes no part in the choice; more {word} {nouns.many(results)} would "
            "settle it."
        )
        said.append(_sentence(text, best, [model], found.row))
    return said


def _cheapest(results: JsonDict, best: JsonDict, models: Sequence[JsonDict]) -> JsonDict | None:
    """Return the quickest model whose prediction takes clearly less time, else the smallest."""
    own = kinds.prediction_ms(results, best)
    if own is None:
        return None
    timed = [(ms, m) for m in models if (ms := kinds.prediction_ms(results, m)) is not None]
    quicker = [(ms, m) for ms, m in timed if ms < _CHEAPER * own]
    if quicker:
        return min(quicker, key=lambda pair: pair[0])[1]
    size = best.get("parameters_total")
    smaller = [(n, m) for _, m in timed if (n := m.get("parameters_total")) and size and n < size]
    return min(smaller, key=lambda pair: pair[0])[1] if smaller else None


def _costs_less(results: JsonDict, best: JsonDict, cheaper: JsonDict) -> str:
    """Say what the cheaper model costs against the recommended one."""
    parts = []
    times = [kinds.prediction_ms(results, m) for m in (cheaper, best)]
    if times[0] is not None and times[1] is not None:
        noun = nouns.one(results)
        parts.append(f"{quantity(times[0])} ms per {noun} against {quantity(times[1])}")
    sizes = [m.get("parameters_total") for m in (cheaper, best)]
    if sizes[0] and sizes[1] and sizes[0] != sizes[1]:
        parts.append(f"{count(sizes[0])} parameters against {count(sizes[1])}")
    name = lookup.quoted(results, cheaper["name"])
    return f" {name} costs less: {listing(parts)}. Use it where that counts."


def _by_intervals(
    results: JsonDict, best: JsonDict, candidates: Sequence[JsonDict]
) -> list[JsonDict]:
    """Say which validation scores lie inside the interval of the best one."""
    split = lookup.choosing_split(results)
    close = [m for m in candidates if not pairwise.apart(results, best, m, split)]
    if not close:
        return []
    named = lookup.naming(results, _names(close), _MOST_NAMED)
    text = (
        f"On {lookup.split_word(split)}, {named} {'is' if len(close) == 1 else 'are'} "
        f"indistinguishable from {lookup.quoted(results, best['name'])}: "
        f"{_span(results, close, split)}, inside its interval."
    )
    text += _training_time(best, close)
    return [_sentence(text, best, _shown(close))]


def _span(results: JsonDict, models: Sequence[JsonDict], split: str) -> str:
    """Write a few figures one by one, many by their ends."""
    measure = measures.chosen_by(results)
    scores = [lookup.metric(m, split, measure.key) for m in models]
    known = [s.value for s in scores if s is not None]
    if len(known) <= _MOST_NAMED:
        return listing([measure.value(v) for v in known])
    return f"{measure.value(min(known))} to {measure.value(max(known))}"


def _training_time(best: JsonDict, close: Sequence[JsonDict]) -> str:
    """Say where the choice also costs less time to train, or where a near one would."""
    seconds = lookup.training_seconds(best)
    slower = [s for m in close if (s := lookup.training_seconds(m)) is not None]
    if seconds is None or not slower:
        return ""
    if max(slower) > 2 * seconds:
        longest = duration(max(slower))
        return f" It took {duration(seconds)}, the slowest of them {longest}."
    if min(slower) < seconds / 2:
        shortest = duration(min(slower))
        return f" It took {duration(seconds)}, the quickest of them {shortest}."
    return ""

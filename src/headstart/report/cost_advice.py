"""Rules on how good models are against size and computation: single models, then ensembles."""

from collections.abc import Sequence

from headstart.report import differences, kinds, lookup, measures, nouns, pairwise
from headstart.report.measures import Measure
from headstart.report.text import Measured, listing, mebibytes, plural, quantity, times
from headstart.types import JsonDict


def sizes(results: JsonDict, ranked: Sequence[JsonDict]) -> list[JsonDict]:
    """Return which model is the smallest that cannot be told from the best, and what more costs.

    Args:
        results: The content of results.json.
        ranked: The finished models, the one to choose first.

    Returns:
        Sentences on the trained models, where prediction was timed and sizes differ.
    """
    split = lookup.choosing_split(results)
    known = [m for m in ranked if kinds.is_trained(m) and m.get("size_bytes")]
    if len({m["size_bytes"] for m in known}) < 2:
        return []
    if all(kinds.prediction_ms(results, m) is None for m in known):
        return []
    best = known[0]
    inside = [m for m in known if m is best or not pairwise.apart(results, best, m, split)]
    small = min(inside, key=lambda m: float(m["size_bytes"]))
    large = max(known, key=lambda m: float(m["size_bytes"]))
    said = [_smallest(results, known, small)]
    if large["size_bytes"] > small["size_bytes"]:
        said.append(_largest(results, split, large, small))
    return said


def _score(model: JsonDict, split: str, measure: Measure) -> Measured:
    score = lookup.metric(model, split, measure.key)
    assert score is not None  # ranked models have one
    return score


def _cost(results: JsonDict, model: JsonDict) -> str:
    """Write a model's size, and its prediction time where it is known."""
    text = f"{mebibytes(model['size_bytes'])} MiB"
    time = kinds.prediction_ms(results, model)
    return text if time is None else f"{text} and {quantity(time)} ms per {nouns.one(results)}"


def _smallest(results: JsonDict, known: Sequence[JsonDict], small: JsonDict) -> JsonDict:
    """Say which model is the smallest that cannot be told from the first, which is the best."""
    best = known[0]
    split = lookup.choosing_split(results)
    measure = measures.chosen_by(results)
    word = lookup.split_word(split)
    name = lookup.quoted(results, best["name"])
    top = measure.value(_score(best, split, measure).value)
    text = f"Of the single models {name} is best on {word} ({top}), with {_cost(results, best)}. "
    rows = [f"models/{best['name']}", f"models/{best['name']}/prediction"]
    if small["size_bytes"] < best["size_bytes"]:
        value = measure.value(_score(small, split, measure).value)
        text += (
            f"The smallest that cannot be told from it is {lookup.quoted(results, small['name'])} "
            f"({value}), with {_cost(results, small)}."
        )
        rows += [f"models/{small['name']}", f"models/{small['name']}/prediction"]
        rows += pairwise.rows(results, (best, small))
    elif smaller := [m for m in known if m["size_bytes"] < best["size_bytes"]]:
        tests = pairwise.rows(results, *((best, m) for m in smaller))
        if tests:
            text += f"On {pairwise.on(results)} every smaller model can be told from it."
        else:
            text += f"Every smaller model lies {measure.beyond} its interval."
        rows += tests
    else:
        text += "No model is smaller."
    return {"topic": "cost", "text": text, "rows": rows}


def _largest(results: JsonDict, split: str, large: JsonDict, small: JsonDict) -> JsonDict:
    """Say what the largest model costs against the smallest good one, and for what gain."""
    measure = measures.chosen_by(results)
    one, other = (lookup.quoted(results, m["name"]) for m in (large, small))
    text = f"The largest, {one}, has {times(large['size_bytes'] / small['size_bytes'])} the weights"
    slow, quick = (kinds.prediction_ms(results, m) for m in (large, small))
    if slow is not None and quick:
        pace = (
            f"and takes {times(slow / quick)} its time per {nouns.one(results)}"
            if slow >= quick
            else f"yet is {times(quick / slow)} as fast"
        )
        text += f" of {other} {pace}"
    else:
        text += f" of {other}"
    first, second = _score(large, split, measure), _score(small, split, measure)
    tested = pairwise.between(results, large["name"], small["name"])
    if tested is not None:
        text += f", for {differences.paired_text(results, tested.difference, 'test', tested)}: "
        better = differences.survived(results, tested) == "better"
    else:
        gain = measure.gain(first.value - second.value)
        if measure.digits is not None:
            gain += f" of {measure.words}"
        text += f", for {gain} on {lookup.split_word(split)}: "
        better = measure.rank(first) < measure.rank(second)
    if not pairwise.apart(results, large, small, split):
        text += "the two cannot be told apart."
    elif better:
        text += "a real gain, at that price."
    else:
        text += f"more weights for {'less' if measure.higher else 'a higher'} {measure.words}."
    tests = [lookup.metric(m, "test", measure.key) for m in (large, small)]
    if split != "test" and tests[0] is not None and tests[1] is not None:
        reached = [measure.value(t.value) for t in tests if t is not None]
        text += f" On test they reach {reached[0]} and {reached[1]}."
    rows = [f"models/{m['name']}{tail}" for m in (large, small) for tail in ("", "/prediction")]
    rows += pairwise.rows(results, (large, small))
    return {"topic": "cost", "text": text, "rows": rows}


def ensembles(results: JsonDict) -> list[JsonDict]:
    """Return whether each ensemble's gain over its best member is worth its added time.

    Args:
        results: The content of results.json.

    Returns:
        One sentence per ensemble whose gain was measured.
    """
    said = []
    for model in kinds.ensembles(results):
        vote = model["ensemble"]
        gain = lookup.measured(vote.get("gain"))
        best = lookup.model_named(results, vote.get("best_member"))
        if gain is None or best is None or not lookup.complete(model):
            continue
        name, member = (lookup.quoted(results, m["name"]) for m in (model, best))
        tested = pairwise.between(results, model["name"], best["name"])
        outcome = differences.of_vote(results, model)
        text = f"{name} against its best member, {member}: "
        text += differences.paired_text(results, gain, "test", tested)
        text += {
            "better": ": the vote is a real gain. ",
            "worse": ": the vote is worse. ",
            "same": ". The two cannot be told apart. ",
            "unknown": ". Without an interval there is no verdict. ",
        }[outcome]
        text += _worth(results, model, best, outcome)
        rows = [f"models/{model['name']}/ensemble", *(f"models/{m['name']}" for m in (model, best))]
        rows += pairwise.rows(results, (model, best))
        said.append({"topic": "ensemble", "text": text.strip(), "rows": rows})
    return said


def _worth(results: JsonDict, model: JsonDict, best: JsonDict, outcome: str) -> str:
    """Say what the votes cost at every prediction, and whether that is well spent."""
    members = plural(len(model["ensemble"].get("members") or ()), "network")
    together, alone = (kinds.prediction_ms(results, m) for m in (model, best))
    if together is None or not alone:
        text = f"The vote runs {members} at every prediction instead of one"
    else:
        text = (
            f"The vote takes {quantity(together)} ms per {nouns.one(results)} instead of "
            f"{quantity(alone)} ({times(together / alone)})"
        )
    if outcome == "better":
        return f"{text}: worth it where accuracy counts more than time."
    return text + (": not worth its time here." if outcome in ("same", "worse") else ".")


def why_single(results: JsonDict, best: JsonDict) -> list[JsonDict]:
    """Return why a single model was chosen where an ensemble has the higher figure.

    Args:
        results: The content of results.json.
        best: The recommended model.

    Returns:
        One sentence, or nothing where no ensemble scored higher on the split that chooses.
    """
    split = lookup.choosing_split(results)
    measure = measures.chosen_by(results)
    chosen = lookup.metric(best, split, measure.key)
    if kinds.is_ensemble(best) or chosen is None:
        return []
    higher = [
        m
        for m in lookup.models(results)
        if kinds.is_ensemble(m)
        and lookup.complete(m)
        and (score := lookup.metric(m, split, measure.key)) is not None
        and measure.rank(score) < measure.rank(chosen)
    ]
    if not higher:
        return []
    values = [measure.value(_score(m, split, measure).value) for m in higher]
    one = len(higher) == 1
    named = lookup.naming(results, [m["name"] for m in higher], 5)
    name = lookup.quoted(results, best["name"])
    text = (
        f"{named} {'has' if one else 'have'} a {'higher' if measure.higher else 'lower'} figure on "
        f"{lookup.split_word(split)}, "
        f"{listing(values)}, but {name} lies inside {'its' if one else 'their'} interval"
        f"{'' if one else 's'}, and an ensemble costs the time of all its members at every "
        "prediction."
    )
    rows = [f"models/{m['name']}" for m in (best, *higher[:5])]
    return [{"topic": "model", "text": text, "rows": rows}]


def why_ensemble(results: JsonDict, best: JsonDict) -> list[JsonDict]:
    """Return what an ensemble that was chosen costs, and the single model to use instead.

    Args:
        results: The content of results.json.
        best: The recommended model.

    Returns:
        One sentence, or nothing where a single model was recommended.
    """
    if not kinds.is_ensemble(best):
        return []
    ranked = lookup.by_preference(results)
    single = next(
        (m for m in ranked if not kinds.is_ensemble(m) and not kinds.is_baseline(m)), None
    )
    if single is None:
        return []
    split = lookup.choosing_split(results)
    measure = measures.chosen_by(results)
    name = lookup.quoted(results, single["name"])
    score = measure.value(_score(single, split, measure).value)
    together, alone = (kinds.prediction_ms(results, m) for m in (best, single))
    members = plural(len((best.get("ensemble") or {}).get("members") or ()), "member")
    text = f"It runs all its {members} at every prediction"
    if together is not None and alone:
        text += f", {quantity(together)} ms per {nouns.one(results)} against "
        text += f"{quantity(alone)} of {name}"
    text += (
        f". {name}, the best single model, lies {measure.beyond} its interval with {score}; use "
        "that one where time counts more than accuracy."
    )
    rows = [f"models/{m['name']}" for m in (best, single)]
    return [{"topic": "model", "text": text, "rows": rows}]

"""Rules that turn results into advice: pure functions, each sentence with the rows it rests on.

Validation chooses; test only reports. Two models are called indistinguishable where the test
between them, corrected for the number of tests, says so. Where a run made no such test, two scores
are where the worse lies inside the 95% interval of the better (or, for paired comparisons, where
the interval of the difference holds zero).
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from headstart.report import (
    baseline_advice,
    calibration_advice,
    cost_advice,
    differences,
    error_advice,
    fit_advice,
    input_advice,
    kinds,
    looks,
    lookup,
    measures,
    near_advice,
    nouns,
    pairwise,
    seed_advice,
    setting_advice,
    text_advice,
    training_advice,
)
from headstart.report.text import (
    Measured,
    count,
    duration,
    listing,
    p_value,
    percent,
    plural,
    points,
    quantity,
    times,
)
from headstart.types import JsonDict, StepRecord

DISCUSSION = ("transfer", "frozen", "input", "cost", "ensemble")
AGREEMENT_WANTED = 0.999  # two models that agree on fewer samples are not the same model


def advise(results: JsonDict, histories: Mapping[str, Sequence[StepRecord]]) -> JsonDict:
    """Return the recommendation that a run's results support.

    Args:
        results: The content of results.json; its ``recommendation`` is not read.
        histories: Records of the curves by model name; a model without any gets no verdict on its
            fit. Names such as ``sweeps/b`` may be there and are not used.

    Returns:
        ``{"model": name or None, "sentences": [{"topic", "text", "rows"}]}``: data problems first,
        then the model, the luck of its seed, the settings, the fit, the calibration, the labels,
        the acceleration, and the discussion (`DISCUSSION`). Every entry of ``rows`` names a row of
        the results: ``models/NAME``, ``models/NAME/stages/I``, ``models/NAME/prediction``,
        ``models/NAME/ensemble``, ``models/NAME/zero_shot``, ``models/NAME/calibration``,
        ``models/NAME/seeds``, ``sweeps/NAME``, ``comparisons/I``, ``tests/I``, ``test_looks``,
        ``analysis/PART``, ``data/problems/I``, ``data/left_out``, ``data/counts``,
        ``backbones/KEY/truncation`` or ``experiment/notes/I``.
    """
    ranked = lookup.by_preference(results)
    best = ranked[0] if ranked else None
    analysed = error_advice.sentences(results)
    sentences = [*looks.advice(results), *_data(results)]
    sentences += [s for s in analysed if s["topic"] == "data"]
    sentences += text_advice.truncation(results)
    sentences += _no_model(results) if best is None else _model(results, ranked)
    sentences += seed_advice.luck(results, ranked)
    sentences += _notes(results)
    sentences += setting_advice.sweeps(results)
    sentences += fit_advice.curves(results, histories, best)
    sentences += calibration_advice.calibration(results, ranked)
    sentences += _labels(results)
    sentences += [s for s in analysed if s["topic"] != "data"]
    discussion = [
        *training_advice.transfer(results, ranked),
        *training_advice.frozen(results, ranked),
        *input_advice.fits(results),
        *cost_advice.sizes(results, ranked),
        *cost_advice.ensembles(results),
    ]
    # What the discussion says of two models is not said twice.
    told = {row for s in discussion for row in s["rows"]}
    sentences += _comparisons(results, told)
    sentences += discussion
    return {"model": None if best is None else best["name"], "sentences": sentences}


def _say(topic: str, text: str, *rows: str) -> JsonDict:
    return {"topic": topic, "text": text, "rows": list(rows)}


def _data(results: JsonDict) -> list[JsonDict]:
    """Problems of the data, errors before warnings; notes are left to the table."""
    data = results.get("data") or {}
    problems = list(enumerate(data.get("problems") or ()))
    said = []
    for severity, opening in (("error", "Mend the data first: "), ("warning", "Check the data: ")):
        for i, problem in problems:
            if problem.get("severity") != severity:
                continue
            text = opening + str(problem.get("text") or problem.get("kind")).strip().rstrip(".")
            if problem.get("kind") == "duplicate-across-splits":
                text += "; scores on those splits flatter"
            said.append(_say("data", text + ".", f"data/problems/{i}"))
    left_out = data.get("left_out") or ()
    if left_out and not said:
        said.append(
            _say(
                "data",
                f"{plural(len(left_out), 'file was', 'files were')} left out.",
                "data/left_out",
            )
        )
    return said


def _notes(results: JsonDict) -> list[JsonDict]:
    """Stand-ins and other conditions that the experiment itself states."""
    notes = (results.get("experiment") or {}).get("notes") or ()
    return [
        _say("model", f"Bear in mind: {str(note).strip()}", f"experiment/notes/{i}")
        for i, note in enumerate(notes)
    ]


def _no_model(results: JsonDict) -> list[JsonDict]:
    models = lookup.models(results)
    rows = [f"models/{m['name']}" for m in models]
    if not models:
        return []
    if all(m.get("state") == "diverged" for m in models):
        text = (
            "No model can be recommended: every one diverged. Lower the learning rate by a factor "
            "of ten, or the momentum, and run again."
        )
    else:
        measure = measures.chosen_by(results)
        article = "an" if measure is measures.ACCURACY else "a"
        text = f"No model can be recommended: none has {article} {measure.words} to choose by."
    return [_say("model", text, *rows)]


def _model(results: JsonDict, ranked: Sequence[JsonDict]) -> list[JsonDict]:
    """Which model to choose, what is indistinguishable from it, and whether it learnt anything."""
    best, others = ranked[0], [m for m in ranked[1:] if not kinds.is_baseline(m)]
    split = lookup.choosing_split(results)
    measure = measures.chosen_by(results)
    word = lookup.split_word(split)
    chosen = lookup.metric(best, split, measure.key)
    assert chosen is not None  # by_preference returns only models that have it
    name = lookup.quoted(results, best["name"])
    test = lookup.metric(best, "test", measure.key)
    rows = [f"models/{best['name']}"]
    higher = cost_advice.why_single(results, best)
    has = "of the single models it has" if higher else "it has"
    opening = (
        f"Use {name}: {has} the {measure.best} {word} {measure.words}, {measure.score(chosen)}"
        if others
        else (f"Use {name}: its {word} {measure.words} is {measure.score(chosen)}")
    )
    text = opening + "."
    if split != "test" and test is not None:
        text += (
            f" Its test {measure.words}, which took no part in the choice, is "
            f"{measure.score(test)}."
        )
    if split == "test":
        text += " No model has a validation score: test chose, and so this figure flatters."
    said = [_say("model", text, *rows), *higher, *cost_advice.why_ensemble(results, best)]
    if kinds.is_baseline(best):
        said = []
    said += baseline_advice.against(results, best)

    said += near_advice.near(results, best, others)
    for m in lookup.models(results):
        if m.get("state") == "diverged":
            text = f"{lookup.quoted(results, m['name'])} diverged and is not a candidate."
            said.append(_say("model", text, f"models/{m['name']}"))
    share = lookup.majority_share(results, "test") if measure is measures.ACCURACY else None
    if share is not None and test is not None and not measure.apart(test, Measured(share)):
        text = (
            f"{name} does not beat always answering the most frequent class, which is right on "
            f"{percent(share)} of the test {nouns.many(results)}."
        )
        said.append(_say("model", text, *rows, "data/counts"))
    return said


def _labels(results: JsonDict) -> list[JsonDict]:
    """What another doubling of the labels brings."""
    split = lookup.choosing_split(results)
    groups: dict[str, dict[int, list[tuple[str, Measured]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for model in lookup.models(results):
        score, labels = lookup.metric(model, split, "accuracy"), model.get("labels_per_class")
        if labels and score is not None and lookup.complete(model):
            training = [kinds.recipe(model), model.get("mode"), model.get("head")]
            kind = json.dumps([model.get("backbone"), *training])
            groups[kind][labels].append((model["name"], score))
    said = []
    for group in groups.values():
        if len(group) < 2:
            continue
        numbers = sorted(group)
        means = [_mean([s for _, s in group[n]]) for n in numbers]
        steps = []
        for i in range(1, len(numbers)):
            doublings = math.log2(numbers[i] / numbers[i - 1])
            gain = (means[i].value - means[i - 1].value) / doublings
            span = f"{count(numbers[i - 1])} to {count(numbers[i])}"
            steps.append(f"{points(gain)} points per doubling from {span}")
        word = lookup.split_word(split)
        text = (
            f"From {count(numbers[0])} to {count(numbers[-1])} labels per class, {word} accuracy "
            f"goes from {percent(means[0].value)} to {percent(means[-1].value)}: "
            f"{listing(steps)}. "
        )
        last = [m for n in numbers[-1:] + numbers[-2:-1] for m, _ in group[n]]
        tested = pairwise.between(results, *last) if len(last) == 2 else None
        text += _last_step(results, means[-1], means[-2], tested)
        rows = [f"models/{m}" for n in numbers for m, _ in group[n]]
        said.append(_say("labels", text, *rows, *([tested.row] if tested else [])))
    return said


def _last_step(
    results: JsonDict, most: Measured, fewer: Measured, tested: pairwise.Tested | None
) -> str:
    """Say whether the last step up in labels gained anything: by the test, or by the interval."""
    if tested is None:
        if most.value > fewer.value and measures.ACCURACY.apart(most, fewer):
            return "More labels still pay."
        return "The last step lies within the interval: more labels no longer pay measurably."
    figures = differences.paired_text(results, tested.difference, "test", tested)
    if differences.survived(results, tested) == "better":
        return f"The last step is {figures}: more labels still pay."
    return f"The last step is {figures}: more labels no longer pay measurably."


def _mean(scores: Sequence[Measured]) -> Measured:
    if len(scores) == 1:
        return scores[0]
    lows = [s.low for s in scores if s.low is not None]
    highs = [s.high for s in scores if s.high is not None]
    whole = len(lows) == len(highs) == len(scores)
    return Measured(
        sum(s.value for s in scores) / len(scores),
        sum(lows) / len(lows) if whole else None,
        sum(highs) / len(highs) if whole else None,
    )


def _comparisons(results: JsonDict, told: Collection[str]) -> list[JsonDict]:
    """The measured gain of acceleration, and paired differences between other models."""
    said = []
    for i, pair in enumerate(results.get("comparisons") or ()):
        if f"comparisons/{i}" in told:
            continue
        a, b = (lookup.quoted(results, pair[side]) for side in ("a", "b"))
        rows = (f"comparisons/{i}", *_known(results, pair["a"], pair["b"]))
        if pair.get("speedup") is not None:
            said.append(_say("acceleration", _speedup(results, pair, a, b), *rows))
        elif (difference := differences.paired(results, pair)) is not None:
            tested = None
            if (pair.get("split") or "test") == "test":
                tested = pairwise.between(results, pair["a"], pair["b"])
            rows = (*rows, tested.row) if tested is not None else rows
            text = _difference(results, pair, difference, tested)
            said.append(_say("model", text, *rows))
    return said


def _known(results: JsonDict, *names: str) -> list[str]:
    return [f"models/{n}" for n in names if lookup.model_named(results, n) is not None]


def _speedup(results: JsonDict, pair: JsonDict, a: str, b: str) -> str:
    speedup = float(pair["speedup"])
    took = f"{a} took {duration(pair.get('seconds_a'))}, {b} {duration(pair.get('seconds_b'))}"
    if speedup > 1:
        text = f"{took}: {times(speedup)} as fast."
    else:
        text = f"{took}: nothing was gained (the ratio is {times(speedup)})."
    agreement, n = pair.get("agreement"), pair.get("agreement_n")
    if agreement is not None and n:
        same = round(agreement * n)
        word = lookup.split_word(pair.get("split") or "test")
        text += (
            f" They predict the same class for {count(same)} of {count(n)} {word} "
            f"{nouns.many(results)}"
        )
        text += "" if same == n else f" ({percent(agreement, 2)})"
        relative = pair.get("weights_relative_difference")
        if relative is not None:
            text += f", and their trained weights differ by {quantity(relative, 2)} (relative)"
        text += "."
        if agreement < AGREEMENT_WANTED:
            text += f" That is less than {percent(AGREEMENT_WANTED)}: they are not the same model."
    fast = lookup.model_named(results, pair["a"]) or {}
    if fast.get("images_reused") and not fast.get("images_extracted"):
        text += (
            " The features were in the store already; a first run also pays for extracting them."
        )
    return text


def _difference(
    results: JsonDict, pair: JsonDict, difference: Measured, tested: pairwise.Tested | None
) -> str:
    measure = measures.chosen_by(results)
    a, b = (lookup.quoted(results, pair[side]) for side in ("a", "b"))
    word = lookup.split_word(pair.get("split") or "test")
    known = [] if difference.interval is None else [measure.gain_interval(difference)]
    if tested is not None and tested.p_holm is not None:
        known.append(p_value(tested.p_holm))
    text = measure.gain(difference.value) + (f" ({'; '.join(known)})" if known else "")
    opening = (
        f"{a} against {b}, on the same {word} {nouns.many(results)}: {text} of {measure.words}"
    )
    outcome = differences.judged(results, difference)
    if tested is not None:
        outcome = differences.survived(results, tested)
    if outcome == "unknown":
        return opening + "."
    if outcome == "same":
        return f"{opening}; the two are indistinguishable."
    return f"{opening}; {a if outcome == 'better' else b} is better."

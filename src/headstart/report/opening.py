"""What a report opens with: the key results in words, and a few figures in large type."""

from collections.abc import Callable

from headstart.report import lookup, measures, nouns
from headstart.report.advice import DISCUSSION
from headstart.report.records import KeyFigure, Sentence
from headstart.report.text import count, duration, times
from headstart.types import JsonDict

_TOPICS = {
    "learning-rate": "Learning rate",
    "momentum": "Momentum",
    "model": "Model",
    "labels": "Labels",
    "seeds": "Seeds",
    "calibration": "Calibration",
    "errors": "Errors",
    "fit": "Fit",
    "acceleration": "Acceleration",
    "data": "Data",
    "transfer": "Transfer learning",
    "frozen": "Frozen layers",
    "input": "Input",
    "cost": "Size and computation",
    "ensemble": "Ensembles",
}
_ABSTRACT_TOPICS = ("data", "model", "labels", "acceleration")
_DISCUSSED = ("transfer", "frozen", "input", "ensemble")
_MOST_DISCUSSED = 2  # in the abstract


def recommended(results: JsonDict) -> JsonDict | None:
    """Return the recommended model, or None."""
    return lookup.model_named(results, (results.get("recommendation") or {}).get("model"))


def shown_in_detail(results: JsonDict) -> JsonDict | None:
    """Return the recommended model, or the best there is where none was recommended."""
    ranked = lookup.by_preference(results)
    return recommended(results) or (ranked[0] if ranked else None)


def sentences(results: JsonDict) -> tuple[Sentence, ...]:
    """Return the advice on everything but what is discussed."""
    return _sentences(results, lambda topic: topic not in DISCUSSION)


def discussion(results: JsonDict) -> tuple[Sentence, ...]:
    """Return what the results say of transfer, frozen layers, input, cost and ensembles."""
    return _sentences(results, lambda topic: topic in DISCUSSION)


def _sentences(results: JsonDict, wanted: Callable[[str], bool]) -> tuple[Sentence, ...]:
    return tuple(
        Sentence(
            _TOPICS.get(str(s.get("topic")), str(s.get("topic"))),
            str(s.get("text")),
            tuple(str(row) for row in s.get("rows") or ()),
        )
        for s in (results.get("recommendation") or {}).get("sentences") or ()
        if wanted(str(s.get("topic")))
    )


def abstract(results: JsonDict) -> tuple[str, ...]:
    """Return the key results: the first sentence on each of the topics that matter most."""
    said = []
    advice = sentences(results)
    for topic in _ABSTRACT_TOPICS:
        of = [s for s in advice if s.topic == _TOPICS[topic]]
        # That others read the test split before must not hide a problem of the data themselves.
        most = 2 if of and "test_looks" in of[0].rests_on else 1
        said += [s.text for s in of[:most]]
    first = {s.topic: s.text for s in reversed(discussion(results))}
    said += [first[_TOPICS[t]] for t in _DISCUSSED if _TOPICS[t] in first][:_MOST_DISCUSSED]
    targets = results.get("targets") or ()
    if targets:
        said.append(_targets_met(sum(bool(t.get("met")) for t in targets), len(targets)))
    if results.get("state") == "partial":
        said.insert(0, "This run is partial: parts of the study are missing.")
    if not said:
        said.append("The run holds no recommendation.")
    return tuple(said)


def _targets_met(met: int, of: int) -> str:
    if of == 1:
        return f"The study’s one target is {'met' if met else 'missed'}."
    if met in (0, of):
        return f"All {count(of)} targets are met." if met else "No target is met."
    return f"Of {count(of)} targets {count(met)} {'is' if met == 1 else 'are'} met."


def key_figures(results: JsonDict) -> tuple[KeyFigure, ...]:
    """Return the figures that a reader in a hurry wants."""
    figures = []
    model = shown_in_detail(results) or {}
    measure = measures.chosen_by(results)
    for split in ("test", "val"):
        score = lookup.metric(model, split, measure.key)
        if score is not None:
            sign = "%" if measure.digits is None else ""
            detail = [measure.interval(score) + sign] if score.interval else []
            detail += [nouns.counted(results, score.n)] if score.n else []
            label = f"{lookup.split_word(split).capitalize()} {measure.short}"
            figures.append(KeyFigure(label, measure.value(score.value), ", ".join(detail)))
            break
    pairs = [p for p in results.get("comparisons") or () if p.get("speedup") is not None]
    if pairs:
        pair = max(pairs, key=lambda p: p["speedup"])
        detail = []
        if pair.get("seconds_a") is not None and pair.get("seconds_b") is not None:
            detail.append(f"{duration(pair['seconds_b'])} → {duration(pair['seconds_a'])}")
        figures.append(KeyFigure("Acceleration", times(pair["speedup"]), "".join(detail)))
    targets = results.get("targets") or ()
    if targets:
        met = sum(bool(t.get("met")) for t in targets)
        figures.append(KeyFigure("Targets met", f"{count(met)} of {count(len(targets))}", ""))
    sizes = lookup.split_sizes(results)
    tokens = (results.get("data") or {}).get("tokens") or {}
    if tokens:
        words = (results.get("data") or {}).get("vocabulary")
        detail = [f"{count(words)} different"] if words else []
        figures.append(KeyFigure("Tokens", count(sum(tokens.values())), "".join(detail)))
    elif sizes:
        total = sum(sum(of.values()) for of in sizes.values())
        classes = len((results.get("data") or {}).get("classes") or ())
        classified = measures.goal(results) == "classification" and classes
        detail = [f"{count(classes)} classes"] if classified else []
        figures.append(KeyFigure(nouns.heading(results), count(total), "".join(detail)))
    if results.get("wall_seconds") is not None and len(figures) < 4:
        figures.append(KeyFigure("Time of the run", duration(results["wall_seconds"]), ""))
    return tuple(figures)

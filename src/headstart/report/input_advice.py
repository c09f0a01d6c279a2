"""A rule on how pictures enter a network: padded, stretched or cropped."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from headstart.report import data_tables, differences, kinds, lookup, zero_shot_tables
from headstart.report.measures import ACCURACY
from headstart.report.text import count, percent, percent_score
from headstart.types import JsonDict


def fits(results: JsonDict) -> list[JsonDict]:
    """Return what it changes how pictures are fitted to the input.

    Args:
        results: The content of results.json.

    Returns:
        One sentence per pair of models that differ in ``input.fit`` alone.
    """
    said = []
    models = [m for m in lookup.models(results) if lookup.complete(m)]
    for a, b in combinations(models, 2):
        specs = [(kinds.backbone(results, m) or {}).get("input") or {} for m in (a, b)]
        if not _alike(results, a, b) or specs[0].get("fit") == specs[1].get("fit"):
            continue
        found = _top_one(results, a, b) if kinds.is_zero_shot(a) else _accuracy(results, a, b)
        if found is None:
            continue
        verdict, rows = found
        words = [data_tables.FITS.get(str(s.get("fit")), str(s.get("fit"))) for s in specs]
        names = [lookup.quoted(results, m["name"]) for m in (a, b)]
        text = (
            f"{names[0]} and {names[1]} differ only in how a picture enters the network, "
            f"{words[0]} or {words[1]}. {verdict}"
        )
        padded = next((s for s in specs if s.get("fit") == "pad"), None)
        if padded is not None:
            text += _why(results, padded)
        said.append({"topic": "input", "text": text, "rows": rows})
    return said


def _alike(results: JsonDict, a: JsonDict, b: JsonDict) -> bool:
    """Return whether two models are the same but for the fit of their pictures."""
    return (
        not kinds.is_ensemble(a)
        and kinds.is_zero_shot(a) == kinds.is_zero_shot(b)
        and a.get("backbone") != b.get("backbone")
        and _identity(results, a) == _identity(results, b)
    )


def _identity(results: JsonDict, model: JsonDict) -> str:
    entry: Mapping[str, Any] = kinds.backbone(results, model) or {"name": model.get("backbone")}
    spec = {
        k: v
        for k, v in (entry.get("input") or {}).items()
        if k not in ("fit", "resize")  # the edge to resize to is read by cropping alone
    }
    known = [entry.get("name"), entry.get("weights"), spec, model.get("labels_per_class")]
    training = [model.get("head"), model.get("hyperparameters"), kinds.recipe(model)]
    if kinds.is_zero_shot(model):
        training = []
    return json.dumps([*known, *training], sort_keys=True, default=str)


def _top_one(results: JsonDict, a: JsonDict, b: JsonDict) -> tuple[str, list[str]] | None:
    """Hold two pretrained classifiers against each other: top-1 and top-5 of all classes."""
    tops = [zero_shot_tables.top(m, 1) for m in (a, b)]
    if tops[0] is None or tops[1] is None:
        return None
    fives = [zero_shot_tables.top(m, 5) for m in (a, b)]
    parts = []
    for model, one, five in zip((a, b), tops, fives, strict=True):
        assert one is not None
        more = f", top-5 {percent_score(five)}" if five is not None else ""
        parts.append(
            f"{lookup.quoted(results, model['name'])} has top-1 {percent_score(one)}{more}"
        )
    text = f"{'; '.join(parts)}. "
    if not ACCURACY.apart(tops[0], tops[1]):
        text += "On top-1 the two cannot be told apart."
    else:
        better = a if tops[0].value > tops[1].value else b
        text += f"{lookup.quoted(results, better['name'])} is better by more than the interval."
    return text, [f"models/{m['name']}/zero_shot" for m in (a, b)]


def _accuracy(results: JsonDict, a: JsonDict, b: JsonDict) -> tuple[str, list[str]] | None:
    """Hold two trained models against each other."""
    difference = differences.between(results, a, b)
    if difference is None:
        return None
    names = [lookup.quoted(results, m["name"]) for m in (a, b)]
    verdict = {
        "better": f"{names[0]} is better.",
        "worse": f"{names[1]} is better.",
        "same": "The two cannot be told apart.",
        "unknown": "Without intervals there is no verdict.",
    }[difference.outcome]
    rows = [*(f"models/{m['name']}" for m in (a, b)), *difference.rows]
    return f"The first against the second: {difference.text}. {verdict}", rows


def _why(results: JsonDict, spec: Mapping[str, Any]) -> str:
    """Say how much of a padded input a picture covers, where it is smaller than the input."""
    sizes = (results.get("data") or {}).get("sizes") or {}
    middle: Sequence[int] = sizes.get("median") or ()  # of pictures: width and height
    inside: Sequence[int] = (spec.get("width") or 0, spec.get("height") or 0)
    if len(middle) != 2 or any(m >= edge for m, edge in zip(middle, inside, strict=True)):
        return ""
    share = math.prod(middle) / math.prod(inside)
    return (
        f" Padded, a picture of the median size covers {count(middle[0])} × {count(middle[1])} "
        f"of {count(inside[0])} × {count(inside[1])} pixels, {percent(share)} of the input, and "
        "the rest is black: the network, trained on pictures that fill its input, meets everything "
        "smaller than it has learnt."
    )

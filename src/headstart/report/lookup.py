"""Finds things in results.json, whose optional parts may be missing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import measures
from headstart.report.text import Measured, listing, plural, setting
from headstart.types import JsonDict

SPLITS = ("train", "val", "test")
BY_STAGE = "by stage"  # the value of a setting that some stage of the training sets anew
FURTHER = "test-"  # what the names of further test sets begin with
_SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}


def measured(score: Any) -> Measured | None:
    """Return a score of results.json as a record, or None where it is missing."""
    if not isinstance(score, Mapping) or score.get("value") is None:
        return None
    return Measured(score["value"], score.get("low"), score.get("high"), score.get("n"))


def metric(owner: Mapping[str, Any], split: str, name: str) -> Measured | None:
    """Return a score of a model or sweep member.

    Args:
        owner: An entry of ``models`` or of a sweep's ``members``.
        split: ``train``, ``val`` or ``test``, or a further test set such as ``test-mismatched``.
        name: Such as ``accuracy``.

    Returns:
        The score, or None where the model has none (it diverged, or has no such split).
    """
    return measured(((owner.get("metrics") or {}).get(split) or {}).get(name))


def split_word(split: str) -> str:
    """Return the word for a split: ``val`` is validation, ``test-late`` late test."""
    if split.startswith(FURTHER):
        return f"{split.removeprefix(FURTHER).replace('-', ' ').replace('_', ' ')} test"
    return _SPLIT_WORDS.get(split, split)


def further_tests(results: JsonDict) -> list[str]:
    """Return the test sets besides the test split that models were scored on."""
    found = [s for m in models(results) for s in m.get("metrics") or ()]
    return list(dict.fromkeys(s for s in found if s.startswith(FURTHER)))


def models(results: JsonDict) -> list[JsonDict]:
    """Return all models."""
    return list(results.get("models") or ())


def model_named(results: JsonDict, name: str | None) -> JsonDict | None:
    """Return the model of a name, or None."""
    return next((m for m in models(results) if m["name"] == name), None)


def title(results: JsonDict, name: str) -> str:
    """Return a model's title for people, or its name."""
    model = model_named(results, name)
    return str((model or {}).get("title") or name)


def quoted(results: JsonDict, name: str) -> str:
    """Return a model's title in quotation marks, to stand in a sentence."""
    return f"“{title(results, name)}”"


def naming(results: JsonDict, names: Sequence[str], most: int) -> str:
    """Return models by their titles: “A”, “B” and 12 others where there are more than `most`."""
    if len(names) <= most:
        return listing([quoted(results, n) for n in names])
    shown = [quoted(results, n) for n in names[: most - 1]]
    return listing([*shown, plural(len(names) - len(shown), "other")])


def complete(owner: Mapping[str, Any]) -> bool:
    """Return whether a model or member finished."""
    return bool(owner.get("state", "complete") == "complete")


def choosing_split(results: JsonDict) -> str:
    """Return the split that chooses: validation, or test where only that was scored."""
    key = measures.chosen_by(results).key
    scored = [s for s in ("val", "test") if any(metric(m, s, key) for m in models(results))]
    return scored[0] if scored else "val"


def training_seconds(model: Mapping[str, Any]) -> float | None:
    """Return the wall seconds of all stages, or None where they are not known."""
    stages = model.get("stages") or ()
    known = [s["wall_seconds"] for s in stages if s.get("wall_seconds") is not None]
    return sum(known) if known else None


def by_preference(results: JsonDict) -> list[JsonDict]:
    """Return the finished models, the one to choose first (see `preferred`).

    The test split plays no part, unless there is no validation split at all.

    Args:
        results: The content of results.json.

    Returns:
        Models with a score on the split that chooses.
    """
    return preferred(models(results), choosing_split(results), measures.chosen_by(results))


def preferred(
    candidates: Sequence[JsonDict], split: str, measure: measures.Measure
) -> list[JsonDict]:
    """Return finished models, of one run or several, the one to choose first.

    The best score comes first: the highest accuracy, or the lowest squared error or perplexity.
    Equal scores are decided by the loss to three digits, then by the seconds of training. A
    baseline comes before a model only where its score is better. An ensemble, which costs the time
    of all its members at every prediction, comes first only where the best single model lies
    outside its interval; else that model does.

    Args:
        candidates: Entries of ``models``.
        split: The split that chooses.
        measure: What they are compared by.

    Returns:
        Those that finished and have a score on the split.
    """

    def order(model: JsonDict) -> tuple[float, bool, float, float]:
        score = metric(model, split, measure.key)
        loss = metric(model, split, "loss")
        seconds = training_seconds(model)
        return (
            measure.rank(score) if score else 0.0,
            model.get("kind") == "baseline",
            float(f"{loss.value:.3g}") if loss else math.inf,
            seconds if seconds is not None else math.inf,
        )

    ranked = sorted(
        (m for m in candidates if complete(m) and metric(m, split, measure.key)), key=order
    )
    single = next((m for m in ranked if m.get("kind") not in ("ensemble", "baseline")), None)
    if single is not None and ranked[0].get("kind") == "ensemble":
        first, best = metric(ranked[0], split, measure.key), metric(single, split, measure.key)
        assert first is not None
        assert best is not None
        if not measure.apart(first, best):
            ranked = [single, *(m for m in ranked if m is not single)]
    return ranked


def best_member(sweep: Mapping[str, Any]) -> int | None:
    """Return the position of a sweep's best member, or None where all diverged."""
    return next((i for i, m in enumerate(sweep.get("members") or ()) if m.get("best")), None)


def axes(sweep: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the settings that a sweep varies, with their values in order."""
    return dict(sweep.get("axes") or {})


def values_text(sweep: Mapping[str, Any], member: Mapping[str, Any]) -> str:
    """Return a member's settings in words: ``learning rate 0.01, momentum 0.9``."""
    names = setting_names(list(axes(sweep)))
    return ", ".join(f"{names[k]} {setting(member['values'].get(k))}" for k in names)


def setting_names(keys: Sequence[str]) -> dict[str, str]:
    """Return words for dotted keys: ``optimizer.learning_rate`` is learning rate.

    Args:
        keys: Dotted keys of one experiment.

    Returns:
        Key -> words, unique; ``optimizer.kind`` is optimizer. Where two keys would have the same
        words, the owner is named too.
    """

    def words(key: str) -> str:
        *owner, last = key.split(".")
        if last in ("kind", "name") and owner:
            last = owner[-1]
        return last.replace("_", " ")

    short = {key: words(key) for key in keys}
    taken = list(short.values())
    return {
        key: name if taken.count(name) == 1 else " ".join(key.split(".")).replace("_", " ")
        for key, name in short.items()
    }


def hyperparameters(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's settings under dotted keys, its head's among them.

    Args:
        model: An entry of ``models``.

    Returns:
        Key -> value, without those of single stages: see `stage_settings`.
    """
    head = {f"head.{k}": v for k, v in (model.get("head") or {}).items()}
    settings = {**head, **(model.get("hyperparameters") or {})}
    if model.get("from_scratch") is not None:
        settings["from_scratch"] = model["from_scratch"]
    return {k: v for k, v in settings.items() if k.split(".")[0] != "stages"}


def stage_settings(model: Mapping[str, Any], position: int) -> dict[str, Any]:
    """Return the settings of one stage of a model's training under dotted keys.

    Args:
        model: An entry of ``models``.
        position: Which stage, from 0.

    Returns:
        Key -> value, without those that are null.
    """
    prefix = f"stages.{position}."
    given = model.get("hyperparameters") or {}
    found = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
    return {k: v for k, v in found.items() if v is not None}


def _comparable(owners: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the settings of models so that those with stages stand beside those without.

    What one model says of its whole training, another may say of each stage: where all stages say
    the same, that is its setting, else it is `BY_STAGE`.
    """
    settings = [hyperparameters(m) for m in owners]
    keys = list(dict.fromkeys(k for s in settings for k in s))
    for owner, own in zip(owners, settings, strict=True):
        stages = [stage_settings(owner, i) for i, _ in enumerate(owner.get("stages") or ())]
        stages = [s for s in stages if s]
        for key in keys:
            said = [s.get(key) for s in stages]
            if any(v is not None for v in said):
                own[key] = said[0] if all(v == said[0] for v in said) else BY_STAGE
    return settings


def differing(owners: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which models differ, in the order of the first model."""
    settings = _comparable(owners)
    keys = list(dict.fromkeys(k for s in settings for k in s))
    return [k for k in keys if any(s.get(k) != settings[0].get(k) for s in settings)]


def settings_text(owners: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Return one setting of several models in words."""
    return [setting(s.get(key)) for s in _comparable(owners)]


def shared(owners: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the settings that all models share, with their values in words."""
    unlike = set(differing(owners))
    first = _comparable(owners)[:1]
    return {k: setting(v) for s in first for k, v in s.items() if k not in unlike}


def class_words(results: JsonDict) -> dict[str, str]:
    """Return a name for people of each class.

    Args:
        results: The content of results.json.

    Returns:
        Class -> the first of its names where the data set brings names, and unique: two classes of
        one name keep their own in parentheses. A class without a name is called what it is.
    """
    data = results.get("data") or {}
    classes = [str(c) for c in data.get("classes") or ()]
    names = data.get("class_names") or {}
    words = {c: str(names.get(c) or "").split(",")[0].strip() or c for c in classes}
    taken = [*words.values()]
    return {c: w if taken.count(w) == 1 else f"{w} ({c})" for c, w in words.items()}


def split_sizes(results: JsonDict) -> dict[str, dict[str, int]]:
    """Return samples per split and class, splits in the usual order, empty splits left out."""
    counts = (results.get("data") or {}).get("counts") or {}
    ordered = [*(s for s in SPLITS if s in counts), *(s for s in counts if s not in SPLITS)]
    return {s: counts[s] for s in ordered if sum(counts[s].values())}


def majority_share(results: JsonDict, split: str) -> float | None:
    """Return the accuracy of always answering the most frequent training class.

    Args:
        results: The content of results.json.
        split: The split to answer on.

    Returns:
        A share in [0, 1], or None where the counts are not known.
    """
    sizes = split_sizes(results)
    if split not in sizes:
        return None
    known = sizes.get("train", sizes[split])
    favourite = max(known, key=lambda c: known[c])
    return sizes[split].get(favourite, 0) / sum(sizes[split].values())

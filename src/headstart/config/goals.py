"""What the data rule out: parts and settings that mean nothing to what is to be learnt of them.

Works on the raw values, as `headstart.config.references` does.
"""

from collections.abc import Iterator
from typing import Any, Literal

from headstart.config.explain import Problem, shorten

_FOR_PICTURES = ("augmentation", "mixup", "cutmix")


def goal_of(raw: dict[str, Any]) -> Literal["classification", "regression", "language"]:
    """Return what is to be learnt of an experiment's data, from its raw values."""
    kind = _mapping(raw.get("data")).get("kind")
    if kind == "sequence":
        return "regression"
    return "language" if kind == "language" else "classification"


def check_goal(raw: dict[str, Any]) -> list[Problem]:
    """Return the problems of parts that want other data than there are.

    Args:
        raw: The file's values, profile and `extends` applied; of any shape.

    Returns:
        The problems found; wrong shapes are left to the schema.
    """
    goal = goal_of(raw)
    problems: list[Problem] = []
    for name, part in _mapping(raw.get("parts")).items():
        where, one = f"parts.{name}", _mapping(part)
        problems += _kind(where, one, goal, bool(_mapping(raw.get("backbones"))))
        if goal == "regression":
            problems += _classes_only(where, one)
        if not _are_pictures(_mapping(raw.get("data"))):
            problems += _pictures_only(where, one)
    if goal == "language" and raw.get("comparisons"):
        expected = "nothing: language models are compared by their perplexities and intervals"
        problems.append(Problem("comparisons", None, expected))
    for key in ("examples", "backbones"):
        if goal == "language" and raw.get(key):
            problems.append(Problem(key, None, "nothing where data.kind is language"))
    return problems


def _kind(where: str, part: dict[str, Any], goal: str, backbones: bool) -> Iterator[Problem]:
    """A part of another goal, or one without the backbone that it needs."""
    asked, at = part.get("kind"), f"{where}.kind"
    if asked is not None and (asked == "language_model") != (goal == "language"):
        expected = (
            "language_model where data.kind is language"
            if goal == "language"
            else "a part for samples with labels: data.kind is not language"
        )
        yield Problem(at, repr(asked), expected)
    elif goal == "regression" and asked in ("zero_shot", "ensemble"):
        yield Problem(at, repr(asked), "a part that tells numbers, not classes")
    elif asked in ("model", "sweep", "zero_shot") and not backbones:
        yield Problem("backbones", "none", f"at least one, for {where}")


def _classes_only(where: str, part: dict[str, Any]) -> Iterator[Problem]:
    """What a regression has not: classes, and so right answers."""
    if _mapping(part.get("head")).get("kind") == "logistic":
        yield Problem(f"{where}.head.kind", "'logistic'", "linear or mlp here")
    for at, one in [(where, part), *_stages(where, part)]:
        if _mapping(one.get("early_stopping")).get("metric") == "accuracy":
            key = f"{at}.early_stopping.metric"
            yield Problem(key, "'accuracy'", "loss: the data have no classes")
        loss = _mapping(one.get("loss"))
        for key, plain in (("label_smoothing", 0), ("class_weights", "none")):
            if loss.get(key, plain) != plain:
                expected = "nothing: the loss of a number is the squared error"
                yield Problem(f"{at}.loss.{key}", shorten(loss[key]), expected)


def _pictures_only(where: str, part: dict[str, Any]) -> Iterator[Problem]:
    for at, one in _stages(where, part):
        for key in _FOR_PICTURES:
            if one.get(key) is not None:
                yield Problem(f"{at}.{key}", shorten(one[key]), "nothing: it is for pictures")


def _are_pictures(data: dict[str, Any]) -> bool:
    if data.get("kind") == "huggingface":
        return data.get("text_column") is None
    return data.get("kind") not in ("text", "sequence", "language")


def _stages(where: str, part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a part's stages, each with its dotted key."""
    stages = part.get("stages")
    for index, stage in enumerate(stages if isinstance(stages, list) else []):
        yield f"{where}.stages.{index}", _mapping(stage)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

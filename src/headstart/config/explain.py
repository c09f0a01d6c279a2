"""Validation problems in words: dotted key, the value that came, what was expected, the nearest."""

import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from headstart.errors import ConfigError, nearest

_UNION = (typing.Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in an experiment file.

    Attributes:
        key: Where, as a dotted key such as ``parts.a.optimizer.learning_rate``.
        came: The value that is there, shortened; None where nothing is there.
        expected: What should be there.
        hint: A suggestion, or an empty string.
    """

    key: str
    came: str | None
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        came = "" if self.came is None else f", got {self.came}"
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.key}: expected {self.expected}{came}{hint}"


def config_error(source: str, problems: Sequence[Problem]) -> ConfigError:
    """Return one error that lists all problems of a file."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {problem}" for problem in problems)
    return ConfigError(f"{source} is not a valid experiment ({count}):\n{lines}")


def shorten(value: Any, limit: int = 60) -> str:
    """Return a value as it would be written, cut to a length that fits on a line."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def explain(error: ValidationError, root: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into problems with suggestions.

    Args:
        error: What pydantic raised for `root`.
        root: The model that was validated.

    Returns:
        One problem for each error, in the order of the file.
    """
    items: list[dict[str, Any]] = [dict(item) for item in error.errors(include_url=False)]
    places = [item["loc"] for item in items]

    def echoed(item: dict[str, Any]) -> bool:
        # A list with a bad entry is told as too short too: the entry fails before it is counted.
        loc = item["loc"]
        inside = any(len(p) > len(loc) and p[: len(loc)] == loc for p in places)
        return bool(item["type"] == "too_short" and inside)

    return [_problem(item, root) for item in items if not echoed(item)]


def _problem(item: dict[str, Any], root: type[BaseModel]) -> Problem:
    loc: tuple[int | str, ...] = item["loc"]
    kind: str = item["type"]
    context: dict[str, Any] = item.get("ctx", {})
    unknown = kind == "extra_forbidden"
    key, annotation = _walk(root, loc[:-1] if unknown else loc)
    came = shorten(item["input"])
    if unknown:
        key = f"{key}.{loc[-1]}" if key else str(loc[-1])
        known = [name for model in _models(annotation) for name in model.model_fields]
        where = "a known key"
        return Problem(key, None, where + ", this one is not", nearest(str(loc[-1]), known))
    if kind == "missing":
        return Problem(key, None, "a value, and there is none")
    if kind == "union_tag_invalid":
        return _wrong_tag(key, came, context)
    if kind == "union_tag_not_found":
        return Problem(f"{key}.kind", None, _one_of(_tags(annotation)) + ", and there is none")
    if kind == "literal_error":
        choices = [str(c) for c in _choices(annotation)]
        hint = nearest(item["input"], choices) if isinstance(item["input"], str) else ""
        return Problem(key, came, _one_of(choices) if choices else context["expected"], hint)
    return Problem(key, came, _wording(kind, context, item["msg"]))


def _wrong_tag(key: str, came: str, context: dict[str, Any]) -> Problem:
    tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
    if tags[0].startswith("~"):  # a union by shape: see headstart.config.values.by_shape
        return Problem(key, came, " or ".join(tag.removeprefix("~") for tag in tags))
    tag = str(context["tag"])
    return Problem(f"{key}.kind", repr(context["tag"]), _one_of(tags), nearest(tag, tags))


def _wording(kind: str, context: dict[str, Any], message: str) -> str:
    plain = {
        "float_type": "a number",
        "int_type": "a whole number",
        "string_type": "text",
        "bool_type": "true or false",
        "dict_type": "keys and values",
        "tuple_type": "a list",
        "model_type": "keys and values",
        "model_attributes_type": "keys and values",
        "greater_than": f"a number above {context.get('gt')}",
        "greater_than_equal": f"a number of at least {context.get('ge')}",
        "less_than": f"a number below {context.get('lt')}",
        "less_than_equal": f"a number of at most {context.get('le')}",
        "too_short": f"at least {context.get('min_length')} of them",
        "string_pattern_mismatch": "letters, digits, '.', '_' and '-', not beginning with a sign",
        "int_from_float": "a whole number",
    }
    if kind in plain:
        return plain[kind]
    if kind == "value_error":  # of a validator of ours, which says what it expected
        return message.removeprefix("Value error, ").removeprefix("expected ")
    return message[:1].lower() + message[1:]


def _one_of(choices: Iterable[str]) -> str:
    return "one of " + ", ".join(choices)


def _walk(root: type[BaseModel], loc: Sequence[int | str]) -> tuple[str, Any]:
    """Follow an error's location; return the dotted key and the annotation at its end.

    In a tagged union pydantic puts the tag into the location; a reader's file has no such level.
    """
    annotation: Any = root
    parts: list[str] = []
    for step in loc:
        union = _tagged(annotation)
        if step == "[key]" or str(step).startswith("~"):
            continue
        if union and step in union:
            annotation = union[str(step)]
            continue
        parts.append(str(step))
        annotation = _child(annotation, step)
    return ".".join(parts), annotation


def _strip(annotation: Any) -> Any:
    """Remove Annotated and None from an annotation."""
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in _UNION:
        rest = [a for a in typing.get_args(annotation) if a is not type(None)]
        if len(rest) == 1:
            return _strip(rest[0])
    return annotation


def _tagged(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the models of a union by their `kind`, or nothing where it is not such a union."""
    annotation = _strip(annotation)
    if typing.get_origin(annotation) not in _UNION:
        return {}
    out: dict[str, type[BaseModel]] = {}
    for arm in typing.get_args(annotation):
        if isinstance(arm, type) and issubclass(arm, BaseModel) and "kind" in arm.model_fields:
            for tag in typing.get_args(arm.model_fields["kind"].annotation):
                out[tag] = arm
    return out


def _tags(annotation: Any) -> list[str]:
    return list(_tagged(annotation))


def _child(annotation: Any, step: int | str) -> Any:
    annotation = _strip(annotation)
    origin = typing.get_origin(annotation)
    if origin is dict:
        return typing.get_args(annotation)[1]
    if origin in (tuple, list):
        return typing.get_args(annotation)[0]
    for model in _models(annotation):
        field = model.model_fields.get(str(step))
        if field is not None:
            # A discriminator is kept in the field and not in the annotation: the walk finds the
            # tags by looking at the arms, so the bare annotation is enough.
            return field.annotation
    return None


def _models(annotation: Any) -> list[type[BaseModel]]:
    annotation = _strip(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in _UNION:
        return [m for arm in typing.get_args(annotation) for m in _models(arm)]
    return []


def _choices(annotation: Any) -> tuple[Any, ...]:
    annotation = _strip(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return ()

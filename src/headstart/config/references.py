"""What a schema cannot see: names that point to other places of the file, and grids.

Works on the raw values, so that these problems are reported together with the schema's.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headstart.config.explain import Problem, shorten
from headstart.config.goals import check_goal, goal_of
from headstart.config.stages import check_stages
from headstart.errors import nearest

# What may vary inside one batched head: plain numbers that only the update rule or the loss sees.
_GRID_BY_OPTIMIZER = {
    "sgd": ("learning_rate", "momentum", "weight_decay"),
    "adam": ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon"),
    "adamw": ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon"),
    "rmsprop": ("learning_rate", "momentum", "weight_decay", "alpha", "epsilon"),
}
_METRICS = ("accuracy", "loss", "precision_macro", "recall_macro", "f1_macro", "auc_macro")
_TOP = ("top1", "top5")  # of a zero-shot part, among all classes of the pretrained classifier
_BY_GOAL: dict[str, tuple[str, ...]] = {
    "classification": _METRICS,
    "regression": ("mse", "mae"),
    "language": ("perplexity", "loss"),
}
_PAIRED = ("speedup", "agreement", "gain")
_RANGES = {
    "learning_rate": (0, math.inf, False),
    "epsilon": (0, math.inf, False),
    "weight_decay": (0, math.inf, True),
    "momentum": (0, 1, True),
    "beta1": (0, 1, True),
    "beta2": (0, 1, True),
    "alpha": (0, 1, True),
}


def check_references(raw: dict[str, Any]) -> list[Problem]:
    """Return the problems of names and grids in an experiment's raw values.

    Args:
        raw: The file's values, profile and `extends` applied; of any shape.

    Returns:
        The problems found; shapes that are wrong altogether are left to the schema.
    """
    problems: list[Problem] = []
    backbones = _mapping(raw.get("backbones"))
    parts = _mapping(raw.get("parts"))
    sweeps: list[str] = []
    earlier: list[str] = []
    for name, part in parts.items():
        if not isinstance(part, dict):
            continue
        where = f"parts.{name}"
        problems += _name(
            f"{where}.backbone", part.get("backbone"), backbones, "a key of backbones"
        )
        problems += _name(f"{where}.best_of", part.get("best_of"), sweeps, "an earlier sweep")
        problems += _handed_on(where, part, parts)
        if part.get("kind") == "sweep":
            problems += _grid(where, part)
            sweeps.append(name)
        if part.get("kind") == "ensemble":
            for index, member in enumerate(_list(part.get("members"))):
                problems += _name(f"{where}.members.{index}", member, earlier, "an earlier part")
        problems += check_stages(where, part)
        problems += _seeds(where, part, goal_of(raw))
        problems += _idle_grid(where, part, parts)
        earlier.append(name)
    goal = goal_of(raw)
    for index, comparison in enumerate(_list(raw.get("comparisons"))):
        for side in ("a", "b"):
            asked = _mapping(comparison).get(side)
            problems += _name(f"comparisons.{index}.{side}", asked, parts, "a part")
    for index, target in enumerate(_list(raw.get("targets"))):
        problems += _target(f"targets.{index}", _mapping(target), parts, goal)
    problems += check_goal(raw)
    problems += _shared(_mapping(raw.get("cache")).get("shared"))
    split = _mapping(raw.get("data")).get("split")
    if isinstance(split, dict):
        problems += _split(split)
    return problems


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _name(key: str, value: Any, known: Any, expected: str) -> list[Problem]:
    if not isinstance(value, str) or value in known:
        return []
    return [Problem(key, repr(value), expected, nearest(value, list(known)))]


def _seeds(where: str, part: dict[str, Any], goal: str) -> list[Problem]:
    """Refuse repeats where they mean nothing, and probabilities where there are none."""
    problems = []
    seeds = part.get("seeds")
    if isinstance(seeds, int) and seeds > 1:
        if part.get("kind") == "sweep":
            expected = "1 in a sweep"
            hint = "repeat its best settings in a model with best_of, or put seed into the grid"
            problems.append(Problem(f"{where}.seeds", str(seeds), expected, hint))
        elif _mapping(part.get("head")).get("kind") == "logistic" and not part.get("stages"):
            expected = "1 for a logistic head: its optimum does not depend on the seed"
            problems.append(Problem(f"{where}.seeds", str(seeds), expected))
    if part.get("calibrate") is True and goal == "regression":
        expected = "nothing: a regression has no probabilities"
        problems.append(Problem(f"{where}.calibrate", "true", expected))
    return problems


def _grid(where: str, part: dict[str, Any]) -> list[Problem]:
    problems = []
    kind = str(_mapping(part.get("optimizer")).get("kind", "sgd"))
    allowed = [f"optimizer.{k}" for k in _GRID_BY_OPTIMIZER.get(kind, ())] + ["seed"]
    if _mapping(part.get("head")).get("kind") == "logistic":
        problems.append(
            Problem(
                f"{where}.head.kind",
                "'logistic'",
                "linear or mlp in a sweep",
                "a logistic head tries its own list of c",
            )
        )
    for at, key, values in _axes(where, part):
        if key not in allowed:
            expected = f"a number of the {kind} optimizer or the seed"
            problems.append(Problem(at, None, expected, nearest(str(key), allowed)))
            continue
        for value in values:
            expected = _wrong_value(str(key), value)
            if expected:
                problems.append(Problem(at, shorten(value), expected))
        if key == "seed" and part.get("labels_per_class") is not None:
            expected = "no seeds in a part with labels_per_class: the seed draws the labels too"
            problems.append(Problem(at, None, expected, "write one part per seed"))
    problems += _nesterov(where, part)
    return problems


def _axes(where: str, part: dict[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    """Yield what varies in a sweep: the place, the key, and its values or the ends of its range."""
    for key, values in _mapping(part.get("grid")).items():
        yield f"{where}.grid.{key}", key, _list(values)
    for key, values in _mapping(_mapping(part.get("search")).get("space")).items():
        ends = [values.get("low"), values.get("high")] if isinstance(values, dict) else values
        yield f"{where}.search.space.{key}", key, _list(ends)


def _varied(part: dict[str, Any]) -> bool:
    """Return whether a sweep varies settings of its optimizer."""
    return any(str(key).startswith("optimizer.") for _, key, _ in _axes("", part))


def _wrong_value(key: str, value: Any) -> str:
    if key == "seed":
        return "" if isinstance(value, int) and not isinstance(value, bool) else "whole numbers"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""  # the schema says so
    low, high, inclusive = _RANGES[key.removeprefix("optimizer.")]
    if (value >= low if inclusive else value > low) and value < high:
        return ""
    bottom = f"at least {low}" if inclusive else f"above {low}"
    return f"numbers {bottom}" + (f" and below {high}" if high < math.inf else "")


def _handed_on(where: str, part: dict[str, Any], parts: dict[str, Any]) -> list[Problem]:
    """Settings of one optimiser mean nothing to another: `best_of` needs the same."""
    name = part.get("best_of")
    base = _mapping(parts.get(name)) if isinstance(name, str) else {}
    kinds = [str(_mapping(p.get("optimizer")).get("kind", "sgd")) for p in (part, base)]
    seen: set[str] = set()
    while base:
        if _varied(base) and kinds[0] != kinds[1]:
            expected = f"a sweep of the optimizer {kinds[0]}"
            return [Problem(f"{where}.best_of", repr(name), expected, f"it sweeps {kinds[1]}'s")]
        above = base.get("best_of")
        if not isinstance(above, str) or above in seen:
            break
        seen.add(above)
        base = _mapping(parts.get(above))
    return []


def _idle_grid(where: str, part: dict[str, Any], parts: dict[str, Any]) -> list[Problem]:
    """A swept setting that every stage overrides changes nothing."""
    stages = _list(part.get("stages"))
    if not stages or not all(_mapping(stage).get("optimizer") for stage in stages):
        return []
    own = "search.space" if part.get("grid") is None else "grid"
    sweeps = {f"{where}.{own}": part}
    name = part.get("best_of")
    if isinstance(name, str):
        sweeps[f"{where}.best_of"] = _mapping(parts.get(name))
    return [
        Problem(key, None, "a stage without an optimizer of its own, which these settings reach")
        for key, one in sweeps.items()
        if _varied(one)
    ]


def _nesterov(where: str, part: dict[str, Any]) -> list[Problem]:
    optimizer = _mapping(part.get("optimizer"))
    if optimizer.get("nesterov") is not True:
        return []
    axes = [values for _, key, values in _axes(where, part) if key == "optimizer.momentum"]
    if 0 in (axes[0] if axes else [optimizer.get("momentum", 0)]):
        return [Problem(f"{where}.optimizer.nesterov", "true", "a momentum above 0 with it")]
    return []


def _target(where: str, target: dict[str, Any], parts: dict[str, Any], goal: str) -> list[Problem]:
    known_parts = [*parts, "recommended"] if target.get("against") is None else list(parts)
    problems = _name(f"{where}.part", target.get("part"), known_parts, "a part")
    problems += _name(f"{where}.against", target.get("against"), parts, "a part")
    metric = target.get("metric")
    if not isinstance(metric, str):
        return problems
    against = target.get("against")
    if metric in _PAIRED:
        if goal == "language" or (goal == "regression" and metric == "agreement"):
            expected = f"SPLIT.METRIC, such as test.{_BY_GOAL[goal][0]}: the data have no classes"
            problems.append(Problem(f"{where}.metric", repr(metric), expected))
        elif against is None:
            problems.append(Problem(f"{where}.against", None, f"the other part, for {metric}"))
        elif metric == "speedup":
            two = [_mapping(parts.get(str(n))) for n in (target.get("part"), against)]
            modes = [(p.get("mode", "cached"), p.get("stages")) for p in two]
            if modes[0] == modes[1]:
                expected = "the same training done the other way (mode, or features of its stages)"
                problems.append(Problem(f"{where}.against", repr(against), expected))
        return problems
    if against is not None:
        expected = "nothing: it is for " + ", ".join(_PAIRED)
        problems.append(Problem(f"{where}.against", repr(against), expected))
    asked = _mapping(parts.get(str(target.get("part"))))
    names = _BY_GOAL[goal]
    known = [f"{s}.{m}" for s in ("test", "val", "train") for m in names]
    if asked.get("kind") == "zero_shot":
        known = [f"test.{m}" for m in (*_METRICS, *_TOP)]
    split, _, measure = metric.partition(".")
    further = split.startswith("test-") and measure in names  # such as test-mismatched
    if metric not in known and not further:
        expected = "SPLIT.METRIC, speedup, agreement or gain"
        hint = nearest(metric, [*known, *_PAIRED])
        problems.append(Problem(f"{where}.metric", repr(metric), expected, hint))
    return problems


def _shared(place: Any) -> list[Problem]:
    """A path that counts from the working folder would be another on each machine."""
    if not isinstance(place, str):
        return []
    protocol, colon, path = place.rpartition("://")
    local = not colon or protocol.rpartition("::")[2] in ("file", "local")
    if not local or Path(path).is_absolute():
        return []
    expected = "a URL such as s3://bucket/folder, or a path that begins at the root"
    return [Problem("cache.shared", repr(place), expected)]


def _split(split: dict[str, Any]) -> list[Problem]:
    shares = [split.get(k, d) for k, d in (("train", 0.7), ("val", 0.15), ("test", 0.15))]
    if not all(isinstance(s, int | float) for s in shares):
        return []
    total = sum(shares)
    if abs(total - 1) > 1e-6:
        return [Problem("data.split", f"{total:g} in sum", "train + val + test = 1")]
    if min(shares) <= 0:
        return [Problem("data.split", str(shares), "a positive share for train, val and test")]
    return []

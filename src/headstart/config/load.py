"""From a name or a YAML file to a validated experiment.

The order: read, apply the profile, apply the command line's changes, resolve `extends`, validate
the schema, check the references. Every problem is reported, not only the first.
"""

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from headstart.config.explain import Problem, config_error, explain
from headstart.config.references import check_references
from headstart.config.schema import Experiment
from headstart.errors import ConfigError, nearest


def shipped_experiments() -> dict[str, Path]:
    """Return the experiments that ship with Headstart: name -> file."""
    folder = Path(str(resources.files("headstart.experiments")))
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def load_experiment(
    source: str | Path,
    *,
    profile: str | None = None,
    data: str | None = None,
    overrides: tuple[str, ...] = (),
) -> Experiment:
    """Load and validate an experiment.

    Args:
        source: A shipped experiment's name, or the path of a YAML file.
        profile: Which of its profiles to apply; None for the file as it stands.
        data: Where the data are; replaces `data.path` (`data.name` for kind huggingface).
        overrides: Changes as ``dotted.key=value``, the value in YAML.

    Returns:
        The experiment with profile, changes and `extends` applied.

    Raises:
        ConfigError: The file is missing or not valid; the message lists every problem.
    """
    path = find_experiment(source)
    raw = read_yaml(path)
    raw = _apply_profile(raw, profile, str(source))
    problems: list[Problem] = []
    if data is not None:
        kind = raw.get("data", {}).get("kind") if isinstance(raw.get("data"), dict) else None
        key = "name" if kind == "huggingface" else "path"
        if kind in ("packaged", "sequence"):
            why = "come with a package" if kind == "packaged" else "are made by Headstart"
            raise ConfigError(f"--data: this experiment's data {why}; set data.kind to use others")
        raw = merge(raw, {"data": {key: data}})
    for override in overrides:
        problem = _override(raw, override)
        if problem is not None:
            problems.append(problem)
    parts = raw.get("parts")
    if isinstance(parts, dict):
        raw["parts"] = _resolve_extends(parts, problems)
    experiment: Experiment | None = None
    try:
        # JSON, since pydantic's strict mode then takes a list for a tuple and nothing else.
        experiment = Experiment.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        problems += explain(error, Experiment)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: expected plain YAML values, got {error}") from error
    problems += check_references(raw)
    if problems or experiment is None:
        raise config_error(str(source), problems)
    return experiment


def find_experiment(source: str | Path) -> Path:
    """Return the file of an experiment.

    Args:
        source: A shipped experiment's name, or a path.

    Returns:
        The path of a YAML file that exists.

    Raises:
        ConfigError: There is no such experiment and no such file.
    """
    shipped = shipped_experiments()
    if str(source) in shipped:
        return shipped[str(source)]
    path = Path(source)
    if path.is_file():
        return path
    hint = nearest(str(source), shipped)
    raise ConfigError(
        f"no experiment {str(source)!r}: expected the path of a YAML file or a name that "
        f"`headstart experiments` lists; {hint}"
    )


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and booleans (1e-5 is a number, `no` is a word), no double keys."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise ConfigError(f"the key {key!r} stands twice, in lines {seen[key]} and {line}")
        seen[key] = line
    loader.flatten_mapping(node)
    return {
        loader.construct_object(k, deep=True): loader.construct_object(v, deep=True)
        for k, v in node.value
    }


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:bool")
        and tag != "tag:yaml.org,2002:timestamp"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def parse_yaml(text: str) -> Any:
    """Parse YAML safely: plain values only, YAML 1.2's numbers and booleans, no double keys."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only


def read_yaml(path: Path) -> dict[str, Any]:
    """Read an experiment file.

    Args:
        path: A YAML file.

    Returns:
        Its keys and values.

    Raises:
        ConfigError: It cannot be read, is not YAML, or does not hold keys and values.
    """
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a YAML file, but {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(value).__name__}")
    return value


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `change` laid over it: mappings are merged, all else is replaced.

    Where both have a `kind` and they differ, the change replaces the whole mapping: settings of
    one kind mean nothing to another.
    """
    out = dict(base)
    for key, value in change.items():
        old = out.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            kinds = (old.get("kind"), value.get("kind"))
            part = key in ("model", "sweep") or set(kinds) <= {"model", "sweep", None}
            other_kind = None not in kinds and kinds[0] != kinds[1] and not part
            out[key] = dict(value) if other_kind else merge(old, value)
        else:
            out[key] = value
    return out


def _apply_profile(raw: dict[str, Any], profile: str | None, source: str) -> dict[str, Any]:
    profiles = raw.get("profiles", {})
    out = {key: value for key, value in raw.items() if key != "profiles"}
    if profile is None:
        return out
    if not isinstance(profiles, dict) or profile not in profiles:
        known = list(profiles) if isinstance(profiles, dict) else []
        raise ConfigError(
            f"--profile: {source} has no profile {profile!r}; "
            + (nearest(profile, known) or "it has none")
        )
    change = profiles[profile] if isinstance(profiles[profile], dict) else {}
    return merge(out, {**change, "profile": profile})


def _override(raw: dict[str, Any], text: str) -> Problem | None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        return Problem("-s", repr(text), "dotted.key=value")
    try:
        parsed = parse_yaml(value)
    except (yaml.YAMLError, ConfigError):
        return Problem(f"-s {key}", repr(value), "a YAML value")
    target = raw
    steps = key.split(".")
    if steps[:1] == ["parts"] and steps[2:3] == ["grid"] and len(steps) > 4:
        steps[3:] = [".".join(steps[3:])]  # a grid's keys have dots of their own
    *path, last = steps
    for place, step in enumerate(path):
        below = target.get(step)
        if isinstance(below, list):
            return _override_entry(target, step, steps[place + 1 :], key, parsed)
        target[step] = dict(below) if isinstance(below, dict) else {}
        target = target[step]
    target[last] = parsed
    return None


def _override_entry(
    target: dict[str, Any], name: str, steps: list[str], key: str, value: Any
) -> Problem | None:
    """Change one entry of a list of mappings, such as ``stages.1.epochs``."""
    entries = list(target[name])
    index = int(steps[0]) if steps[0].isdigit() else len(entries)
    if index >= len(entries):
        return Problem(f"-s {key}", repr(steps[0]), f"a number from 0 to {len(entries) - 1}")
    if len(steps) == 1:
        entries[index] = value
    else:
        entry = entries[index]
        inner = {"entry": dict(entry) if isinstance(entry, dict) else {}}
        below = inner["entry"]
        for step in steps[1:-1]:
            below[step] = dict(below[step]) if isinstance(below.get(step), dict) else {}
            below = below[step]
        below[steps[-1]] = value
        entries[index] = inner["entry"]
    target[name] = entries
    return None


def _resolve_extends(parts: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, part in parts.items():
        base = part.get("extends") if isinstance(part, dict) else None
        if base is None:
            out[name] = part
        elif isinstance(base, str) and isinstance(out.get(base), dict):
            dropped = {"title", "extends"}
            if part.get("kind") == "model":  # a model cannot inherit what a sweep varies
                dropped |= {"grid", "search", "select", "tried"}
            # Of the two ways to vary settings the one that is given replaces the other.
            for given, other in (("grid", "search"), ("search", "grid")):
                dropped |= {other} if part.get(given) is not None else set()
            inherited = {k: v for k, v in out[base].items() if k not in dropped}
            out[name] = merge(inherited, part)
        else:
            hint = nearest(str(base), out)
            out[name] = part
            problems.append(
                Problem(f"parts.{name}.extends", repr(base), "the name of an earlier part", hint)
            )
    return out

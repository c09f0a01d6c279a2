"""Who has read a test split: every experiment that did is written down on this machine.

A test split tells the truth once. Each further experiment that is judged by it, and changed after
it, fits it a little. A repeat of one experiment learns nothing new from it, so it does not count.
"""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from headstart._util import files
from headstart._util.hashing import digest_json
from headstart.config.schema import Experiment
from headstart.data.dataset import Dataset
from headstart.types import JsonDict, Progress

_FOLDER = "test-looks"
_OUTSIDE = {
    *("name", "title", "description", "notes", "report", "profile", "profiles", "examples"),
    *("targets", "comparisons", "workers", "device", "cache", "checkpoints", "timing", "analysis"),
}
_OUTSIDE_OF_DATA = {"path", "name", "trust_mtime"}
_SHOWN = ("study", "profile", "when", "command")


def split_digest(dataset: Dataset) -> str | None:
    """Return a digest of the test split's contents and labels; None where it is empty."""
    rows = [int(i) for split, at in dataset.splits.items() if split[:4] == "test" for i in at]
    if not rows:
        return None
    contents = sorted([dataset.digests[i], dataset.classes[dataset.labels[i]]] for i in rows)
    return digest_json(contents)


def experiment_digest(experiment: Experiment) -> str:
    """Return a digest of what decides an experiment's figures: not of its names, or its paths."""
    # Without what has its default: a setting that is new makes no other experiment of an old one.
    raw: dict[str, Any] = experiment.model_dump(mode="json", exclude_defaults=True)
    raw = {k: v for k, v in raw.items() if k not in _OUTSIDE}
    # The test split is known by its contents: the same photos elsewhere are no other experiment.
    raw["data"] = {k: v for k, v in raw["data"].items() if k not in _OUTSIDE_OF_DATA}
    raw["parts"] = {
        name: {k: v for k, v in part.items() if k != "title"} for name, part in raw["parts"].items()
    }
    return digest_json(raw)


def look(
    cache: Path, dataset: Dataset, experiment: Experiment, about: JsonDict, show: Progress
) -> JsonDict | None:
    """Write down that an experiment reads a test split, and return who did before.

    Args:
        cache: The cache folder.
        dataset: The data.
        experiment: What is run.
        about: The content of its run.json.
        show: Where to say that it could not be written down.

    Returns:
        ``test_looks`` of results.json: the split's digest, and the other experiments that read it
        before this run began; None where there is no test split.
    """
    digest = split_digest(dataset)
    if digest is None:
        return None
    own = experiment_digest(experiment)
    entry = {
        "experiment": own,
        "study": experiment.name,
        "profile": experiment.profile,
        "when": about["created"],
        "command": about["command"],
    }
    path = cache / _FOLDER / f"{digest[:32]}.jsonl"
    try:
        known = _written_down(path, entry)
    except OSError as error:  # a cache that cannot be written must not cost the run
        show.say(f"{path}: that this run reads the test split cannot be written down: {error}")
        known = _read(path)
    earlier: list[JsonDict] = []
    for one in known:  # in the order of their first look
        if one["experiment"] == own:
            break
        earlier.append({k: one[k] for k in _SHOWN})
    return {"digest": digest, "earlier": earlier}


def _written_down(path: Path, entry: JsonDict) -> list[JsonDict]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        known = _read(path)
        if not any(one["experiment"] == entry["experiment"] for one in known):
            known.append(entry)
            lines = (json.dumps(one, ensure_ascii=False) for one in known)
            files.write_text(path, "\n".join(lines) + "\n")
    return known


def _read(path: Path) -> list[JsonDict]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # a line that was edited by hand
    return [one for one in found if isinstance(one, dict) and {"experiment", *_SHOWN} <= one.keys()]

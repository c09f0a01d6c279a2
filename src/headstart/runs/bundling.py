"""From a run to a bundle: the model, its figures and some samples, in one folder or file."""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from headstart._util import files, progress
from headstart.backbones.base import Backbone
from headstart.config.load import load_experiment
from headstart.data.dataset import Dataset
from headstart.errors import ConfigError, RunError, nearest
from headstart.predict import BundleInfo, Predictor, StoredSample, verify_bundle, write_bundle
from headstart.predict.bundle_files import ZIP_SUFFIX
from headstart.predict.bundle_info import MEMBERS, task_of
from headstart.predict.bundle_network import public_name, write_network
from headstart.predict.bundle_write import TOLERANCE, check_in_clean_process
from headstart.predict.ensemble import Ensemble, vote
from headstart.predict.placing import check_free
from headstart.predict.predictor import load_parts
from headstart.predict.saved import SavedModel, TrainedModel, load_description
from headstart.runs.record import EXPERIMENT_NAME, RESULTS_NAME, RUN_NAME
from headstart.runs.reopened import found_again, reopened
from headstart.runs.result import read_estimates, read_predictions
from headstart.types import FloatArray, IntArray, JsonDict, Progress

SAMPLES = 16

# Between what the run stored and what is said now: features may have come from another engine.
_RUN_AGREES = 0.01
_UNBUNDLED = {
    "language_model": "a language model names no classes of a text: bundle a model that was "
    "trained on it (a backbone run:…)",
    "baseline": "it says the same of every sample",
    "zero_shot": "it is a published classifier as it is, nothing was trained",
}


# Where a path begins: at the start of a word, or behind a bracket, a quotation mark, `=` or `:` (as
# in `run:/home/…`), say. From the root, a home, a folder above, or a drive.
_PATH = re.compile(
    r"""(?:(?<=[\s({\[<=:,;|"'`])|^)(?:(?:~[^/\\\s]*|\.\.?)?/+|[A-Za-z]:[/\\]|\\\\)(?=[^/\\\s])"""
)
_LAST_SEPARATORS = re.compile(r"""[/\\]+(?=[\s)}\]>,;"'`]*$)""")
_URL = re.compile(r"""(?<![\w/])(?!file:)[a-z][a-z0-9+.-]*://[^\s"'<>()]+""")


@dataclass(frozen=True, slots=True)
class Bundled:
    """What `bundle_run` leaves.

    Attributes:
        path: The bundle.
        info: What it is.
        difference: The largest difference between what its model says of the stored samples and
            what the run stored of them.
    """

    path: Path
    info: BundleInfo
    difference: float


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Samples of the test split."""

    names: tuple[str, ...]
    data: tuple[bytes, ...]
    labels: tuple[str | float, ...]


def bundle_run(
    folder: str | Path,
    *,
    model: str | None = None,
    out: str | Path | None = None,
    samples: int = SAMPLES,
    data: str | None = None,
    allow_network: bool = False,
    show: Progress | None = None,
) -> Bundled:
    """Write a model of a finished run as a bundle that stands alone.

    Args:
        folder: The run folder.
        model: Which of its models; None: the recommended one.
        out: The bundle: a folder, or a file ending in ``.headstart``; None: a ``.headstart`` file
            beside the report, named after the study and the model.
        samples: How many samples of the test split it brings along, spread over the classes.
        data: Where the data are now; None: where they were.
        allow_network: Whether weights and data that are missing may be downloaded.
        show: Where to show how far it is; None for the terminal.

    Returns:
        The bundle.

    Raises:
        RunError: The folder is no finished run, its data have changed, or this model's files are
            not there.
        ConfigError: There is no such model, or it is of a kind that cannot be bundled.
        BundleError: What was written does not stand alone, or says something else.
    """
    folder = Path(folder)
    if samples < 1:
        raise ConfigError(f"samples: expected at least 1, got {samples}")
    results, about = _read(folder, RESULTS_NAME), _read(folder, RUN_NAME)
    entry = _entry(folder, results, model)
    target = _target(folder, results, entry, out)
    check_free(target)
    show = show if show is not None else progress.for_terminal()
    ensemble = _ensemble(entry)
    members = [entry["name"]] if ensemble is None else list(ensemble.members)
    for name in members:
        if not (folder / "models" / name / "model.json").is_file():
            raise RunError(f"{folder}: the files of the model {name} are not there: run it again")
    study = found_again(
        load_experiment(folder / EXPERIMENT_NAME, data=data), about["working_folder"]
    )
    dataset = reopened(
        folder, study, results["data"]["fingerprint"], allow_network=allow_network, show=show
    )
    chosen = _choose(dataset, samples)
    show.say(f"bundling {entry['name']}: {len(chosen.names)} samples, {len(members)} network(s)")
    parts = {name: folder / "models" / name for name in members}
    writer = _Writer(parts, ensemble, allow_network)
    said = writer.predict(chosen.data)
    difference = _difference(folder, entry, chosen, said)
    stored = [
        StoredSample(name, one, label, tuple(map(float, np.atleast_1d(row))))
        for name, one, label, row in zip(
            chosen.names, chosen.data, chosen.labels, said, strict=True
        )
    ]
    models = [load_description(part) for part in parts.values()]
    manifest = _manifest(target, results, about, entry, models)
    write_bundle(target, manifest, stored, writer.fill, check=check_in_clean_process)
    return Bundled(target, verify_bundle(target), difference)


class _Writer:
    """The networks of a bundle: what they say, and their files."""

    def __init__(
        self, parts: Mapping[str, Path], ensemble: Ensemble | None, allow_network: bool
    ) -> None:
        self._parts = dict(parts)
        self._ensemble = ensemble
        self._allow_network = allow_network

    def predict(self, data: Sequence[bytes]) -> FloatArray:
        """Return what the run's own models say of samples: [n, classes] or [n]."""
        cpu = torch.device("cpu")
        # One after the other: all networks of an ensemble may not fit into memory together.
        said = [Predictor(*self._load(name), cpu).predict(data) for name in self._parts]
        if self._ensemble is None:
            return said[0]
        combined = vote(self._ensemble.voting, np.stack(said), self._ensemble.weights)
        return combined.astype(np.float32)

    def fill(self, folder: Path) -> None:
        """Write the networks' files into a bundle's folder."""
        for name in self._parts:
            trained, backbone = self._load(name)
            Predictor(trained, backbone, torch.device("cpu"))  # puts the trained weights in
            write_network(
                folder if self._ensemble is None else folder / MEMBERS / name, trained, backbone
            )

    def _load(self, name: str) -> tuple[TrainedModel, Backbone]:
        return load_parts(self._parts[name], allow_network=self._allow_network)


def _read(folder: Path, name: str) -> JsonDict:
    try:
        content: JsonDict = files.read_json(folder / name)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder}: expected the folder of a finished run ({name} is missing or damaged): "
            f"{error}"
        ) from error
    return content


def _entry(folder: Path, results: JsonDict, model: str | None) -> JsonDict:
    """Return the entry of a model in results.json, which can be bundled."""
    entries = {entry["name"]: entry for entry in results.get("models", [])}
    name = model if model is not None else (results.get("recommendation") or {}).get("model")
    if name is None:
        raise RunError(
            f"{folder}: recommends no model (was it stopped?): name one with --model: "
            f"{', '.join(entries) or 'there is none'}"
        )
    if name not in entries:
        raise ConfigError(f"--model: {folder} has no model {name!r}; {nearest(name, entries)}")
    entry: JsonDict = entries[name]
    why = _UNBUNDLED.get(entry.get("kind", "model"))
    if why is not None:
        bundled = [n for n, e in entries.items() if e.get("kind", "model") not in _UNBUNDLED]
        others = f"; these can be: {', '.join(bundled)}" if bundled else ""
        raise ConfigError(f"{name} of {folder} cannot be bundled: {why}{others}")
    if entry["state"] != "complete":
        raise ConfigError(f"{name} of {folder} cannot be bundled: its training {entry['state']}")
    return entry


def _ensemble(entry: JsonDict) -> Ensemble | None:
    """Return how members vote; those without any weight are left out."""
    raw = entry.get("ensemble")
    if not raw:
        return None
    used = [
        (name, float(weight))
        for name, weight in zip(raw["members"], raw["weights"], strict=True)
        if weight > 0
    ]
    names, weights = zip(*used, strict=True)
    return Ensemble(raw["voting"], names, weights)


def _target(folder: Path, results: JsonDict, entry: JsonDict, out: str | Path | None) -> Path:
    if out is not None:
        return Path(out)
    return folder / f"{_slug(results['experiment']['name'])}-{_slug(entry['name'])}{ZIP_SUFFIX}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "bundle"


def _choose(dataset: Dataset, count: int) -> _Chosen:
    """Choose samples of the test split, evenly over the classes and within each."""
    splits = (dataset.splits[name] for name in ("test", "val", "train"))
    positions = next(split for split in splits if len(split))
    keys = dataset.labels[positions]
    queues = [_spread(positions[keys == key], count) for key in np.unique(keys)]
    turns = [queue[turn] for turn in range(count) for queue in queues if turn < len(queue)]
    chosen = sorted(turns[:count])
    labels: list[str | float] = [dataset.classes[dataset.labels[i]] for i in chosen]
    if dataset.targets is not None:
        labels = [float(dataset.targets[i]) for i in chosen]
    return _Chosen(
        tuple(dataset.names[i] for i in chosen),
        tuple(dataset.read(i) for i in chosen),
        tuple(labels),
    )


def _spread(positions: IntArray, count: int) -> list[int]:
    """Return at most `count` positions, evenly over all."""
    take = min(count, len(positions))
    return [int(positions[i * len(positions) // take]) for i in range(take)]


def _difference(folder: Path, entry: JsonDict, chosen: _Chosen, said: FloatArray) -> float:
    """Return how far the model is from what the run stored of the same samples."""
    place = folder / "models" / entry["part"]
    worst = 0.0
    for split in ("test", "val", "train"):
        if not (place / f"predictions-{split}.parquet").is_file():
            continue
        names, stored = _stored(place, split)
        row = {name: i for i, name in enumerate(names)}
        for name, one in zip(chosen.names, said, strict=True):
            if name in row:
                known = stored[row[name]]
                gap = np.abs(np.asarray(one) - known) / np.maximum(1, np.abs(known))
                worst = max(worst, float(gap.max()))
    if not worst <= _RUN_AGREES:
        raise RunError(
            f"{folder}: {entry['name']} says something else now than in the run: probabilities "
            f"differ by up to {worst:.2g}. Were the files of the model or of its backbone changed?"
        )
    return worst


def _stored(place: Path, split: str) -> tuple[tuple[str, ...], FloatArray]:
    about = _read(place, "part.json")
    if about.get("estimates"):
        estimates = read_estimates(place, split)
        return estimates.names, estimates.values
    predictions = read_predictions(place, split, tuple(about["classes"]))
    return predictions.names, predictions.probabilities


def _manifest(
    target: Path, results: JsonDict, about: JsonDict, entry: JsonDict, models: Sequence[SavedModel]
) -> JsonDict:
    """Return what a bundle says of itself, from what the run's results say."""
    first, data = models[0], results["data"]
    ensemble = _ensemble(entry)
    title = f"{results['experiment']['title'] or results['experiment']['name']}: {entry['title']}"
    parts = {model["name"]: model for model in results["models"]}
    of = [entry] if ensemble is None else [parts[name] for name in ensemble.members]
    backbones = {one["key"]: one for one in results["backbones"]}
    return {
        "name": _slug(target.name.removesuffix(ZIP_SUFFIX)),
        "title": title,
        "goal": first.goal,
        "task": task_of(first.input_spec),
        "network": {
            "engine": "torch",
            "precision": "float32",
            "files": ["model.json", "model.safetensors"],
        },
        "voting": None if ensemble is None else dataclasses.asdict(ensemble),
        "classes": list(first.classes),
        "input": first.input_spec.describe(),
        "backbones": [_backbone(backbones[one["backbone"]]) for one in of],
        "calibration": _calibration(entry, first.temperature),
        "metrics": {k: v for k, v in entry["metrics"].items() if k != "train"},
        "latency": entry.get("prediction"),
        "data": {
            "name": _without_paths(data["origin"]),
            "fingerprint": data["fingerprint"],
            "counts": {split: sum(n.values()) for split, n in data["counts"].items()},
        },
        "training": {"kind": entry["mode"], "stages": [_stage(s) for s in entry["stages"]]},
        "run": {
            "experiment": results["experiment"]["name"],
            "created": results["created"],
            "command": _command(about["command"]),
        },
        "tolerance": TOLERANCE,
    }


def _backbone(entry: JsonDict) -> JsonDict:
    return {
        "name": public_name(entry["name"]),
        "weights": {
            **entry["weights"],
            "origin": _without_paths(entry["weights"]["origin"]),
        },
        "parameters_total": entry["parameters_total"],
        "size_bytes": entry["size_bytes"],
    }


def _calibration(entry: JsonDict, temperature: float) -> JsonDict:
    found = entry.get("calibration") or {}
    state = "after" if found.get("applied") else "before"
    test = (found.get("test") or {}).get(state) or {}
    return {"temperature": temperature, "ece": test.get("ece")}


def _stage(stage: JsonDict) -> JsonDict:
    keys = ("name", "trainable", "epochs", "optimizer", "learning_rate")
    return {key: stage[key] for key in keys if key in stage}


def _command(line: str) -> str:
    """Return a command without paths: each of its words may be one, or an option with one."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation mark that is never closed: no line of a shell
        return _without_paths(line)
    return shlex.join(map(_without_paths, words))


def _without_paths(text: str) -> str:
    """Return a text with the paths of this machine as their last parts: all that others can use.

    Where a path ends cannot be told: spaces and brackets may be in it. Everything from where one
    begins to the last separator goes; words behind it may go too, but nothing of a path stays.
    """
    kept, last = [], 0
    for url in [*_URL.finditer(text), None]:
        part = text[last : len(text) if url is None else url.start()]
        path = _PATH.search(part)
        if path is not None:
            # One at the end of the path itself is not what its last part lies behind.
            end = _LAST_SEPARATORS.sub("", part)
            part = part[: path.start()] + re.split(r"[/\\]", end[path.start() :])[-1]
        kept += [part, "" if url is None else url.group()]
        last = len(text) if url is None else url.end()
    return "".join(kept)

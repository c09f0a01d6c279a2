"""The files of a run folder: plain formats that outlive the program."""

import datetime
import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from headstart import __version__
from headstart._util import devices, files
from headstart.config.schema import Experiment
from headstart.errors import RunError
from headstart.types import Estimates, JsonDict, Predictions, Score, StepRecord

RESULTS_NAME = "results.json"
RUN_NAME = "run.json"
EXPERIMENT_NAME = "experiment.yaml"


def new_run_folder(out: Path, experiment: Experiment, now: datetime.datetime) -> Path:
    """Make a new, empty folder ``OUT/NAME[-PROFILE]-YYYYMMDD-HHMMSS``.

    Args:
        out: The folder of all runs; it is made.
        experiment: The study.
        now: The time that the name tells.

    Returns:
        The folder; a number is added where one of that second exists.
    """
    stem = "-".join(filter(None, [experiment.name, experiment.profile, f"{now:%Y%m%d-%H%M%S}"]))
    return new_folder(out, stem)


def new_folder(out: Path, stem: str) -> Path:
    """Make a new, empty folder; a number is added to its name where there is one already.

    Args:
        out: The folder that it is made in; it is made too.
        stem: Its name.

    Returns:
        The folder.

    Raises:
        RunError: There are a thousand of that name.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = out / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"{out}: no free name for a folder beginning with {stem}")


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Write the resolved experiment as YAML: running that file repeats the run."""
    raw = experiment.model_dump(mode="json", exclude_defaults=False)
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100)
    files.write_text(folder / EXPERIMENT_NAME, text)


def environment(device: str) -> JsonDict:
    """Return what a result depends on besides the experiment: versions and machine."""
    names = sorted(_dependencies())
    return {
        "headstart": __version__,
        "python": sys.version.split()[0],
        "torch": importlib.metadata.version("torch"),
        "platform": platform.platform(),
        "cpu": devices.cpu_model(),
        "cores": devices.usable_cores(),
        "device": device,
        "packages": {name: _version(name) for name in names},
    }


def score_json(score: Score) -> JsonDict:
    """Return a score as JSON, rounded to what doubles of this size can mean."""
    return {
        "value": round(score.value, 10),
        "low": round(score.low, 10),
        "high": round(score.high, 10),
        "n": score.n,
    }


def write_history(path: Path, records: Iterable[StepRecord], *, members: bool) -> None:
    """Write a training history as Parquet, one row per epoch and split.

    Args:
        path: The file.
        records: What the loop yielded; those within epochs have a file of their own.
        members: Whether to keep the column that says which member of a sweep a row is of.
    """
    rows = [r for r in records if r.split != "steps"]
    columns = {
        "stage": pa.array([r.stage for r in rows], pa.int32()),
        "epoch": pa.array([r.epoch for r in rows], pa.int32()),
        "split": pa.array([r.split for r in rows], pa.string()),
        "loss": pa.array([r.loss for r in rows], pa.float64()),
        "accuracy": pa.array([r.accuracy for r in rows], pa.float64()),
        "learning_rate": pa.array([r.learning_rate for r in rows], pa.float64()),
        "seconds": pa.array([r.seconds for r in rows], pa.float64()),
    }
    if members:
        columns = {"member": pa.array([r.member for r in rows], pa.int32()), **columns}
    _write_table(path, pa.table(columns))


def write_trace(path: Path, records: Iterable[StepRecord]) -> None:
    """Write the losses that were recorded within epochs, if any were, as Parquet."""
    rows = [r for r in records if r.split == "steps"]
    if rows:
        columns = {
            "stage": pa.array([r.stage for r in rows], pa.int32()),
            "step": pa.array([r.step for r in rows], pa.int64()),
            "loss": pa.array([r.loss for r in rows], pa.float64()),
            "seconds": pa.array([r.seconds for r in rows], pa.float64()),
        }
        _write_table(path, pa.table(columns))


def write_estimates(path: Path, estimates: Estimates) -> None:
    """Write what a regression says of one split as Parquet, one row per sample in its order."""
    columns = {
        "name": pa.array(list(estimates.names), pa.string()),
        "target": pa.array(estimates.targets),
        "predicted": pa.array(estimates.values),
    }
    _write_table(path, pa.table(columns))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write one split's predictions as Parquet, one row per sample in the split's order."""
    predicted = predictions.predicted
    names = np.asarray(predictions.classes, dtype=object)
    columns = {
        "name": pa.array(list(predictions.names), pa.string()),
        "label": pa.array(names[predictions.labels].tolist(), pa.string()),
        "predicted": pa.array(names[predicted].tolist(), pa.string()),
        "confidence": pa.array(predictions.probabilities.max(axis=1).astype(np.float64)),
    }
    for index in range(len(predictions.classes)):
        columns[f"p_{index}"] = pa.array(predictions.probabilities[:, index])
    _write_table(path, pa.table(columns))


def _write_table(path: Path, table: pa.Table) -> None:
    with files.atomic_writer(path) as file:
        pq.write_table(table, file)


def _dependencies() -> Sequence[str]:
    requires = importlib.metadata.requires("headstart") or []
    return [re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0] for r in requires]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def threads_of(about: JsonDict) -> int:
    """Return how many threads torch has in a run, wherever it goes on: sums depend on it.

    Args:
        about: What ``run.json`` says; versions that did not say it leave it to torch.

    Returns:
        As many as when it began, if there are so many cores.
    """
    began: int = about.get("threads", torch.get_num_threads())
    return min(began, devices.usable_cores())

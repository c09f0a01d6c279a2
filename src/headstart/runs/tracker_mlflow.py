"""MLflow on a local SQLite file: a run for each run of Headstart, nested ones for its parts."""

import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart._util.imports import optional
from headstart.errors import RunError
from headstart.report.text import setting
from headstart.runs.trackers import (
    Point,
    final_figures,
    milliseconds,
    note,
    notes,
    shown_members,
)
from headstart.types import JsonDict

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlflow-artifacts"
_KEPT = ("results.json", "report.html", "report.pdf", "experiment.yaml")
_FLUSH_SECONDS, _FLUSH_METRICS = 2.0, 500
# Limits of MLflow: one batch, and a parameter's value in its older databases.
_BATCH_METRICS, _BATCH_PARAMETERS, _LONGEST_VALUE, _LONGEST_KEY = 1000, 100, 500, 250
_PARENT = "mlflow.parentRunId"


class MlflowTracker:
    """Writes to OUT/mlflow.db, through a client of its own: MLflow's global state stays as it is.

    Points are written in batches, for SQLite commits each write to the disk. MLflow cannot replace
    a point: what a run holds already is read when it goes on, and not written again.
    """

    def __init__(self, out: Path) -> None:
        self._mlflow = _import_mlflow()
        self._out = out.absolute()
        self._client: MlflowClient | None = None
        self._folder = Path()
        self._experiment = self._run = ""
        self._children: dict[str, str] = {}
        self._open: set[str] = set()  # runs that are said to be running
        self._known: dict[str, dict[str, set[int]]] = {}  # steps that a run holds, by metric
        self._pending: dict[str, list[Any]] = {}
        self._flushed = time.monotonic()

    def start(self, folder: Path, experiment: str, settings: Mapping[str, object]) -> None:
        """Open the database and begin a run, or go on with the one that the folder notes.

        Args:
            folder: The run folder.
            experiment: Name of the study: MLflow's experiment.
            settings: Every setting of the study, flat, with dotted keys.

        Raises:
            RunError: The path of the database cannot be part of an address.
        """
        database = self._out / DATABASE_NAME
        if any(character in str(database) for character in "?#%"):
            raise RunError(f"{database}: expected a path without ?, # and %")
        self._folder = folder
        with _quiet():
            client = self._mlflow.MlflowClient(tracking_uri=f"sqlite:///{database}")
        self._client = client
        found = client.get_experiment_by_name(experiment)
        artifacts = (self._out / ARTIFACTS_NAME).as_uri()
        self._experiment = (
            client.create_experiment(experiment, artifact_location=artifacts)
            if found is None
            else found.experiment_id
        )
        noted = notes(folder).get("mlflow") or {}
        if noted and self._there(noted["run"]):
            self._run, self._children = noted["run"], dict(noted["parts"])
        else:
            tags = {"headstart.folder": str(folder.absolute()), "mlflow.source.name": "headstart"}
            self._run = self._create(folder.name, tags)
        self._note()
        self._put_parameters(self._run, settings)
        self._reopen(self._run)

    def log(self, point: Point) -> None:
        """Write a point to the run of its part or member, soon."""
        run = self._child(point.place)
        self._reopen(run)
        known = self._steps(run)
        entities, now = self._mlflow.entities, milliseconds()
        for name, value in point.figures.items():
            key = _key(name)
            if point.step not in known.setdefault(key, set()):
                known[key].add(point.step)
                metric = entities.Metric(key, value, now, point.step)
                self._pending.setdefault(run, []).append(metric)
        many = sum(len(metrics) for metrics in self._pending.values()) >= _FLUSH_METRICS
        if many or time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self._flush()

    def finish(self, results: JsonDict) -> None:
        """Write settings and final figures of every part, and keep the report with the run.

        Args:
            results: The content of results.json.
        """
        self._flush()
        members = dict(shown_members(results))
        for place, run in self._children.items():
            if "/" in place and place not in members:  # seeds, or values of a logistic head's C
                self._end(run, "complete")
        for place, member in members.items():
            run = self._child(place)
            self._put_parameters(run, member["values"])
            self._end(run, member["state"])
        for model in results["models"]:
            run = self._child(model["name"])
            shown = {"mode": model["mode"], "backbone": model["backbone"]}
            self._put_parameters(run, {**shown, **model["hyperparameters"]})
            self._put_figures(run, final_figures(model))
            self._end(run, model["state"])
        chosen = results["recommendation"]["model"]
        for model in results["models"]:
            if model["name"] == chosen:
                self._put_figures(self._run, final_figures(model))
        client = self._opened()
        client.set_tag(self._run, "headstart.recommended", chosen or "none")
        client.set_tag(self._run, "headstart.command", results["experiment"]["command"])
        for name in _KEPT:
            if (self._folder / name).exists():
                client.log_artifact(self._run, str(self._folder / name))
        self._end(self._run, "complete")

    def close(self) -> None:
        """Write what is left; runs that have not ended are said to be stopped."""
        if self._client is not None:
            self._flush()
            for run in tuple(self._open):
                self._end(run, "stopped")

    def _opened(self) -> "MlflowClient":
        assert self._client is not None, "start comes first"
        return self._client

    def _there(self, run: str) -> bool:
        """Return whether the database has a run and nobody deleted it."""
        try:
            found = self._opened().get_run(run)
        except self._mlflow.MlflowException:
            return False
        return bool(found.info.lifecycle_stage == "active")

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        created = self._opened().create_run(self._experiment, run_name=name, tags=dict(tags))
        self._open.add(created.info.run_id)
        return str(created.info.run_id)

    def _child(self, place: str) -> str:
        """Return the run of a part, or of a member, whose parent is its part."""
        if place not in self._children:
            part = place.rpartition("/")[0]
            parent = self._child(part) if part else self._run
            self._children[place] = self._create(place, {_PARENT: parent})
            self._note()
        return self._children[place]

    def _note(self) -> None:
        note(self._folder, "mlflow", {"run": self._run, "parts": self._children})

    def _reopen(self, run: str) -> None:
        if run not in self._open:
            self._open.add(run)
            self._opened().update_run(run, status="RUNNING")

    def _end(self, run: str, state: str) -> None:
        self._open.discard(run)
        status = {"diverged": "FAILED", "stopped": "KILLED"}.get(state, "FINISHED")
        self._opened().set_terminated(run, status)

    def _steps(self, run: str) -> dict[str, set[int]]:
        if run not in self._known:
            client = self._opened()
            self._known[run] = {
                key: {metric.step for metric in client.get_metric_history(run, key)}
                for key in client.get_run(run).data.metrics
            }
        return self._known[run]

    def _put_parameters(self, run: str, settings: Mapping[str, object]) -> None:
        """Write settings; what a run holds of them stays, since MLflow lets nobody change it."""
        client, entities = self._opened(), self._mlflow.entities
        known = client.get_run(run).data.params
        new = {_key(k): _text(v) for k, v in settings.items() if v is not None}
        missing = [entities.Param(k, v) for k, v in new.items() if k not in known]
        for first in range(0, len(missing), _BATCH_PARAMETERS):
            client.log_batch(run, params=missing[first : first + _BATCH_PARAMETERS])

    def _put_figures(self, run: str, figures: Mapping[str, float]) -> None:
        """Write final figures, unless the run holds the same."""
        client, entities, now = self._opened(), self._mlflow.entities, milliseconds()
        known = client.get_run(run).data.metrics
        new = {_key(k): v for k, v in figures.items()}
        metrics = [entities.Metric(k, v, now, 0) for k, v in new.items() if known.get(k) != v]
        for first in range(0, len(metrics), _BATCH_METRICS):
            client.log_batch(run, metrics=metrics[first : first + _BATCH_METRICS])

    def _flush(self) -> None:
        for run, metrics in self._pending.items():
            for first in range(0, len(metrics), _BATCH_METRICS):
                self._opened().log_batch(run, metrics=metrics[first : first + _BATCH_METRICS])
        self._pending.clear()
        self._flushed = time.monotonic()


def _import_mlflow() -> Any:
    """Import MLflow with its telemetry off, and what its SQLite store needs."""
    purpose = "tracking a run with MLflow"
    for module in ("sqlalchemy", "alembic"):
        optional(module, "track", purpose)
    with _quiet():
        mlflow = optional("mlflow", "track", purpose)
        # What the store imports warns of what SQLAlchemy will change.
        optional("mlflow.store.tracking.sqlalchemy_store", "track", purpose)
    return mlflow


@contextmanager
def _quiet() -> Iterator[None]:
    """Let MLflow start without its telemetry, warnings and lines about tables, then undo that.

    Importing MLflow sends a message over the network unless the environment forbids it at that
    moment; where it was forbidden, nothing is sent later.
    """
    name = "MLFLOW_DISABLE_TELEMETRY"
    before = os.environ.get(name)
    os.environ[name] = "true"
    # The first import sets the level of MLflow's own logger: a filter of all levels outlasts that.
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _key(name: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)[:_LONGEST_KEY]


def _text(value: object) -> str:
    text = value if isinstance(value, str) else setting(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"

"""Pieces of a run that other processes can do, as plain data, and doing one.

A job leaves in the run folder, or in the feature store, what a run would have left there that was
stopped at that point: features with a note of what they took, a training's last checkpoint, a
finished part. Whoever assembles the run then goes on as `resume` does, so that the results are
those of a run in one process.
"""

import functools
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from headstart import errors
from headstart._util import files
from headstart._util.devices import resolve_device
from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop
from headstart.config import schema
from headstart.config.load import load_experiment
from headstart.features.engine import EngineName
from headstart.features.key import Dtype, FeatureKey, feature_key
from headstart.features.share import ShareWorker
from headstart.runs import record
from headstart.runs.part import train_member
from headstart.runs.plan import plan_parts
from headstart.runs.reopened import found_again
from headstart.runs.result import load_result
from headstart.runs.search import Trial, Trials, train_trial
from headstart.runs.study import Study
from headstart.train import ALONE, current_team
from headstart.types import JsonDict, View

STOP = Stop()
"""Whether the jobs of this process are to end at the next safe place."""


@dataclass(frozen=True, slots=True)
class Share:
    """Some samples whose features are wanted.

    Attributes:
        part: A part that uses the network: whose settings hold.
        cut: Where the network is cut.
        dtype: How features are stored.
        view: The random changes to the pictures, or None.
        engine: What computes.
        key: Digest of the features' key, as whoever shares the work out has it.
        number: Which share this is, from 0.
        positions: Of the samples in the data set.
    """

    part: str
    cut: str
    dtype: Dtype
    view: View | None
    engine: EngineName
    key: str
    number: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of a run.

    Attributes:
        folder: The run folder, absolute, seen under this name by everybody.
        part: The part that it belongs to.
        member: The member that is trained; None: all of the part, to its end.
        share: Samples whose features are computed; then nothing is trained.
        together: Whether several processes do this job at the same time, as one team.
        values: The settings of a trial of a search, whose number is `member`.
    """

    folder: str
    part: str
    member: int | None = None
    share: Share | None = None
    together: bool = False
    values: tuple[tuple[str, float | int], ...] | None = None

    @property
    def label(self) -> str:
        """What messages call it; no two of a run are called alike at a time."""
        if self.share is not None:
            return f"{self.part}, features at {self.share.cut}, share {self.share.number + 1}"
        return self.part if self.member is None else f"{self.part}, member {self.member + 1}"


@dataclass(frozen=True, slots=True)
class Place:
    """What is the same for all jobs of a process.

    Attributes:
        cache: The cache folder: one for all processes.
    """

    cache: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a job.

    Attributes:
        seconds: What it took.
        extracted: Samples that went through the network for it.
        error: Name of a class of `headstart.errors` and a message, where it failed.
        process: Which process did it, and on which machine.
        figure: What a trial of a search came to; not a number where it diverged.
    """

    seconds: float
    extracted: int = 0
    error: tuple[str, str] | None = None
    process: str = ""
    figure: float = math.nan

    def raise_error(self, label: str) -> None:
        """Raise what the job failed of, if it did."""
        if self.error is not None:
            name, message = self.error
            kind: type[errors.HeadstartError] = getattr(errors, name, errors.RunError)
            raise kind(f"{label}: {message}")


def perform(job: Job, place: Place) -> Report:
    """Do a job in this process.

    Args:
        job: What is to be done.
        place: Where.

    Returns:
        What came of it; what a user can mend is told in it, anything else is raised.
    """
    start = time.perf_counter()
    os.environ["HEADSTART_CACHE"] = place.cache
    extracted, figure, error = 0, math.nan, None
    try:
        extracted, figure = _do(job)
    except errors.HeadstartError as problem:
        error = (type(problem).__name__, str(problem))
    who = f"{os.uname().nodename}/{os.getpid()}"
    return Report(time.perf_counter() - start, extracted, error, who, figure)


def _do(job: Job) -> tuple[int, float]:
    """Return how many samples were extracted, and a trial's figure."""
    study, threads = _opened(job.folder)
    torch.set_num_threads(threads)
    folder = Path(job.folder)
    if job.share is not None:
        worker = _share_worker(job.folder, _ShareKind.of(job.share))
        return worker.extract(job.share.positions), math.nan
    if load_result(folder / "models" / job.part) is not None:
        return 0, math.nan  # done by one that was given up for lost
    study.take_done(folder)
    if not _has_what_it_builds_on(study, job.part):
        return 0, math.nan  # who assembles the run says so
    if job.member is None:
        study.run_one(job.part, folder)
        return 0, math.nan
    part = study.part(job.part)
    bench = study.bench(job.part, folder, team=current_team() if job.together else ALONE)
    if job.values is None:
        train_member(job.part, part, bench, job.member)
        return 0, math.nan
    assert isinstance(part, schema.SweepPart)
    trials = Trials(part, job.part, folder)
    return 0, train_trial(job.part, part, bench, trials, Trial(job.member, dict(job.values)))


def _has_what_it_builds_on(study: Study, name: str) -> bool:
    part = study.experiment.parts[name]
    before = part.best_of if isinstance(part, schema.TrainedPart) else None
    return before is None or before in study.chosen


@functools.lru_cache(maxsize=1)
def _opened(folder: str) -> tuple[Study, int]:
    """Open the run's data and networks, once in a process; return them and torch's threads."""
    try:
        about: JsonDict = files.read_json(Path(folder) / record.RUN_NAME)
    except (OSError, ValueError) as error:
        raise errors.RunError(
            f"{folder}: expected the run folder under the same path in every process and on "
            f"every machine, and cannot read it here ({error})"
        ) from error
    experiment = load_experiment(Path(folder) / record.EXPERIMENT_NAME)
    study = found_again(experiment, about["working_folder"])
    prepared = Study.prepare(
        study,
        plan_parts(study, about["only"]),
        resolve_device(study.device),
        allow_network=about["allow_network"],
        show=SilentProgress(),
        stop=STOP,
    )
    if prepared.dataset.fingerprint != about["fingerprint"]:
        raise errors.RunError(
            f"{folder}: expected the data that this run began with (fingerprint "
            f"{about['fingerprint'][:12]}…), got {prepared.dataset.fingerprint[:12]}…: samples "
            "have changed, or this machine sees others under the same path"
        )
    return prepared, record.threads_of(about)


@dataclass(frozen=True, slots=True)
class _ShareKind:
    """What is the same for all shares of an extraction."""

    part: str
    cut: str
    dtype: Dtype
    view: View | None
    engine: EngineName
    key: str

    @classmethod
    def of(cls, share: Share) -> "_ShareKind":
        return cls(share.part, share.cut, share.dtype, share.view, share.engine, share.key)


@functools.lru_cache(maxsize=2)
def _share_worker(folder: str, kind: _ShareKind) -> ShareWorker:
    study, _ = _opened(folder)
    bench = study.bench(kind.part, Path(folder))
    key: FeatureKey = feature_key(bench.backbone, kind.cut, kind.dtype, kind.view)
    if key.digest() != kind.key:
        raise errors.WeightsError(
            f"{bench.backbone.name}: expected the network that this run began with, got another: "
            "are its weights, and the versions of the libraries, the same on this machine?"
        )
    return ShareWorker(
        images=bench.dataset,
        backbone=bench.backbone,
        key=key,
        engine=kind.engine,
        store=bench.store,
        device=bench.device,
        batch_size=bench.cache.batch_size,
        workers=bench.workers,
        lengths=bench.lengths(bench.backbone),
        progress=SilentProgress(),
    )


def forget() -> None:
    """Let go of what was opened for earlier jobs."""
    _opened.cache_clear()
    _share_worker.cache_clear()

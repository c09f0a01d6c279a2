"""Jobs on a Ray cluster: this machine alone, or one that is there already.

Features are extracted by Ray Data (streamed: few shares wait at a time), trainings are Ray tasks. A
job whose process or machine is lost is begun again by Ray; it finds what was stored before.
"""

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, final

import torch

from headstart._util.ray_local import begin, is_client
from headstart.errors import ConfigError, RunError
from headstart.runs.executors import Done
from headstart.runs.jobs import Job, Place
from headstart.runs.stream_on_ray import RETRIES, Room, perform_on_ray, shares_done
from headstart.runs.team_on_ray import train_together

_END_SECONDS = 30.0  # for processes that were told to end


@final
@dataclass(slots=True)
class OnRay:
    """An executor that is a Ray cluster."""

    cache: str
    address: str | None = None
    processes_per_model: int = 1
    _ray: Any = field(default=None, init=False)
    _room: Room = field(default=Room(1, 0, 1), init=False)
    _running: dict[Any, Job] = field(default_factory=dict, init=False)
    _began: bool = field(default=False, init=False)
    _client: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Connect to the cluster, or begin one on this machine that nobody else can reach.

        Raises:
            MissingExtraError: Ray is not installed.
            ConfigError: The cluster has no room for so many processes of one model.
            RunError: There is no cluster at the address.
        """
        self._ray, self._began = begin(self.address, "--executor ray", clients=True)
        self._client = is_client()
        try:
            self._room = _room(self._ray, self.processes_per_model)
            self._begin_processes()
        except BaseException:
            self.close()
            raise

    def _begin_processes(self) -> None:
        """Let processes begin, and import what takes seconds, while this one opens the study."""
        ready = self._ray.remote(_be_ready).options(
            num_cpus=self._room.cpus, num_gpus=self._room.gpus, scheduling_strategy="SPREAD"
        )
        for _ in range(self._room.slots):
            ready.remote()

    @property
    def slots(self) -> int:
        """How many jobs it does at a time."""
        return max(1, self._room.slots // self.processes_per_model)

    @property
    def shares(self) -> int:
        """How many shares of an extraction it does at a time: each by one process."""
        return self._room.slots

    @property
    def together(self) -> bool:
        """Whether several of its processes train one model."""
        return self.processes_per_model > 1

    def submit(self, job: Job) -> None:
        """Have a job done as a task; a training of several processes by Ray Train."""
        if job.together:
            self._submit_together(job)
            return
        given = {"num_cpus": self._room.cpus}
        if self._room.gpus:
            # A process keeps the graphics processor that it began with, so it does one job.
            given |= {"num_gpus": self._room.gpus, "max_calls": 1}
        remote = self._ray.remote(**given)(perform_on_ray).options(
            max_retries=RETRIES, retry_exceptions=False, name=job.label
        )
        self._running[remote.remote(job, self._place)] = job

    def _submit_together(self, job: Job) -> None:
        """Let Ray Train begin the processes; after a loss it begins them again."""
        remote = self._ray.remote(train_together).options(
            num_cpus=0, max_retries=RETRIES, retry_exceptions=False, name=job.label
        )
        reference = remote.remote(
            job,
            self._place,
            self.processes_per_model,
            self._room.cpus,
            self._room.gpus,
            own=self._began and self.address is None,
        )
        self._running[reference] = job

    def next(self, timeout_seconds: float) -> Done | None:
        """Return a job that ended, or None."""
        if not self._running:
            return None
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_seconds)
        for reference in ended:
            job = self._running.pop(reference)
            try:
                return Done(job, self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                if self._is_ours(error):
                    raise
                return Done(job, None)
        return None

    def stream(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Have many jobs done by Ray Data, which begins no more of them than have room."""
        known = list(jobs)
        left = dict(enumerate(known))
        try:
            done = shares_done(self._ray, known, self._place, self._room, client=self._client)
            for number, report in done:
                yield Done(left.pop(number), report)
        except self._ray.exceptions.RayError as error:
            if self._is_ours(error):
                raise
            for job in left.values():
                yield Done(job, None)

    def _is_ours(self, error: Any) -> bool:
        """Return whether a program failed that a task ran, and not the process that ran it.

        What a user can mend is told in reports: this is a mistake in Headstart or a library.
        """
        known = self._ray.exceptions
        while isinstance(error, known.RayTaskError):  # also of a task that waited for another one
            error = error.cause
        return not isinstance(error, known.RayError)

    def cancel(self) -> None:
        """Let jobs save how far they are, and end them; after a minute they are given up."""
        for force in (False, True):
            for reference, job in self._running.items():
                with contextlib.suppress(Exception):
                    # Ray Train does not wait for its processes when it is asked to stop.
                    self._ray.cancel(reference, force=force or job.together)
            if self._running:
                left = list(self._running)
                ended, _ = self._ray.wait(left, num_returns=len(left), timeout=_END_SECONDS)
                for reference in ended:
                    del self._running[reference]
        self._running.clear()

    def close(self) -> None:
        """End what is in progress, and the cluster if it was begun here."""
        self.cancel()
        if self._began:
            self._ray.shutdown()

    @property
    def _place(self) -> Place:
        return Place(self.cache)

    @property
    def threads(self) -> int:
        """Threads of each process: as many as its cores, or fewer where torch is limited here."""
        return max(1, min(int(self._room.cpus), torch.get_num_threads()))


def _be_ready() -> None:
    """Import in a process of Ray's what takes seconds and most jobs need."""
    for name in ("ray.data", "timm"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _room(ray: Any, processes_per_model: int) -> Room:
    """Give each job a graphics processor, or as many cores as the smallest machine has.

    Where several processes train one model there must be room for all of them at a time: then
    each gets as many cores as that leaves.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cores:
        raise RunError("--executor ray: expected a cluster with cores to compute on, it has none")
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus:
        most = max(int(node.get("GPU", 0)) for node in nodes)
        room = Room(max(1, min(cores) // most), 1, gpus)
    else:
        each = min(cores)
        while each > 1 and sum(count // each for count in cores) < processes_per_model:
            each -= 1
        room = Room(each, 0, sum(count // each for count in cores))
    if room.slots < processes_per_model:
        raise ConfigError(
            f"--data-parallel: expected at most {room.slots}, for which the cluster has room, got "
            f"{processes_per_model}"
        )
    return room

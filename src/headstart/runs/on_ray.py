"""Jobs on a Ray cluster: this machine alone, or one that is there already.

Features are extracted by Ray Data (streamed: few shares wait at a time), trainings are Ray tasks. A
job whose process or machine is lost is begun again by Ray; it finds what was stored before.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, final

import torch

from headstart._util.imports import optional
from headstart._util.ray_local import begin
from headstart.errors import ConfigError, RunError
from headstart.runs.executors import Done
from headstart.runs.jobs import Job, Place, Report, perform
from headstart.runs.team_on_ray import RETRIES, train_together

_END_SECONDS = 30.0  # for processes that were told to end
_SHARES_AHEAD = 2  # given to a process at a time, so that it never waits for the next


@dataclass(frozen=True, slots=True)
class _Room:
    """What a job takes of a machine.

    Attributes:
        cpus: Cores.
        gpus: Graphics processors.
        slots: How many jobs have room at a time.
    """

    cpus: float
    gpus: float
    slots: int


@final
@dataclass(slots=True)
class OnRay:
    """An executor that is a Ray cluster."""

    cache: str
    address: str | None = None
    processes_per_model: int = 1
    _ray: Any = field(default=None, init=False)
    _room: _Room = field(default=_Room(1, 0, 1), init=False)
    _running: dict[Any, Job] = field(default_factory=dict, init=False)
    _began: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Connect to the cluster, or begin one on this machine that nobody else can reach.

        Raises:
            MissingExtraError: Ray is not installed.
            ConfigError: The cluster has no room for so many processes of one model.
            RunError: There is no cluster at the address.
        """
        self._ray, self._began = begin(self.address, "--executor ray")
        try:
            self._room = _room(self._ray, self.processes_per_model)
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """How many jobs it does at a time."""
        return max(1, self._room.slots // self.processes_per_model)

    @property
    def together(self) -> bool:
        """Whether several of its processes train one model."""
        return self.processes_per_model > 1

    def submit(self, job: Job) -> None:
        """Have a job done as a task; a training of several processes by Ray Train."""
        if job.together:
            self._submit_together(job)
            return
        remote = self._ray.remote(perform).options(
            num_cpus=self._room.cpus,
            num_gpus=self._room.gpus,
            max_retries=RETRIES,
            retry_exceptions=False,
            name=job.label,
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
            except self._ray.exceptions.RayTaskError:
                raise  # no error of Headstart's: those are told in the report
            except self._ray.exceptions.RayError:
                return Done(job, None)
        return None

    def stream(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Have many jobs done by Ray Data, which begins no more of them than have room."""
        data = _quiet_data()
        known = list(jobs)
        rows = [
            {"number": number, "given": self._ray.cloudpickle.dumps((job, self._place))}
            for number, job in enumerate(known)
        ]
        with warnings.catch_warnings():
            # Ray 2.64 is to have another way to say how often a share is tried.
            warnings.simplefilter("ignore", DeprecationWarning)
            done = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                _Performer,
                batch_size=1,
                num_cpus=self._room.cpus,
                num_gpus=self._room.gpus,
                compute=data.ActorPoolStrategy(
                    min_size=1,
                    max_size=self._room.slots,
                    initial_size=self._room.slots,
                    max_tasks_in_flight_per_actor=_SHARES_AHEAD,
                ),
                # Actors that end with their machine are begun again for ever, as is Ray's default;
                # a share that ends its process is not.
                max_task_retries=RETRIES,
            )
        left = dict(enumerate(known))
        try:
            for row in done.iter_rows():
                error = (row["error"], row["message"]) if row["error"] else None
                extracted, process = int(row["extracted"]), str(row["process"])
                report = Report(float(row["seconds"]), extracted, error, process)
                yield Done(left.pop(int(row["number"])), report)
        except self._ray.exceptions.RayTaskError:
            raise  # no error of Headstart's: those are told in the report
        except self._ray.exceptions.RayError:
            for job in left.values():
                yield Done(job, None)

    def cancel(self) -> None:
        """End the jobs in progress, and wait until their processes are gone."""
        for reference in self._running:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        if self._running:
            self._ray.wait(
                list(self._running), num_returns=len(self._running), timeout=_END_SECONDS
            )
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


class _Performer:
    """A process of Ray Data's that does one share after the other."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        from ray import cloudpickle

        (number,), (given,) = batch["number"], batch["given"]
        job, place = cloudpickle.loads(given)
        report = perform(job, place)
        error, message = report.error or ("", "")
        return {
            "number": [int(number)],
            "seconds": [report.seconds],
            "extracted": [report.extracted],
            "error": [error],
            "message": [message],
            "process": [report.process],
        }


def _quiet_data() -> Any:
    """Return Ray Data, which tells nothing of its own: progress is ours to show."""
    with warnings.catch_warnings():
        # Its own settings warn, when they are first made, that some of them will go.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = optional("ray.data", "ray", "--executor ray")
        context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A share may take long, and a cluster that others use may let it wait.
    context.execution_no_progress_timeout_s = -1
    context.max_consecutive_actor_init_deaths = RETRIES
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data


def _room(ray: Any, processes_per_model: int) -> _Room:
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
        room = _Room(max(1, min(cores) // most), 1, gpus)
    else:
        each = min(cores)
        while each > 1 and sum(count // each for count in cores) < processes_per_model:
            each -= 1
        room = _Room(each, 0, sum(count // each for count in cores))
    if room.slots < processes_per_model:
        raise ConfigError(
            f"--data-parallel: expected at most {room.slots}, for which the cluster has room, got "
            f"{processes_per_model}"
        )
    return room

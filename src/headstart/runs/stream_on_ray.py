"""What Ray's processes do; and shares of an extraction, streamed to them by Ray Data.

Ray Data must run in a program that is a part of the cluster. Where this one is a client of a
cluster elsewhere, an actor there runs it, and hands on what comes.
"""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headstart._util.imports import optional
from headstart.runs.jobs import STOP, Job, Place, Report, perform

RETRIES = 20  # Ray's own, of a process or machine that is lost

_SHARES_EACH = 2  # of a process: one that is done, and one ahead, so that it never waits
# What is known of a share that was done: plain, since Ray Data makes columns of it.
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Room:
    """What a job takes of a machine.

    Attributes:
        cpus: Cores.
        gpus: Graphics processors.
        slots: How many jobs have room at a time.
    """

    cpus: float
    gpus: float
    slots: int


def perform_on_ray(job: Job, place: Place) -> Report:
    """Do a job in a process of Ray's, which asks it to stop as Ctrl-C does, and may do others.

    A training saves what it has. A share ends at once: what is missing of it is computed again.

    Args:
        job: What is to be done.
        place: Where.

    Returns:
        What came of it.
    """
    STOP.withdraw()
    if threading.current_thread() is threading.main_thread():
        ends = job.share is not None
        signal.signal(signal.SIGINT, signal.default_int_handler if ends else _ask_to_stop)
    return perform(job, place)


def _ask_to_stop(*_: object) -> None:
    STOP.request()


def shares_done(
    ray: Any, jobs: Sequence[Job], place: Place, room: Room, *, client: bool
) -> Iterator[tuple[int, Report]]:
    """Have shares done, and yield which of them is done and what came of it.

    Args:
        ray: Connected to a cluster.
        jobs: The shares.
        place: Where.
        room: What each takes.
        client: Whether this program is a client of the cluster, and no part of it.

    Yields:
        Number of a job, and its report, in the order in which they end.

    Raises:
        ray.exceptions.RayError: Processes were lost too often; the jobs that were not yielded are
            not done.
    """
    rows: list[_Row] = [
        {"number": number, "given": ray.cloudpickle.dumps((job, place))}
        for number, job in enumerate(jobs)
    ]
    for row in _from_afar(ray, rows, room) if client else _stream(rows, room):
        error = (row["error"], row["message"]) if row["error"] else None
        report = Report(float(row["seconds"]), int(row["extracted"]), error, str(row["process"]))
        yield int(row["number"]), report


def _stream(rows: Sequence[_Row], room: Room) -> Iterator[_Row]:
    data = _quiet_data()
    with warnings.catch_warnings():
        # Ray 2.64 is to have another way to say how often a share is tried.
        warnings.simplefilter("ignore", DeprecationWarning)
        given = data.from_items(list(rows), override_num_blocks=len(rows))
        if room.gpus:
            # A process keeps the graphics processor that it began with: an actor's is its own.
            done = given.map_batches(
                _Performer,
                batch_size=1,
                num_cpus=room.cpus,
                num_gpus=room.gpus,
                compute=data.ActorPoolStrategy(
                    min_size=1,
                    max_size=room.slots,
                    initial_size=room.slots,
                    max_tasks_in_flight_per_actor=_SHARES_EACH,
                ),
                # Actors that end with their machine are begun again for ever, as is Ray's default;
                # a share that ends its process is not.
                max_task_retries=RETRIES,
            )
        else:
            # Processes that did other jobs do these: what they have imported and opened is there.
            done = given.map_batches(
                _performed,
                batch_size=1,
                num_cpus=room.cpus,
                compute=data.TaskPoolStrategy(size=min(_SHARES_EACH * room.slots, len(rows))),
                max_retries=RETRIES,
            )
    yield from done.iter_rows()


def _performed(batch: dict[str, Any]) -> dict[str, list[Any]]:
    """Do a share in this process."""
    from ray import cloudpickle

    (number,), (given,) = batch["number"], batch["given"]
    job, place = cloudpickle.loads(given)
    report = perform_on_ray(job, place)
    error, message = report.error or ("", "")
    return {
        "number": [int(number)],
        "seconds": [report.seconds],
        "extracted": [report.extracted],
        "error": [error],
        "message": [message],
        "process": [report.process],
    }


class _Performer:
    """A process of Ray Data's that does one share after the other."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        return _performed(batch)


class _Streaming:
    """An actor that runs Ray Data in the cluster for a client."""

    def __init__(self, rows: Sequence[_Row], room: Room) -> None:
        self._rows = _stream(rows, room)

    def next(self) -> _Row | None:
        """Wait for a share to be done; None where there are no more."""
        return next(self._rows, None)


def _from_afar(ray: Any, rows: Sequence[_Row], room: Room) -> Iterator[_Row]:
    actor = ray.remote(num_cpus=0)(_Streaming).remote(rows, room)
    try:
        while (row := ray.get(actor.next.remote())) is not None:
            yield row
    finally:
        ray.kill(actor)  # and what it had begun with it


def _quiet_data() -> Any:
    """Return Ray Data, which tells nothing of its own: progress is ours to show."""
    with warnings.catch_warnings():
        # Its own settings warn, when they are first made, that some of them will go.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = optional("ray.data", "ray", "--executor ray")
        context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What comes back of a share is small, and how many are begun is said above: Ray Data's own
    # budgets begin one, and the others a second later.
    context.op_resource_reservation_enabled = False
    # A share may take long, and a cluster that others use may let it wait.
    context.execution_no_progress_timeout_s = -1
    context.max_consecutive_actor_init_deaths = RETRIES
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data

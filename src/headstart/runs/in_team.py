"""Processes that somebody else began (`torchrun`, `accelerate launch`) and that train together.

The first of them runs the study; the others wait for trainings, do each along with it, and end with
it. They find each other as torch says: by the environment's RANK, WORLD_SIZE, MASTER_ADDR, …
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import final

import torch
from torch import distributed

from headstart.runs.executors import Done
from headstart.runs.jobs import Job, Place, perform

_PATIENCE = timedelta(days=7)


def is_begun() -> bool:
    """Return whether this process is one of several that somebody began together."""
    given = os.environ.get("WORLD_SIZE", "1")
    return "RANK" in os.environ and given.isdigit() and int(given) > 1


def backends() -> str:
    """Return how processes talk to each other, by device, as torch names it."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


@contextlib.contextmanager
def connected() -> Iterator[int]:
    """Join the other processes.

    Yields:
        Which of them this is, from 0.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # A study may ask for the processor where there are graphics processors. The others wait while
    # the first extracts features, for as long as that takes.
    distributed.init_process_group(backends(), timeout=_PATIENCE)
    try:
        yield distributed.get_rank()
    finally:
        distributed.destroy_process_group()


@final
class InTeam:
    """The executor of the first process: trainings are done by all, everything else by it alone."""

    def __init__(self, cache: str) -> None:
        """Lead the others.

        Args:
            cache: The cache folder: one for all processes.
        """
        self._place = Place(cache)
        self._ended: deque[Done] = deque()
        self._in_step = True

    @property
    def slots(self) -> int:
        """How many jobs it does at a time."""
        return 1

    @property
    def shares(self) -> int:
        """How many shares of an extraction it does at a time."""
        return 1

    @property
    def together(self) -> bool:
        """Whether several processes train one model."""
        return True

    def submit(self, job: Job) -> None:
        """Do a job; the others do it too where it is a training."""
        if job.together:
            _tell((job, self._place))
            self._in_step = False
        report = perform(job, self._place)
        self._in_step = self._in_step or (job.together and report.error is None)
        self._ended.append(Done(job, report))

    def next(self, timeout_seconds: float) -> Done | None:
        """Return a job that ended, or None."""
        del timeout_seconds
        return self._ended.popleft() if self._ended else None

    def stream(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Do one job after the other."""
        for job in jobs:
            yield Done(job, perform(job, self._place))

    def cancel(self) -> None:
        """Forget what ended: nothing is in progress when this process does something else."""
        self._ended.clear()

    def close(self) -> None:
        """Let the others end."""
        # After a training that failed here they wait for its next step, or have failed likewise:
        # whoever began the processes ends them with this one.
        if self._in_step:
            _tell(None)


def follow() -> None:
    """Do along whatever trainings the first process does, until it ends.

    Raises:
        HeadstartError: A training failed; the first process says the same.
    """
    while (told := _heard()) is not None:
        job, place = told
        report = perform(job, place)
        report.raise_error(job.label)


def _tell(message: tuple[Job, Place] | None) -> None:
    distributed.broadcast_object_list([message], src=0)


def _heard() -> tuple[Job, Place] | None:
    box: list[tuple[Job, Place] | None] = [None]
    distributed.broadcast_object_list(box, src=0)
    return box[0]

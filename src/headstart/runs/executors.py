"""Who does the jobs of a run: processes of this machine, or a cluster; one small interface."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, final

import torch

from headstart._util.devices import usable_cores
from headstart._util.files import cache_root
from headstart.errors import ConfigError
from headstart.runs.jobs import STOP, Job, Place, Report, perform

_END_SECONDS = 20.0  # for a job to reach a safe place

ExecutorName = Literal["local", "processes", "ray"]


@dataclass(frozen=True, slots=True)
class Done:
    """A job that ended.

    Attributes:
        job: Which.
        report: What came of it; None where its process ended before it: it may be tried again.
    """

    job: Job
    report: Report | None


class Executor(Protocol):
    """Does jobs elsewhere, several at a time."""

    @property
    def slots(self) -> int:
        """How many jobs it does at a time."""
        ...

    @property
    def shares(self) -> int:
        """How many shares of an extraction it does at a time."""
        ...

    @property
    def together(self) -> bool:
        """Whether several of its processes train one model."""
        ...

    def submit(self, job: Job) -> None:
        """Have a job done; it returns at once."""
        ...

    def next(self, timeout_seconds: float) -> Done | None:
        """Return a job that ended, each once.

        Args:
            timeout_seconds: How long to wait for one.

        Returns:
            It; None where none ended within the time.

        Raises:
            BaseException: A job raised something that is no error of Headstart's.
        """
        ...

    def stream(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Have many jobs done that need nothing of each other, and yield them as they end.

        Not more of them wait than can be begun soon.
        """
        ...

    def cancel(self) -> None:
        """End the jobs in progress, and return when they have ended or must be given up.

        A share that was streamed ends by itself, soon after whoever streamed it has let go of it.
        """
        ...

    def close(self) -> None:
        """End the processes; jobs in progress are lost."""
        ...


@final
class Processes:
    """Processes of this machine, which share its cores.

    Each is a pool of its own: one that dies takes no other with it.
    """

    def __init__(self, count: int, cache: str) -> None:
        """Start each with its first job.

        Args:
            count: How many processes.
            cache: The cache folder.
        """
        self.threads = max(1, min(usable_cores() // count, torch.get_num_threads()))
        self._place = Place(cache)
        self._pools: list[ProcessPoolExecutor | None] = [None] * count
        self._running: dict[Future[Report], tuple[Job, int]] = {}
        self._waiting: deque[Job] = deque()

    @property
    def slots(self) -> int:
        """How many jobs it does at a time."""
        return len(self._pools)

    @property
    def shares(self) -> int:
        """How many shares of an extraction it does at a time."""
        return self.slots

    @property
    def together(self) -> bool:
        """Whether several of its processes train one model: they do not."""
        return False

    @property
    def processes(self) -> tuple[int, ...]:
        """Their numbers, as the operating system has them."""
        return tuple(pid for pool in self._pools if pool is not None for pid in _pids(pool))

    def submit(self, job: Job) -> None:
        """Have a job done."""
        self._waiting.append(job)
        self._begin_waiting()

    def next(self, timeout_seconds: float) -> Done | None:
        """Return a job that ended, or None."""
        ended, _ = wait(self._running, timeout_seconds, return_when=FIRST_COMPLETED)
        for future in ended:
            job, slot = self._running.pop(future)
            try:
                done = Done(job, future.result())
            except BrokenProcessPool:
                self._end(slot)
                done = Done(job, None)
            self._begin_waiting()
            return done
        return None

    def stream(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Do many jobs, one ahead for each process."""
        yield from in_flight(self, jobs, 2 * self.slots)

    def cancel(self) -> None:
        """Let jobs save how far they are, and end the processes; the next jobs begin others."""
        self._waiting.clear()
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait(self._running, _END_SECONDS)
        for slot in range(self.slots):
            self._end(slot)
        self._running.clear()

    def close(self) -> None:
        """End the processes."""
        self.cancel()

    def _begin_waiting(self) -> None:
        busy = {slot for _, slot in self._running.values()}
        for slot in range(self.slots):
            if slot in busy or not self._waiting:
                continue
            job = self._waiting.popleft()
            try:
                future = self._pool(slot).submit(perform, job, self._place)
            except BrokenProcessPool:  # it died while it had nothing to do
                self._end(slot)
                future = self._pool(slot).submit(perform, job, self._place)
            self._running[future] = job, slot

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        pool = self._pools[slot]
        if pool is None:
            # Not forked: torch's threads do not survive that.
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent)
            self._pools[slot] = pool
        return pool

    def _end(self, slot: int) -> None:
        pool, self._pools[slot] = self._pools[slot], None
        if pool is None:
            return
        for pid in _pids(pool):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pool.shutdown(wait=True, cancel_futures=True)


def _pids(pool: ProcessPoolExecutor) -> tuple[int, ...]:
    return tuple(pool._processes or {})


def _end_with_parent() -> None:
    """Let a process end with the one that began it, and leave Ctrl-C to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: STOP.request())
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        # Else it would go on writing where a resumed run works.
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="headstart-parent", daemon=True).start()


@contextmanager
def executor_for(
    name: ExecutorName,
    *,
    jobs: int | None = None,
    address: str | None = None,
    data_parallel: int = 1,
) -> Iterator[Executor | None]:
    """Open an executor, and end its processes afterwards.

    Args:
        name: ``local``: this process; ``processes``: of this machine; ``ray``: a Ray cluster.
        jobs: How many processes; None: two, or one for every four cores if that is more.
        address: The Ray cluster, ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; None begins one
            of this machine.
        data_parallel: Processes of the Ray cluster that train one model together.

    Yields:
        The executor; None for this process.

    Raises:
        ConfigError: What is given does not go with the executor.
        MissingExtraError: Ray is not installed.
        RunError: There is no cluster at the address.
    """
    if name != "processes" and jobs is not None:
        raise ConfigError(f"--jobs: is for --executor processes, got --executor {name}")
    if name != "ray" and address is not None:
        raise ConfigError(f"--address: is for --executor ray, got --executor {name}")
    if name != "ray" and data_parallel > 1:
        raise ConfigError(
            f"--data-parallel: is for --executor ray, got --executor {name}; without Ray: "
            f"torchrun --nproc-per-node {data_parallel} -m headstart run …"
        )
    from headstart.runs import in_team

    if in_team.is_begun():
        if name != "local":
            raise ConfigError(
                f"--executor: these processes were begun together to train one model, got {name}: "
                "leave it out, or begin one process"
            )
        executor: Executor = in_team.InTeam(str(cache_root().resolve()))
        try:
            yield executor
        finally:
            executor.close()
        return
    if name == "local":
        yield None
        return
    cache = str(cache_root().resolve())
    if name == "processes":
        apart = Processes(jobs or max(2, usable_cores() // 4), cache)
        executor, threads = apart, apart.threads
    else:
        from headstart.runs.on_ray import OnRay

        cluster = OnRay(cache, address, data_parallel)
        executor, threads = cluster, cluster.threads
    # What is assembled here is computed as it is there: results are those of as many threads.
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield executor
    finally:
        torch.set_num_threads(before)
        executor.close()


def in_flight(executor: Executor, jobs: Iterable[Job], most: int) -> Iterator[Done]:
    """Submit jobs as others end, so that not more than so many are under way."""
    waiting = iter(jobs)
    under_way = 0
    more = True
    while more or under_way:
        while more and under_way < most:
            job = next(waiting, None)
            if job is None:
                more = False
                break
            executor.submit(job)
            under_way += 1
        if not under_way:
            return
        done = executor.next(1.0)
        if done is not None:
            under_way -= 1
            yield done

"""Many requests at a time, computed together: a bounded queue for each bundle.

A sample passes three places, all of one lane, which is a bundle's own:

    waiting ──(workers: bytes → array)──► prepared ──(the lane's engine thread)──► answered

The workers are shared: each takes the next sample of the lane whose turn it is. A lane's engine
thread takes all that is prepared, up to a batch. It waits for more only where more is on its way,
and only for some milliseconds: alone, a request is computed at once. Nothing is prepared far ahead
of the engine, so that arrays, which are larger than the bytes they come from, do not pile up.

Threads share the state under one lock; it is held for bookkeeping, never for work.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from headstart.errors import DataError
from headstart.serve.limits import Limits
from headstart.serve.refusal import Refusal
from headstart.types import FloatArray

_AHEAD = 2  # batches that are prepared ahead of the engine
_LOG = logging.getLogger("headstart.serve")

Answer = FloatArray | str
"""What the network says of a sample, or why it says nothing."""


@dataclass(frozen=True, slots=True)
class Network:
    """What a lane needs of a bundle.

    Attributes:
        prepare: A sample's bytes to what the network takes; raises DataError; called in threads.
        compute: Arrays of `prepare` to rows of answers; called by one thread.
        batch_size: Samples that it computes best at a time.
    """

    prepare: Callable[[bytes], FloatArray]
    compute: Callable[[Sequence[FloatArray]], FloatArray]
    batch_size: int


class Ticket:
    """The samples of one request, and what became of them."""

    def __init__(self, lane: str, samples: int, done: asyncio.Future[None]) -> None:
        """Begin with no answer.

        Args:
            lane: Name of the bundle.
            samples: How many samples.
            done: Is told when all are answered; belongs to the event loop.
        """
        self.lane = lane
        self.done = done
        self.answers: list[Answer] = [""] * samples
        self.left = samples
        self.failure: Exception | None = None
        self.dropped = False


@dataclass(slots=True, eq=False)
class _Job:
    ticket: Ticket
    position: int
    data: bytes
    row: FloatArray | None = None


@dataclass(slots=True, eq=False)
class _Lane:
    name: str
    network: Network
    max_batch: int
    ready: threading.Condition
    waiting: deque[_Job] = field(default_factory=deque)
    prepared: list[_Job] = field(default_factory=list)
    preparing: int = 0
    taken: int = 0  # admitted and not answered
    coming: int = 0  # requests whose body is still being read; they have no room yet
    seconds_per_sample: float = 0.05

    def more_to_come(self) -> bool:
        return bool(self.waiting) or self.preparing > 0 or self.coming > 0


class Batching:
    """The lanes, the workers and the engine threads of one server."""

    def __init__(
        self,
        networks: Mapping[str, Network],
        limits: Limits,
        *,
        on_batch: Callable[[str, int, float], None],
    ) -> None:
        """Start the threads.

        Args:
            networks: The bundles by name.
            limits: How much is taken.
            on_batch: Is told of every batch: the bundle, its size, and how long it took in seconds.
        """
        self._limits = limits
        self._on_batch = on_batch
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._closing = False
        self._turn = 0
        self._lanes = {
            name: _Lane(
                name,
                network,
                network.batch_size if limits.max_batch is None else limits.max_batch,
                threading.Condition(self._lock),
            )
            for name, network in networks.items()
        }
        self._order = list(self._lanes.values())
        self._threads = [
            threading.Thread(target=self._prepare_for_ever, name=f"prepare-{i}", daemon=True)
            for i in range(limits.workers)
        ] + [
            threading.Thread(
                target=self._compute_for_ever, args=(lane,), name=f"engine-{name}", daemon=True
            )
            for name, lane in self._lanes.items()
        ]
        for thread in self._threads:
            thread.start()

    def expect(self, name: str) -> None:
        """Know of a request whose body is still being read, until `forget`.

        No room is kept for it: slow bodies would take all of it. Batches wait a little for it.

        Args:
            name: The bundle.

        Raises:
            Refusal: There is no room even now; says when there may be.
        """
        lane = self._lanes[name]
        with self._lock:
            self._check_room(lane, 1)
            lane.coming += 1

    def forget(self, name: str) -> None:
        """Expect a request no more: its samples are there, or will not come."""
        lane = self._lanes[name]
        with self._lock:
            lane.coming -= 1
            lane.ready.notify()

    def admit(self, name: str, samples: int) -> None:
        """Keep room for samples that are there and not decoded yet.

        Args:
            name: The bundle.
            samples: How many.

        Raises:
            Refusal: There is no room; says when there may be.
        """
        lane = self._lanes[name]
        with self._lock:
            self._check_room(lane, samples)
            lane.taken += samples

    def release(self, name: str, samples: int) -> None:
        """Give back room that was kept and is not needed."""
        with self._lock:
            self._lanes[name].taken -= samples

    def submit(self, name: str, samples: Sequence[bytes]) -> Ticket:
        """Bring samples for which room was kept; called on the event loop.

        Args:
            name: The bundle.
            samples: Their bytes, at least one.

        Returns:
            The ticket; its answers are there when `done` is.
        """
        lane = self._lanes[name]
        ticket = Ticket(name, len(samples), asyncio.get_running_loop().create_future())
        with self._lock:
            assert lane.taken >= len(samples) > 0, "room is kept before samples are brought"
            lane.waiting.extend(_Job(ticket, i, data) for i, data in enumerate(samples))
            self._work.notify(len(samples))
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """Forget a request that nobody waits for; what is being computed is computed to its end."""
        lane = self._lanes[ticket.lane]
        with self._lock:
            ticket.dropped = True
            before = len(lane.waiting) + len(lane.prepared)
            lane.waiting = deque(job for job in lane.waiting if job.ticket is not ticket)
            lane.prepared = [job for job in lane.prepared if job.ticket is not ticket]
            lane.taken -= before - len(lane.waiting) - len(lane.prepared)
            self._work.notify_all()
            lane.ready.notify()

    def depth(self, name: str) -> int:
        """Return how many samples a bundle has taken and not answered."""
        return self._lanes[name].taken

    def close(self) -> None:
        """Finish what was taken and end the threads; nothing may be submitted any more."""
        with self._lock:
            self._closing = True
            self._work.notify_all()
            for lane in self._order:
                lane.ready.notify_all()
        for thread in self._threads:
            thread.join()

    def _check_room(self, lane: _Lane, samples: int) -> None:
        if lane.taken + samples > self._limits.max_queue:
            seconds = math.ceil(lane.taken * lane.seconds_per_sample)
            raise Refusal.busy(
                f"the queue of {lane.name!r} is full ({lane.taken} samples)",
                min(max(seconds, 1), 60),
            )

    def _next_job(self) -> tuple[_Lane, _Job] | None:
        """Take a sample of the lane whose turn it is, of those that are not far ahead."""
        for step in range(len(self._order)):
            lane = self._order[(self._turn + step) % len(self._order)]
            ahead = len(lane.prepared) + lane.preparing
            if lane.waiting and ahead < _AHEAD * lane.max_batch:
                self._turn = (self._turn + step + 1) % len(self._order)
                lane.preparing += 1
                return lane, lane.waiting.popleft()
        return None

    def _prepare_for_ever(self) -> None:
        while True:
            with self._lock:
                while (found := self._next_job()) is None:
                    if self._closing and not any(lane.waiting for lane in self._order):
                        return
                    self._work.wait()
            lane, job = found
            answer: Answer | Exception | None = None
            try:
                job.row = lane.network.prepare(job.data)
            except DataError as error:
                answer = str(error)
            except Exception as error:
                answer = error
            job.data = b""
            with self._lock:
                lane.preparing -= 1
                finished: list[Ticket] = []
                if job.ticket.dropped:
                    lane.taken -= 1
                elif answer is None:
                    lane.prepared.append(job)
                else:
                    self._settle(lane, job, answer, finished)
                lane.ready.notify()
            self._tell(finished)

    def _compute_for_ever(self, lane: _Lane) -> None:
        while (batch := self._collect(lane)) is not None:
            began = time.perf_counter()
            answers = self._computed(lane, batch)
            seconds = time.perf_counter() - began
            finished: list[Ticket] = []
            with self._lock:
                for job, answer in zip(batch, answers, strict=True):
                    self._settle(lane, job, answer, finished)
                lane.seconds_per_sample += 0.2 * (seconds / len(batch) - lane.seconds_per_sample)
            self._tell(finished)
            self._on_batch(lane.name, len(batch), seconds)

    def _collect(self, lane: _Lane) -> list[_Job] | None:
        """Wait for a batch and take it; None when there will be none any more."""
        with self._lock:
            while True:
                while not lane.prepared:
                    if self._closing and not lane.waiting and not lane.preparing:
                        return None
                    lane.ready.wait()
                self._wait_for_more(lane)
                if lane.prepared:  # else all of them were dropped meanwhile
                    break
            # The oldest, and those that are nearest to it in length: a batch of sequences is filled
            # up to its longest. The sort is stable, so pictures stay in the order they came in.
            oldest, length = lane.prepared[0], len(_row(lane.prepared[0]))
            others = sorted(lane.prepared[1:], key=lambda job: abs(len(_row(job)) - length))
            batch = [oldest, *others[: lane.max_batch - 1]]
            chosen = set(map(id, batch))
            lane.prepared = [job for job in lane.prepared if id(job) not in chosen]
            self._work.notify_all()
        return batch

    def _wait_for_more(self, lane: _Lane) -> None:
        """Give those that are on their way some milliseconds; the lock is held."""
        end = time.monotonic() + self._limits.max_wait_ms / 1000
        while 0 < len(lane.prepared) < lane.max_batch and lane.more_to_come():
            left = end - time.monotonic()
            if left <= 0 or not lane.ready.wait(left):
                return

    def _computed(self, lane: _Lane, batch: Sequence[_Job]) -> list[Answer | Exception]:
        try:
            rows = lane.network.compute([_row(job) for job in batch])
        except Exception as error:
            if len(batch) == 1:
                return [str(error) if isinstance(error, DataError) else error]
            # One sample must not spoil the others.
            return [answer for job in batch for answer in self._computed(lane, [job])]
        return [
            row if np.isfinite(row).all() else "the network's answer to it is not a finite number"
            for row in rows
        ]

    def _settle(
        self, lane: _Lane, job: _Job, answer: Answer | Exception, finished: list[Ticket]
    ) -> None:
        """Note one answer; the lock is held."""
        lane.taken -= 1
        ticket = job.ticket
        job.row = None
        if isinstance(answer, Exception):
            ticket.failure = answer
        else:
            ticket.answers[job.position] = answer
        ticket.left -= 1
        if ticket.left == 0:
            finished.append(ticket)

    def _tell(self, tickets: Sequence[Ticket]) -> None:
        """Wake those who wait, with one call to the event loop."""
        if not tickets:
            return

        def wake() -> None:
            for ticket in tickets:
                if not ticket.done.done():
                    ticket.done.set_result(None)

        try:
            tickets[0].done.get_loop().call_soon_threadsafe(wake)
        except RuntimeError:
            _LOG.debug("answers came after the server had ended")


def _row(job: _Job) -> FloatArray:
    assert job.row is not None, "a sample is prepared before it is computed"
    return job.row

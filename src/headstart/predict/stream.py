"""Predictions of any number of samples in constant memory, in the order in which they came.

    inputs ──► one thread finds them ──► a pool reads and prepares them ──► the network, in batches

The queue between them is bounded: whoever is faster waits. Where the inputs pause, what has come
is predicted without waiting for a full batch, so that a slow source is answered as it speaks.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headstart.errors import DataError
from headstart.predict.samples import Input
from headstart.types import FloatArray

_PATIENCE_SECONDS = 0.05
_POLL_SECONDS = 0.1
_TASKS_A_WORKER = 4
_NOT_FINITE = "the network's answer is no finite number"


class Network(Protocol):
    """What the stream asks of a bundle."""

    @property
    def batch_size(self) -> int:
        """Samples that it computes best at a time."""
        ...

    def prepare(self, data: bytes) -> FloatArray:
        """Return one sample as the network takes it; safe to call in threads."""
        ...

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        """Return what the network says: [n, classes], or [n] of a regression."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input.

    Attributes:
        name: The input's.
        row: What the network says of it: float32 [classes], or [] (one value) of a regression;
            None where it failed.
        error: Why it failed, or None.
    """

    name: str
    row: FloatArray | None
    error: str | None = None


_Prepared = tuple[str, FloatArray | str]
"""An input's name, and the sample as the network takes it, or why there is none."""


def predict_inputs(
    network: Network,
    inputs: Iterable[Input],
    *,
    batch_size: int | None = None,
    window: int = 1,
    workers: int = 2,
) -> Generator[list[Outcome], None, None]:
    """Predict inputs as they come.

    At most two windows of prepared samples are held at a time. Closing the generator stops the
    threads.

    Args:
        network: A bundle.
        inputs: Where the samples come from; it is read in a thread of its own.
        batch_size: Samples that are computed at a time; None: what the bundle does best.
        window: Batches that are taken together, and sorted by length before they are computed:
            texts of one batch are then of nearly the same length, and little is spent on padding.
        workers: Threads that read and prepare.

    Yields:
        Some outcomes at a time, one for each input, in the order of the inputs.

    Raises:
        ValueError: A number is below 1.
    """
    size = network.batch_size if batch_size is None else batch_size
    if min(size, window, workers) < 1:
        raise ValueError(
            f"expected batch_size, window, workers >= 1; got {size}, {window}, {workers}"
        )
    source = _Source(inputs, ahead=size * window)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart-prepare")
    pending: deque[list[Future[list[_Prepared]]]] = deque()
    try:
        while True:
            # While one window is computed the next one is prepared, if it has come.
            taken = source.take(size * window, wait=not pending)
            if taken:
                pending.append(_submit(pool, network, taken, workers))
            elif not pending:
                break
            if not taken or len(pending) > 1:
                yield _outcomes(network, pending.popleft(), size)
    finally:
        source.close()
        pool.shutdown(wait=True, cancel_futures=True)


class _Source:
    """Inputs that are found in a thread of its own, ahead of their use."""

    def __init__(self, inputs: Iterable[Input], *, ahead: int) -> None:
        self._queue: queue.Queue[Input | None] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._ended = False
        self._failure: BaseException | None = None
        # A daemon: nothing can wake a thread that waits for standard input.
        threading.Thread(
            target=self._find, args=(inputs,), name="headstart-inputs", daemon=True
        ).start()

    def take(self, most: int, *, wait: bool) -> list[Input]:
        """Return the next inputs.

        Args:
            most: How many at most.
            wait: Whether to wait for the first one as long as it takes, and then a little for
                more; else what is there is returned, which may be nothing.

        Returns:
            The inputs; none where there are no more, or none yet.
        """
        taken: list[Input] = []
        until = 0.0
        while len(taken) < most and not self._ended:
            try:
                one = self._get(None if wait and not taken else until - time.monotonic())
            except queue.Empty:
                break
            if one is None:
                self._ended = True
            else:
                if wait and not taken:
                    until = time.monotonic() + _PATIENCE_SECONDS
                taken.append(one)
        if wait and not taken and self._failure is not None:
            raise self._failure
        return taken

    def close(self) -> None:
        """Stop the thread, at once or when the next input comes."""
        self._closed.set()

    def _get(self, seconds: float | None) -> Input | None:
        if seconds is not None and seconds <= 0:
            return self._queue.get_nowait()
        return self._queue.get(timeout=seconds)

    def _find(self, inputs: Iterable[Input]) -> None:
        try:
            for one in inputs:
                if self._closed.is_set():
                    return
                self._put(one)
        except BaseException as error:
            # Raised where the predictions are taken, after those of what was found before it.
            self._failure = error
        self._put(None)

    def _put(self, one: Input | None) -> None:
        while not self._closed.is_set():
            try:
                self._queue.put(one, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue


def _submit(
    pool: ThreadPoolExecutor, network: Network, inputs: Sequence[Input], workers: int
) -> list[Future[list[_Prepared]]]:
    """Let a pool prepare inputs, some at a time: a task for each text would cost more than it."""
    some = max(1, len(inputs) // (_TASKS_A_WORKER * workers))
    return [
        pool.submit(_prepared, network, inputs[start : start + some])
        for start in range(0, len(inputs), some)
    ]


def _prepared(network: Network, inputs: Sequence[Input]) -> list[_Prepared]:
    found: list[_Prepared] = []
    for one in inputs:
        try:
            found.append((one.name, network.prepare(one.read())))
        except DataError as error:
            found.append((one.name, str(error)))
    return found


def _outcomes(
    network: Network, pending: Sequence[Future[list[_Prepared]]], size: int
) -> list[Outcome]:
    found = [one for future in pending for one in future.result()]
    rows = {i: row for i, (_, row) in enumerate(found) if not isinstance(row, str)}
    order = sorted(rows, key=lambda i: len(rows[i]))  # pictures are all of one length
    outcomes = [Outcome(name, None, row if isinstance(row, str) else None) for name, row in found]
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        answers = network.predict_prepared([rows[i] for i in chosen])
        for i, row in zip(chosen, answers, strict=True):
            name = found[i][0]
            usable = np.isfinite(row).all()
            outcomes[i] = Outcome(name, row) if usable else Outcome(name, None, _NOT_FINITE)
    return outcomes

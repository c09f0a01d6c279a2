"""Batches of pictures, decoded by threads ahead of their use."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from headstart.data.augment import augment
from headstart.data.image import decode, transform
from headstart.errors import DataError
from headstart.types import FloatArray, ImageSet, InputSpec, IntArray, View

_Read = Callable[[int], FloatArray]


def load_batches(
    images: ImageSet,
    indices: Sequence[int] | IntArray,
    spec: InputSpec,
    batch_size: int,
    *,
    workers: int,
    prefetch: int = 4,
    view: View | None = None,
) -> Generator[FloatArray, None, None]:
    """Read, decode and transform pictures, in order, in batches.

    At most ``prefetch + 1`` batches exist at a time besides those the caller keeps. Closing the
    generator early (``close()``, or leaving it to the garbage collector) stops the threads.

    Args:
        images: The encoded pictures.
        indices: Which pictures, in which order; repeats are allowed.
        spec: How each picture is prepared.
        batch_size: Pictures per batch; the last batch may be smaller.
        workers: Threads that decode; 0 decodes in the caller's thread when a batch is asked for.
        prefetch: How many batches the threads may be ahead of the caller.
        view: The random changes to the pictures (see `headstart.data.augment`), or None for the
            pictures as they are.

    Yields:
        Arrays of float32, shape [batch, 3, height, width]; each is new and the caller's to keep.

    Raises:
        DataError: A picture cannot be read or decoded; the message begins with its name.
    """
    if batch_size < 1 or workers < 0 or prefetch < 1:
        raise ValueError(
            f"expected batch_size >= 1, workers >= 0, prefetch >= 1; "
            f"got {batch_size}, {workers}, {prefetch}"
        )
    order = [int(index) for index in indices]
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    read = _reader(images, spec, view)
    if workers == 0:
        for chunk in chunks:
            batch = _empty(len(chunk), spec)
            for slot, index in enumerate(chunk):
                batch[slot] = read(index)
            yield batch
        return
    with contextlib.closing(_prefetched(read, chunks, spec, workers, prefetch)) as batches:
        yield from batches


def _reader(images: ImageSet, spec: InputSpec, view: View | None) -> _Read:
    digests = images.digests if view is not None else ()

    def read(index: int) -> FloatArray:
        try:
            image = decode(images.read(index))
            if view is None:
                return transform(image, spec)
            return augment(image, spec, view, digests[index])
        except (DataError, OSError) as error:
            raise DataError(f"{images.names[index]}: {error}") from error

    return read


def _prefetched(
    read: _Read, chunks: list[list[int]], spec: InputSpec, workers: int, prefetch: int
) -> Generator[FloatArray, None, None]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart-decode")
    waiting: deque[tuple[FloatArray, list[Future[None]]]] = deque()
    upcoming = iter(chunks)

    def submit_next() -> None:
        chunk = next(upcoming, None)
        if chunk is not None:
            batch = _empty(len(chunk), spec)
            tasks = [
                pool.submit(_fill, batch, slot, read, index) for slot, index in enumerate(chunk)
            ]
            waiting.append((batch, tasks))

    try:
        for _ in range(prefetch):
            submit_next()
        while waiting:
            batch, tasks = waiting.popleft()
            for task in tasks:
                task.result()
            submit_next()
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _empty(count: int, spec: InputSpec) -> FloatArray:
    return np.empty((count, 3, spec.height, spec.width), dtype=np.float32)


def _fill(batch: FloatArray, slot: int, read: _Read, index: int) -> None:
    batch[slot] = read(index)

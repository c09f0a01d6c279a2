"""Batches of pictures, decoded by threads ahead of their use."""

import contextlib
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from headstart.data.image import decode, transform
from headstart.errors import DataError
from headstart.types import FloatArray, ImageSet, InputSpec, IntArray


def load_batches(
    images: ImageSet,
    indices: Sequence[int] | IntArray,
    spec: InputSpec,
    batch_size: int,
    *,
    workers: int,
    prefetch: int = 4,
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
    if workers == 0:
        for chunk in chunks:
            batch = _empty(len(chunk), spec)
            for slot, index in enumerate(chunk):
                _fill(batch, slot, images, index, spec)
            yield batch
        return
    with contextlib.closing(_prefetched(images, chunks, spec, workers, prefetch)) as batches:
        yield from batches


def _prefetched(
    images: ImageSet, chunks: list[list[int]], spec: InputSpec, workers: int, prefetch: int
) -> Generator[FloatArray, None, None]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart-decode")
    waiting: deque[tuple[FloatArray, list[Future[None]]]] = deque()
    upcoming = iter(chunks)

    def submit_next() -> None:
        chunk = next(upcoming, None)
        if chunk is not None:
            batch = _empty(len(chunk), spec)
            tasks = [
                pool.submit(_fill, batch, slot, images, index, spec)
                for slot, index in enumerate(chunk)
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


def _fill(batch: FloatArray, slot: int, images: ImageSet, index: int, spec: InputSpec) -> None:
    try:
        batch[slot] = transform(decode(images.read(index)), spec)
    except (DataError, OSError) as error:
        raise DataError(f"{images.names[index]}: {error}") from error

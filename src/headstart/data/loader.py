"""Batches of samples, decoded by threads ahead of their use."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from headstart.data.encode import Encode, encoder, stack
from headstart.data.resample import Pixels
from headstart.types import FloatArray, ImageSet, InputSpec, IntArray, Spec, View


def load_batches(
    images: ImageSet,
    indices: Sequence[int] | IntArray,
    spec: Spec,
    batch_size: int,
    *,
    workers: int,
    prefetch: int = 4,
    view: View | None = None,
    fitted: Mapping[str, Pixels] | None = None,
) -> Generator[FloatArray, None, None]:
    """Read and prepare samples (decode and transform, or tokenize), in order, in batches.

    At most ``prefetch + 1`` batches exist at a time besides those the caller keeps. Closing the
    generator early (``close()``, or leaving it to the garbage collector) stops the threads.

    Args:
        images: The encoded samples.
        indices: Which samples, in which order; repeats are allowed.
        spec: How each sample is prepared.
        batch_size: Samples per batch; the last batch may be smaller.
        workers: Threads that decode; 0 decodes in the caller's thread when a batch is asked for.
        prefetch: How many batches the threads may be ahead of the caller.
        view: The random changes to the pictures (see `headstart.data.augment`), or None for the
            pictures as they are.
        fitted: Pictures that need not be read again (see `headstart.data.encode.encoder`).

    Yields:
        Arrays of float32, shape [batch, 3, height, width], or [batch, length, width + 1] with
        zeros up to the longest of the batch; each is new and the caller's to keep.

    Raises:
        DataError: A sample cannot be read or decoded; the message begins with its name.
    """
    if batch_size < 1 or workers < 0 or prefetch < 1:
        raise ValueError(
            f"expected batch_size >= 1, workers >= 0, prefetch >= 1; "
            f"got {batch_size}, {workers}, {prefetch}"
        )
    order = [int(index) for index in indices]
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    read = encoder(images, spec, view, fitted)
    if workers == 0:
        for chunk in chunks:
            yield stack([read(index) for index in chunk], spec)
        return
    with contextlib.closing(_prefetched(read, chunks, spec, workers, prefetch)) as batches:
        yield from batches


def _prefetched(
    read: Encode, chunks: list[list[int]], spec: Spec, workers: int, prefetch: int
) -> Generator[FloatArray, None, None]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart-decode")
    waiting: deque[Callable[[], FloatArray]] = deque()
    upcoming = iter(chunks)

    def submit_next() -> None:
        chunk = next(upcoming, None)
        if chunk is not None:
            waiting.append(_submit(pool, read, chunk, spec))

    try:
        for _ in range(prefetch):
            submit_next()
        while waiting:
            batch = waiting.popleft()()
            submit_next()
            yield batch
            del batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    pool: ThreadPoolExecutor, read: Encode, chunk: list[int], spec: Spec
) -> Callable[[], FloatArray]:
    """Hand a batch to the threads; return what waits for it."""
    if not isinstance(spec, InputSpec):
        sequences = [pool.submit(read, index) for index in chunk]
        return lambda: stack([task.result() for task in sequences], spec)
    # Each picture is written where it belongs: a second copy would cost as much as normalising.
    batch = np.empty((len(chunk), 3, spec.height, spec.width), dtype=np.float32)
    tasks = [pool.submit(read, index, row) for index, row in zip(chunk, batch, strict=True)]

    def finish() -> FloatArray:
        for task in tasks:
            task.result()
        return batch

    return finish

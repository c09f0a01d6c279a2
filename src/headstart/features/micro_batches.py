"""Batches in parts of one fixed size, each computed by one core while others compute the next.

The usual way, all cores at each layer of one batch, waits for the slowest core after every layer:
that costs a tenth on a quiet machine, and where the cores are shared (with the threads that decode,
with another program) three to five times as much.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from headstart._util.devices import usable_cores
from headstart.types import FloatArray

Mapped = Callable[[Callable[[FloatArray], FloatArray], Iterable[FloatArray]], Iterable[FloatArray]]
"""The built-in `map`, or that of a pool of threads."""


def cpu_threads() -> int:
    """Return how many threads engines take: the usable cores, or fewer where torch is limited."""
    return min(usable_cores(), torch.get_num_threads())


def in_micro_batches(
    run: Callable[[FloatArray], FloatArray],
    batch: FloatArray,
    size: int,
    mapped: Mapped = map,
) -> FloatArray:
    """Run a function that takes exactly `size` rows over a batch of any length.

    Args:
        run: The function, [size, ...] -> [size, *shape]. With the built-in `map` its result may
            be overwritten by the next call.
        batch: Shape [n, ...].
        size: Rows per call; the last call is filled up with zeros.
        mapped: How to apply the function to the parts: `map`, or that of a pool of threads.

    Returns:
        Array of float32, shape [n, *shape].

    Raises:
        ValueError: The batch is empty, so that the shape of the result cannot be known.
    """
    if len(batch) == 0:
        raise ValueError("expected at least one picture, got an empty batch")
    out: FloatArray | None = None
    start = 0
    for result in mapped(run, _parts(batch, size)):
        if out is None:
            out = np.empty((len(batch), *result.shape[1:]), dtype=np.float32)
        stop = min(start + size, len(batch))
        out[start:stop] = result[: stop - start]
        start = stop
    assert out is not None
    return out


def _parts(batch: FloatArray, size: int) -> Iterator[FloatArray]:
    for start in range(0, len(batch), size):
        part = np.ascontiguousarray(batch[start : start + size], dtype=np.float32)
        if len(part) < size:
            whole = np.zeros((size, *batch.shape[1:]), dtype=np.float32)
            whole[: len(part)] = part
            part = whole
        yield part

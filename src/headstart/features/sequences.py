"""Sequences on the CPU: each by itself, without what fills it up."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from torch import nn

from headstart.backbones.recurrent import RecurrentLayer
from headstart.features.lengths import ALONE_BEYOND, padded_length, rows_at_once
from headstart.types import FloatArray, IntArray

_Run = Callable[[FloatArray], FloatArray]
_Map = Callable[[_Run, Iterable[FloatArray]], Iterable[FloatArray]]


def reads_at_once(module: nn.Module) -> bool:
    """Return whether a network reads all steps of a sequence at once; recurrent ones do not."""
    return not any(isinstance(part, RecurrentLayer) for part in module.modules())


def each_by_itself(run: _Run, batch: FloatArray, longest: int, mapped: _Map) -> FloatArray:
    """Run a function over sequences without what fills them up.

    A sequence of more than 64 steps is as much work as a core needs to be busy: it goes alone, in
    its own length. Shorter ones go with others of their step on the ladder, always as many. So what
    comes out for a sequence depends on nothing but itself, bit for bit.

    Args:
        run: The function, [b, length, width + 1] -> [b, length, width + 1] or [b, width].
        batch: float32 [n, length, width + 1], n at least 1; the last channel is 0 where a sequence
            has ended.
        longest: Steps of a sequence at most.
        mapped: How to apply the function to the parts: `map`, or that of a pool of threads.

    Returns:
        float32 [n, length, width + 1] with zeros where sequences have ended, or [n, width].
    """
    works = list(_works(_lengths(batch), longest))
    out: FloatArray | None = None
    parts = (_part(batch, *work) for work in works)
    for (places, length, _), result in zip(works, mapped(run, parts), strict=True):
        if out is None:
            shape = result.shape[1:] if result.ndim == 2 else (batch.shape[1], result.shape[2])
            out = np.zeros((len(batch), *shape), dtype=np.float32)
        if result.ndim == 2:
            out[places] = result[: len(places)]
        else:
            out[places, :length] = result[: len(places), : batch.shape[1]]
    assert out is not None
    return out


def _lengths(batch: FloatArray) -> IntArray:
    """Return how many steps each sequence has, int64 [n]; at least one of what is nothing."""
    ends: IntArray = batch.shape[1] - np.argmax(batch[:, ::-1, -1] != 0, axis=1)
    return np.where((batch[..., -1] != 0).any(axis=1), ends, 1)


def _works(lengths: IntArray, longest: int) -> Iterator[tuple[IntArray, int, int]]:
    """Yield places of what is computed together, its length, and how many rows that takes."""
    order = np.argsort(-lengths, kind="stable")  # threads end together where the last are short
    for place in order[lengths[order] > ALONE_BEYOND]:
        yield np.array([place]), int(lengths[place]), 1
    steps = np.array([padded_length(int(n), longest) for n in lengths])
    short = lengths <= ALONE_BEYOND
    for step in sorted({int(n) for n in steps[short]}, reverse=True):
        places, rows = np.flatnonzero(short & (steps == step)), rows_at_once(step, on_cpu=True)
        for start in range(0, len(places), rows):
            yield places[start : start + rows], step, rows


def _part(batch: FloatArray, places: IntArray, length: int, rows: int) -> FloatArray:
    part = np.zeros((rows, length, batch.shape[2]), dtype=np.float32)
    kept = batch[places, :length]
    part[: len(places), : kept.shape[1]] = kept
    return part

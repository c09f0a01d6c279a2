"""Sequences through a frozen network: grouped by length, so that little is spent on padding.

Each sequence is filled up to a length of its own, the next of a fixed ladder, and computed with as
many others as the ladder's step says: its features then depend on nothing but itself. Beyond 32
tokens that costs less than a quarter more than no padding at all, and about a tenth on average;
padding everything to the longest costs a multiple. On the CPU attention takes long sequences one by
one and without any padding (see `headstart.features.sequences`); they are stored on the ladder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.data.encode import measure_lengths
from headstart.types import FloatArray, ImageSet, InputSpec, IntArray, Spec

ALONE_BEYOND = 64
"""Steps of a sequence up to which a core needs several to be busy; a step of the ladder."""

_TOKENS_ON_CPU = 1024  # of one thread: activations of so many stay near the core
_TOKENS_ON_DEVICE = 32_768
_MOST_ROWS = 64


def padded_length(length: int, longest: int) -> int:
    """Return the step of the ladder at or above a length: every 8 to 64, every 16 to 128.

    Args:
        length: Tokens or steps of a sample.
        longest: The most that a sample can have.

    Returns:
        What it is filled up to.
    """
    width = 8
    while length > 8 * width:
        width *= 2
    return min(-(-length // width) * width, longest)


def rows_at_once(length: int, on_cpu: bool) -> int:
    """Return how many sequences of a length are computed at a time, by one thread."""
    tokens = _TOKENS_ON_CPU if on_cpu else _TOKENS_ON_DEVICE
    return max(1, min(_MOST_ROWS if on_cpu else 8 * _MOST_ROWS, tokens // length))


@dataclass(frozen=True, slots=True)
class Ladder:
    """Which samples are filled up to which length.

    Attributes:
        lengths: What each sample is filled up to, int64, shape [n].
    """

    lengths: IntArray

    def mean(self) -> int:
        """Return the mean length, rounded up."""
        return int(np.ceil(self.lengths.mean()))

    def groups(self, one_beyond: int | None = None) -> Mapping[int, IntArray]:
        """Return the places of the samples of each length, the longest first.

        Args:
            one_beyond: All that are longer are one group, by falling length, under the longest.

        Returns:
            Places by length.
        """
        # What needs the most memory comes first: if it does not fit, that shows at once.
        steps = sorted({int(n) for n in self.lengths}, reverse=True)
        found = {step: np.flatnonzero(self.lengths == step) for step in steps}
        long = [] if one_beyond is None else [step for step in steps if step > one_beyond]
        if not long:
            return found
        together = np.concatenate([found.pop(step) for step in long])
        return {long[0]: together, **found}


def on_ladder(lengths: IntArray, longest: int) -> Ladder:
    """Return what samples of some lengths are filled up to."""
    return Ladder(np.array([padded_length(int(n), longest) for n in lengths], dtype=np.int64))


def ladder(
    images: ImageSet,
    indices: Sequence[int] | IntArray,
    spec: Spec,
    lengths: IntArray | None = None,
) -> Ladder | None:
    """Measure samples.

    Args:
        images: The encoded samples.
        indices: Which of them, at least one.
        spec: How they are prepared.
        lengths: Length of each of `images`, where they were measured before.

    Returns:
        Their lengths on the ladder; None for pictures, which are all of one size.

    Raises:
        DataError: A sample cannot be read; it is named.
    """
    if isinstance(spec, InputSpec):
        return None
    if lengths is None:
        return on_ladder(measure_lengths(images, indices, spec).kept, spec.longest)
    return on_ladder(lengths[np.asarray(indices, dtype=np.int64)], spec.longest)


def filled_up(batch: FloatArray, length: int) -> FloatArray:
    """Return a batch [n, shorter, width] with zeros at the end: [n, length, width]."""
    missing = length - batch.shape[1]
    return np.pad(batch, ((0, 0), (0, missing), (0, 0))) if missing else batch

"""Samples ready for a network, and the time that making them ready takes."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from headstart.data.encode import converter, stack
from headstart.data.image import decode, transform
from headstart.errors import DataError
from headstart.evaluate.timing import drift, latency, time_interleaved
from headstart.runs.benchmark_records import Preparation
from headstart.types import FloatArray, InputSpec, Spec, TextSpec

_Item = TypeVar("_Item")

_DECODED_BYTES = 256_000_000  # of pictures that are kept decoded while the transform is timed


@dataclass(frozen=True, slots=True)
class Prepared:
    """Samples as bytes, and as one network takes them.

    Attributes:
        spec: How they were prepared.
        data: Their bytes.
        rows: float32 arrays, one for each.
    """

    spec: Spec
    data: tuple[bytes, ...]
    rows: tuple[FloatArray, ...]

    def batch(self, first: int, size: int) -> FloatArray:
        """Return the batch that begins with a sample; after the last comes the first again."""
        chosen = [self.rows[(first + i) % len(self.rows)] for i in range(size)]
        return np.ascontiguousarray(stack(chosen, self.spec))

    def timed_batches(self, size: int, rounds: int) -> list[FloatArray]:
        """Return batches to time by turns: no more than both halves of the rounds can see.

        Where that is not all samples, the batches begin evenly spread over them: neighbours in a
        folder are often alike.

        Args:
            size: Samples of a batch.
            rounds: How many batches are timed.

        Returns:
            Arrays of `size` samples; none of them twice, unless there are too few.
        """
        samples = len(self.rows)
        count = min(-(-samples // size), max(rounds // 2, 1))
        every = count * size >= samples
        starts = [i * size if every else i * samples // count for i in range(count)]
        return [self.batch(start, size) for start in starts]

    @property
    def lengths(self) -> list[int] | None:
        """Tokens or steps of each sample; None of pictures."""
        return None if isinstance(self.spec, InputSpec) else [len(row) for row in self.rows]


def prepare(spec: Spec, data: Sequence[bytes]) -> Prepared:
    """Make samples ready for a network.

    Args:
        spec: How.
        data: Their bytes.

    Returns:
        The samples.

    Raises:
        DataError: One cannot be decoded; it is named by its number, from 0.
    """
    convert = converter(spec)
    rows = []
    for number, one in enumerate(data):
        try:
            rows.append(convert(one))
        except DataError as error:
            raise DataError(f"sample {number}: {error}") from error
    return Prepared(spec, tuple(data), tuple(rows))


def turns(function: Callable[[_Item], object], items: Iterable[_Item]) -> Callable[[], object]:
    """Return a call that gives a function the next item each time, the first after the last."""
    cycle = itertools.cycle(items)
    return lambda: function(next(cycle))


def time_preparation(
    prepared: Mapping[str, Prepared], rounds: int, warm_up: int, clock: Callable[[], float]
) -> tuple[Preparation, ...]:
    """Time the steps before the network, one sample at a time, in one thread.

    Args:
        prepared: The samples by model; of all models the same.
        rounds: How many times each step is timed at least; every sample is seen equally often.
        warm_up: How many calls come before.
        clock: Returns seconds.

    Returns:
        One record for each step and way of doing it, in the order of the models.
    """
    data = next(iter(prepared.values())).data
    ways: dict[Spec, list[str]] = {}
    for name, one in prepared.items():
        ways.setdefault(one.spec, []).append(name)
    steps: list[tuple[str, tuple[str, ...], Callable[[], object]]] = []
    if any(isinstance(spec, InputSpec) for spec in ways):
        steps.append(("decode", tuple(prepared), turns(decode, data)))
    for spec, names in ways.items():
        if isinstance(spec, InputSpec):
            steps.append(("transform", tuple(names), _transforms(data, spec)))
        else:
            step = "tokenise" if isinstance(spec, TextSpec) else "convert"
            steps.append((step, tuple(names), turns(converter(spec), data)))
    whole_turns = 2 * len(data)  # each half of the rounds sees every sample equally often
    taken = time_interleaved(
        {str(place): call for place, (_, _, call) in enumerate(steps)},
        rounds=whole_turns * -(-rounds // whole_turns),
        warm_up=warm_up,
        clock=clock,
    )
    return tuple(
        Preparation(step, names, latency(taken[str(place)], 1), drift(taken[str(place)]))
        for place, (step, names, _) in enumerate(steps)
    )


def _transforms(data: Sequence[bytes], spec: InputSpec) -> Callable[[], object]:
    decoded: list[Image.Image] = []
    for one in data:
        decoded.append(decode(one))
        if sum(3 * image.width * image.height for image in decoded) > _DECODED_BYTES:
            break
    return turns(lambda image: transform(image, spec), decoded)

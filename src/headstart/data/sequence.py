"""Made-up sequences of numbers of different lengths, each with a number to predict."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from headstart._util.hashing import digest_bytes, digest_json
from headstart._util.seeding import generator
from headstart.data.dataset import Dataset
from headstart.data.preflight import Preflight, SequenceProbe
from headstart.data.rows import Row, Samples
from headstart.data.split import SPLITS
from headstart.errors import DataError, nearest
from headstart.types import FloatArray, IntArray

Target = Literal["sum", "mean", "product", "adding"]

_Floats = npt.NDArray[np.float32]


def make_sequences(
    target: Target,
    count: int = 10_000,
    min_length: int = 2,
    max_length: int = 10,
    counts: tuple[int, int, int] = (6400, 1600, 2000),
    seed: int = 0,
) -> Dataset:
    """Make sequences of uniform random numbers and what is to be computed from each.

    Lengths are uniform from `min_length` to `max_length`, values uniform in [0, 1). ``sum``,
    ``mean`` and ``product`` have one channel and, for one seed, the same sequences. ``adding`` has
    a second channel that is 1 at two places and 0 elsewhere; the target is the sum of the two
    values there.

    Args:
        target: What is to be predicted.
        count: Number of sequences.
        min_length: Steps of a sequence at least; 2 for ``adding``.
        max_length: Steps at most.
        counts: Sequences of train, val and test, in this order; together `count`.
        seed: Decides everything that is random.

    Returns:
        The data set, held in memory: a regression with one "class", ``value``.

    Raises:
        DataError: A number is out of range, or the counts do not add up.

    Source:
        The adding problem: Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation
        9(8), 1997, section 5.4; without its rescaling of values and target, and its dummy steps.
    """
    _check(target, count, min_length, max_length, counts)
    lengths = generator("sequences", seed, "lengths").integers(min_length, max_length + 1, count)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    values = generator("sequences", seed, "values").random(int(ends[-1]), dtype=np.float32)
    steps: _Floats = values[:, np.newaxis]
    if target == "adding":
        first, second = _two_places(lengths, seed)
        markers = np.zeros_like(values)
        markers[starts + first] = markers[starts + second] = 1
        steps = np.stack([values, markers], axis=1)
        targets = values[starts + first] + values[starts + second]
    else:
        targets = _targets(target, values, starts, lengths)
    samples = [steps[a:b].astype("<f4").tobytes() for a, b in zip(starts, ends, strict=True)]
    return _dataset(target, samples, lengths, targets.astype(np.float32), counts, seed)


def _targets(target: Target, values: _Floats, starts: IntArray, lengths: IntArray) -> FloatArray:
    # In float64: a sum in float32 would depend on its order.
    exact = values.astype(np.float64)
    if target == "product":
        return np.multiply.reduceat(exact, starts).astype(np.float32)
    sums = np.add.reduceat(exact, starts)
    return (sums / lengths if target == "mean" else sums).astype(np.float32)


def _two_places(lengths: IntArray, seed: int) -> tuple[IntArray, IntArray]:
    """Draw two different places in each sequence, every pair with the same probability."""
    random = generator("sequences", seed, "places")
    first = random.integers(0, lengths)
    second = random.integers(0, lengths - 1)
    return first, second + (second >= first)


def _dataset(
    target: Target,
    samples: list[bytes],
    lengths: IntArray,
    targets: FloatArray,
    counts: tuple[int, int, int],
    seed: int,
) -> Dataset:
    digests = tuple(digest_bytes(data) for data in samples)
    split_of = [split for split, n in zip(SPLITS, counts, strict=True) for _ in range(n)]
    digits = max(4, len(str(len(samples))))
    rows = tuple(
        Row(f"sequence-{number:0{digits}d}", 0, split)
        for number, split in enumerate(split_of, start=1)
    )
    bounds = np.cumsum([0, *counts])
    low, high = int(lengths.min()), int(lengths.max())
    source = Samples(
        origin=f"{len(samples):,} made-up sequences of {low} to {high} numbers: {target} "
        f"(seed {seed})",
        classes=("value",),
        rows=rows,
        reader=samples.__getitem__,
        noun="sequence",
    )
    report = Preflight(
        origin=source.origin,
        classes=source.classes,
        rows=rows,
        digests=digests,
        probes=tuple(map(SequenceProbe, lengths.tolist(), digests)),
        quarantined=(),
        copies=(),
        notes=(),
        decoded=len(samples),
        reused=0,
        left_out=(),
        noun="sequence",
    )
    contents = sorted(zip(digests, targets.tolist(), split_of, strict=True))
    return Dataset(
        names=tuple(row.name for row in rows),
        digests=digests,
        labels=np.zeros(len(samples), dtype=np.int64),
        classes=source.classes,
        splits={
            split: np.arange(bounds[i], bounds[i + 1], dtype=np.int64)
            for i, split in enumerate(SPLITS)
        },
        report=report,
        fingerprint=digest_json({"goal": "regression", "sequences": contents}),
        source=source,
        positions=np.arange(len(samples), dtype=np.int64),
        noun="sequence",
        goal="regression",
        targets=targets,
    )


def _check(
    target: str, count: int, min_length: int, max_length: int, counts: tuple[int, int, int]
) -> None:
    if target not in get_args(Target):
        raise DataError(f"unknown target {target!r}: {nearest(target, get_args(Target))}")
    least = 2 if target == "adding" else 1
    if not least <= min_length <= max_length:
        raise DataError(
            f"lengths of sequences: expected {least} <= min_length <= max_length for the target "
            f"{target}, got {min_length} and {max_length}"
        )
    if min(counts) < 1 or sum(counts) != count:
        raise DataError(
            f"sequences of train, val and test: expected at least 1 of each and {count:,} "
            f"together, got {' + '.join(map(str, counts))} = {sum(counts):,}"
        )

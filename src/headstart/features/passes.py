"""What an extraction computes: pictures, sequences by length, and activations gone on with.

Each pass yields digests and rows; it does not know where they are kept.
"""

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from headstart._util.hashing import digest_bytes
from headstart.backbones.base import Backbone
from headstart.data.loader import load_batches
from headstart.data.resample import Pixels
from headstart.errors import DataError, EngineError
from headstart.features.engine import Engine, EngineName
from headstart.features.engine_torch import TorchEngine
from headstart.features.key import FeatureKey
from headstart.features.lengths import ALONE_BEYOND, Ladder, filled_up
from headstart.features.store import FeatureStore
from headstart.features.table import Features
from headstart.types import FloatArray, ImageSet, InputSpec, IntArray, Progress

_LONGER = 4

_REPLAYED_BYTES = 64 * 1024**2  # activations that are read for one step of a replay, at most

Spread = Callable[[tuple[int, ...], EngineName, FeatureKey], None]
"""Given positions of samples, the engine, and the features' key: returns when all are stored."""

Rows = Generator[tuple[list[str], FloatArray], None, None]
"""Digests of some samples, and their features [n, *shape]."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of an extraction.

    Attributes:
        images: The encoded samples.
        backbone: The network.
        cut: Name of the stage after which it is cut.
        key: Of the features.
        shape: Of one sample's features; of the longest possible one for sequences.
        store: Where features are kept.
        engine: What computes, or ``auto``.
        device: Where torch computes.
        batch_size: How many samples are prepared for one step.
        workers: Threads that decode.
        replayable: Digests of the cuts that may be gone on from; None for no replay.
        lengths: Length of each of `images`, where they were measured before.
        fitted: Pixels of pictures that were decoded before, by digest.
        spread: Has what is missing computed elsewhere; None: here.
    """

    images: ImageSet
    backbone: Backbone
    cut: str
    key: FeatureKey
    shape: tuple[int, ...]
    store: FeatureStore
    engine: EngineName | Literal["auto"]
    device: torch.device
    batch_size: int
    workers: int
    replayable: Mapping[str, str] | None
    lengths: IntArray | None
    fitted: Mapping[str, Pixels] | None
    spread: Spread | None = None


def noun(request: Request) -> str:
    """Return what the samples are called."""
    return "pictures" if isinstance(request.backbone.input_spec, InputSpec) else "sequences"


def computed(
    request: Request,
    images: ImageSet,
    missing: Mapping[str, int],
    engine: Engine,
    progress: Progress,
) -> Rows:
    """Compute pictures, decoded ahead by threads, in the order of the request."""
    digests, positions = list(missing), list(missing.values())
    # A multiple of what the engine computes at a time, so that only the last batch is filled up.
    step = max(request.batch_size // engine.micro_batch, 1) * engine.micro_batch
    loaded = load_batches(
        images,
        positions,
        request.backbone.input_spec,
        step,
        workers=request.workers,
        view=request.key.view,
        fitted=request.fitted,
    )
    begun = itertools.count(0, step)

    def run(batch: FloatArray) -> FloatArray:
        start = next(begun)
        some = positions[start : start + len(batch)]
        return _run(engine, batch, request, [images.names[position] for position in some])

    start = 0
    with (
        closing(loaded) as batches,
        closing(run_ahead(run, batches)) as results,
        progress.task("extracting", len(missing), noun(request)) as task,
    ):
        for rows in results:
            stop = start + len(rows)
            yield digests[start:stop], rows
            task.advance(len(rows))
            start = stop


def run_ahead(
    run: Callable[[FloatArray], FloatArray], batches: Iterable[FloatArray]
) -> Generator[FloatArray, None, None]:
    """Yield `run(batch)` of each, and compute one while the caller deals with the one before.

    Args:
        run: Called in one other thread, in the order of the batches.
        batches: What it is called with.

    Yields:
        The results, in order. An error comes after all results from before it.
    """
    failed: Exception | None = None
    before: Future[FloatArray] | None = None
    pool = ThreadPoolExecutor(1, thread_name_prefix="headstart-ahead")
    try:
        source = iter(batches)
        while True:
            try:
                batch = next(source)
            except StopIteration:
                break
            except Exception as error:
                failed = error
                break
            result = pool.submit(run, batch)
            if before is not None:
                yield before.result()
            before = result
        if before is not None:
            yield before.result()
        if failed is not None:
            raise failed
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def replayed(
    request: Request,
    stored: Features,
    missing: Mapping[str, int],
    engine: Engine,
    start: str,
    progress: Progress,
) -> Rows:
    """Go on from stored activations of an earlier cut; sequences of one length at a time."""
    digests, positions = list(missing), list(missing.values())
    at_once = min(request.batch_size, _REPLAYED_BYTES // (4 * math.prod(stored.shape)))
    step = max(at_once // engine.micro_batch, 1) * engine.micro_batch
    # Sequences of one length at a time: as they were computed.
    groups = [np.arange(len(missing))]
    if request.backbone.ragged(start):
        groups = list(Ladder(stored.lengths).groups().values())
    with progress.task("replaying", len(missing), noun(request)) as task:
        for group in groups:
            for first in range(0, len(group), step):
                places = group[first : first + step]
                batch = stored.gather(places)
                names = [request.images.names[positions[place]] for place in places]
                yield [digests[p] for p in places], _run(engine, batch, request, names)
                task.advance(len(batch))


def _run(engine: Engine, batch: FloatArray, request: Request, names: list[str]) -> FloatArray:
    try:
        rows = engine.run(batch)
    except Exception as error:
        # A foreign library with its own errors, from lack of memory to a lost device.
        raise EngineError(
            f"the engine {engine.name!r} failed on {len(batch)} {noun(request)}, the first "
            f"{names[0]!r} ({type(error).__name__}: {error}): what was extracted before is kept; "
            "try another engine, a smaller input or a smaller network"
        ) from error
    got, expected = rows.shape[1:], request.shape
    if request.backbone.ragged(request.cut):
        got, expected = got[1:], expected[1:]
    if got != expected:
        raise EngineError(
            f"{request.backbone.name} at {request.cut}: expected features of shape "
            f"{request.shape}, the engine {engine.name!r} gave {rows.shape[1:]}"
        )
    finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if not finite.all():
        raise EngineError(
            f"{names[int(np.argmin(finite))]!r}: {request.backbone.name} at {request.cut} gives "
            f"features that are not finite numbers (engine {engine.name!r}): are its weights whole?"
        )
    return rows


def computed_sequences(
    request: Request,
    images: "Unchanged",
    missing: Mapping[str, int],
    measured: Ladder,
    engine: TorchEngine,
    progress: Progress,
) -> Rows:
    """Compute sequences, those of one length on the ladder together, the longest first."""
    digests, positions = list(missing), list(missing.values())
    # What is stored as sequences is stored by length.
    mixed = engine.alone and not request.backbone.ragged(request.cut)
    groups = measured.groups(ALONE_BEYOND if mixed else None)
    with progress.task("extracting", len(missing), noun(request)) as task:
        for length, places in groups.items():
            at_once = engine.sequences_at_once(length)
            # At the end of a step threads wait for each other: single sequences take longer ones.
            wanted = request.batch_size * (_LONGER if engine.alone else 1)
            step = max(wanted // at_once, 1) * at_once
            some = [positions[place] for place in places]
            spec = request.backbone.input_spec
            loaded = load_batches(images, some, spec, step, workers=request.workers)
            start = 0
            with closing(loaded) as batches:
                for batch in batches:
                    stop = start + len(batch)
                    names = [images.names[position] for position in some[start:stop]]
                    rows = _run(engine, filled_up(batch, length), request, names)
                    yield [digests[place] for place in places[start:stop]], rows
                    task.advance(len(batch))
                    start = stop


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Samples whose bytes are compared with their digests at each reading.

    Features stored under the digest of other bytes would be wrong for ever.
    """

    images: ImageSet
    names: Sequence[str]
    digests: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of one sample, or say that they have changed."""
        data = self.images.read(index)
        if digest_bytes(data) != self.digests[index]:
            raise DataError("has changed since the data set was scanned: repeat your command")
        return data

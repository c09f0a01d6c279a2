"""Extracting frozen features: only what is missing, once, straight to the disk."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from headstart.backbones.base import Backbone
from headstart.data.resample import Pixels
from headstart.errors import EngineError
from headstart.features import upkeep
from headstart.features.engine import EngineName
from headstart.features.engine_torch import TorchEngine
from headstart.features.key import Dtype, feature_key
from headstart.features.lengths import Ladder, ladder
from headstart.features.passes import (
    Request,
    Spread,
    Unchanged,
    computed,
    computed_sequences,
    noun,
    replayed,
)
from headstart.features.ready import forget_ready
from headstart.features.replay import Source, find_source
from headstart.features.store import FeatureStore, human_bytes
from headstart.features.table import Features
from headstart.features.trials import TOLERANCE, EngineTrial
from headstart.features.work import choose_for, engine_for_others, write_rows
from headstart.types import ImageSet, IntArray, Progress, View


@dataclass(frozen=True, slots=True)
class Extraction:
    """Features of the pictures that were asked for, and what it took to get them.

    Attributes:
        features: One row per picture, in the order of the request.
        extracted: How many pictures went through the network.
        reused: How many did not: stored before, or the same bytes as another one in the request.
        engine: The engine, or engines joined by ``+``, that computed these features, now or when
            they were stored.
        wall_seconds: All the time it took.
        images_per_second: Pictures extracted per second, decoding included; 0 where none was.
        bytes_written: What was added to the store.
        engine_report: How the engines did that were looked at; empty where none was needed.
        replayed_from: The earlier cut whose stored activations were gone on from, or None where
            pictures were decoded, or nothing had to be done.
    """

    features: Features
    extracted: int
    reused: int
    engine: str
    wall_seconds: float
    images_per_second: float
    bytes_written: int
    engine_report: tuple[EngineTrial, ...]
    replayed_from: str | None = None


def extract(
    images: ImageSet,
    indices: Sequence[int] | IntArray,
    backbone: Backbone,
    cut: str,
    *,
    store: FeatureStore,
    dtype: Dtype = "float32",
    engine: EngineName | Literal["auto"] = "auto",
    device: torch.device,
    batch_size: int = 32,
    workers: int = 2,
    progress: Progress,
    view: View | None = None,
    replay: bool = True,
    lengths: IntArray | None = None,
    fitted: Mapping[str, Pixels] | None = None,
    spread: Spread | None = None,
) -> Extraction:
    """Get the frozen features of pictures from the store, after computing those it lacks.

    Features of a picture do not depend on the batch size, on the order, on the other pictures, or
    on what was stored before.

    Args:
        images: Encoded pictures.
        indices: Which of them, in which order; repeats are allowed.
        backbone: The network; it is left as it is.
        cut: Name of the stage after which it is cut.
        store: Where features are kept.
        dtype: How numbers are stored; float16 halves the space and keeps 11 bits of each number.
        engine: What computes: ``auto`` measures and takes the fastest that agrees with torch.
        device: Where torch computes; the other engines compute on the CPU.
        batch_size: How many pictures are decoded for one step; it decides how much memory is
            taken and nothing else.
        workers: Threads that decode.
        progress: Is told what happens.
        view: The random changes to the pictures (see `headstart.data.augment`); part of the key.
        replay: Whether to go on from activations of an earlier cut where the store holds those of
            all pictures that are missing, instead of starting from pixels. Torch computes then,
            whatever `engine` says.
        lengths: Length of each of `images` as the backbone gets it, where these are sequences that
            were measured before; None measures those that are missing.
        fitted: Pixels of pictures that were decoded before, by digest (see
            `headstart.data.encode.encoder`).
        spread: Has what is missing computed by several processes, each a share; None: this one.

    Returns:
        The features, memory-mapped, and figures.

    Raises:
        DataError: A picture cannot be decoded or has changed since it was scanned; it is named.
        EngineError: The engine that was asked for fails or disagrees with torch, or the network
            gives features that are not finite numbers.
        StoreError: The store is damaged, or there is no room for the features.
        SharedStoreError: Its second home cannot be read or written.
        MissingExtraError: The engine that was asked for is not installed.
    """
    start = time.perf_counter()
    known = images.digests
    digests = [known[int(index)] for index in indices]
    first: dict[str, int] = {}
    for digest, index in zip(digests, indices, strict=True):
        first.setdefault(digest, int(index))
    networks = backbone.digests(cut)
    request = Request(
        images=images,
        backbone=backbone,
        cut=cut,
        key=feature_key(backbone, cut, dtype, view, networks),
        shape=tuple(backbone.shape(cut)),
        store=store,
        engine=engine,
        device=device,
        batch_size=batch_size,
        workers=workers,
        replayable=networks if replay else None,
        lengths=lengths,
        fitted=fitted,
        spread=spread,
    )
    index_now = store.index(request.key)
    work = _NOTHING
    if any(digest not in index_now.rows for digest in first):
        with store.lock(request.key, progress):
            # Once more: whoever held the lock, or another machine, may have extracted them.
            store.fetch(request.key)
            index_now = store.index(request.key)
            missing = {d: i for d, i in first.items() if d not in index_now.rows}
            if missing:
                work = _extract_missing(request, missing, len(digests), progress)
                del first, missing  # of very many samples they are large, and so is the index
                index_now = store.index(request.key)
    # What was here before there was a second home, or before somebody was killed on the way there.
    store.share(index_now, digests)
    if not work.extracted:
        progress.say(f"{_title(request)}: all {len(digests):,} already extracted: nothing to do")
    features = Features(index_now, digests, request.shape, dtype)
    return Extraction(
        features=features,
        extracted=work.extracted,
        reused=len(digests) - work.extracted,
        engine="+".join(features.engines),
        wall_seconds=time.perf_counter() - start,
        images_per_second=work.extracted / work.seconds if work.extracted else 0.0,
        bytes_written=work.bytes_written,
        engine_report=work.trials,
        replayed_from=work.replayed_from,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    extracted: int
    seconds: float
    bytes_written: int
    trials: tuple[EngineTrial, ...]
    replayed_from: str | None = None


_NOTHING = _Work(0, 0.0, 0, ())


def _extract_missing(
    request: Request, missing: Mapping[str, int], asked: int, progress: Progress
) -> _Work:
    source = None
    if request.replayable is not None:
        source = find_source(request.store, request.key, request.replayable, missing)
    positions = list(missing.values())
    measured = ladder(request.images, positions, request.backbone.input_spec, request.lengths)
    shape = request.shape
    if measured is not None and request.backbone.ragged(request.cut):
        shape = (measured.mean(), *shape[1:])
    needed, free = request.store.check_room(len(missing), shape, request.key)
    title = _title(request)
    todo = f"{len(missing):,} of {asked:,} {noun(request)} to extract"
    if source is not None:
        title += f": replayed from {source.cut}"
        todo = (
            f"only {source.stages_left} of {source.stages_total} stages run for {len(missing):,} "
            f"of {asked:,} {noun(request)}"
        )
    progress.say(
        f"{title}: {todo}, {asked - len(missing):,} reused; needs {human_bytes(needed)} of disk, "
        f"{human_bytes(free)} are free"
    )
    if source is not None:
        return _replay(request, source, missing, progress)
    images = Unchanged(request.images, request.images.names, request.images.digests)
    if measured is not None:
        return _extract_sequences(request, images, missing, measured, progress)
    if request.spread is not None:
        return _spread_images(request, images, missing, progress)
    choice = choose_for(request, images, positions)
    for trial in choice.trials:
        progress.say(_describe(trial))
    start = time.perf_counter()
    rows = computed(request, images, missing, choice.engine, progress)
    try:
        written = write_rows(request, rows, choice.engine.name)
    except EngineError:
        forget_ready()
        raise
    return _Work(len(missing), time.perf_counter() - start, written, choice.trials)


def _extract_sequences(
    request: Request,
    images: Unchanged,
    missing: Mapping[str, int],
    measured: Ladder,
    progress: Progress,
) -> _Work:
    if request.engine not in ("auto", "torch"):
        raise EngineError(
            f"the engine {request.engine!r} takes pictures, and {request.backbone.name} takes "
            "sequences: choose the engine 'torch' or 'auto'"
        )
    if request.spread is not None:
        return _spread(request, missing, "torch", ())
    start = time.perf_counter()
    engine = TorchEngine(request.backbone, request.cut, request.device)
    rows = computed_sequences(request, images, missing, measured, engine, progress)
    written = write_rows(request, rows, engine.name)
    return _Work(len(missing), time.perf_counter() - start, written, ())


def _spread_images(
    request: Request, images: Unchanged, missing: Mapping[str, int], progress: Progress
) -> _Work:
    """Have shares done by the engine that an earlier trial chose, or that is chosen now."""
    positions = list(missing.values())
    earlier = engine_for_others(request, positions)
    if earlier is not None:
        progress.say(_describe(earlier))
        try:
            return _spread(request, missing, earlier.name, (earlier,))
        except EngineError as error:  # it worked once: is there another that does?
            progress.say(f"  {error}")
    choice = choose_for(request, images, positions)
    for trial in choice.trials:
        progress.say(_describe(trial))
    return _spread(request, missing, choice.engine.name, choice.trials)


def _spread(
    request: Request,
    missing: Mapping[str, int],
    engine: EngineName,
    trials: tuple[EngineTrial, ...],
) -> _Work:
    """Have shares of the work done elsewhere, all by the engine that was chosen here."""
    assert request.spread is not None
    start = time.perf_counter()
    with contextlib.suppress(OSError):  # those who compute do it together, and let rests lie
        upkeep.remove_leftovers(request.store.folder(request.key))
    request.spread(tuple(missing.values()), engine, request.key)
    request.store.fetch(request.key)  # a machine with a store of its own has put them there
    stored = request.store.index(request.key)
    lost = [digest for digest in missing if digest not in stored.rows]
    if lost:
        raise EngineError(
            f"{len(lost):,} of {len(missing):,} {noun(request)} were not extracted by those that "
            "they were given to, or are not in the store that is seen from here: expected one "
            f"store for all, {request.store.root}"
        )
    new = {stored.shards[stored.rows[digest][0]].path: None for digest in missing}
    written = sum(path.stat().st_size + path.with_suffix(".json").stat().st_size for path in new)
    return _Work(len(missing), time.perf_counter() - start, written, trials)


def _replay(
    request: Request, source: Source, missing: Mapping[str, int], progress: Progress
) -> _Work:
    start = time.perf_counter()
    shape = tuple(request.backbone.shape(source.cut))
    stored = Features(source.index, list(missing), shape, source.key.dtype)
    engine = TorchEngine(request.backbone, request.cut, request.device, start=source.cut)
    rows = replayed(request, stored, missing, engine, source.cut, progress)
    written = write_rows(request, rows, "+".join(sorted({*stored.engines, engine.name})))
    return _Work(len(missing), time.perf_counter() - start, written, (), source.cut)


def _title(request: Request) -> str:
    view = "" if request.key.view is None else f", view {request.key.view.number}"
    return f"Features of {request.backbone.name} at {request.cut}{view}"


def _describe(trial: EngineTrial) -> str:
    parts = [f"{trial.name}: {trial.reason}"]
    if trial.images_per_second is not None:
        parts.append(f"{trial.images_per_second:,.0f} images/s")
    if trial.max_relative_difference:
        parts.append(
            f"differs from torch by {trial.max_relative_difference:.0e} of the largest feature "
            f"(allowed {TOLERANCE:.0e})"
        )
    return ("  engine " if trial.chosen else "  not ") + ", ".join(parts)

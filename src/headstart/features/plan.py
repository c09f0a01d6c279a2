"""What storing features would need and save: measured before it is done."""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from headstart.backbones.base import INPUT, Backbone, example_input
from headstart.data.loader import load_batches
from headstart.features.engine_torch import TorchEngine
from headstart.features.key import Dtype, feature_key
from headstart.features.lengths import Ladder, ladder
from headstart.features.replay import Source, find_source
from headstart.features.store import FeatureStore, human_bytes, room_for
from headstart.types import ImageSet, IntArray, View

READ_BYTES_PER_SECOND = 250e6
"""What a plain disk reads at least: features that are in memory already come ten times faster."""

SPARED = 0.1
"""Share of the free disk that is left alone."""

_SOME = 4  # pictures that are decoded for a measurement
_MEASURED_SECONDS = 0.25  # no further repeats of a measurement after this

Storage = Literal["stored", "recomputed"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What stands against each other: storing features at a cut, or computing them at each pass.

    Attributes:
        pictures: How many different pictures a pass visits.
        samples: How many rows are missing in the store, over all views.
        disk_bytes: Disk space that these will take.
        free_bytes: Disk space that is free.
        replay_from: The earlier cut from whose stored activations they can be computed, or None
            where that takes the pictures.
        seconds_per_sample_decode: Time to read, decode and prepare one picture, by one thread.
        seconds_per_sample_prefix: Time of the stages up to the cut for one picture, by torch.
        seconds_per_sample_read: Time to read one row from the store, at `READ_BYTES_PER_SECOND`.
    """

    pictures: int
    samples: int
    disk_bytes: int
    free_bytes: int
    replay_from: str | None
    seconds_per_sample_decode: float
    seconds_per_sample_prefix: float
    seconds_per_sample_read: float


def estimate(
    images: ImageSet,
    indices: Sequence[int] | IntArray,
    backbone: Backbone,
    cut: str,
    *,
    store: FeatureStore,
    dtype: Dtype,
    device: torch.device,
    views: Sequence[View | None] = (None,),
    view_indices: Sequence[int] | IntArray | None = None,
    visited: Sequence[int] | IntArray | None = None,
    ignore_stored: bool = False,
    lengths: IntArray | None = None,
) -> Estimate:
    """Say what storing features would need, and measure what it would save.

    A few pictures are decoded and a few run through the network; nothing is written.

    Args:
        images: Encoded pictures.
        indices: Which of them, at least one.
        backbone: The network; it is left as it is.
        cut: Name of the stage after which it is cut.
        store: Where features would be kept.
        dtype: How numbers would be stored.
        device: Where torch computes.
        views: The random changes under which each picture would be stored; None is a picture as
            it is.
        view_indices: Which pictures are changed at random; None for all.
        visited: Which pictures each pass visits; None for all.
        ignore_stored: Whether the weights up to the cut will change before, so that nothing that
            is stored now will be of use.
        lengths: Length of each of `images`, where they are sequences that were measured before.

    Returns:
        The estimate.

    Raises:
        DataError: One of the pictures that were tried cannot be decoded; it is named.
        StoreError: What is stored of these features is damaged.
    """
    known = images.digests

    def unique(some: Sequence[int] | IntArray) -> dict[str, int]:
        return {known[int(index)]: int(index) for index in some}

    wanted = unique(indices)
    changed = wanted if view_indices is None else unique(view_indices)
    shape = tuple(backbone.shape(cut))
    measured = ladder(images, list(wanted.values()), backbone.input_spec, lengths)
    if measured is not None and backbone.ragged(cut):
        shape = (measured.mean(), *shape[1:])
    row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    digests = backbone.digests(cut)
    samples = disk_bytes = 0
    sources: list[Source | None] = []
    for view in views:
        key = feature_key(backbone, cut, dtype, view, digests)
        rows = store.index(key).rows
        asked = wanted if view is None else changed
        missing = [digest for digest in asked if ignore_stored or digest not in rows]
        if missing:
            samples += len(missing)
            disk_bytes += room_for(len(missing), shape, dtype)
            source = None if ignore_stored else find_source(store, key, digests, missing)
            sources.append(source)
    return Estimate(
        pictures=len(wanted if visited is None else unique(visited)),
        samples=samples,
        disk_bytes=disk_bytes,
        free_bytes=store.free_bytes(),
        replay_from=_farthest(sources),
        seconds_per_sample_decode=_time_decoding(images, list(wanted.values()), backbone, views),
        seconds_per_sample_prefix=_time_prefix(backbone, cut, device, measured),
        seconds_per_sample_read=row_bytes / READ_BYTES_PER_SECOND,
    )


def seconds_saved(planned: Estimate, passes: int) -> float:
    """Return the time that storing saves over so many passes through all pictures, in seconds.

    Below zero it costs time. Where features can be replayed it saves more than this.
    """
    compute = planned.seconds_per_sample_decode + planned.seconds_per_sample_prefix
    visits = passes * planned.pictures
    stored = planned.samples * compute + visits * planned.seconds_per_sample_read
    return visits * compute - stored


def choose_storage(
    planned: Estimate, passes: int, views: int, reserved_bytes: int = 0
) -> tuple[Storage, str]:
    """Choose between storing features and computing them at each pass.

    Features are stored unless that cannot be, or cannot save time: they do not fit into the free
    disk less a tenth, or reading them takes longer than computing them, or there are fewer passes
    through the pictures than views of them. What is stored already is always used.

    Args:
        planned: From `estimate`.
        passes: How often all pictures will be visited.
        views: How many views of each are to be stored, 1 without augmentation.
        reserved_bytes: Disk space that something else will take before.

    Returns:
        The choice, and the reason in words.
    """
    compute = planned.seconds_per_sample_decode + planned.seconds_per_sample_prefix
    read = planned.seconds_per_sample_read
    if planned.samples == 0:
        return "stored", "all features are stored already"
    free = max(planned.free_bytes - reserved_bytes, 0)
    if planned.disk_bytes > (1 - SPARED) * free:
        return "recomputed", (
            f"storing needs {human_bytes(planned.disk_bytes)} of disk, and of the "
            f"{human_bytes(free)} that are free a tenth is left alone"
        )
    if compute < read:
        return "recomputed", (
            f"computing takes {1000 * compute:.2g} ms per picture, reading it back "
            f"{1000 * read:.2g} ms"
        )
    if passes < views:
        return "recomputed", (
            f"{passes} passes would use fewer features than the {views} stored views of each "
            "picture would have to be computed"
        )
    saved = seconds_saved(planned, passes)
    if saved <= 0:
        return "stored", "it takes no longer here, and later runs find the features"
    times = "once" if views == 1 else f"{views} times"
    return "stored", (
        f"each picture is computed {times} in place of {passes} times, which saves about "
        f"{_duration(saved)}"
    )


def _farthest(sources: Sequence[Source | None]) -> str | None:
    """Return the cut that the most stages have to run from, or None where pictures are needed."""
    found = [source for source in sources if source is not None]
    if not found or len(found) < len(sources):
        return None
    return max(found, key=lambda source: source.stages_left).cut


def _time_decoding(
    images: ImageSet, positions: Sequence[int], backbone: Backbone, views: Sequence[View | None]
) -> float:
    # The last view: where plain pictures are stored as well, they come first and cost less.
    loaded = load_batches(
        images, positions[:_SOME], backbone.input_spec, 1, workers=0, view=views[-1]
    )
    seconds = []
    with closing(loaded) as batches:
        start = time.perf_counter()
        for _ in batches:
            seconds.append(time.perf_counter() - start)
            start = time.perf_counter()
    return float(np.median(seconds))


def _time_prefix(
    backbone: Backbone, cut: str, device: torch.device, measured: Ladder | None
) -> float:
    if backbone.resolve(cut) == INPUT:
        return 0.0
    engine = TorchEngine(backbone, cut, device)
    spec, cpu = backbone.input_spec, torch.device("cpu")
    if measured is None:
        batch = example_input(spec, engine.micro_batch, cpu).numpy()
    else:
        length = measured.mean()
        batch = example_input(spec, engine.sequences_at_once(length), cpu)[:, :length].numpy()
    begun = time.perf_counter()
    engine.run(batch)  # warms it up; of a large network one run tells enough
    best = time.perf_counter() - begun
    for _ in range(2 if best < _MEASURED_SECONDS else 0):
        start = time.perf_counter()
        engine.run(batch)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - begun > _MEASURED_SECONDS:
            break
    return best / len(batch)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

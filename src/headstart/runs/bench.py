"""What the parts of a study share: data, a backbone, features, checkpoints, timing."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from headstart._util.devices import full_float32
from headstart._util.hashing import digest_json
from headstart._util.stopping import Stop
from headstart.backbones.base import Backbone
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.data.encode import Lengths, measure_lengths
from headstart.data.loader import load_batches
from headstart.evaluate import time_prediction
from headstart.features.extract import Extraction, extract
from headstart.features.key import feature_key
from headstart.features.lengths import on_ladder
from headstart.features.passes import Spread
from headstart.features.store import FeatureStore
from headstart.predict import BackboneOptions
from headstart.runs.notebook import Notebook
from headstart.runs.trackers import Trackers, no_trackers
from headstart.train import ALONE, CheckpointFolder, Judge, Team
from headstart.types import (
    FloatArray,
    InputSpec,
    IntArray,
    JsonDict,
    Progress,
    Spec,
    Task,
    TextSpec,
    View,
)

_TIMED_AT_ONCE = 256  # decoded pictures in memory while the prediction step is timed


@dataclass(frozen=True, slots=True)
class Bench:
    """What the parts of a study share.

    Attributes:
        dataset: Samples and labels.
        backbone: The network, frozen; a part that trains parts of it takes a copy.
        config: How the network was asked for.
        cut: The stage that heads read.
        fresh: Builds the same network with random weights from a seed.
        device: Where torch computes.
        workers: Threads that decode.
        progress: Where to show how far it is.
        store: Where features are kept.
        cache: How they are computed and kept.
        checkpoints: How often a training in progress is saved.
        checkpoint_root: Folder of the run's checkpoints.
        stop: Says whether somebody asked the program to stop.
        timing: How the prediction step is timed.
        memory: What was computed for earlier parts; shared by all benches of a run.
        options: How the network was asked for besides its name and weights.
        examples: Texts whose class is to be told, each with its second text or None.
        trackers: Who else is shown the records as they come.
        spread: Has features computed by several processes; None: by this one.
        team: The processes that train one model together; the first of them writes.
        goes_on: Says after each epoch of the last stage whether a trial of a search goes on.
    """

    dataset: Dataset
    backbone: Backbone
    config: schema.BackboneConfig
    cut: str
    fresh: Callable[[int], Backbone]
    device: torch.device
    workers: int
    progress: Progress
    store: FeatureStore
    cache: schema.Cache
    checkpoints: schema.Checkpoints
    checkpoint_root: Path
    stop: Stop
    timing: schema.Timing
    memory: "Memory"
    options: BackboneOptions = field(default_factory=BackboneOptions)
    examples: tuple[tuple[str, str | None], ...] = ()
    trackers: Trackers = field(default_factory=no_trackers)
    spread: Spread | None = None
    team: Team = ALONE
    goes_on: Judge | None = None

    @property
    def answers(self) -> IntArray | FloatArray:
        """What is to be learnt of each sample: its class index, or the target of a regression."""
        return self.dataset.labels if self.dataset.targets is None else self.dataset.targets

    @property
    def outputs(self) -> int:
        """Numbers that a head gives: one for each class, or one value."""
        return 1 if self.dataset.goal == "regression" else len(self.dataset.classes)

    def lengths(self, backbone: Backbone) -> IntArray | None:
        """Return the length of each sample as a backbone gets it; None for pictures."""
        shown = StoppableProgress(self.progress, self.stop)
        return sample_lengths(self.dataset, backbone.input_spec, self.memory, shown)

    def features(self) -> Extraction:
        """Return the frozen features of all samples; the first part that asks pays for them."""
        key = self.backbone.digest(self.cut) + repr(self.backbone.input_spec)
        if key in self.memory.extractions:
            done = self.memory.extractions[key]
            everything = len(self.dataset)
            return dataclasses.replace(done, extracted=0, reused=everything, wall_seconds=0.0)
        every = np.arange(len(self.dataset), dtype=np.int64)
        done = self.extract(self.backbone, self.cut, every, None)
        self.memory.extractions[key] = done
        return done

    def stored_share(self) -> float:
        """Return for which share of all samples the frozen features are in the store."""
        key = feature_key(self.backbone, self.cut, self.cache.dtype)
        stored = self.store.index(key).rows
        return sum(d in stored for d in self.dataset.digests) / max(1, len(self.dataset))

    def extract(
        self, backbone: Backbone, cut: str, rows: IntArray, view: View | None
    ) -> Extraction:
        """Return the features of some samples at a cut; Ctrl-C ends it, and nothing is lost."""
        return extract(
            self.dataset,
            rows,
            backbone,
            cut,
            store=self.store,
            dtype=self.cache.dtype,
            engine=self.cache.engine,
            device=self.device,
            batch_size=self.cache.batch_size,
            workers=self.workers,
            progress=StoppableProgress(self.progress, self.stop),
            view=view,
            lengths=self.lengths(backbone),
            spread=self.spread,
        )

    def stored_bytes(self, backbone: Backbone, cut: str, samples: int) -> int:
        """Return what the stored features of so many samples take; of sequences: of mean length."""
        row = math.prod(backbone.shape(cut)) * np.dtype(self.cache.dtype).itemsize
        spec, lengths = backbone.input_spec, self.lengths(backbone)
        if lengths is not None and not isinstance(spec, InputSpec) and backbone.ragged(cut):
            stored = on_ladder(lengths, spec.longest).lengths
            return round(samples * row * float(stored.mean()) / spec.longest)
        return samples * int(row)

    def checkpoint(self, part: str, member: int, stage: int) -> CheckpointFolder:
        """Return where one training is saved."""
        folder = self.checkpoint_root / part / f"member-{member}-stage-{stage}"
        return checkpoint_folder(folder, self.checkpoints, self.stop)

    def notebook(self, part: str, member: int) -> Notebook:
        """Return the notes of one member's training."""
        path = self.checkpoint_root / part / f"member-{member}.json"
        return Notebook(path, writes=self.team.rank == 0)

    def time(self, architecture: str, network: Sequence[nn.Module]) -> JsonDict | None:
        """Time the prediction step over the test split, once for each architecture.

        Args:
            architecture: What is computed besides the backbone, in words: networks with the same
                words take the same time.
            network: Modules that follow each other, samples -> logits, on the device.

        Returns:
            What results.json keeps, or None where it is not measured.
        """
        rows = np.asarray(self.dataset.splits["test"])[: self.timing.samples]
        if not self.timing.measure or not len(rows):
            return None
        asked = f"{self.options.text} {self.options.series}"
        key = f"{self.backbone.name} {self.backbone.input_spec.describe()} {asked} {architecture}"
        if key not in self.memory.timings:
            self.memory.timings[key] = self._time(network, rows)
        return self.memory.timings[key]

    @torch.inference_mode()
    def _time(self, network: Sequence[nn.Module], rows: IntArray) -> JsonDict:
        device = self.device

        def predict(batch: FloatArray) -> object:
            x = torch.from_numpy(batch).to(device)
            if x.dim() == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            with full_float32():
                for module in network:
                    x = module(x)
            return x

        def wait() -> None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        for module in network:
            module.eval()
        seconds, repeats, size = 0.0, self.timing.repeats, self.timing.batch_size
        spec = self.backbone.input_spec
        lengths = self.lengths(self.backbone)
        if lengths is not None:  # sequences of about one length together, as in prediction
            rows = rows[np.argsort(lengths[rows], kind="stable")]
        with self.progress.task("timing predictions", len(rows), "samples") as task:
            for start in range(0, len(rows), _TIMED_AT_ONCE):
                some = rows[start : start + _TIMED_AT_ONCE]
                loaded = load_batches(self.dataset, some, spec, size, workers=self.workers)
                # Decoded before the clock starts.
                batches = list(loaded)
                timed = time_prediction(
                    predict, batches, repeats=repeats, warm_up=int(start == 0), synchronize=wait
                )
                seconds += timed.seconds
                task.advance(len(some))
                self.stop.raise_if_requested()
        return {
            "seconds": round(seconds, 6),
            "samples": len(rows),
            "images_per_second": round(len(rows) / max(seconds, 1e-9), 3),
            "batch_size": size,
            "repeats": repeats,
            "device": str(device),
        }


def checkpoint_folder(folder: Path, config: schema.Checkpoints, stop: Stop) -> CheckpointFolder:
    """Return where one training is saved, as often as the study says."""
    return CheckpointFolder(
        folder,
        every_seconds=None if config.minutes is None else 60 * config.minutes,
        every_steps=config.steps,
        stop=lambda: stop.requested,
    )


@dataclass(slots=True)
class Memory:
    """What was computed for earlier parts of the same run.

    Attributes:
        extractions: Features of all samples, by backbone and cut.
        timings: Time of the prediction step, by architecture.
        lengths: Lengths of all samples, by how they are prepared.
    """

    extractions: dict[str, Extraction] = field(default_factory=dict)
    timings: dict[str, JsonDict] = field(default_factory=dict)
    lengths: dict[str, Lengths] = field(default_factory=dict)


def sample_lengths(
    dataset: Dataset, spec: Spec, memory: Memory, progress: Progress
) -> IntArray | None:
    """Return the length of each sample as a network gets it; None for pictures.

    Args:
        dataset: The samples.
        spec: How they are prepared.
        memory: Where the answer is kept.
        progress: Where to show how far it is.

    Returns:
        Tokens or steps, int64, shape [n].
    """
    if isinstance(spec, InputSpec):
        return None
    key = digest_json(spec.describe())
    if key not in memory.lengths:
        memory.lengths[key] = measure_lengths(dataset, np.arange(len(dataset)), spec, progress)
    return memory.lengths[key].kept


def truncation_record(
    dataset: Dataset, spec: Spec, memory: Memory, progress: Progress
) -> JsonDict | None:
    """Return how much of the texts a network does not get to see; None where there are no texts."""
    if not isinstance(spec, TextSpec):
        return None
    kept = sample_lengths(dataset, spec, memory, progress)
    assert kept is not None
    whole = memory.lengths[digest_json(spec.describe())].whole
    return {
        "max_length": spec.max_length,
        "texts": len(whole),
        "truncated": int((whole > kept).sum()),
        "tokens": int(whole.sum()),
        "tokens_lost": int((whole - kept).sum()),
    }


@dataclass(frozen=True, slots=True)
class StoppableProgress:
    """Shows what another one shows, and ends the work between two advances where asked to stop.

    For work that may end there without loss: scanning and extraction.
    """

    inner: Progress
    stop: Stop

    @contextmanager
    def task(self, description: str, total: int, unit: str) -> Iterator[Task]:
        """Open a task that ends with `StoppedError` where somebody asks to stop."""
        with self.inner.task(description, total, unit) as task:
            yield _StoppableTask(task, self.stop)

    def say(self, message: str) -> None:
        """Show one line."""
        self.inner.say(message)


@dataclass(frozen=True, slots=True)
class _StoppableTask:
    inner: Task
    stop: Stop

    def advance(self, amount: int = 1) -> None:
        self.inner.advance(amount)
        self.stop.raise_if_requested()

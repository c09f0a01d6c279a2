"""Training in stages: the head alone, then more of the network, or all of it from scratch.

The cut moves with the freeze. What a stage leaves frozen is computed once and stored, and only the
rest runs at every step; the next stage goes on from the nearest activations that are still true.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.backbones.base import INPUT, Backbone
from headstart.backbones.frozen import guard_frozen
from headstart.config import schema
from headstart.features.extract import Extraction
from headstart.features.plan import Storage, choose_storage, estimate
from headstart.features.store import human_bytes
from headstart.heads import BatchedHead, Tail, build_head, stage_sizes
from headstart.runs import build
from headstart.runs.bench import Bench
from headstart.runs.result import SPLITS, Member, StageReport
from headstart.runs.training import (
    Candidate,
    Trained,
    choose,
    members_of,
    parameters_of,
    train,
    width_at,
)
from headstart.train import (
    CachedSource,
    FeatureSource,
    Mixing,
    Outcome,
    ParameterGroup,
    StageCut,
    StandardSource,
    build_grouped_optimizer,
    cut_for,
    rates_of,
)
from headstart.types import Augmentation, IntArray, StepRecord, View


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage, ready to run.

    Attributes:
        index: From 0.
        config: Its settings, none of them null that the part can give.
        what: What it trains, and the cut before that.
        cut: Where its features are: `what.cut`, or ``input`` where frozen stages move too.
        storage: Whether the frozen part's features are stored.
        disk_bytes: What that takes.
    """

    index: int
    config: schema.StageConfig
    what: StageCut
    cut: str
    storage: Storage
    disk_bytes: int

    @property
    def name(self) -> str:
        return self.config.name if self.config.name is not None else self.what.text

    def views(self, seed: int) -> tuple[View, ...]:
        """Return the stored views of the training pictures; none where they are not augmented."""
        config = self.config.augmentation
        if config is None or config.views is None:
            return ()
        augmentation = build.augmentation(config)
        return tuple(View(augmentation, seed, number) for number in range(config.views))


def cuts_of(part: schema.TrainedPart, backbone: Backbone, head_cut: str) -> tuple[StageCut, ...]:
    """Say what each stage of a part trains; every name is checked before any work.

    Args:
        part: A part with stages.
        backbone: Its network.
        head_cut: Where the head reads.

    Returns:
        One for each stage.

    Raises:
        ConfigError: A stage names what the backbone does not have.
    """
    sizes = stage_sizes(backbone, head_cut)
    cuts = []
    for stage in build.stages_of(part):
        asked = stage.trainable
        wanted = asked.last if isinstance(asked, schema.Last) else asked
        cut = cut_for(wanted, sizes, backbone.resolve(head_cut))
        assert stage.optimizer is not None
        rates_of(
            (*cut.trained, "head"),
            stage.optimizer.learning_rate,
            stage.learning_rates,
            stage.layer_decay,
        )
        cuts.append(cut)
    return tuple(cuts)


def train_staged(
    name: str, part: schema.TrainedPart, bench: Bench, splits: Mapping[str, IntArray]
) -> Trained:
    """Train a model through its stages; the members of a sweep one after the other.

    Args:
        name: The part's name.
        part: Its configuration, with stages or from scratch.
        bench: What the study shares.
        splits: Positions of each split.

    Returns:
        All members, and the network of the best.

    Raises:
        FrozenStateError: Something that was frozen has changed.
        StoppedError: Somebody asked to stop; the checkpoint is written.
    """
    out = Trained([], {})
    values = build.members_of(part)
    for index, value in enumerate(values):
        one = build.with_values(part, value)
        label = name if len(values) == 1 else f"{name} {index + 1}/{len(values)}"
        run = _Staged(name, label, index, one, bench, splits)
        member, candidate = run.run(value)
        out.members.append(member)
        out.extraction_seconds += run.extraction_seconds
        out.earlier_seconds += run.earlier_seconds
        best = choose(out.members, part)
        if best == index or not out.candidates:
            out.candidates = {index: candidate}  # the others are not needed any more
    return out


class _Staged:
    """One member's way through the stages."""

    def __init__(
        self,
        name: str,
        label: str,
        member: int,
        part: schema.TrainedPart,
        bench: Bench,
        splits: Mapping[str, IntArray],
    ) -> None:
        self.name, self.label, self.member = name, label, member
        self.part, self.bench = part, bench
        self.backbone = bench.fresh(part.seed) if part.from_scratch else bench.backbone.clone()
        self.backbone.to(bench.device)
        # Only the pictures that the part uses: splits count into `rows` from here on.
        self.full_splits = splits
        self.rows = np.concatenate([splits[split] for split in SPLITS])
        bounds = np.cumsum([0, *(len(splits[split]) for split in SPLITS)])
        self.splits = {split: np.arange(bounds[i], bounds[i + 1]) for i, split in enumerate(SPLITS)}
        self.labels = bench.dataset.labels[self.rows]
        self.head: BatchedHead = build_head(
            build.head_spec(part.head),
            width_at(self.backbone, bench.cut),
            len(bench.dataset.classes),
            [part.seed],
            zero_init=getattr(part.head, "zero_init", False),
        ).to(bench.device)
        self.extraction_seconds = self.earlier_seconds = 0.0
        self._positions = {stage: i for i, stage in enumerate((INPUT, *self.backbone.stages))}

    def run(self, value: dict[str, float | int]) -> tuple[Member, Candidate]:
        """Train all stages."""
        stages = self._plan()
        records: list[StepRecord] = []
        reports: list[StageReport] = []
        for stage in stages:
            source, tail, outcome, new, report = self._train(stage, stages)
            records += new
            reports.append(report)
            if outcome.state == "diverged":
                break
        first = min((s.cut for s in stages), key=self._positions.__getitem__)
        scratch = self.part.from_scratch
        candidate = Candidate(
            model=tail,
            head=self.head,
            backbone=self.backbone,
            cut=first,
            source=source,
            weights="random" if scratch else self.bench.config.weights,
            seed=self.part.seed if scratch else self.bench.config.seed,
            stages=tuple(reports),
        )
        member = members_of([value], [outcome], records)[0]
        return member, candidate

    def _plan(self) -> list[_Stage]:
        """Choose for each stage between storing features and computing them, and say so."""
        cuts = cuts_of(self.part, self.backbone, self.bench.cut)
        stages = []
        for index, (config, what) in enumerate(zip(build.stages_of(self.part), cuts, strict=True)):
            cut = INPUT if config.batch_norm == "train" else what.cut
            draft = _Stage(index, config, what, cut, "recomputed", 0)
            storage, disk_bytes, reason = self._storage(draft)
            stages.append(_Stage(index, config, what, cut, storage, disk_bytes))
            need = f", needs {human_bytes(disk_bytes)} of disk" if storage == "stored" else ""
            self.bench.progress.say(
                f"{self.label}, stage {index + 1} of {len(cuts)} ({what.text}): features at {cut} "
                f"are {storage}{need}: {reason}"
            )
        return stages

    def _storage(self, stage: _Stage) -> tuple[Storage, int, str]:
        config = stage.config
        augmentation = config.augmentation
        never = {
            "nothing is frozen": stage.cut == INPUT and config.batch_norm != "train",
            "BatchNorm moves in frozen stages": config.batch_norm == "train",
            "pictures are blended anew at every step": (config.mixup, config.cutmix)
            != (None, None),
            "the augmentation draws anew in every epoch": augmentation is not None
            and augmentation.views is None,
        }
        for reason, holds in never.items():
            if holds:
                return "recomputed", 0, reason
        if config.features == "recomputed":
            return "recomputed", 0, "as the experiment asks"
        views = stage.views(self.part.seed)
        bench = self.bench
        rows = self.rows
        planned = estimate(
            bench.dataset,
            rows,
            self.backbone,
            stage.cut,
            store=bench.store,
            dtype=bench.cache.dtype,
            device=bench.device,
            views=(None, *views),
        )
        if config.features == "stored":
            return "stored", planned.disk_bytes, "as the experiment asks"
        assert config.epochs is not None
        storage, reason = choose_storage(planned, config.epochs, max(len(views), 1))
        return storage, planned.disk_bytes, reason

    def _train(
        self, stage: _Stage, stages: Sequence[_Stage]
    ) -> tuple[FeatureSource, Tail, Outcome, list[StepRecord], StageReport]:
        start = time.perf_counter()
        config, bench = stage.config, self.bench
        assert config.optimizer is not None
        tail = Tail(
            self.backbone,
            stage.cut,
            bench.cut,
            self.head,
            trained=stage.what.trained,
            batch_norm=config.batch_norm,
        ).to(bench.device)
        groups = tail.groups()
        trainable = sum(p.numel() for group in groups.values() for p in group)
        total, _ = parameters_of(self.backbone, bench.cut, self.head)
        bench.progress.say(
            f"{self.label}, stage {stage.index + 1} of {len(stages)}: trains {stage.what.text}: "
            f"{trainable:,} parameters; {total - trainable:,} are frozen"
        )
        rates = rates_of(
            (*stage.what.trained, "head"),
            config.optimizer.learning_rate,
            config.learning_rates,
            config.layer_decay,
            lambda group: group in groups,
        )
        optimizer = build_grouped_optimizer(
            config.optimizer.kind,
            [
                # BatchNorm of a frozen stage that learns (batch_norm: train) has the base rate.
                ParameterGroup(g, p, rates.get(g, config.optimizer.learning_rate))
                for g, p in groups.items()
            ],
            build.hyperparameters(config.optimizer),
            nesterov=isinstance(config.optimizer, schema.SGD) and config.optimizer.nesterov,
        )
        frozen = self.backbone.prefix(stage.cut)
        with guard_frozen(frozen, f"the network of {self.label} up to {stage.cut}"):
            source, extraction = self._source(stage, stages)
            plan = build.stage_plan(
                config,
                stage.index,
                self.part.seed,
                self.labels[self.splits["train"]],
                len(bench.dataset.classes),
            )
            records, outcomes, earlier = train(
                f"{self.label}, {stage.name}",
                tail,
                optimizer,
                source,
                plan,
                bench=bench,
                checkpoint=bench.checkpoint(self.name, self.member, stage.index),
                splits=self.splits,
            )
        self.extraction_seconds += extraction.seconds
        self.earlier_seconds += earlier
        report = StageReport(
            name=stage.name,
            trainable=stage.what.text,
            cut=stage.cut,
            epochs=outcomes[0].epochs,
            best_epoch=outcomes[0].best_epoch,
            optimizer=config.optimizer.kind,
            learning_rate=config.optimizer.learning_rate,
            wall_seconds=time.perf_counter() - start + earlier,
            extraction_seconds=extraction.seconds,
            features=stage.storage,
            disk_bytes=extraction.disk_bytes,
            replayed_from=extraction.replayed_from,
            parameters_trainable=trainable,
            parameters_frozen=total - trainable,
            extracted=extraction.extracted,
            reused=extraction.reused,
            engine=extraction.engine,
        )
        return source, tail, outcomes[0], records, report

    def _source(self, stage: _Stage, stages: Sequence[_Stage]) -> tuple[FeatureSource, "_Features"]:
        config, bench = stage.config, self.bench
        assert config.batch_size is not None
        if stage.storage == "recomputed":
            augmentation = config.augmentation
            mixing = None
            if (config.mixup, config.cutmix) != (None, None):
                mixing = Mixing(config.mixup, config.cutmix, len(bench.dataset.classes))
            source = StandardSource(
                bench.dataset,
                bench.dataset.labels,
                self.full_splits,
                prefix=self.backbone.prefix(stage.cut),
                spec=self.backbone.input_spec,
                width=width_at(self.backbone, stage.cut),
                seed=self.part.seed,
                batch_size=config.batch_size,
                workers=bench.workers,
                device=bench.device,
                flat=False,
                augmentation=_augmentation(augmentation),
                views=None if augmentation is None else augmentation.views,
                mixing=mixing,
            )
            return source, _Features()
        found = _Features()
        ahead = self._ahead(stage, stages)
        if ahead != stage.cut:
            # A later stage needs these anyway, and this one can be replayed from them.
            found.add(bench.extract(self.backbone, ahead, self.rows, None), keep=False)
        plain = bench.extract(self.backbone, stage.cut, self.rows, None)
        found.add(plain)
        views = []
        train_rows = self.rows[self.splits["train"]]
        for view in stage.views(self.part.seed):
            done = bench.extract(self.backbone, stage.cut, train_rows, view)
            found.add(done, keep=False)
            views.append(done.features)
        found.disk_bytes = self._stored_bytes(stage)
        cached = CachedSource(
            plain.features,
            self.labels,
            self.splits,
            seeds=[self.part.seed],
            batch_size=config.batch_size,
            device=bench.device,
            flat=False,
            views=views,
        )
        return cached, found

    def _ahead(self, stage: _Stage, stages: Sequence[_Stage]) -> str:
        """Return the earliest cut that a later stage stores and no stage until then disturbs."""
        best = stage.cut
        lowest = self._positions[stage.cut]
        for later in stages[stage.index + 1 :]:
            between = stages[stage.index : later.index]
            position = self._positions[later.cut]
            undisturbed = all(self._positions[s.cut] >= position for s in between)
            if later.storage == "stored" and undisturbed and position < lowest:
                best, lowest = later.cut, position
        return best

    def _stored_bytes(self, stage: _Stage) -> int:
        itemsize = 2 if self.bench.cache.dtype == "float16" else 4
        views = len(stage.views(self.part.seed)) * len(self.splits["train"])
        return (len(self.rows) + views) * width_at(self.backbone, stage.cut) * itemsize


@dataclass(slots=True)
class _Features:
    """What getting a stage's features took."""

    seconds: float = 0.0
    extracted: int = 0
    reused: int = 0
    engine: str = "torch"
    replayed_from: str | None = None
    disk_bytes: int = 0

    def add(self, extraction: Extraction, keep: bool = True) -> None:
        self.seconds += extraction.wall_seconds
        self.extracted += extraction.extracted
        if keep:
            self.reused += extraction.reused
            self.engine = extraction.engine
            self.replayed_from = extraction.replayed_from


def _augmentation(config: schema.AugmentationConfig | None) -> Augmentation | None:
    return None if config is None else build.augmentation(config)

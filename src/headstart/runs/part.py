"""One part of a study, from features to predictions.

A model is a sweep with one member. On cached features all members train as one batched head. In
standard mode each member trains by itself and the frozen network runs at every step: what a
textbook does, and what the measured gain of caching is measured against.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from headstart.backbones.base import Backbone
from headstart.backbones.frozen import guard_frozen
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.data.split import n_labels_per_class
from headstart.features.extract import Extraction
from headstart.heads import BatchedHead, build_head, fit_logistic, take_member
from headstart.runs import build
from headstart.train import (
    CachedSource,
    FeatureSource,
    Outcome,
    StandardSource,
    build_optimizer,
    fit,
    predict_probabilities,
)
from headstart.types import FloatArray, IntArray, Predictions, Progress, StepRecord, Task

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Member:
    """One member's result.

    Attributes:
        values: The swept settings; empty for a model.
        outcome: How its training ended.
        records: Its history.
        val_accuracy: Validation accuracy with the weights it ended with, or None if it diverged.
        val_loss: Validation loss, likewise.
    """

    values: dict[str, float | int]
    outcome: Outcome
    records: tuple[StepRecord, ...]
    val_accuracy: float | None
    val_loss: float | None


@dataclass(frozen=True, slots=True)
class PartResult:
    """What a part leaves.

    Attributes:
        part: Its resolved configuration, with the settings of `best_of` and of the best member.
        members: All members, in the order of the grid.
        best: Index of the best member by validation, or None where all diverged.
        head: The best member's head, or None.
        predictions: The best member's predictions of each split; empty where all diverged.
        wall_seconds: Training and validation of all members, extraction not counted.
        extraction: What extraction did, or None in standard mode.
    """

    part: schema.ModelPart
    members: tuple[Member, ...]
    best: int | None
    head: BatchedHead | None
    predictions: Mapping[str, Predictions]
    wall_seconds: float
    extraction: Extraction | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def shown(self) -> Member:
        """The member that stands for the part: the best, or the first where all diverged."""
        return self.members[self.best if self.best is not None else 0]


@dataclass(frozen=True, slots=True)
class Bench:
    """What the parts of a study share."""

    dataset: Dataset
    backbone: Backbone
    cut: str
    device: torch.device
    workers: int
    progress: Progress


def train_rows(dataset: Dataset, part: schema.ModelPart) -> IntArray:
    """Return the training positions that a part may use (see `labels_per_class`)."""
    rows = np.asarray(dataset.splits["train"])
    if part.labels_per_class is None:
        return rows
    return n_labels_per_class(
        dataset.labels, rows, part.labels_per_class, part.seed, dataset.classes
    )


def run_part(
    name: str, part: schema.ModelPart, bench: Bench, extraction: Extraction | None
) -> PartResult:
    """Train a model or all members of a sweep, choose by validation, and predict every split.

    Args:
        name: The part's name.
        part: Its configuration, `best_of` applied.
        bench: Data, backbone and device.
        extraction: The features of all samples, in the data set's order; None in standard mode.

    Returns:
        Members, the best one's head and predictions, and times.

    Raises:
        FrozenStateError: The frozen network changed while the head was trained.
    """
    splits = {**bench.dataset.splits, "train": train_rows(bench.dataset, part)}
    prefix = bench.backbone.prefix(bench.cut)
    start = time.perf_counter()
    with guard_frozen(prefix, f"the frozen network of {name}"):
        if isinstance(part.head, schema.LogisticHead):
            assert extraction is not None, "a logistic head works on cached features"
            trained = _solve_logistic(name, part, part.head, bench, extraction, splits)
        elif part.mode == "cached":
            assert extraction is not None, "cached mode works on cached features"
            trained = _train_cached(name, part, bench, extraction, splits)
        else:
            trained = _train_standard(name, part, bench, splits)
    wall_seconds = time.perf_counter() - start
    best = choose(trained.members, part)
    predictions: dict[str, Predictions] = {}
    if best is not None:
        predictions = {
            split: Predictions(
                names=tuple(bench.dataset.names[i] for i in splits[split]),
                labels=bench.dataset.labels[splits[split]],
                probabilities=trained.probabilities(best, split),
                classes=bench.dataset.classes,
            )
            for split in SPLITS
        }
    return PartResult(
        part=part if best is None else build.with_values(part, trained.members[best].values),
        members=tuple(trained.members),
        best=best,
        head=None if best is None else trained.heads[best],
        predictions=predictions,
        wall_seconds=wall_seconds,
        extraction=extraction,
        notes=tuple(trained.notes),
    )


def choose(members: Sequence[Member], part: schema.ModelPart) -> int | None:
    """Return the best member by validation: accuracy, ties broken by loss; or loss alone."""
    by_loss = isinstance(part, schema.SweepPart) and part.select.metric == "loss"

    def rank(index: int) -> tuple[float, float]:
        member = members[index]
        assert member.val_loss is not None
        assert member.val_accuracy is not None
        return (member.val_loss if by_loss else -member.val_accuracy, member.val_loss)

    complete = [i for i, m in enumerate(members) if m.val_loss is not None]
    return min(complete, key=rank) if complete else None


@dataclass(slots=True)
class _Trained:
    """Heads of all members, and the source that predicts with them."""

    members: list[Member]
    heads: list[BatchedHead]
    source: FeatureSource
    notes: list[str] = field(default_factory=list)

    def probabilities(self, member: int, split: str) -> FloatArray:
        head = self.heads[member]
        result: FloatArray = predict_probabilities(head, self.source.split(split))[0]
        return result


def _train_cached(
    name: str,
    part: schema.ModelPart,
    bench: Bench,
    extraction: Extraction,
    splits: Mapping[str, IntArray],
) -> _Trained:
    values = build.members_of(part)
    parts = [build.with_values(part, v) for v in values]
    source = CachedSource(
        extraction.features,
        bench.dataset.labels,
        splits,
        seeds=[p.seed for p in parts],
        batch_size=part.batch_size,
        device=bench.device,
    )
    heads, outcomes, records = _fit(name, part, parts, bench, source, splits)
    members = _members(values, outcomes, records)
    return _Trained(members, heads, source)


def _train_standard(
    name: str, part: schema.ModelPart, bench: Bench, splits: Mapping[str, IntArray]
) -> _Trained:
    width = int(np.prod(bench.backbone.shape(bench.cut)))
    values = build.members_of(part)
    members: list[Member] = []
    heads: list[BatchedHead] = []
    for index, value in enumerate(values):
        one = build.with_values(part, value)
        source = StandardSource(
            bench.dataset,
            bench.dataset.labels,
            splits,
            prefix=bench.backbone.prefix(bench.cut),
            spec=bench.backbone.input_spec,
            width=width,
            seed=one.seed,
            batch_size=part.batch_size,
            workers=bench.workers,
            device=bench.device,
        )
        label = name if len(values) == 1 else f"{name} {index + 1}/{len(values)}"
        found, outcomes, records = _fit(label, part, [one], bench, source, splits)
        heads += found
        members += _members([value], outcomes, records)
    return _Trained(members, heads, source)


def _fit(
    label: str,
    part: schema.ModelPart,
    parts: list[schema.ModelPart],
    bench: Bench,
    source: FeatureSource,
    splits: Mapping[str, IntArray],
) -> tuple[list[BatchedHead], tuple[Outcome, ...], list[StepRecord]]:
    """Train the members `parts` together as one batched head."""
    classes = len(bench.dataset.classes)
    spec = build.head_spec(part.head)
    zero_init = getattr(part.head, "zero_init", False)
    head = build_head(spec, source.width, classes, [p.seed for p in parts], zero_init=zero_init)
    head = head.to(bench.device)
    optimizer = build_optimizer(
        part.optimizer.kind,
        list(head.parameters()),
        [build.hyperparameters(p.optimizer) for p in parts],
        nesterov=isinstance(part.optimizer, schema.SGD) and part.optimizer.nesterov,
    )
    plan = build.train_plan(part, parts, bench.dataset.labels[splits["train"]], classes)
    samples = part.epochs * (len(splits["train"]) + len(splits["val"]))
    with bench.progress.task(f"{label}: training", samples, "samples") as task:
        records, outcomes = _drain(fit(head, optimizer, _Watched(source, task), plan))
    heads = [take_member(head, m, source.width, classes) for m in range(len(parts))]
    return heads, outcomes, records


def _drain(
    steps: Generator[StepRecord, None, tuple[Outcome, ...]],
) -> tuple[list[StepRecord], tuple[Outcome, ...]]:
    records: list[StepRecord] = []
    while True:
        try:
            records.append(next(steps))
        except StopIteration as end:
            outcomes: tuple[Outcome, ...] = end.value
            return records, outcomes


@dataclass(frozen=True, slots=True)
class _Watched:
    """A source that says how far it is."""

    source: FeatureSource
    task: Task

    @property
    def width(self) -> int:
        return self.source.width

    @property
    def steps_per_epoch(self) -> int:
        return self.source.steps_per_epoch

    def train(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for z, y in self.source.train(epoch):
            yield z, y
            self.task.advance(y.shape[-1])

    def split(self, name: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for z, y in self.source.split(name):
            yield z, y
            self.task.advance(y.shape[-1])


def _members(
    values: Sequence[dict[str, float | int]],
    outcomes: tuple[Outcome, ...],
    records: list[StepRecord],
) -> list[Member]:
    members = []
    for index, (value, outcome) in enumerate(zip(values, outcomes, strict=True)):
        own = tuple(r for r in records if r.member == index)
        kept = [r for r in own if r.split == "val" and r.epoch == outcome.best_epoch]
        good = outcome.state == "complete" and bool(kept)
        members.append(
            Member(
                values=value,
                outcome=outcome,
                records=own,
                val_accuracy=kept[0].accuracy if good else None,
                val_loss=kept[0].loss if good else None,
            )
        )
    return members


def _solve_logistic(
    name: str,
    part: schema.ModelPart,
    config: schema.LogisticHead,
    bench: Bench,
    extraction: Extraction,
    splits: Mapping[str, IntArray],
) -> _Trained:
    """Solve the probe for each C; each C is a member, and validation chooses as in a sweep."""
    labels = bench.dataset.labels
    classes = len(bench.dataset.classes)
    rows = splits["train"]
    source = CachedSource(
        extraction.features,
        labels,
        splits,
        seeds=[part.seed],
        batch_size=max(part.batch_size, 1024),
        device=bench.device,
    )
    z = extraction.features.gather(rows).reshape(len(rows), -1)
    start = time.perf_counter()
    fits = fit_logistic(z, labels[rows], classes, config.c, device=bench.device)
    seconds = (time.perf_counter() - start) / len(fits)
    members: list[Member] = []
    heads: list[BatchedHead] = []
    notes: list[str] = []
    for solved in fits:
        head = build_head(build.head_spec(config), source.width, classes, [part.seed])
        state = {
            "layers.0.weight": torch.as_tensor(solved.weight, dtype=torch.float32)[None],
            "layers.0.bias": torch.as_tensor(solved.bias, dtype=torch.float32)[None],
        }
        head.load_state_dict(state)
        head = head.to(bench.device).eval()
        if not solved.converged:
            notes.append(
                f"{name}: L-BFGS stopped after {solved.iterations} iterations at C = {solved.c:g} "
                "before it was provably at the optimum"
            )
        records = [
            _logistic_record(head, source, split, len(members), seconds)
            for split in ("train", "val")
        ]
        members.append(
            Member(
                values={"head.c": solved.c},
                outcome=Outcome("complete", 1, 1, None),
                records=tuple(records),
                val_accuracy=records[1].accuracy,
                val_loss=records[1].loss,
            )
        )
        heads.append(head)
    return _Trained(members, heads, source, notes)


def _logistic_record(
    head: BatchedHead, source: FeatureSource, split: str, member: int, seconds: float
) -> StepRecord:
    probabilities = predict_probabilities(head, source.split(split))[0]
    labels = torch.cat([y for _, y in source.split(split)]).cpu().numpy()
    own = np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), 1e-12, 1)
    return StepRecord(
        member=member,
        stage=0,
        epoch=1,
        split=split,
        loss=float(-np.log(own).mean()),
        accuracy=float((probabilities.argmax(axis=1) == labels).mean()),
        learning_rate=0.0,
        seconds=seconds,
    )

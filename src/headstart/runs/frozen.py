"""Training on a frozen network: a head, or all heads of a sweep as one batch.

In standard mode each member trains by itself and the frozen network runs at every step: what a
textbook does, and what the measured gain of caching is measured against.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from headstart.backbones.frozen import guard_frozen
from headstart.config import schema
from headstart.features.extract import Extraction
from headstart.heads import BatchedHead, build_head, fit_logistic, take_member, undecayed
from headstart.runs import build
from headstart.runs.bench import Bench
from headstart.runs.result import Member, StageReport
from headstart.runs.training import (
    Candidate,
    Trained,
    members_of,
    parameters_of,
    train,
    width_at,
)
from headstart.train import (
    CachedSource,
    FeatureSource,
    Outcome,
    StandardSource,
    build_optimizer,
    predict_split,
)
from headstart.types import IntArray, StepRecord

_Fitted = tuple[list[BatchedHead], tuple[Outcome, ...], list[StepRecord], float]
# Members, their heads, the source of features, and seconds from before the program was stopped.
_Found = tuple[list[Member], list[BatchedHead], FeatureSource, float]


def train_frozen(
    name: str, part: schema.TrainedPart, bench: Bench, splits: Mapping[str, IntArray]
) -> Trained:
    """Train a model, or all members of a sweep, on the frozen network.

    Args:
        name: The part's name.
        part: Its configuration, without stages.
        bench: What the study shares.
        splits: Positions of each split.

    Returns:
        All members with their networks.

    Raises:
        FrozenStateError: The frozen network changed while the head was trained.
    """
    extraction, spent_before = None, 0.0
    if part.mode == "cached":
        extraction, spent_before = frozen_features(name, bench)
    with guard_frozen(bench.backbone.prefix(bench.cut), f"the frozen network of {name}"):
        start = time.perf_counter()
        if isinstance(part.head, schema.LogisticHead):
            assert extraction is not None, "a logistic head works on cached features"
            members, heads, source, notes = _solve(name, part, part.head, bench, extraction, splits)
            earlier = 0.0
        elif extraction is not None:
            found = _train_cached(name, part, bench, extraction, splits)
            (members, heads, source, earlier), notes = found, []
        else:
            found = _train_standard(name, part, bench, splits)
            (members, heads, source, earlier), notes = found, []
        seconds = time.perf_counter() - start + earlier
    reports = [
        _report(part, bench, member, head, extraction, seconds)
        for member, head in zip(members, heads, strict=True)
    ]
    candidates = {
        index: Candidate(
            model=head,
            head=head,
            backbone=bench.backbone,
            cut=bench.cut,
            source=source,
            weights=bench.config.weights,
            seed=bench.config.seed,
            stages=(report,),
        )
        for index, (head, report) in enumerate(zip(heads, reports, strict=True))
    }
    spent = extraction.wall_seconds if extraction else 0.0
    repeats = [
        candidate.repeat(part, part.seed + index, bench, splits)
        for index, candidate in candidates.items()
        if part.seeds > 1 and members[index].val_loss is not None
    ]
    return Trained(members, candidates, spent, earlier + spent_before, notes, repeats)


def frozen_features(name: str, bench: Bench) -> tuple[Extraction, float]:
    """Return the features of all samples at the head's cut, and note what they took.

    Args:
        name: The part's name.
        bench: What the study shares.

    Returns:
        The features; and of their seconds those from before the program was stopped.
    """
    notes = bench.notebook(name, 0)
    extraction, spent_before = bench.features(), 0.0
    before = notes.get("features")
    if before is not None and before["extracted"]:
        # The program was stopped after it had extracted these.
        spent_before = before["seconds"]
        extraction = replace(
            extraction,
            extracted=extraction.extracted + before["extracted"],
            reused=extraction.reused - before["extracted"],
            wall_seconds=extraction.wall_seconds + spent_before,
        )
    note = {"extracted": extraction.extracted, "seconds": extraction.wall_seconds}
    notes.put("features", note)
    return extraction, spent_before


def _report(
    part: schema.TrainedPart,
    bench: Bench,
    member: Member,
    head: BatchedHead,
    extraction: Extraction | None,
    seconds: float,
) -> StageReport:
    total, _ = parameters_of(bench.backbone, bench.cut, None)
    logistic = isinstance(part.head, schema.LogisticHead)
    spent = extraction.wall_seconds if extraction else 0.0
    stored = bench.stored_bytes(bench.backbone, bench.cut, len(bench.dataset))
    return StageReport(
        name="head",
        trainable="head",
        cut=bench.cut,
        epochs=member.outcome.epochs,
        best_epoch=member.outcome.best_epoch,
        optimizer="lbfgs" if logistic else part.optimizer.kind,
        learning_rate=0.0
        if logistic
        else float(member.values.get("optimizer.learning_rate", part.optimizer.learning_rate)),
        wall_seconds=seconds + spent,
        extraction_seconds=spent,
        features="stored" if extraction else "recomputed",
        disk_bytes=stored if extraction else 0,
        replayed_from=extraction.replayed_from if extraction else None,
        parameters_trainable=sum(p.numel() for p in head.parameters()),
        parameters_frozen=total,
        extracted=extraction.extracted if extraction else 0,
        reused=extraction.reused if extraction else 0,
        engine=extraction.engine if extraction else "torch",
    )


def _train_cached(
    name: str,
    part: schema.TrainedPart,
    bench: Bench,
    extraction: Extraction,
    splits: Mapping[str, IntArray],
) -> _Found:
    values = build.members_of(part)
    if isinstance(part, schema.SweepPart) and part.search is not None:
        return _one_by_one(
            values, lambda i: cached_member(name, part, bench, splits, i, extraction)
        )
    parts = [build.with_values(part, v) for v in values]
    source = _cached(part, parts, bench, extraction, splits)
    heads, outcomes, records, earlier = _fit(name, 0, part, parts, bench, source, splits)
    return members_of(values, outcomes, records), heads, source, earlier


def _cached(
    part: schema.TrainedPart,
    parts: Sequence[schema.TrainedPart],
    bench: Bench,
    extraction: Extraction,
    splits: Mapping[str, IntArray],
) -> CachedSource:
    return CachedSource(
        extraction.features,
        bench.answers,
        splits,
        seeds=[p.seed for p in parts],
        batch_size=part.batch_size,
        device=bench.device,
        # In standard mode texts come by length: the two see the same batches.
        lengths=bench.lengths(bench.backbone),
    )


def cached_member(
    name: str,
    part: schema.TrainedPart,
    bench: Bench,
    splits: Mapping[str, IntArray],
    index: int,
    extraction: Extraction,
) -> tuple[_Fitted, FeatureSource]:
    """Train one trial of a search on stored features.

    Args:
        name: The part's name.
        part: Its configuration.
        bench: What the study shares.
        splits: Positions of each split.
        index: Which trial.
        extraction: The features.

    Returns:
        What `_fit` returns, and where the batches came from.
    """
    one = build.with_values(part, build.members_of(part)[index])
    source = _cached(part, [one], bench, extraction, splits)
    return _fit(name, index, part, [one], bench, source, splits), source


def _one_by_one(
    values: Sequence[dict[str, float | int]],
    member: Callable[[int], tuple[_Fitted, FeatureSource]],
) -> _Found:
    """Train members one after the other."""
    members: list[Member] = []
    heads: list[BatchedHead] = []
    sources: list[FeatureSource] = []
    earlier = 0.0
    for index, value in enumerate(values):
        (found, outcomes, records, before), source = member(index)
        earlier += before
        heads += found
        members += members_of([value], outcomes, records)
        sources.append(source)
    return members, heads, sources[0], earlier


def _train_standard(
    name: str, part: schema.TrainedPart, bench: Bench, splits: Mapping[str, IntArray]
) -> _Found:
    values = build.members_of(part)
    return _one_by_one(values, lambda i: standard_member(name, part, bench, splits, i))


def standard_member(
    name: str, part: schema.TrainedPart, bench: Bench, splits: Mapping[str, IntArray], index: int
) -> tuple[_Fitted, FeatureSource]:
    """Train one member on pictures that go through the frozen network at every step.

    Args:
        name: The part's name.
        part: Its configuration.
        bench: What the study shares.
        splits: Positions of each split.
        index: Which member.

    Returns:
        What `_fit` returns, and where the batches came from.
    """
    one = build.with_values(part, build.members_of(part)[index])
    source = StandardSource(
        bench.dataset,
        bench.answers,
        splits,
        prefix=bench.backbone.prefix(bench.cut),
        spec=bench.backbone.input_spec,
        width=width_at(bench.backbone, bench.cut),
        seed=one.seed,
        batch_size=part.batch_size,
        workers=bench.workers,
        device=bench.device,
        lengths=bench.lengths(bench.backbone),
        team=bench.team,
    )
    return _fit(name, index, part, [one], bench, source, splits), source


def _fit(
    name: str,
    first: int,
    part: schema.TrainedPart,
    parts: Sequence[schema.TrainedPart],
    bench: Bench,
    source: FeatureSource,
    splits: Mapping[str, IntArray],
) -> _Fitted:
    """Train the members `parts`, of which the first has the index `first`, as one batched head."""
    outputs = bench.outputs
    head = build.new_head(part.head, source.width, outputs, [p.seed for p in parts])
    head = head.to(bench.device)
    optimizer = build_optimizer(
        part.optimizer.kind,
        list(head.parameters()),
        [build.hyperparameters(p.optimizer) for p in parts],
        nesterov=build.nesterov(part.optimizer),
        exempt=undecayed(head) if part.optimizer.weight_decay_on == "weights" else (),
    )
    plan = build.train_plan(part, parts, bench.dataset, splits["train"])
    count = len(build.members_of(part))
    records, outcomes, earlier = train(
        name if count == len(parts) else f"{name} {first + 1}/{count}",
        head,
        optimizer,
        source,
        plan,
        bench=bench,
        checkpoint=bench.checkpoint(name, first, 0),
        splits=splits,
        part=name,
        first=first,
        members=count,
        goes_on=bench.goes_on,
    )
    heads = [take_member(head, m, source.width, outputs) for m in range(len(parts))]
    return heads, outcomes, records, earlier


def _solve(
    name: str,
    part: schema.TrainedPart,
    config: schema.LogisticHead,
    bench: Bench,
    extraction: Extraction,
    splits: Mapping[str, IntArray],
) -> tuple[list[Member], list[BatchedHead], FeatureSource, list[str]]:
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
        for record in records:
            bench.trackers.log(name, record, members=len(fits))
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
    return members, heads, source, notes


def _logistic_record(
    head: BatchedHead, source: FeatureSource, split: str, member: int, seconds: float
) -> StepRecord:
    probabilities = predict_split(head, source, split, "classification")[0]
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

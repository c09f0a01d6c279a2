"""Training in stages: the head alone, then more of the network, or all of it from scratch.

The cut moves with the freeze. What a stage leaves frozen is computed once and stored, and only the
rest runs at every step; the next stage goes on from the nearest activations that are still true.
"""

import time
from collections.abc import Mapping, Sequence

from torch import nn

from headstart.backbones.base import INPUT, Backbone
from headstart.backbones.frozen import guard_frozen
from headstart.backbones.parts import shared_stages
from headstart.config import schema
from headstart.errors import ConfigError
from headstart.features.store import human_bytes
from headstart.heads import Tail, stage_sizes, undecayed
from headstart.runs import build
from headstart.runs.bench import Bench
from headstart.runs.result import Member, StageReport
from headstart.runs.stage_features import Stage, StageFeatures
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
    FeatureSource,
    Outcome,
    ParameterGroup,
    StageCut,
    build_grouped_optimizer,
    cut_for,
    rates_of,
)
from headstart.types import InputSpec, IntArray, StepRecord


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
        _check_shared(backbone, cut, stage.learning_rates)
        assert stage.optimizer is not None
        rates_of(
            (*cut.trained, "head"),
            stage.optimizer.learning_rate,
            stage.learning_rates,
            stage.layer_decay,
        )
        cuts.append(cut)
    return tuple(cuts)


def _check_shared(backbone: Backbone, cut: StageCut, rates: Mapping[str, float]) -> None:
    """Refuse to part stages that are one set of weights: in what is trained, and how fast."""
    for group in shared_stages(backbone):
        chosen = [name for name in group if name in cut.trained]
        if chosen and len(chosen) < len(group):
            raise ConfigError(
                f"trainable: {backbone.name} has one set of weights for its stages {group[0]} … "
                f"{group[-1]}: expected all of them or none, got {', '.join(chosen)}; use all, or "
                f"[{group[0].partition('.')[0]}] and what follows"
            )
        apart = [name for name in rates if name in group[1:]]
        if apart:
            raise ConfigError(
                f"learning_rates: {backbone.name} has one set of weights for its stages {group[0]} "
                f"… {group[-1]}, so one rate, given to {group[0]}; got one for {apart[0]}"
            )


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
        run = _staged(name, part, bench, splits, index)
        member, candidate = run.run(value)
        out.members.append(member)
        out.extraction_seconds += run.extraction_seconds
        out.earlier_seconds += run.earlier_seconds
        if part.seeds > 1 and member.val_loss is not None:
            out.repeats.append(candidate.repeat(part, one.seed, bench, splits))
        best = choose(out.members, part)
        if best == index or not out.candidates:
            out.candidates = {index: candidate}  # the others are not needed any more
    return out


def staged_member(
    name: str, part: schema.TrainedPart, bench: Bench, splits: Mapping[str, IntArray], index: int
) -> Member:
    """Train one member through its stages, and leave its checkpoints.

    Args:
        name: The part's name.
        part: Its configuration, with stages or from scratch.
        bench: What the study shares.
        splits: Positions of each split.
        index: Which member.

    Returns:
        The member.
    """
    team = bench.team
    if team.rank == 0:
        run = _staged(name, part, bench, splits, index)
        run.plan()
        team.wait()
    else:  # what the first has chosen, by its measurements, holds for all
        team.wait()
        run = _staged(name, part, bench, splits, index)
    return run.run(build.members_of(part)[index])[0]


def first_features(
    name: str, part: schema.TrainedPart, bench: Bench, splits: Mapping[str, IntArray]
) -> None:
    """Store the features that the members' first stages are trained on, where these are stored.

    Args:
        name: The part's name.
        part: Its configuration, with stages.
        bench: What the study shares.
        splits: Positions of each split.
    """
    for index in range(len(build.members_of(part))):
        _staged(name, part, bench, splits, index).prepare()


def _staged(
    name: str, part: schema.TrainedPart, bench: Bench, splits: Mapping[str, IntArray], index: int
) -> "_Staged":
    values = build.members_of(part)
    one = build.with_values(part, values[index])
    label = name if len(values) == 1 else f"{name} {index + 1}/{len(values)}"
    return _Staged(name, label, index, one, bench, splits, len(values))


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
        members: int,
    ) -> None:
        self.name, self.label, self.member, self.members = name, label, member, members
        self.part, self.bench = part, bench
        self.backbone = bench.fresh(part.seed) if part.from_scratch else bench.backbone.clone()
        self.backbone.to(bench.device)
        self.splits = splits
        self.features = StageFeatures(
            label, part, bench, self.backbone, splits, bench.notebook(name, member)
        )
        width = width_at(self.backbone, bench.cut)
        head = build.new_head(part.head, width, bench.outputs, [part.seed])
        self.head = head.to(bench.device)
        self.extraction_seconds = self.earlier_seconds = 0.0

    def run(self, value: dict[str, float | int]) -> tuple[Member, Candidate]:
        """Train all stages."""
        stages = self.plan()
        records: list[StepRecord] = []
        reports: list[StageReport] = []
        last: list[tuple[FeatureSource, Tail, Outcome]] = []
        for stage in stages:
            last.clear()  # the features of a stage that is over need no memory
            found, new, report = self._train(stage, stages)
            last.append(found)
            records += new
            reports.append(report)
            if found[2].state == "diverged":
                break
            del found
        source, tail, outcome = last.pop()
        first = min((s.cut for s in stages), key=self.features.position)
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

    def prepare(self) -> None:
        """Store what the first stage is trained on, if it is stored."""
        stages = self.plan()
        if stages[0].storage == "stored":
            self.features.source(stages[0], stages)

    def plan(self) -> list[Stage]:
        """Choose for each stage between storing features and computing them, and say so."""
        cuts = cuts_of(self.part, self.backbone, self.bench.cut)
        stages: list[Stage] = []
        for index, (config, what) in enumerate(zip(build.stages_of(self.part), cuts, strict=True)):
            cut = INPUT if config.batch_norm == "train" else what.cut
            draft = Stage(index, config, what, cut, "recomputed", 0)
            storage, disk_bytes, reason = self.features.storage(draft, stages)
            stages.append(Stage(index, config, what, cut, storage, disk_bytes))
            need = f", needs {human_bytes(disk_bytes)} of disk" if storage == "stored" else ""
            self.bench.progress.say(
                f"{self.label}, stage {index + 1} of {len(cuts)} ({what.text}): features at {cut} "
                f"are {storage}{need}: {reason}"
            )
        return stages

    def _train(
        self, stage: Stage, stages: Sequence[Stage]
    ) -> tuple[tuple[FeatureSource, Tail, Outcome], list[StepRecord], StageReport]:
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
            _parameter_groups(tail, groups, rates, config.optimizer),
            build.hyperparameters(config.optimizer),
            nesterov=build.nesterov(config.optimizer),
        )
        frozen = nn.ModuleList([self.backbone.prefix(stage.cut), tail.fixed()])
        with guard_frozen(frozen, f"what {self.label} does not train"):
            source, extraction = self.features.source(stage, stages)
            plan = build.stage_plan(
                config,
                stage.index,
                self.part,
                bench.dataset,
                self.splits["train"],
                device=bench.device,
                deep=bool(stage.what.trained),
                fixed=isinstance(self.backbone.input_spec, InputSpec),
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
                part=self.name,
                first=self.member,
                members=self.members,
                goes_on=bench.goes_on if stage is stages[-1] else None,
            )
        self.extraction_seconds += extraction.seconds
        self.earlier_seconds += earlier + extraction.earlier_seconds
        report = StageReport(
            name=stage.name,
            trainable=stage.what.text,
            cut=stage.cut,
            epochs=outcomes[0].epochs,
            best_epoch=outcomes[0].best_epoch,
            optimizer=config.optimizer.kind,
            learning_rate=config.optimizer.learning_rate,
            wall_seconds=time.perf_counter() - start + earlier + extraction.earlier_seconds,
            extraction_seconds=extraction.seconds,
            features=extraction.storage,
            disk_bytes=extraction.disk_bytes,
            replayed_from=extraction.replayed_from,
            parameters_trainable=trainable,
            parameters_frozen=total - trainable,
            extracted=extraction.extracted,
            reused=extraction.reused,
            engine=extraction.engine,
            precision=plan.precision,
            compiled=plan.compiled,
        )
        return (source, tail, outcomes[0]), records, report


def _parameter_groups(
    tail: Tail,
    groups: Mapping[str, tuple[nn.Parameter, ...]],
    rates: Mapping[str, float],
    optimizer: schema.OptimizerConfig,
) -> list[ParameterGroup]:
    """Return what is trained by learning rate, what does not decay in groups of its own."""
    exempt = undecayed(tail) if optimizer.weight_decay_on == "weights" else frozenset()
    found = []
    for name, parameters in groups.items():
        # BatchNorm of a frozen stage that learns (batch_norm: train) has the base rate.
        rate = rates.get(name, optimizer.learning_rate)
        for decays in (True, False):
            own = tuple(p for p in parameters if (id(p) not in exempt) == decays)
            if own:
                found.append(ParameterGroup(name, own, rate, decays))
    return found

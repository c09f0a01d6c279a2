"""What frozen and staged training share: run the loop, show how far it is, keep what was found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from scipy.special import softmax
from torch import nn

from headstart.backbones.base import Backbone
from headstart.config import schema
from headstart.evaluate import fit_temperature
from headstart.heads import BatchedHead
from headstart.predict import SavedModel, TrainedModel, trained_tensors
from headstart.runs.bench import Bench
from headstart.runs.result import Member, StageReport
from headstart.runs.seeds import Repeat, repeat_of
from headstart.runs.trackers import watching
from headstart.train import (
    ALONE,
    CheckpointFolder,
    FeatureSource,
    Held,
    Judge,
    Optimizer,
    Outcome,
    Paced,
    Team,
    TrainPlan,
    Whole,
    drain,
    fit,
    predict_split,
)
from headstart.types import FloatArray, Goal, IntArray, StepRecord, Task


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained network that may stand for its part.

    Attributes:
        model: What `source` feeds: a head on features, or a tail on activations.
        head: Its head, with one member.
        backbone: The network with the weights that it ended with.
        cut: Last stage that is as it was before the part.
        source: Features of every split.
        weights: How the weights of the stages up to `cut` were asked for.
        seed: Seed of random weights.
        stages: How each stage of its training went.
    """

    model: nn.Module
    head: BatchedHead
    backbone: Backbone
    cut: str
    source: FeatureSource
    weights: str
    seed: int
    stages: tuple[StageReport, ...]

    def outputs(self, split: str, goal: Goal) -> FloatArray:
        """Return class probabilities of a split, [n, classes], or values of a regression, [n]."""
        outputs: FloatArray = predict_split(self.model, self.source, split, goal)[0]
        return outputs

    def logits(self, split: str) -> FloatArray:
        """Return what the head says of a split before the softmax, [n, classes]."""
        logits: FloatArray = predict_split(self.model, self.source, split, "logits")[0]
        return logits

    def answers(
        self, names: Sequence[str], bench: Bench, splits: Mapping[str, IntArray], calibrate: bool
    ) -> tuple[dict[str, FloatArray], float]:
        """Return what it says of some splits, and the temperature that its logits were divided by.

        Args:
            names: Which splits.
            bench: What the study shares.
            splits: Positions of each split.
            calibrate: Whether to fit a temperature on validation; else it is 1.

        Returns:
            Outputs as `outputs` gives them, by split, and the temperature.
        """
        if not calibrate:
            return {name: self.outputs(name, bench.dataset.goal) for name in names}, 1.0
        logits = {name: self.logits(name) for name in names}
        of_val = bench.dataset.labels[splits["val"]], softmax(logits["val"], axis=1)
        temperature = fit_temperature(*of_val)
        return {n: softmax(found / temperature, axis=1) for n, found in logits.items()}, temperature

    def repeat(
        self, part: schema.TrainedPart, seed: int, bench: Bench, splits: Mapping[str, IntArray]
    ) -> Repeat:
        """Return its figures on validation and test, as one of several seeds."""
        names = [split for split in ("val", "test") if len(splits[split])]
        said, _ = self.answers(names, bench, splits, part.calibrate)
        told = {split: (bench.answers[splits[split]], said[split]) for split in names}
        return repeat_of(seed, told, bench.dataset.goal)

    def trained(self, bench: Bench, temperature: float = 1.0) -> TrainedModel:
        """Return its description and weights; logits are divided by `temperature`."""
        model = SavedModel(
            backbone=bench.config.name,
            backbone_weights=self.weights,
            backbone_seed=self.seed,
            backbone_digest=self.backbone.digest(self.cut),
            cut=self.cut,
            head_cut=bench.cut,
            input_spec=self.backbone.input_spec,
            options=bench.options,
            goal=bench.dataset.goal,
            classes=bench.dataset.classes,
            head=self.head.spec,
            width=width_at(self.backbone, bench.cut),
            temperature=temperature,
        )
        tensors = trained_tensors(self.backbone, self.cut, bench.cut, self.head)
        return TrainedModel(model, tensors)

    def network(self, bench: Bench) -> tuple[nn.Module, ...]:
        """Return the whole network from samples to logits, as modules that follow each other."""
        return (self.backbone.prefix(bench.cut), nn.Flatten(), self.head)


@dataclass(slots=True)
class Trained:
    """What a part's training found.

    Attributes:
        members: Every member, in the order of the grid.
        candidates: Networks by member; of those that cannot be the best they may be missing.
        extraction_seconds: Time spent on features, in all.
        earlier_seconds: Time that training took before the program was stopped, if it was.
        notes: Remarks for the report.
        repeats: Figures of each member by split, of a model with several seeds.
    """

    members: list[Member]
    candidates: dict[int, Candidate]
    extraction_seconds: float = 0.0
    earlier_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)


def train(
    label: str,
    model: nn.Module,
    optimizer: Optimizer,
    source: FeatureSource,
    plan: TrainPlan,
    *,
    bench: Bench,
    checkpoint: CheckpointFolder,
    splits: Mapping[str, IntArray],
    part: str,
    first: int,
    members: int,
    goes_on: Judge | None = None,
) -> tuple[list[StepRecord], tuple[Outcome, ...], float]:
    """Run the loop to its end, with a bar.

    Args:
        label: What the bar says.
        model: Head or tail.
        optimizer: Over its parameters.
        source: Its batches.
        plan: What to do.
        bench: Where to show it.
        checkpoint: Where it is saved.
        splits: For the length of the bar.
        part: Name of the part, for trackers.
        first: Index among its members of the first one that is trained here.
        members: How many members it has.
        goes_on: As in `headstart.train.fit`.

    Returns:
        The history, how each member ended, and the seconds that it took before the program was
        stopped, if it was.
    """
    earlier = checkpoint.elapsed()
    samples = plan.epochs * (len(splits["train"]) + len(splits["val"]))
    with bench.progress.task(f"{label}: training", samples, "samples") as task:
        steps = fit(model, optimizer, Watched(source, task), plan, checkpoint, bench.team, goes_on)
        found = drain(watching(steps, bench.trackers, part, first=first, members=members))
    return (*found, earlier)


def members_of(
    values: Sequence[dict[str, float | int]],
    outcomes: Sequence[Outcome],
    records: Sequence[StepRecord],
) -> list[Member]:
    """Return members with their histories; the last stage's kept epoch gives their figures.

    Args:
        values: Each member's settings.
        outcomes: How each ended.
        records: The history of all.

    Returns:
        One member for each outcome.
    """
    members = []
    for index, (value, outcome) in enumerate(zip(values, outcomes, strict=True)):
        own = tuple(r for r in records if r.member == index)
        last = max((r.stage for r in own), default=0)
        kept = [
            r for r in own if r.split == "val" and r.stage == last and r.epoch == outcome.best_epoch
        ]
        good = outcome.state == "complete" and bool(kept)
        members.append(
            Member(
                values=value,
                outcome=outcome,
                records=own,
                val_accuracy=kept[0].accuracy if good and kept[0].accuracy >= 0 else None,
                val_loss=kept[0].loss if good else None,
            )
        )
    return members


def choose(members: Sequence[Member], part: schema.TrainedPart) -> int | None:
    """Return the best member by validation: accuracy, ties broken by loss; or loss alone.

    Of a model with several seeds it is the first.
    """
    complete = {i: m.val_loss for i, m in enumerate(members) if m.val_loss is not None}
    if part.seeds > 1:
        # To take the luckiest seed would flatter: the first was asked for.
        return 0 if 0 in complete else None
    by_loss = isinstance(part, schema.SweepPart) and part.select.metric == "loss"

    def rank(index: int) -> tuple[float, float]:
        accuracy, loss = members[index].val_accuracy, complete[index]
        # A regression has no accuracy.
        return (loss if by_loss or accuracy is None else -accuracy, loss)

    return min(complete, key=rank) if complete else None


def width_at(backbone: Backbone, cut: str) -> int:
    """Return the number of features of one sample at a cut."""
    width = 1
    for length in backbone.shape(cut):
        width *= length
    return width


def parameters_of(backbone: Backbone, head_cut: str, head: nn.Module | None) -> tuple[int, int]:
    """Return the number of parameters and the bytes of a network with its head."""
    parameters = [
        p for _, module in backbone.modules("input", head_cut) for p in module.parameters()
    ]
    parameters += [] if head is None else list(head.parameters())
    unique = {id(p): p for p in parameters}.values()
    return sum(p.numel() for p in unique), sum(p.numel() * p.element_size() for p in unique)


class Watched:
    """A source that says how far it is."""

    def __init__(self, source: FeatureSource, task: Task) -> None:
        """Watch a source.

        Args:
            source: Its batches.
            task: Hears of each.
        """
        self.source, self.task = source, task
        # Asked once: to look through what a source can do takes longer than a small step.
        self._paced = source if isinstance(source, Paced) else None
        self._whole = source if isinstance(source, Whole) else None
        self._held = source if isinstance(source, Held) else None
        self._in_epoch: dict[str, int] = {}

    @property
    def width(self) -> int:
        """Number of features of one sample."""
        return self.source.width

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch of training."""
        return self.source.steps_per_epoch

    @property
    def ready(self) -> bool:
        """Whether batches lie ready."""
        return self.source.ready

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield what the source yields, and advance."""
        for z, y in self.source.train(epoch, skip):
            yield z, y
            # Shares of classes are [b, classes]; everything else ends with the batch.
            blended = y.is_floating_point() and y.dim() == 2
            self.task.advance(len(y) if blended else y.shape[-1])

    def split(self, name: str, team: Team = ALONE) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield what the source yields, and advance."""
        # A source of somebody else need not know of teams.
        batches = self.source.split(name) if team.size == 1 else self.source.split(name, team)
        for z, y in batches:
            yield z, y
            self.task.advance(len(y))

    @property
    def batch_size(self) -> int:
        """Samples per optimiser step."""
        return self._whole.batch_size if self._whole is not None else 1

    def whole(self, epoch: int, most: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return an epoch at once where the source can, and advance."""
        found = None if self._whole is None else self._whole.whole(epoch, most)
        if found is not None:
            self.task.advance(len(found[1]))
        return found

    def held(self, split: str, most: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return a split where the source holds it: each epoch looks at it once."""
        found = None if self._held is None else self._held.held(split, most)
        if found is not None:
            self._in_epoch[split] = len(found[1])
        return found

    def places(self, epoch: int) -> torch.Tensor:
        """Return the order of an epoch, and advance by all that it looks at."""
        assert self._held is not None, "asked for only where it held something"
        self.task.advance(sum(self._in_epoch.values()))
        return self._held.places(epoch)

    def order(self, name: str) -> IntArray | None:
        """Return the order in which the source yields a split."""
        return self.source.order(name)

    def rate(self) -> float:
        """Return the factor on the learning rate of the last batch."""
        return self._paced.rate() if self._paced is not None else 1.0

"""The training loop: for each epoch, forward, loss, backward, step; then look at validation.

It trains M members at once (M = 1 for a single model). The loss of a batch is a vector [M]; its
sum is what goes backward, and since no member's loss depends on another member's weights, each
gets exactly the gradient that it would get alone.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from headstart.train.optim import Optimizer, ScheduleSpec, learning_rate_factor
from headstart.train.source import FeatureSource
from headstart.types import FloatArray, StepRecord

Watched = Literal["loss", "accuracy"]


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stop a member whose validation figure has not improved for `patience` epochs."""

    patience: int
    metric: Watched = "loss"


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What the loop shall do.

    Attributes:
        epochs: Passes over the training split, at most.
        schedule: Factor on the learning rate.
        learning_rates: Each member's learning rate, for the record.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        class_weights: Weight of each class in the loss, or None for equal weights.
        keep: Which weights a member ends with: of its best validation epoch, or of the last.
        best_by: The validation figure that says which epoch is best.
        early_stopping: When to stop a member early, or None.
        stage: Index of this training stage, for the record.
    """

    epochs: int
    schedule: ScheduleSpec
    learning_rates: tuple[float, ...]
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    keep: Literal["best", "last"] = "best"
    best_by: Watched = "loss"
    early_stopping: EarlyStopping | None = None
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one member's training ended.

    Attributes:
        state: ``complete``, or ``diverged`` where the loss was no longer a finite number.
        epochs: Epochs that count for this member.
        best_epoch: The epoch whose weights it ends with, from 1; 0 where it diverged at once.
        message: What happened and what to try, or None.
    """

    state: Literal["complete", "diverged"]
    epochs: int
    best_epoch: int
    message: str | None


def fit(
    model: nn.Module, optimizer: Optimizer, source: FeatureSource, plan: TrainPlan
) -> Generator[StepRecord, None, tuple[Outcome, ...]]:
    """Train all members and leave the model with each member's kept weights, in eval mode.

    Args:
        model: Maps features to logits [M, b, classes]; each parameter's first axis is members.
        optimizer: Over the model's parameters.
        source: Batches of features and labels.
        plan: What to do.

    Yields:
        Records of each epoch: for each member that still counts, ``train`` then ``val``.

    Returns:
        How each member's training ended.
    """  # noqa: DOC405
    members = len(plan.learning_rates)
    keeper = _Keeper(model, plan, members)
    for epoch in range(1, plan.epochs + 1):
        start = time.perf_counter()
        train = _train_epoch(model, optimizer, source, plan, epoch)
        middle = time.perf_counter()
        val = _evaluate(model, source, "val", plan)
        end = time.perf_counter()
        factor = _last_factor(plan, source, epoch)
        active = keeper.active
        keeper.look(epoch, train, val)
        for member in active:
            rate = plan.learning_rates[member] * factor
            for split, tally, seconds in (
                ("train", train, middle - start),
                ("val", val, end - middle),
            ):
                yield StepRecord(
                    member=member,
                    stage=plan.stage,
                    epoch=epoch,
                    split=split,
                    loss=float(tally.loss[member]),
                    accuracy=float(tally.accuracy[member]),
                    learning_rate=rate,
                    seconds=seconds,
                )
        if not keeper.active:
            break
    keeper.restore()
    model.eval()
    return keeper.outcomes()


@torch.no_grad()
def predict_probabilities(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> FloatArray:
    """Return class probabilities of all members.

    Args:
        model: Maps features to logits [M, b, classes]; put in eval mode.
        batches: Pairs whose first entry is a batch of features.

    Returns:
        float32, shape [M, n, classes]; rows sum to 1.
    """
    model.eval()
    parts = [torch.softmax(model(z).float(), dim=-1).cpu() for z, _ in batches]
    return np.asarray(torch.cat(parts, dim=1).numpy(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Tally:
    loss: FloatArray  # [M]
    accuracy: FloatArray  # [M]


def _losses(logits: Tensor, labels: Tensor, plan: TrainPlan, weight: Tensor | None) -> Tensor:
    """Return each member's loss [M]: cross-entropy as torch.nn.CrossEntropyLoss defines it."""
    members, batch, classes = logits.shape
    targets = labels.expand(members, batch) if labels.dim() == 1 else labels
    each = functional.cross_entropy(
        logits.reshape(members * batch, classes),
        targets.reshape(-1),
        weight=weight,
        label_smoothing=plan.label_smoothing,
        reduction="none",
    ).view(members, batch)
    if weight is None:
        return each.mean(dim=1)
    return each.sum(dim=1) / weight[targets].sum(dim=1)


def _weight(plan: TrainPlan, device: torch.device) -> Tensor | None:
    if plan.class_weights is None:
        return None
    return torch.tensor(plan.class_weights, dtype=torch.float32, device=device)


def _train_epoch(
    model: nn.Module, optimizer: Optimizer, source: FeatureSource, plan: TrainPlan, epoch: int
) -> _Tally:
    model.train()
    step = (epoch - 1) * source.steps_per_epoch
    tally = _Sums()
    weight: Tensor | None = None
    for z, y in source.train(epoch):
        if step % source.steps_per_epoch == 0:
            weight = _weight(plan, z.device)
        logits = model(z)
        losses = _losses(logits, y, plan, weight)
        optimizer.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        factor = learning_rate_factor(plan.schedule, step, source.steps_per_epoch, plan.epochs)
        optimizer.step(factor)
        tally.add(losses.detach(), logits.detach(), y)
        step += 1
    return tally.result()


@torch.no_grad()
def _evaluate(model: nn.Module, source: FeatureSource, split: str, plan: TrainPlan) -> _Tally:
    """Return mean loss and accuracy of a split; the loss is plain cross-entropy, unsmoothed."""
    model.eval()
    plain = TrainPlan(plan.epochs, plan.schedule, plan.learning_rates)
    tally = _Sums()
    for z, y in source.split(split):
        logits = model(z)
        tally.add(_losses(logits, y, plain, None), logits, y)
    return tally.result()


class _Sums:
    """Sums over an epoch, kept on the device so that no step waits for it."""

    def __init__(self) -> None:
        self._loss: Tensor | None = None
        self._right: Tensor | None = None
        self._count = 0

    def add(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        batch = labels.shape[-1]
        loss = losses.double() * batch if losses.device.type != "mps" else losses * batch
        right = (logits.argmax(dim=-1) == labels).sum(dim=-1)
        self._loss = loss if self._loss is None else self._loss + loss
        self._right = right if self._right is None else self._right + right
        self._count += batch

    def result(self) -> _Tally:
        assert self._loss is not None, "an epoch has at least one batch"
        assert self._right is not None
        return _Tally(
            loss=(self._loss / self._count).cpu().numpy(),
            accuracy=(self._right.double().cpu() / self._count).numpy(),
        )


def _last_factor(plan: TrainPlan, source: FeatureSource, epoch: int) -> float:
    last_step = epoch * source.steps_per_epoch - 1
    return learning_rate_factor(plan.schedule, last_step, source.steps_per_epoch, plan.epochs)


class _Keeper:
    """Remembers each member's best weights, and which members still count."""

    def __init__(self, model: nn.Module, plan: TrainPlan, members: int) -> None:
        self._model = model
        self._plan = plan
        self._best = np.full(members, math.inf)
        self._best_epoch = np.zeros(members, dtype=np.int64)
        self._epochs = np.zeros(members, dtype=np.int64)
        self._improved_at = np.zeros(members, dtype=np.int64)
        self._diverged: dict[int, str] = {}
        self._stopped: set[int] = set()
        self._snapshot = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @property
    def active(self) -> list[int]:
        """Members whose training still counts."""
        everyone = range(len(self._best))
        return [m for m in everyone if m not in self._diverged and m not in self._stopped]

    def look(self, epoch: int, train: _Tally, val: _Tally) -> None:
        improved = []
        for member in self.active:
            self._epochs[member] = epoch
            if not (math.isfinite(train.loss[member]) and math.isfinite(val.loss[member])):
                self._diverged[member] = (
                    f"the loss was no longer a finite number in epoch {epoch} at learning rate "
                    f"{self._plan.learning_rates[member]:g}: try a lower learning rate, or less "
                    "momentum"
                )
                continue
            figure = self._figure(val, member)
            if self._plan.keep == "last" or figure < self._best[member]:
                self._best_epoch[member] = epoch
                improved.append(member)
            if figure < self._best[member]:
                self._best[member] = figure
                self._improved_at[member] = epoch
            elif self._out_of_patience(member, epoch):
                self._stopped.add(member)
        self._copy(improved)

    def restore(self) -> None:
        self._model.load_state_dict(self._snapshot)

    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(
            Outcome(
                state="diverged" if m in self._diverged else "complete",
                epochs=int(self._epochs[m]),
                best_epoch=int(self._best_epoch[m]),
                message=self._diverged.get(m),
            )
            for m in range(len(self._best))
        )

    def _figure(self, val: _Tally, member: int) -> float:
        stopping = self._plan.early_stopping
        watched = stopping.metric if stopping is not None else self._plan.best_by
        return float(val.loss[member] if watched == "loss" else -val.accuracy[member])

    def _out_of_patience(self, member: int, epoch: int) -> bool:
        stopping = self._plan.early_stopping
        if stopping is None:
            return False
        return bool(epoch - self._improved_at[member] >= stopping.patience)

    @torch.no_grad()
    def _copy(self, members: Sequence[int]) -> None:
        if not members:
            return
        state = self._model.state_dict()
        if len(members) == len(self._best):
            for name, value in state.items():
                self._snapshot[name].copy_(value)
            return
        rows = torch.tensor(members)
        for name, value in state.items():
            index = rows.to(value.device)
            self._snapshot[name][index] = value[index]

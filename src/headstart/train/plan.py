"""What the training loop is told, and what a model may have besides its forward pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from headstart.train.keeper import EarlyStopping, Watched
from headstart.train.schedule import ScheduleSpec
from headstart.types import Goal

Judge = Callable[[int, float, float], bool]
"""Given an epoch, its validation loss and its accuracy: whether the training goes on."""

Precision = Literal["float32", "bfloat16", "float16"]


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
        seed: Of torch's own random stream, which the backbone's dropout draws from.
        micro_batch_size: Samples in memory at once; the gradients of a batch add up. BatchNorm in
            train mode then sees so many at a time. None: the whole batch.
        clip_norm: Largest norm of a member's gradients, or None.
        ema: Decay of the running average of the weights, or None for none.
        precision: What the forward pass of training steps computes in.
        compiled: Whether that forward pass runs through torch's compiler.
        goal: What the model is for: cross-entropy, or the squared error of one value.
        record_steps: Also record the mean training loss every so many optimiser steps; None: not.
        average_after: Epochs without a better validation loss after which the weights are averaged
            from there on, each step counting the same (NT-ASGD: Merity et al. 2017); None: never.
        max_seconds: End after the epoch behind which the next, taking as long as the slowest so
            far, would end later than this; None: no limit. The first epoch is always trained.
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
    seed: int = 0
    micro_batch_size: int | None = None
    clip_norm: float | None = None
    ema: float | None = None
    precision: Precision = "float32"
    compiled: bool = False
    goal: Goal = "classification"
    record_steps: int | None = None
    average_after: int | None = None
    max_seconds: float | None = None


@runtime_checkable
class Streams(Protocol):
    """A model with random streams of its own, besides torch's."""

    def random_state(self) -> dict[str, Tensor]:
        """Return the state of each stream."""
        ...

    def load_random_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `random_state` returned."""
        ...


@runtime_checkable
class Penalized(Protocol):
    """A model that adds to the loss of each training step, as regularisation of activations does.

    What is added moves the weights and is not part of the loss that is recorded.
    """

    def penalty(self) -> Tensor:
        """Return what the last forward pass adds: one number."""
        ...

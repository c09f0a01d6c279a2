"""Records of a training as a tensor, so that a checkpoint can hold them; and those of steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from headstart.types import FloatArray, StepRecord

_SPLITS = ("train", "val", "steps")


def to_table(records: Sequence[StepRecord]) -> Tensor:
    """Return records as float64, shape [n, 9]."""
    rows = [
        [
            r.member,
            r.stage,
            r.epoch,
            _SPLITS.index(r.split),
            r.loss,
            r.accuracy,
            r.learning_rate,
            r.seconds,
            r.step,
        ]
        for r in records
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 9)


def from_table(table: Tensor) -> list[StepRecord]:
    """Return the records that `to_table` was given."""
    return [
        StepRecord(
            member=int(member),
            stage=int(stage),
            epoch=int(epoch),
            split=_SPLITS[int(split)],
            loss=loss,
            accuracy=accuracy,
            learning_rate=rate,
            seconds=seconds,
            step=int(step),
        )
        for member, stage, epoch, split, loss, accuracy, rate, seconds, step in table.tolist()
    ]


def step_records(
    losses: FloatArray, rates: Sequence[float], at: tuple[int, int, int], seconds: float
) -> list[StepRecord]:
    """Return the records of some optimiser steps, one for each member.

    Args:
        losses: Mean loss of each member over the steps, [M].
        rates: Learning rate of each member at the last of them.
        at: Stage, epoch, and steps done since the stage began.
        seconds: Since the stage began.

    Returns:
        M records of the split ``steps``.
    """
    stage, epoch, step = at
    return [
        StepRecord(
            member=member,
            stage=stage,
            epoch=epoch,
            split="steps",
            loss=float(loss),
            accuracy=float("nan"),
            learning_rate=rate,
            seconds=seconds,
            step=step,
        )
        for member, (loss, rate) in enumerate(zip(losses, rates, strict=True))
    ]

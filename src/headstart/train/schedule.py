"""Schedules: how the learning rate changes, as a factor on it."""

import math
from dataclasses import dataclass
from typing import Literal

ScheduleKind = Literal["constant", "step", "exponential", "cosine", "linear", "inverse_time"]


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """How the learning rate changes, as a factor on each member's or group's own.

    Attributes:
        kind: ``constant``; ``step``: × `gamma` after every `every` epochs; ``exponential``:
            × `gamma` after every epoch; ``cosine``: from 1 to 0 over the whole training, by step;
            ``linear``: the same along a straight line; ``inverse_time``: 1 / (1 + `decay` × step).
        gamma: Factor of ``step`` and ``exponential``.
        every: Epochs between two steps.
        decay: Of ``inverse_time``, per optimiser step.
        warmup_epochs: Epochs in which the factor rises linearly from near 0; the schedule proper
            begins after them. Cosine and linear then have so many epochs less to fall in.
    """

    kind: ScheduleKind = "constant"
    gamma: float = 0.1
    every: int = 10
    decay: float = 1e-4
    warmup_epochs: float = 0.0


def learning_rate_factor(spec: ScheduleSpec, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the factor on the learning rate at one step.

    Args:
        spec: The schedule.
        step: Optimiser steps done before this one, from 0.
        steps_per_epoch: Optimiser steps in an epoch.
        epochs: Epochs in the training.

    Returns:
        A factor in (0, 1]; 1 at the first step, or at the first one after the warm-up.
    """
    warm = round(spec.warmup_epochs * steps_per_epoch)
    if step < warm:
        return (step + 1) / (warm + 1)
    step -= warm
    epoch = step // steps_per_epoch
    total = max(steps_per_epoch * epochs - warm, 1)
    factor = 1.0
    match spec.kind:
        case "constant":
            pass
        case "step":
            factor = spec.gamma ** (epoch // spec.every)
        case "exponential":
            factor = spec.gamma**epoch
        case "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * step / total))
        case "linear":
            factor = 1 - step / total
        case "inverse_time":
            factor = 1 / (1 + spec.decay * step)
    return factor

"""How steps are made: by which gradients, and whether an epoch of them is one piece of work."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from headstart.heads.batched import BatchedHead, BatchedLinear
from headstart.train.autograd import AutogradGradients
from headstart.train.gradients import LossScale
from headstart.train.linear import LinearGradients, covers
from headstart.train.linear_epoch import MOST_NUMBERS, LinearEpoch, Whole
from headstart.train.optim import Optimizer, PlainSGD, plain_sgd
from headstart.train.plan import TrainPlan
from headstart.train.span import Held, SpanEpoch, pays
from headstart.train.team import ALONE, Team

Gradients = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes a batch; leaves its gradients; returns each member's mean loss and right answers."""


def epochs_at_once(
    model: nn.Module, optimizer: Optimizer, source: object, plan: TrainPlan
) -> LinearEpoch | SpanEpoch | None:
    """Return what trains a model by epochs, or None where single steps matter.

    Args:
        model: What is trained.
        optimizer: Over its parameters.
        source: Its batches.
        plan: How.

    Returns:
        It, for linear heads under plain SGD and an unweighted loss, of which nothing is recorded,
        clipped or averaged step by step; by coefficients of the samples where that takes less.
    """
    if not (isinstance(model, BatchedHead) and covers(model, plan) and isinstance(source, Whole)):
        return None
    by_step = (plan.clip_norm, plan.ema, plan.record_steps, plan.average_after)
    if any(one is not None for one in by_step) or plan.label_smoothing or plan.class_weights:
        return None
    rule = plain_sgd(optimizer, list(model.parameters()))
    if rule is None:
        return None
    if isinstance(source, Held) and not any(bool(one.any()) for one in rule.velocity):
        found = _by_coefficients(model, rule, source, plan.epochs)
        if found is not None:
            return found
    return LinearEpoch(model, rule, source)


def _by_coefficients(
    head: BatchedHead, rule: PlainSGD, source: Held, epochs: int
) -> SpanEpoch | None:
    layer = head.layers[0]
    assert isinstance(layer, BatchedLinear)
    rows, width = math.prod(layer.weight.shape[:2]), source.width
    # Samples are gathered only where as many as there are at least would pay.
    least = (source.steps_per_epoch - 1) * source.batch_size + 1
    train = source.held("train", MOST_NUMBERS) if pays(least, width, rows, epochs) else None
    if train is None or not pays(len(train[1]), width, rows, epochs):
        return None
    val = source.held("val", MOST_NUMBERS)
    if val is None or len(val[1]) * rows > MOST_NUMBERS:
        return None
    return SpanEpoch(head, rule, source, train, val)


def gradients_of(
    model: nn.Module, plan: TrainPlan, scale: LossScale, team: Team = ALONE
) -> Gradients:
    """Return what turns a batch into gradients: the closed form where there is one."""
    if team.size == 1 and isinstance(model, BatchedHead) and covers(model, plan):
        return LinearGradients(model, plan)
    return AutogradGradients(model, plan, scale, team)


def operations(model: nn.Module, batch: int) -> float:
    """Return the floating-point operations of a step of a head; infinity where nobody knows.

    Each weight is multiplied with each sample forward, for its gradient, and for its input's.
    """
    if not isinstance(model, BatchedHead):
        return math.inf
    return 6.0 * sum(p.numel() for p in model.parameters()) * batch

"""Losses, right answers and probabilities: what the loop computes of logits [M, b, classes]."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from headstart._util.devices import full_float32
from headstart.heads.batched import BatchedHead
from headstart.train.keeper import Sums, Tally
from headstart.train.source import FeatureSource
from headstart.train.team import ALONE, Team
from headstart.types import FloatArray, Goal

_NUMBERS = 1 << 24  # that a head makes of a part of a split, in all members: 64 MiB


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
    with full_float32():
        parts = [
            torch.softmax(model(z).float(), dim=-1).cpu() for z, _ in _in_parts(model, batches)
        ]
    return np.asarray(torch.cat(parts, dim=1).numpy(), dtype=np.float32)


@torch.no_grad()
def predict_split(
    model: nn.Module, source: FeatureSource, split: str, goal: Goal | Literal["logits"]
) -> FloatArray:
    """Return what all members say of a split, in the split's own order.

    Args:
        model: Maps features to logits [M, b, classes], or to values [M, b, 1]; put in eval mode.
        source: Batches of features.
        split: Its name.
        goal: What the model is for; ``logits`` for those of a classification.

    Returns:
        float32: class probabilities or logits [M, n, classes], or values [M, n] of a regression.
    """
    if goal == "classification":
        found = predict_probabilities(model, source.split(split))
    else:
        model.eval()
        with full_float32():
            parts = [model(z).float().cpu() for z, _ in _in_parts(model, source.split(split))]
        found = np.asarray(torch.cat(parts, dim=1).numpy(), dtype=np.float32)
        if goal == "regression":
            found = found[..., 0]
    order = source.order(split)
    if order is None:
        return found
    out = np.empty_like(found)
    out[:, order] = found
    return out


@torch.no_grad()
def evaluate(
    model: nn.Module,
    source: FeatureSource,
    split: str,
    goal: Goal = "classification",
    team: Team = ALONE,
) -> Tally:
    """Return mean loss and accuracy of a split; the loss is plain cross-entropy, unsmoothed.

    Of a regression it is the mean squared error, and the accuracy is not a number.

    Args:
        model: Maps features to logits [M, b, classes], or to values [M, b, 1]; put in eval mode.
        source: Batches of features and labels.
        split: Its name.
        goal: What the model is for.
        team: Who shares the split: each process looks at a part, all get the figures of the whole.

    Returns:
        Figures of each member.
    """
    model.eval()
    sums = Sums()
    # A source of somebody else need not know of teams.
    batches = source.split(split) if team.size == 1 else source.split(split, team)
    for z, y in _in_parts(model, batches):
        with full_float32():
            logits = model(z).float()
        if goal == "regression":
            sums.add(squared_sums(logits, y) / len(y), no_answers(logits), len(y))
        else:
            sums.add(loss_sums(logits, y, 0.0, None) / len(y), count_right(logits, y), len(y))
    sums.join(team, next(model.parameters()).device)
    return sums.result()


def _in_parts(
    model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches in parts where a head with many members would fill the memory with them."""
    size = max(1, _NUMBERS // model.widest) if isinstance(model, BatchedHead) else None
    for z, y in batches:
        if size is None or len(z) <= size:
            yield z, y
        else:
            yield from zip(torch.split(z, size), torch.split(y, size), strict=True)


def loss_sums(logits: Tensor, target: Tensor, smoothing: float, weight: Tensor | None) -> Tensor:
    """Return each member's loss [M], summed over a batch; cross-entropy as torch defines it.

    Args:
        logits: [M, b, classes].
        target: Class indices [b] or [M, b], or class shares [b, classes] of blended samples.
        smoothing: Share of the target spread over all classes.
        weight: Weight of each class.

    Returns:
        Shape [M].
    """
    members, batch, classes = logits.shape
    if target.is_floating_point():
        targets = target.expand(members, batch, classes).reshape(members * batch, classes)
    else:
        targets = target.expand(members, batch).reshape(-1)
    each = functional.cross_entropy(
        logits.reshape(members * batch, classes),
        targets,
        weight=weight,
        label_smoothing=smoothing,
        reduction="none",
    )
    return each.view(members, batch).sum(dim=1)


def squared_sums(values: Tensor, target: Tensor) -> Tensor:
    """Return each member's squared error [M], summed over a batch.

    Args:
        values: [M, b, 1].
        target: [b] or [M, b].

    Returns:
        Shape [M].
    """
    return (values[..., 0] - target).square().sum(dim=-1)


def no_answers(logits: Tensor) -> Tensor:
    """Return what stands for right answers where there is no such thing: not a number, [M]."""
    return torch.full((len(logits),), float("nan"), device=logits.device)


def members_apart(target: Tensor, goal: Goal) -> bool:
    """Return whether each member has samples of its own: targets are then [M, b]."""
    return target.dim() == 2 and (goal == "regression" or not target.is_floating_point())


def batch_size(target: Tensor, goal: Goal) -> int:
    """Return how many samples a member sees in a batch."""
    return target.shape[1] if members_apart(target, goal) else target.shape[0]


def denominator(target: Tensor, weight: Tensor | None) -> Tensor | int:
    """Return what torch's mean loss divides by: samples, or the weights of their classes."""
    if target.is_floating_point():
        return len(target)
    return target.shape[-1] if weight is None else weight[target].sum(dim=-1)


def count_right(logits: Tensor, target: Tensor) -> Tensor:
    """Return how many of a batch each member has right, [M]; of blended samples: the larger."""
    truth = target.argmax(dim=-1) if target.is_floating_point() else target
    return (logits.argmax(dim=-1) == truth).sum(dim=-1)

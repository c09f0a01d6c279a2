"""Losses, right answers and probabilities: what the loop computes of logits [M, b, classes]."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from headstart.train.keeper import Sums, Tally
from headstart.train.source import FeatureSource
from headstart.types import FloatArray


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


@torch.no_grad()
def evaluate(model: nn.Module, source: FeatureSource, split: str) -> Tally:
    """Return mean loss and accuracy of a split; the loss is plain cross-entropy, unsmoothed.

    Args:
        model: Maps features to logits [M, b, classes]; put in eval mode.
        source: Batches of features and labels.
        split: Its name.

    Returns:
        Figures of each member.
    """
    model.eval()
    sums = Sums()
    for z, y in source.split(split):
        logits = model(z).float()
        sums.add(loss_sums(logits, y, 0.0, None) / len(y), count_right(logits, y), len(y))
    return sums.result()


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


def denominator(target: Tensor, weight: Tensor | None) -> Tensor | int:
    """Return what torch's mean loss divides by: samples, or the weights of their classes."""
    if target.is_floating_point():
        return len(target)
    return target.shape[-1] if weight is None else weight[target].sum(dim=-1)


def count_right(logits: Tensor, target: Tensor) -> Tensor:
    """Return how many of a batch each member has right, [M]; of blended samples: the larger."""
    truth = target.argmax(dim=-1) if target.is_floating_point() else target
    return (logits.argmax(dim=-1) == truth).sum(dim=-1)

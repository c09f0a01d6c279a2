"""Blending of pictures: MixUp and CutMix."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Mixing:
    """Blending of pictures: MixUp, CutMix, or one of them at random for each batch.

    Attributes:
        mixup: Alpha of the Beta distribution that draws the share, or None for no MixUp.
        cutmix: The same for CutMix.
        classes: Number of classes.
    """

    mixup: float | None
    cutmix: float | None
    classes: int


def mix(x: Tensor, y: Tensor, mixing: Mixing, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Blend each picture of a batch with another one.

    Args:
        x: Pictures, [b, 3, h, w].
        y: Class indices, [b].
        mixing: How.
        random: Draws the method, the share and the partners.

    Returns:
        Pictures [b, 3, h, w], and shares of the classes, float32 [b, classes].

    Source: Zhang et al., mixup (2018): λ from Beta(α, α), x = λ·x₁ + (1 - λ)·x₂; Yun et al., CutMix
    (2019): a rectangle of share 1 - λ of the area, with λ corrected to the pixels it really has.
    """
    alphas = [a for a in (mixing.mixup, mixing.cutmix) if a is not None]
    cut = mixing.cutmix is not None and (mixing.mixup is None or random.random() < 0.5)
    share = float(random.beta(alphas[-1 if cut else 0], alphas[-1 if cut else 0]))
    partner = torch.as_tensor(random.permutation(len(x)), device=x.device)
    if cut:
        height, width = x.shape[2:]
        tall, wide = (round(n * (1 - share) ** 0.5) for n in (height, width))
        top = int(random.integers(0, height - tall + 1))
        left = int(random.integers(0, width - wide + 1))
        box = (..., slice(top, top + tall), slice(left, left + wide))
        other = x[partner]
        x = x.clone()
        x[box] = other[box]
        share = 1 - tall * wide / (height * width)
    else:
        x = share * x + (1 - share) * x[partner]
    one_hot = torch.nn.functional.one_hot(y, mixing.classes).float()
    return x, share * one_hot + (1 - share) * one_hot[partner]

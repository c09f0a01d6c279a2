"""Sequences of different lengths in one batch: what activations of texts and series look like.

Everywhere before the pooled features an activation is one tensor [b, length, width + 1], float32.
Its last channel is the segment of each position: 1 for the first text, 2 for the second one of a
pair, 0 for padding. So the mask travels with the values through every cut and into the store, and a
batch is made of samples by filling up with zeros along the second axis.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Pooling = Literal["mean", "max", "first", "last", "attention"]


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Take an activation apart.

    Args:
        x: [b, length, width + 1].

    Returns:
        Values [b, length, width] and segments, int64, [b, length]: 0 is padding.
    """
    return x[..., :-1], x[..., -1].long()


def join(values: Tensor, segments: Tensor) -> Tensor:
    """Put values [b, length, width] and segments [b, length] together; padding becomes zeros."""
    here = (segments > 0).unsqueeze(-1)
    return torch.cat([values * here, segments.unsqueeze(-1).to(values.dtype)], dim=-1)


def places(segments: Tensor) -> Tensor:
    """Return each position's place in its own segment, from 0; int64, [b, length]."""
    everywhere = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    firsts = (segments == 1).sum(dim=1, keepdim=True)
    return torch.where(segments == 2, everywhere - firsts, everywhere)


class Pool(nn.Module):
    """Makes one vector of a sequence: [b, length, width + 1] -> [b, width] or [b, 4 · width].

    With `separately` the two segments are pooled to u and v, and [u; v; |u - v|; u · v] leaves.
    ``attention`` weighs positions by softmax(h · q) with a learned q that starts at zero, so that
    an untrained one is the mean.

    Source of the combination: Conneau et al., Supervised Learning of Universal Sentence
    Representations (2017), section 3.1.
    """

    def __init__(self, kind: Pooling, width: int, *, separately: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.separately = separately
        self.width = 4 * width if separately else width
        if kind == "attention":
            self.query = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Pool all positions that are no padding, or each segment for itself."""
        values, segments = split(x)
        if not self.separately:
            return self._pool(values, segments > 0)
        u, v = (self._pool(values, segments == number) for number in (1, 2))
        return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)

    def _pool(self, values: Tensor, mask: Tensor) -> Tensor:
        here = mask.unsqueeze(-1)
        count = here.sum(dim=1).clamp(min=1)
        if self.kind == "mean":
            return (values * here).sum(dim=1) / count
        if self.kind == "max":
            filled = values.masked_fill(~here, torch.finfo(values.dtype).min)
            # A row that is nothing but padding has no largest value: it becomes zeros.
            return torch.where(here.any(dim=1), filled.amax(dim=1), 0.0)
        if self.kind == "attention":
            scores = (values @ self.query).masked_fill(~mask, torch.finfo(values.dtype).min)
            return (torch.softmax(scores, dim=1).unsqueeze(-1) * values).sum(dim=1)
        # Cumulative counts are 1 at the first position of the mask and equal the total at the last.
        order = mask.long().cumsum(dim=1)
        chosen = order == (1 if self.kind == "first" else count)
        return (values * (chosen & mask).unsqueeze(-1)).sum(dim=1)

"""Encoders of texts on the CPU, rewritten for speed: matrices packed once, few and large steps.

`nn.Linear` brings its matrix into an order that suits the processor at every call; packed once it
is a tenth faster at a few hundred tokens. And the library's layers spend some tenths of a
millisecond each in Python, in which another thread has to wait.
"""

from collections.abc import Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from headstart.backbones.ragged import join, split
from headstart.backbones.transformers_stages import Layer, attention_mask

_CLOSE = 1e-4  # of the largest value: another order of additions, and far from another function
_LENGTH = 5  # tokens of the longer of the two texts that are tried
_TOKENS = 2  # channels of tokens: which one, and its segment

_MISFIT = (AttributeError, RuntimeError, TypeError, ValueError)


@final
class PackedLinear(nn.Module):
    """A linear layer whose matrix lies as oneDNN multiplies by it: x [..., n] -> [..., m]."""

    def __init__(self, *linears: nn.Linear) -> None:
        """Pack a layer, or several that read the same as one.

        Args:
            *linears: Their results come one after the other.
        """
        super().__init__()
        matrix = torch.cat([linear.weight.detach() for linear in linears])
        self._matrix = torch.ops.mkldnn._reorder_linear_weight(matrix, None)
        self._bias = torch.cat([linear.bias.detach() for linear in linears])
        # What torch's own compiler puts in the place of a linear layer that is frozen.
        self._multiply = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return cast(Tensor, self._multiply(x, self._matrix, self._bias, "none", [], ""))


@final
class _PackedLayer(nn.Module):
    """A layer of a BERT or its kin: values [b, length, width] and what is added to the scores."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        own = layer.attention.self
        self._heads: int = own.num_attention_heads
        self._scale = float(own.scaling)
        self._read = PackedLinear(own.query, own.key, own.value)
        self._write = PackedLinear(layer.attention.output.dense)
        self._first = layer.attention.output.LayerNorm
        self._up = PackedLinear(layer.intermediate.dense)
        self._activation = layer.intermediate.intermediate_act_fn
        self._down = PackedLinear(layer.output.dense)
        self._second = layer.output.LayerNorm

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """Apply the layer."""
        batch, length, width = values.shape
        read = self._read(values).view(batch, length, 3, self._heads, -1).transpose(1, 3)
        q, k, v = read.unbind(2)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self._scale)
        seen = seen.transpose(1, 2).reshape(batch, length, width)
        values = self._first(self._write(seen).add_(values))
        deep = self._down(self._activation(self._up(values)))
        return cast(Tensor, self._second(deep.add_(values)))


@final
class _PackedLayers(nn.Module):
    """Layers that follow each other: [b, length, width + 1] -> [b, length, width + 1]."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self._layers = nn.ModuleList(_PackedLayer(layer.layer) for layer in layers)
        self._separately = layers[0].separately

    def forward(self, x: Tensor) -> Tensor:
        """Apply them; padding is zeros at their end and nobody's business until then."""
        values, segments = split(x)
        mask = None
        if self._separately or not bool(segments.all()):
            mask = attention_mask(segments, values.dtype, separately=self._separately)
        for layer in self._layers:
            values = layer(values, mask)
        return join(values, segments)


def _example(width: int) -> Tensor:
    """Return two texts, the second one shorter: tokens that differ, or values that do."""
    if width == _TOKENS:
        values = torch.arange(2.0, 2.0 + _LENGTH).repeat(2, 1)[..., None]
    else:
        random = torch.Generator().manual_seed(0)
        values = torch.randn(2, _LENGTH, width - 1, generator=random)
    example = torch.cat([values, torch.ones(2, _LENGTH, 1)], dim=-1)
    example[1, 2:] = 0
    return example


def packed(stages: nn.Sequential, width: int) -> nn.Sequential:
    """Return stages that compute the same, the layers of encoders of BERT's kind packed.

    Args:
        stages: Of a backbone, float32, on the CPU, in eval mode; nobody trains them any more.
        width: Channels of what they take, that of the segments included.

    Returns:
        The stages themselves where nothing can be packed, or where that would give something else.
    """
    places = [i for i, stage in enumerate(stages) if isinstance(stage, Layer)]
    if not (places and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return stages
    first, stop = places[0], places[-1] + 1
    example = _example(width)
    with torch.inference_mode():
        expected = stages(example)
        try:
            layers = [cast(Layer, stage) for stage in stages[first:stop]]
            parts = [*stages[:first], _PackedLayers(layers), *stages[stop:]]
            found = nn.Sequential(*parts).eval()
            apart = float((found(example) - expected).abs().max())
        except _MISFIT:  # a layer of another kind, or a torch without these functions
            return stages
    return found if apart <= _CLOSE * float(expected.abs().max()) else stages

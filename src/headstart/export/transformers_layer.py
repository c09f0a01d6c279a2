"""A layer made by hand, after which an encoder's first token holds the pooled logits.

The library's classifiers read the first token. Networks that were trained on the mean of all tokens
need one layer more, whose weights are not trained but written down:

- its queries are constant, so that a token is attended to by softmax(h · q) whatever asks: with
  q = 0 that is the mean of all tokens that are no padding, with a trained q it is the attention
  pooling of `headstart.backbones.ragged.Pool`;
- its values are W h, so that what is summed up is z = W · pooled(h), the logits;
- its output writes S z_k into coordinate 2k and -S z_k into coordinate 2k + 1, and S r c
  everywhere, c being 1 on one half of these pairs and -1 on the other. S is so large that the first
  token's own vector, which the residual connection adds, is lost in rounding;
- the layer norm then divides by S r √(1 + 2 |z|² / (d r²)), all but a constant where r is large;
  the difference of the two coordinates gives z_k back. The feed-forward part adds nothing.

So the logits are those of the trained network up to a relative error of |z|² / (d r²) and a
rounding of about r · 1e-7. `constant_for` chooses r where the sum of both is least; in float32 what
remains is far below what is seen in probabilities. In float16 or bfloat16 the layer does not work.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headstart.errors import ConfigError

_SCALE = 2.0**24  # S; its product with r is squared in the layer norm: far from float32's limit
_ROUNDING = 1e-7


@dataclass(frozen=True, slots=True)
class LayerNames:
    """Where the parts of one layer are, relative to the layer.

    Attributes:
        query: Of the attention, [d, d]; likewise `key` and `value`.
        key: As `query`.
        value: As `query`.
        out: What the attention's sum is mapped by, [d, d].
        first_norm: The layer norm after the attention.
        inner: The first linear layer of the feed-forward part, [inner, d].
        outer: The second one, [d, inner].
        second_norm: The layer norm after it.
    """

    query: str
    key: str
    value: str
    out: str
    first_norm: str
    inner: str
    outer: str
    second_norm: str


BERT_LAYER = LayerNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    first_norm="attention.output.LayerNorm",
    inner="intermediate.dense",
    outer="output.dense",
    second_norm="output.LayerNorm",
)
ALBERT_LAYER = LayerNames(
    query="attention.query",
    key="attention.key",
    value="attention.value",
    out="attention.dense",
    first_norm="attention.LayerNorm",
    inner="ffn",
    outer="ffn_output",
    second_norm="full_layer_layer_norm",
)
DISTILBERT_LAYER = LayerNames(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    first_norm="sa_layer_norm",
    inner="ffn.lin1",
    outer="ffn.lin2",
    second_norm="output_layer_norm",
)


def constant_for(logits: Tensor, width: int) -> float:
    """Return r, by which the error for logits such as these is least.

    Args:
        logits: What W · pooled(h) is for some samples, [n, K].
        width: d, the width of the layer.

    Returns:
        A number of 16 or more.
    """
    # The error in z is z · |z|² / (d r²) + r · 1e-7: its derivative by r is zero here. Twice the
    # largest logits seen, since others may be larger.
    z = 2 * logits.abs().max().item()
    square = 4 * logits.square().sum(dim=1).max().item()
    return float(max(16.0, (2 * z * square / (width * _ROUNDING)) ** (1 / 3)))


def pooling_layer(
    names: LayerNames,
    weight: Tensor,
    query: Tensor | None,
    *,
    heads: int,
    inner: int,
    constant: float,
) -> dict[str, Tensor]:
    """Return the weights of the layer.

    Args:
        names: How the library calls its parts.
        weight: W, [K, d].
        query: q of an attention pooling, [d]; None for the mean.
        heads: Attention heads of the network.
        inner: Width of its feed-forward part.
        constant: r, from `constant_for`.

    Returns:
        Weights and biases by name, relative to the layer, float32.

    Raises:
        ConfigError: There are more classes than pairs of coordinates.
    """
    outputs, width = weight.shape
    if 2 * outputs > width:
        raise ConfigError(
            f"a network of width {width} has no room for {outputs} classes in a layer that pools: "
            "train one with `pooling: first` or `pooling: pooler`, or export with --format onnx"
        )
    zeros = torch.zeros(width, width)
    queries, keys, bias = zeros.clone(), zeros.clone(), torch.zeros(width)
    if query is not None:
        size = width // heads  # scores are divided by the root of it
        bias[::size] = size**0.5
        keys[::size] = query
    values, out = zeros.clone(), zeros.clone()
    values[:outputs] = weight
    place = torch.arange(outputs)
    out[2 * place, place] = _SCALE
    out[2 * place + 1, place] = -_SCALE
    one, none = torch.ones(width), torch.zeros(width)
    return {
        f"{names.query}.weight": queries,
        f"{names.query}.bias": bias,
        f"{names.key}.weight": keys,
        f"{names.key}.bias": none.clone(),
        f"{names.value}.weight": values,
        f"{names.value}.bias": none.clone(),
        f"{names.out}.weight": out,
        f"{names.out}.bias": _SCALE * constant * _pattern(width),
        f"{names.first_norm}.weight": one.clone(),
        f"{names.first_norm}.bias": none.clone(),
        f"{names.inner}.weight": torch.zeros(inner, width),
        f"{names.inner}.bias": torch.zeros(inner),
        f"{names.outer}.weight": torch.zeros(width, inner),
        f"{names.outer}.bias": none.clone(),
        f"{names.second_norm}.weight": one.clone(),
        f"{names.second_norm}.bias": none.clone(),
    }


def decoder(outputs: int, width: int, constant: float, epsilon: float) -> Tensor:
    """Return what gives z back of the layer's output, [K, d].

    Args:
        outputs: K.
        width: d.
        constant: r, as for `pooling_layer`.
        epsilon: What the layer norms add to a variance.

    Returns:
        float32 [K, d]: its product with the first token's vector is z.
    """
    place = torch.arange(outputs)
    found = torch.zeros(outputs, width)
    # The first norm sees a variance that dwarfs epsilon, the second one of 1.
    spread = _pattern(width).double().square().mean().item()
    half = constant * (spread * (1 + epsilon)) ** 0.5 / 2
    found[place, 2 * place] = half
    found[place, 2 * place + 1] = -half
    return found


def _pattern(width: int) -> Tensor:
    """Return c: equal on both coordinates of a pair, of mean zero; [d]."""
    pairs = width // 2
    signs = torch.ones(pairs)
    signs[pairs // 2 : 2 * (pairs // 2)] = -1
    if pairs % 2:
        signs[-1] = 0
    found = torch.zeros(width)
    found[: 2 * pairs] = signs.repeat_interleave(2)
    return found

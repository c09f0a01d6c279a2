"""Recurrent networks as backbones: stages that can be cut, and networks for series of numbers.

    embeddings   words to vectors (texts only)
    layer.0 …    one recurrent layer each
    pooled       one vector per sample

Each segment of a sample (see `ragged`) is read by itself from a zero state. Padding stands at the
end, so that no step before it can see it, and comes out as zeros. Dropout is at the entrance of
what follows it: a cut keeps it on the side that may be trained.
"""

from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from headstart.backbones import ragged
from headstart.backbones.base import POOLED
from headstart.backbones.chain import Network
from headstart.backbones.ragged import Pool, Pooling
from headstart.backbones.recurrent import (
    Cell,
    LanguageNetwork,
    RecurrentLayer,
    RecurrentSpec,
    embed,
    locked_dropout,
)
from headstart.backbones.weights import count_parameters, random_weights, seeded
from headstart.errors import ConfigError
from headstart.types import SeriesSpec

Stages = tuple[tuple[str, nn.Module], ...]

SERIES_CELLS: tuple[Cell, ...] = ("elman", "gru", "lstm")
"""The names of the networks for series: ``headstart/elman`` and so on."""


@final
class EmbeddingStage(nn.Module):
    """Words to vectors: [b, length, 2] -> [b, length, width + 1]."""

    def __init__(self, table: nn.Embedding, dropout_words: float) -> None:
        super().__init__()
        self.table = table
        self.dropout_words = dropout_words

    def forward(self, x: Tensor) -> Tensor:
        """Look up each token that is no padding."""
        ids, segments = ragged.split(x)
        vectors = embed(self.table, ids[..., 0].long(), self.dropout_words, self.training)
        return ragged.join(vectors, segments)


@final
class LayerStage(nn.Module):
    """One recurrent layer: [b, length, inputs + 1] -> [b, length, width + 1]."""

    def __init__(self, layer: RecurrentLayer, dropout: float, *, separately: bool) -> None:
        super().__init__()
        self.layer = layer
        self.dropout = dropout
        self.separately = separately

    def forward(self, x: Tensor) -> Tensor:
        """Read each segment from its beginning."""
        values, segments = ragged.split(x)
        values = locked_dropout(values, self.dropout, self.training)
        out = self._segments(values, segments) if self.separately else self.layer(values)[0]
        return ragged.join(out, segments)

    def _segments(self, values: Tensor, segments: Tensor) -> Tensor:
        """Read both segments of each sample, in one batch of twice as many rows."""
        batch, length, width = values.shape
        firsts = (segments == 1).sum(dim=1)
        seconds = (segments == 2).sum(dim=1)
        # A graph cannot depend on a number that is inside a tensor: there it is the most possible.
        graph = torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
        longest = length if graph else max(1, int(torch.maximum(firsts, seconds).max()))
        steps = torch.arange(longest, device=values.device)
        # Where place t of a segment is found: row i begins at 0, row b + i where the second does.
        index = torch.cat([steps.expand(batch, longest), firsts.unsqueeze(1) + steps])
        index = index.clamp(max=length - 1).unsqueeze(-1).expand(-1, -1, width)
        out, _ = self.layer(torch.cat([values, values]).gather(1, index))
        # And back: a position of the second segment is in the lower half of the rows.
        rows = torch.arange(batch, device=values.device).unsqueeze(1) + batch * (segments == 2)
        read: Tensor = out[rows, ragged.places(segments).clamp(max=longest - 1)]
        return read


@final
class PooledStage(nn.Module):
    """The end: [b, length, width + 1] -> [b, width], or [b, 4 · width] of two segments."""

    def __init__(self, pool: Pool, dropout: float) -> None:
        super().__init__()
        self.pool = pool
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Pool what the last layer says."""
        values, segments = ragged.split(x)
        values = locked_dropout(values, self.dropout, self.training)
        pooled: Tensor = self.pool(ragged.join(values, segments))
        return pooled


def recurrent_stages(
    spec: RecurrentSpec,
    layers: nn.ModuleList,
    table: nn.Embedding | None,
    *,
    pooling: Pooling,
    separately: bool = False,
) -> Stages:
    """Return the stages of a recurrent network, sharing its modules.

    Args:
        spec: The architecture.
        layers: Its `RecurrentLayer` modules.
        table: The words' vectors, or None for series.
        pooling: How one vector is made of a segment.
        separately: Whether samples are pairs, whose segments are read one by one and pooled to
            [u; v; |u - v|; u · v].

    Returns:
        Name and module of each stage, ``pooled`` last.
    """
    stages: list[tuple[str, nn.Module]] = []
    if table is not None:
        stages.append(("embeddings", EmbeddingStage(table, spec.dropout_words)))
    for i, layer in enumerate(layers):
        assert isinstance(layer, RecurrentLayer), layer
        share = spec.dropout_hidden if i else spec.dropout_input
        stages.append((f"layer.{i}", LayerStage(layer, share, separately=separately)))
    pool = Pool(pooling, spec.widths()[-1][1], separately=separately)
    return (*stages, (POOLED, PooledStage(pool, spec.dropout_output)))


def language_stages(
    network: LanguageNetwork, *, pooling: Pooling, separately: bool = False
) -> Stages:
    """Return the stages of a language model without its decoder."""
    return recurrent_stages(
        network.spec, network.layers, network.embedding, pooling=pooling, separately=separately
    )


def build_series(
    cell: Cell,
    channels: int,
    max_length: int,
    *,
    hidden: int,
    layers: int = 1,
    seed: int = 0,
    dropout: float = 0.0,
    pooling: Pooling = "last",
) -> Network:
    """Build a recurrent network for series of numbers, with random weights.

    Args:
        cell: ``elman``, ``gru`` or ``lstm``.
        channels: Numbers at each step.
        max_length: Steps at most.
        hidden: Width of the layers.
        layers: How many there are.
        seed: For the weights.
        dropout: Share of the channels dropped between two layers and after the last in training.
        pooling: How one vector is made of the last layer's steps.

    Returns:
        The parts.

    Raises:
        ConfigError: A value is out of its range.
    """
    spec = RecurrentSpec(
        cell, channels, 0, hidden, layers, dropout_hidden=dropout, dropout_output=dropout
    )
    spec.check()
    if max_length < 1:
        raise ConfigError(f"max_length: expected at least 1, got {max_length}")
    with seeded(seed, f"headstart/{cell}"):
        made = nn.ModuleList(RecurrentLayer(cell, i, o) for i, o in spec.widths())
    stages = recurrent_stages(spec, made, None, pooling=pooling)
    return Network(
        architecture=architecture(spec, pooling, "single"),
        stages=stages,
        classifier=None,
        input_spec=SeriesSpec(channels, max_length),
        weights=random_weights(seed),
        parameters_total=sum(count_parameters(module) for _, module in stages),
    )


def architecture(
    spec: RecurrentSpec, pooling: Pooling, pairs: Literal["single", "separately"]
) -> str:
    """Say what the stages compute apart from their weights."""
    words: dict[str, Any] = {**spec.function(), "pooling": pooling, "pairs": pairs}
    return "headstart/recurrent " + " ".join(f"{key}={value}" for key, value in words.items())

"""Where the encoders of transformers can be cut: stages on sequences with their segments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from headstart.backbones.base import POOLED, TextOptions
from headstart.backbones.parts import view
from headstart.backbones.ragged import Pool, join, places, split
from headstart.errors import ConfigError
from headstart.types import JsonDict

Stages = tuple[tuple[str, nn.Module], ...]

# Children of an embeddings layer that are used; it also keeps tables of positions in buffers, which
# the stages do not need because they say each token's position and type.
_EMBEDDINGS = (
    "word_embeddings",
    "position_embeddings",
    "token_type_embeddings",
    "LayerNorm",
    "dropout",
)
_PROBE_LENGTHS = (9, 5)
_MISFIT = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a backbone keeps of a model so that it can be written for the library again.

    Attributes:
        config: The library's configuration, as JSON-like values.
        rest: Tensors of the model that no stage uses, such as a pooler that is not asked for.
    """

    config: JsonDict
    rest: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Reading:
    """How tokens enter a network.

    Attributes:
        vocabulary: Number of token ids.
        padding: The id that stands for padding.
        offset: Position of the first token.
        types: Number of token types; 0 where the network knows none.
        longest: Tokens of a sequence at most.
        separately: Whether the second text of a pair is a sequence of its own.
    """

    vocabulary: int
    padding: int
    offset: int
    types: int
    longest: int
    separately: bool

    def token_types(self, segments: Tensor) -> Tensor:
        """Return 1 for the second text of a pair in one sequence and 0 elsewhere, [b, length]."""
        two = self.types > 1 and not self.separately
        return (segments == 2).long() if two else torch.zeros_like(segments)


@final
class Embed(nn.Module):
    """The first stage: [b, length, 2] of token ids and segments -> [b, length, width + 1]."""

    def __init__(
        self, embeddings: nn.Module, projection: tuple[str, nn.Module] | None, reading: Reading
    ) -> None:
        super().__init__()
        self.reading = reading
        self.saved: Saved | None = None
        self.homes = {"embeddings": "embeddings"}
        self.embeddings = view(embeddings, _EMBEDDINGS)
        self.projection = projection[1] if projection is not None else None
        if projection is not None:
            self.homes["projection"] = projection[0]

    def forward(self, x: Tensor) -> Tensor:
        """Look the tokens up, each at its place in its own text or in the whole sequence."""
        values, segments = split(x)
        here, reading = segments > 0, self.reading
        # Places restart at the second text only where it is a sequence of its own.
        order = segments if reading.separately else here.long()
        inputs = {
            "input_ids": values[..., 0].long().masked_fill(~here, reading.padding),
            "position_ids": places(order).masked_fill(~here, 0) + reading.offset,
        }
        if reading.types:
            inputs["token_type_ids"] = reading.token_types(segments)
        result = self.embeddings(**inputs)
        return join(result if self.projection is None else self.projection(result), segments)


@final
class Layer(nn.Module):
    """One layer of an encoder: [b, length, width + 1] -> [b, length, width + 1]."""

    def __init__(self, layer: nn.Module, home: str, *, separately: bool) -> None:
        super().__init__()
        self.layer = layer
        self.homes = {"layer": home}
        self.separately = separately

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; nobody sees padding, or the other text of a separate pair."""
        values, segments = split(x)
        values = values.contiguous()  # once, or each of the layer's first matrices does it
        mask = attention_mask(segments, values.dtype, separately=self.separately)
        result = self.layer(values, mask)
        return join(result[0] if isinstance(result, tuple) else result, segments)


def attention_mask(segments: Tensor, dtype: torch.dtype, *, separately: bool) -> Tensor:
    """Return what is added to the attention scores: 0 where a position may look, else very little.

    Args:
        segments: int64 [b, length].
        dtype: Of the scores.
        separately: Whether each segment sees only itself.

    Returns:
        [b, 1, 1, length], or [b, 1, length, length] with `separately`. Each row has a position that
        it may look at, or else its softmax could be no number: padding sees the other padding, or
        all of a sequence that is nothing but padding.
    """
    if separately:
        allowed = segments[:, :, None] == segments[:, None, :]
    else:
        here = segments > 0
        allowed = (here | ~here.any(dim=1, keepdim=True))[:, None, :]
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min).unsqueeze(1)


@final
class Whole(nn.Module):
    """An encoder in one piece: [b, length, 2] -> [b, length, width + 1]."""

    def __init__(self, model: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.model = model
        self.homes = {"model": ""}
        self.reading = reading
        self.saved: Saved | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Run the whole encoder, over each text of a separate pair by itself."""
        values, segments = split(x)
        ids = values[..., 0].long()
        if not self.reading.separately:
            return join(self._run(ids, segments), segments)
        first, second = segments == 1, segments == 2
        of_first = self._run(ids, first.long())
        # The second texts move to the front of their rows, and their vectors back.
        steps = torch.arange(segments.shape[1], device=x.device)
        begin = first.sum(dim=1, keepdim=True)
        there = (steps + begin).clamp(max=segments.shape[1] - 1)
        moved = (steps < second.sum(dim=1, keepdim=True)).long()
        of_second = self._run(ids.gather(1, there), moved)
        back = (steps - begin).clamp(min=0).unsqueeze(-1).expand_as(of_second)
        result = torch.where(second.unsqueeze(-1), of_second.gather(1, back), of_first)
        return join(result, segments)

    def _run(self, ids: Tensor, segments: Tensor) -> Tensor:
        here = segments > 0
        inputs = {"input_ids": ids.masked_fill(~here, self.reading.padding)}
        # A sequence that is nothing but padding is read as if it were none: its softmax needs one.
        inputs["attention_mask"] = (here | ~here.any(dim=1, keepdim=True)).long()
        if self.reading.types:
            inputs["token_type_ids"] = self.reading.token_types(segments)
        return cast(Tensor, self.model(**inputs).last_hidden_state)


@final
class Pooler(nn.Module):
    """A network's own pooler, which reads the first token: [b, length, width + 1] -> [b, width].

    With `separately` both texts are pooled, and combined as in `headstart.backbones.ragged.Pool`.
    """

    def __init__(
        self, pooler: nn.Module, activation: nn.Module | None, width: int, *, separately: bool
    ) -> None:
        super().__init__()
        self.pooler = pooler
        self.activation = activation
        self.homes = {"pooler": "pooler"}
        self.first = Pool("first", width)
        self.separately = separately

    def forward(self, x: Tensor) -> Tensor:
        """Pool the first token, or that of each text."""
        values, segments = split(x)
        if not self.separately:
            return self._pool(x)
        u, v = (self._pool(join(values, (segments == number).long())) for number in (1, 2))
        return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)

    def _pool(self, x: Tensor) -> Tensor:
        token = self.first(x)
        if self.activation is not None:  # a plain layer, and its activation beside it
            return cast(Tensor, self.activation(self.pooler(token)))
        return cast(Tensor, self.pooler(token.unsqueeze(1)))  # it takes the first token itself


def take_apart(name: str, model: Any, reading: Reading, options: TextOptions) -> Stages:
    """Return an encoder's stages, checked against the library's own forward pass.

    Args:
        name: The backbone's name, for messages.
        model: The library's model, in eval mode.
        reading: How tokens enter it.
        options: Of these only the pooling is used.

    Returns:
        ``embeddings``, ``layer.0`` …, ``pooled``; or ``encoder``, ``pooled`` for a network that
        works in another way than BERT and its kin.

    Raises:
        ConfigError: The network does not map tokens to one vector each, or has no pooler, or its
            pooler is not of the usual kind.
    """
    width = int(getattr(model.config, "hidden_size", 0))
    pooled = (POOLED, _pooling(name, model, reading, options, width))
    in_layers: list[Callable[[Any, Reading], Stages]] = [_bert, _distilbert, _albert]
    for form in (*in_layers, _in_one_piece):
        try:
            stages = (*form(model, reading), pooled)
            if _agrees(stages, model, reading, pooler=options.pooling == "pooler"):
                return stages
        except _MISFIT as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        else:
            reason = "its parts do not give what the whole gives"
    raise ConfigError(
        f"{name} cannot be used as a backbone: a {type(model).__name__} does not map each token of "
        f"a text to a vector, whatever the padding ({reason})"
    )


def _bert(model: Any, reading: Reading) -> Stages:
    projection = getattr(model, "embeddings_project", None)
    embed = Embed(
        model.embeddings,
        None if projection is None else ("embeddings_project", projection),
        reading,
    )
    return (("embeddings", embed), *_layers(model.encoder.layer, "encoder.layer", reading))


def _distilbert(model: Any, reading: Reading) -> Stages:
    embed = Embed(model.embeddings, None, reading)
    return (("embeddings", embed), *_layers(model.transformer.layer, "transformer.layer", reading))


def _albert(model: Any, reading: Reading) -> Stages:
    encoder, config = model.encoder, model.config
    name = "embedding_hidden_mapping_in"
    embed = Embed(model.embeddings, (f"encoder.{name}", getattr(encoder, name)), reading)
    per_group = config.num_hidden_layers / config.num_hidden_groups
    groups = [int(i / per_group) for i in range(config.num_hidden_layers)]
    layers = tuple(
        (
            f"layer.{i}",
            Layer(
                encoder.albert_layer_groups[group],
                f"encoder.albert_layer_groups.{group}",
                separately=reading.separately,
            ),
        )
        for i, group in enumerate(groups)
    )
    return (("embeddings", embed), *layers)


def _layers(layers: Any, path: str, reading: Reading) -> Stages:
    return tuple(
        (f"layer.{i}", Layer(layer, f"{path}.{i}", separately=reading.separately))
        for i, layer in enumerate(layers)
    )


def _in_one_piece(model: Any, reading: Reading) -> Stages:
    # The pooler is no part of the encoder: where it is not asked for nothing of it is left.
    part = view(
        model, {n for t in ("_modules", "_parameters", "_buffers") for n in getattr(model, t)}
    )
    if "pooler" in part._modules:
        part._modules["pooler"] = None
    return (("encoder", Whole(part, reading)),)


def _pooling(
    name: str, model: Any, reading: Reading, options: TextOptions, width: int
) -> nn.Module:
    if options.pooling != "pooler":
        kind = "mean" if options.pooling is None else options.pooling
        return Pool(kind, width, separately=reading.separately)
    pooler = getattr(model, "pooler", None)
    if not isinstance(pooler, nn.Module):
        raise ConfigError(
            f"pooling: a {type(model).__name__} has no pooler of its own ({name}): choose mean, "
            "max, first, last or attention"
        )
    activation = getattr(model, "pooler_activation", None)
    return Pooler(pooler, activation, width, separately=reading.separately)


@torch.no_grad()
def _agrees(stages: Stages, model: Any, reading: Reading, *, pooler: bool) -> bool:
    """Compare the stages on a batch with padding with the library's model on each row alone."""
    ids = [i for i in range(min(reading.vocabulary, 1000)) if i != reading.padding]
    lengths = [min(length, reading.longest) for length in _PROBE_LENGTHS]
    x = torch.zeros(len(lengths), max(lengths), 2)
    for row, length in enumerate(lengths):
        steps = torch.arange(length)
        x[row, :length, 0] = torch.tensor(ids)[(steps * 7 + row * 3 + 1) % len(ids)].float()
        # Two texts in one sequence where the network tells them apart.
        two = reading.types > 1 and not reading.separately
        x[row, :length, 1] = 1.0 + (steps > length // 2).float() * two
    got, before = x, x.clone()
    for _, stage in stages[:-1]:
        got = stage(got)
    vectors = stages[-1][1](got)
    good = torch.equal(x, before)
    for row, length in enumerate(lengths):
        segments = x[row : row + 1, :length, 1].long()
        inputs = {"input_ids": x[row : row + 1, :length, 0].long()}
        if reading.types:
            inputs["token_type_ids"] = reading.token_types(segments)
        expected = model(**inputs)
        good &= _close(got[row : row + 1, :length, :-1], expected.last_hidden_state)
        if pooler:
            own = expected.pooler_output
            good &= _close(vectors[row : row + 1, : own.shape[1]], own)
    return good


def _close(got: Tensor, expected: Tensor) -> bool:
    # Rows alone and rows in a batch are rounded in other ways; a wrong position or mask is far off.
    scale = float(expected.abs().max())
    return got.shape == expected.shape and torch.allclose(got, expected, rtol=0, atol=1e-4 * scale)


def stored_tensors(stages: Stages) -> dict[str, Tensor]:
    """Return the parameters and lasting buffers of stages by their names in the library's model."""
    state: dict[str, Tensor] = {}
    for _, stage in stages:
        homes: Mapping[str, str] = getattr(stage, "homes", {})
        for child, home in homes.items():
            for key, tensor in getattr(stage, child).state_dict().items():
                state[f"{home}.{key}" if home else key] = tensor
    return state

"""Recurrent networks: the layers, and the language model that is trained with them.

The regularised LSTM of Merity, Keskar, Socher, Regularizing and Optimizing LSTM Language Models
(2017), in parts that are each off by default; with all of them off it is a plain recurrent network.
Activations are [b, length, width] throughout.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, cast, final

import torch
from torch import Tensor, nn

from headstart.errors import ConfigError
from headstart.types import JsonDict

Cell = Literal["elman", "gru", "lstm"]
State = tuple[Tensor, ...]
"""What a layer carries on: h, and c of an LSTM; each [1, b, width]."""

_GATES = {"elman": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True, slots=True)
class RecurrentSpec:
    """The architecture of a recurrent network.

    Attributes:
        cell: ``elman`` (tanh), ``gru`` or ``lstm``.
        inputs: Words of the vocabulary; for series of numbers: channels.
        embedding: Width of the words' vectors; 0 for series, which have none.
        hidden: Width of the layers.
        layers: How many there are.
        tied: Whether the decoder's weights are the words' vectors. The last layer is then as wide
            as these.
        dropout_input: Share of the first layer's inputs that is dropped in training.
        dropout_hidden: The same between two layers.
        dropout_output: The same after the last layer.
        dropout_words: Share of the vocabulary whose vectors are zero for a training step.
        dropout_weight: Share of the hidden-to-hidden weights that is zero for a training step.
        alpha: Weight of the penalty on large activations.
        beta: Weight of the penalty on activations that change fast.
    """

    cell: Cell
    inputs: int
    embedding: int
    hidden: int
    layers: int = 1
    tied: bool = False
    dropout_input: float = 0.0
    dropout_hidden: float = 0.0
    dropout_output: float = 0.0
    dropout_words: float = 0.0
    dropout_weight: float = 0.0
    alpha: float = 0.0
    beta: float = 0.0

    def check(self) -> None:
        """Make sure that such a network exists.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.cell not in _GATES:
            raise ConfigError(f"cell: expected {', '.join(_GATES)}, got {self.cell!r}")
        for name in ("inputs", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.embedding < 0 or (self.tied and self.embedding == 0):
            raise ConfigError(f"embedding: expected at least 1, got {self.embedding}")
        for name in ("input", "hidden", "output", "words", "weight"):
            share = getattr(self, f"dropout_{name}")
            if not 0 <= share < 1:
                raise ConfigError(f"dropout_{name}: expected a share in [0, 1), got {share}")
        if self.alpha < 0 or self.beta < 0:
            raise ConfigError(
                f"alpha and beta: expected at least 0, got {self.alpha} and {self.beta}"
            )

    def widths(self) -> tuple[tuple[int, int], ...]:
        """Return what enters and what leaves each layer."""
        out = [self.hidden] * self.layers
        if self.tied:
            out[-1] = self.embedding
        return tuple(zip([self.embedding or self.inputs, *out[:-1]], out, strict=True))

    def describe(self) -> JsonDict:
        """Return it as JSON-like values."""
        return asdict(self)

    def function(self) -> JsonDict:
        """Return the part of it that decides what a trained network computes."""
        keys = ("cell", "inputs", "embedding", "hidden", "layers", "tied")
        return {key: getattr(self, key) for key in keys}


@final
class RecurrentLayer(nn.Module):
    """One layer, and the dropping of its hidden-to-hidden weights in training.

    Elman: h' = tanh(W x + b + U h + d). GRU and LSTM are those of torch.nn.GRU and torch.nn.LSTM,
    with the gates in torch's order. The weights begin uniform in ±1/√width, as torch's do.

    Source: Elman, Finding Structure in Time (1990); Cho et al., Learning Phrase Representations
    using RNN Encoder-Decoder (2014); Hochreiter, Schmidhuber, Long Short-Term Memory (1997). Of the
    weight dropping: Wan et al., Regularization of Neural Networks using DropConnect (2013).
    """

    def __init__(self, cell: Cell, inputs: int, width: int, dropout_weight: float = 0.0) -> None:
        super().__init__()
        self.cell, self.width, self.dropout_weight = cell, width, dropout_weight
        rows, bound = _GATES[cell] * width, width**-0.5

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))

        self.weight_ih = drawn(rows, inputs)
        self.weight_hh = drawn(rows, width)
        self.bias_ih = drawn(rows)
        self.bias_hh = drawn(rows)

    def start(self, x: Tensor) -> State:
        """Return the state before the first step of a batch: zeros."""
        zeros = x.new_zeros(1, x.shape[0], self.width)  # a graph keeps it open
        return (zeros, zeros) if self.cell == "lstm" else (zeros,)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map [b, length, inputs] to [b, length, width], and say how to go on."""
        before = self.start(x) if state is None else state
        # One mask for the whole batch and all its steps.
        recurrent = nn.functional.dropout(self.weight_hh, self.dropout_weight, self.training)
        weights = [self.weight_ih, recurrent, self.bias_ih, self.bias_hh]
        # cuDNN goes back through a layer only in its training mode, and gradients pass through
        # frozen layers too; without dropout of torch's own the two modes compute the same.
        learning = self.training or torch.is_grad_enabled()
        # Biases, one layer, no dropout of torch's own, one direction, the batch first.
        options = (True, 1, 0.0, learning, False, True)
        with _unpacked_weights(x):
            if self.cell == "lstm":
                out, *after = torch.lstm(x, before, weights, *options)
            elif self.cell == "gru":
                out, *after = torch.gru(x, before[0], weights, *options)
            else:
                out, *after = torch.rnn_tanh(x, before[0], weights, *options)
        return out, tuple(after)


@contextlib.contextmanager
def _unpacked_weights(x: Tensor) -> Iterator[None]:
    """Accept that cuDNN copies the weights together at each call: some are dropped anew each time.

    It would tell to call a method of torch.nn.RNN, which this layer is not.
    """
    if x.device.type != "cuda":
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")
        yield


def locked_dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """Drop the same channels of a sequence at all its steps: [b, length, width] -> the same.

    Source: Gal, Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks (2016), section 4.
    """
    if not training or share == 0:
        return x
    mask = x.new_empty(len(x), 1, x.shape[-1]).bernoulli_(1 - share)
    return x * (mask / (1 - share))


def embed(table: nn.Embedding, ids: Tensor, share: float, training: bool) -> Tensor:
    """Look words up, [b, length] -> [b, length, width]; in training whole words are dropped.

    A word that is dropped is so wherever it stands in the batch.

    Source: Gal, Ghahramani (2016), section 4.2; Merity, Keskar, Socher (2017), section 4.3.
    """
    vectors = cast(Tensor, table(ids))
    if not training or share == 0:
        return vectors
    mask = vectors.new_empty(table.num_embeddings, 1).bernoulli_(1 - share)
    return vectors * (mask[ids] / (1 - share))


@final
class LanguageNetwork(nn.Module):
    """A recurrent language model: at each word the logits of the next one.

    The hidden state is carried from one call to the next, without its gradient, so that a long text
    can be read piece by piece (truncated back-propagation through time); `reset` forgets it. It is
    no part of the state dict.
    """

    def __init__(self, spec: RecurrentSpec) -> None:
        super().__init__()
        spec.check()
        if spec.embedding == 0:
            raise ConfigError("embedding: expected at least 1 for a language model, got 0")
        self.spec = spec
        self.embedding = nn.Embedding(spec.inputs, spec.embedding)
        self.layers = nn.ModuleList(
            RecurrentLayer(spec.cell, inputs, width, spec.dropout_weight)
            for inputs, width in spec.widths()
        )
        self.decoder = nn.Linear(spec.widths()[-1][1], spec.inputs)
        # Source of ±0.1: Merity, Keskar, Socher (2017), section 5.
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        if spec.tied:
            self.decoder.weight = self.embedding.weight
        self._states: list[State] | None = None
        self._penalty: Tensor | None = None

    def forward(self, z: Tensor) -> Tensor:
        """Return logits [1, b · length, words] of word numbers [b, length], text by text."""
        spec = self.spec
        states = self._carried(len(z))
        x = embed(self.embedding, z.long(), spec.dropout_words, self.training)
        after: list[State] = []
        shares = [spec.dropout_input, *[spec.dropout_hidden] * (spec.layers - 1)]
        for i, (layer, share) in enumerate(zip(self.layers, shares, strict=True)):
            x = locked_dropout(x, share, self.training)
            x, state = layer(x, None if states is None else states[i])
            after.append(tuple(part.detach() for part in state))
        self._states = after
        dropped = locked_dropout(x, spec.dropout_output, self.training)
        self._penalty = self._activations(x, dropped) if self.training else None
        return cast(Tensor, self.decoder(dropped)).flatten(0, 1).unsqueeze(0)

    def penalty(self) -> Tensor:
        """Return what the last call in train mode adds to the loss, a scalar.

        α · mean((m ⊙ h)²) + β · mean((hₜ₊₁ - hₜ)²) of the last layer's activations h, with the
        mask m of the output's dropout.

        Source: Merity, McCann, Socher, Revisiting Activation Regularization for Language RNNs
        (2017), section 3; mean squares in place of norms, as their published figures are made.
        """
        return self.decoder.bias.new_zeros(()) if self._penalty is None else self._penalty

    def reset(self) -> None:
        """Forget what was read: the next call begins at a zero state, with any number of texts."""
        self._states = None
        self._penalty = None

    def keep(self, rows: int) -> None:
        """Go on with the first `rows` texts of the batch alone: the others have ended."""
        if self._states is not None:
            self._states = [tuple(part[:, :rows] for part in state) for state in self._states]

    def random_state(self) -> dict[str, Tensor]:
        """Return what is carried to the next call, for a checkpoint."""
        return {
            f"{layer}.{part}": tensor
            for layer, state in enumerate(self._states or [])
            for part, tensor in enumerate(state)
        }

    def load_random_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `random_state` returned."""
        self.reset()
        if state:
            device = self.decoder.bias.device
            parts = 2 if self.spec.cell == "lstm" else 1
            self._states = [
                tuple(state[f"{layer}.{part}"].to(device) for part in range(parts))
                for layer in range(self.spec.layers)
            ]

    def _carried(self, rows: int) -> list[State] | None:
        if self._states is not None and self._states[0][0].shape[1] != rows:
            raise ValueError(
                f"expected the {self._states[0][0].shape[1]} texts of the call before, which are "
                f"read on, got {rows}: call reset() to begin with others. A batch of a language "
                "model cannot be split (micro_batch_size)"
            )
        return self._states

    def _activations(self, h: Tensor, dropped: Tensor) -> Tensor:
        out = h.new_zeros(())
        if self.spec.alpha:
            out = out + self.spec.alpha * dropped.pow(2).mean()
        if self.spec.beta and h.shape[1] > 1:
            out = out + self.spec.beta * (h[:, 1:] - h[:, :-1]).pow(2).mean()
        return out

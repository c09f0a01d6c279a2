"""What every backbone can do: say its stages, and be cut at any of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import nn

from headstart.backbones.ragged import Pooling
from headstart.types import InputSpec, Pairs, SeriesSpec, Spec

INPUT = "input"
"""The cut before the first stage: nothing is frozen, everything is trainable."""

POOLED = "pooled"
"""The last stage of every backbone: the features that its classifier reads."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Where a backbone's weights came from.

    Attributes:
        kind: ``pretrained``, ``file`` or ``random``.
        origin: The file, hub repository, package or seed, as a person would cite it.
        license: The licence as the publisher states it, or ``unknown``.
    """

    kind: str
    origin: str
    license: str


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How a backbone reads texts, where that shall differ from its own way.

    Attributes:
        max_length: Tokens of a sequence at most, special tokens included; None is the network's own
            limit, but no more than 512.
        pooling: How the tokens' vectors become one; ``pooler`` is the network's own trained one,
            which reads the first token. None is ``mean``.
        pairs: Whether samples are one text each, or pairs, and how a pair is read.
        tokenizer: Another tokenizer: a ``tokenizer.json``, a folder that holds one, or
            ``packaged/minilm-l6``. None is the network's own.
        strip_markup: Whether tags such as ``<br />`` are taken out of the texts first.
    """

    max_length: int | None = None
    pooling: Pooling | Literal["pooler"] | None = None
    pairs: Pairs = "single"
    tokenizer: str | Path | None = None
    strip_markup: bool = False


@dataclass(frozen=True, slots=True)
class SeriesOptions:
    """What sequences of numbers a recurrent network reads, and how large it is.

    Attributes:
        channels: Numbers at each step.
        max_length: Steps of a sequence at most.
        hidden: Width of its layers.
        layers: How many it has.
        pooling: How the steps' vectors become one; None is ``last``.
    """

    channels: int
    max_length: int
    hidden: int = 64
    layers: int = 1
    pooling: Pooling | None = None


def example_input(spec: Spec, n: int, device: torch.device) -> torch.Tensor:
    """Return n samples of the largest shape that a network takes: black pictures, equal tokens."""
    if isinstance(spec, InputSpec):
        return torch.zeros(n, 3, spec.height, spec.width, device=device)
    if isinstance(spec, SeriesSpec):
        return torch.ones(n, spec.longest, spec.channels + 1, device=device)
    tokens = torch.zeros(n, spec.longest, 2, device=device)
    tokens[..., 1] = 1
    if spec.pairs == "separately":
        tokens[:, spec.max_length :, 1] = 2
    return tokens


class Backbone(Protocol):
    """A network without its task: a chain of named stages from samples to pooled features.

    Samples are pictures [n, 3, h, w], or sequences [n, length, width + 1] (see
    `headstart.backbones.ragged`), always float32.

    For every cut c in `stages`: ``suffix(c)(prefix(c)(x))`` equals ``prefix(stages[-1])(x)``.
    The modules are shared, not copied: training a suffix trains the backbone.

    Wherever a cut is asked for, two more words are understood besides the names in `stages`:
    ``input`` is the cut before the first stage (its suffix is the whole network), and the name of
    a group, such as ``layer3``, stands for the group's last stage, such as ``layer3.5``.
    An unknown cut raises `headstart.errors.ConfigError` with the nearest names.
    """

    @property
    def name(self) -> str:
        """Name in the registry, such as ``timm/mobilenetv2_100``."""
        ...

    @property
    def input_spec(self) -> Spec:
        """How samples (pictures, texts, sequences of numbers) are prepared for it."""
        ...

    @property
    def weights(self) -> Weights:
        """Where its weights came from."""
        ...

    @property
    def stages(self) -> Sequence[str]:
        """Names of the cuts in order; the last is the pooled features before the classifier."""
        ...

    @property
    def classifier(self) -> nn.Module | None:
        """The network's own last layer (1,000 ImageNet classes, say), or None."""
        ...

    @property
    def parameters_total(self) -> int:
        """Number of parameters with its own classifier, as publications count it.

        What training leaves out is counted too: torchvision's Inception v3 has 27,161,264 with its
        auxiliary classifier, although that one is dropped once the weights are loaded.
        """
        ...

    def resolve(self, cut: str) -> str:
        """Return the full name of a cut: ``layer3`` becomes ``layer3.5``, ``input`` stays."""
        ...

    def prefix(self, cut: str) -> nn.Module:
        """Return the frozen modules from the input to `cut`: samples -> [n, *shape].

        The stage `cut` itself is the last of them. Asking for a prefix freezes it: its parameters
        need no gradient, it runs without building a graph, and it stays in eval mode whatever
        `train()` is called on it or on its parents.
        """
        ...

    def suffix(self, cut: str) -> nn.Module:
        """Return the modules after `cut` up to the pooled features: [n, *shape] -> [n, width].

        Asking for a suffix releases it: its parameters need gradients again (those that the
        network's author fixed stay fixed). The mode, train or eval, is left as it is: eval after
        loading. So `prefix(c)` and `suffix(c)` together always leave the backbone split at c.
        """
        ...

    def between(self, start: str, stop: str) -> nn.Module:
        """Return the frozen modules after `start` up to `stop`, inclusive.

        What `prefix` promises of its modules holds for these: ``between("input", c)`` is
        ``prefix(c)``, and ``between(b, c)(prefix(b)(x))`` equals ``prefix(c)(x)``. A `stop` before
        `start` raises `headstart.errors.ConfigError`.
        """
        ...

    def modules(self, start: str, stop: str) -> tuple[tuple[str, nn.Module], ...]:
        """Return name and module of each stage after `start` up to `stop`, inclusive.

        Neither gradient flags nor modes change: whoever asks decides what is trained.
        """
        ...

    def releasable(self, module: nn.Module) -> list[nn.Parameter]:
        """Return the parameters of a module that the network's author did not fix.

        The module may hold stages of this backbone, its classifier and layers of other origin.
        """
        ...

    def clone(self) -> "Backbone":
        """Return a backbone of the same function with modules and weights of its own.

        All of it is in eval mode, and gradient flags are those of a freshly loaded backbone. What
        is done to one of the two, by training say, never reaches the other.
        """
        ...

    def shape(self, cut: str) -> tuple[int, ...]:
        """Return the shape of one sample's activations at `cut`, without the batch axis.

        Where the length is a sample's own (see `ragged`) it is that of the longest sample.
        """
        ...

    def ragged(self, cut: str) -> bool:
        """Return whether activations at `cut` are sequences, each sample's of its own length."""
        ...

    def digest(self, cut: str) -> str:
        """Return a digest of what `prefix(cut)` computes: architecture, cut, weights, buffers."""
        ...

    def digests(self, cut: str = POOLED) -> dict[str, str]:
        """Return the digest at each cut up to `cut`, ``input`` first, by full name.

        Each weight is read once. The digests are those of `digest` at this moment: ask again when
        weights may have moved.
        """
        ...

    def to(self, device: torch.device) -> None:
        """Move all modules to a device."""
        ...

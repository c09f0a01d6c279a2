"""What every backbone can do: say its stages, and be cut at any of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from headstart.types import InputSpec


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


class Backbone(Protocol):
    """A network without its task: a chain of named stages from pixels to pooled features.

    For every cut c in `stages`: ``suffix(c)(prefix(c)(x))`` equals ``prefix(stages[-1])(x)``.
    The modules are shared, not copied: training a suffix trains the backbone.
    """

    @property
    def name(self) -> str:
        """Name in the registry, such as ``timm/mobilenetv2_100``."""
        ...

    @property
    def input_spec(self) -> InputSpec:
        """How pictures are prepared for it."""
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
        """Number of parameters with its own classifier, as publications count it."""
        ...

    def prefix(self, cut: str) -> nn.Module:
        """Return the modules from the input to `cut`, inclusive: [n, 3, h, w] -> [n, *shape]."""
        ...

    def suffix(self, cut: str) -> nn.Module:
        """Return the modules after `cut` up to the pooled features: [n, *shape] -> [n, width]."""
        ...

    def shape(self, cut: str) -> tuple[int, ...]:
        """Return the shape of one sample's activations at `cut`, without the batch axis."""
        ...

    def digest(self, cut: str) -> str:
        """Return a digest of what `prefix(cut)` computes: architecture, cut, weights, buffers."""
        ...

    def to(self, device: torch.device) -> None:
        """Move all modules to a device."""
        ...

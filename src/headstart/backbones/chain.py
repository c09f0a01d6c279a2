"""The one backbone: a chain of stages, made by every adapter and cut anywhere."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast, final

import torch
from torch import nn

from headstart._util.hashing import digest_json, digest_tensors
from headstart.backbones.base import INPUT, POOLED, Weights, example_input
from headstart.backbones.dry import dry_run
from headstart.backbones.frozen import evaluating, freeze, state_tensors
from headstart.errors import ConfigError, nearest
from headstart.types import InputSpec, Spec

_DIGEST_VERSION = 2  # raise it when the same weights would compute something else


@dataclass(frozen=True, slots=True)
class Network:
    """What an adapter hands over: somebody's network, taken apart.

    Attributes:
        architecture: What the stages compute apart from their weights, in words that do not
            depend on the library's version, such as ``timm/mobilenetv2_100``.
        stages: Name and module of each stage, in order; each maps one tensor to one tensor without
            writing to its input, and the last is named ``pooled``.
        classifier: The network's own last layer, or None.
        input_spec: How its samples are prepared.
        weights: Where the weights came from.
        parameters_total: Number of parameters with the classifier, as publications count it.
    """

    architecture: str
    stages: tuple[tuple[str, nn.Module], ...]
    classifier: nn.Module | None
    input_spec: Spec
    weights: Weights
    parameters_total: int


@final
class FrozenStages(nn.Module):
    """Stages that only compute: no gradient, and eval mode that nobody can switch off."""

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)
        freeze(self)

    def train(self, mode: bool = True) -> "FrozenStages":
        """Stay in eval mode: a parent's `train()` must not set BatchNorm statistics moving."""
        del mode
        return super().train(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the activations at the cut, samples -> [n, *shape]."""
        # The stages are shared: whoever trained them as part of a suffix may have left them in
        # train mode, and their parameters waiting for gradients.
        if any(part.training for part in self.stages.modules()):
            self.eval()
        with torch.no_grad():
            return cast(torch.Tensor, self.stages(x))


@final
class Chain:
    """A `Backbone` made of a chain of stages; see the Protocol for what its methods promise."""

    def __init__(self, name: str, network: Network) -> None:
        names = [stage for stage, _ in network.stages]
        assert names[-1] == POOLED, names
        assert len({INPUT, *names}) == 1 + len(names), names
        self._name = name
        self._network = network
        self._names = tuple(names)
        self._modules = tuple(module for _, module in network.stages)
        self._shapes: tuple[tuple[int, ...], ...] = ()
        self._all = nn.ModuleList(self._modules)
        if network.classifier is not None:
            self._all.append(network.classifier)
        # Parameters that the author fixed (sine position embeddings, say) never become trainable.
        self._fixed = {id(p) for p in self._all.parameters() if not p.requires_grad}
        self._all.eval()

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self._name

    @property
    def input_spec(self) -> Spec:
        """How samples are prepared for it."""
        return self._network.input_spec

    @property
    def weights(self) -> Weights:
        """Where its weights came from."""
        return self._network.weights

    @property
    def stages(self) -> Sequence[str]:
        """Names of the cuts in order; the last is ``pooled``."""
        return self._names

    @property
    def classifier(self) -> nn.Module | None:
        """The network's own last layer, or None."""
        return self._network.classifier

    @property
    def parameters_total(self) -> int:
        """Number of parameters with its own classifier, as publications count it."""
        return self._network.parameters_total

    def resolve(self, cut: str) -> str:
        """Return the full name of a cut: ``layer3`` becomes ``layer3.5``."""
        return (INPUT, *self._names)[self._length(cut)]

    def prefix(self, cut: str) -> FrozenStages:
        """Return the frozen modules from the input to `cut`, inclusive."""
        return self.between(INPUT, cut)

    def between(self, start: str, stop: str) -> FrozenStages:
        """Return the frozen modules after `start` up to `stop`, inclusive."""
        return FrozenStages(module for _, module in self.modules(start, stop))

    def modules(self, start: str, stop: str) -> tuple[tuple[str, nn.Module], ...]:
        """Return name and module of each stage after `start` up to `stop`, left as they are."""
        first, last = self._length(start), self._length(stop)
        if first > last:
            raise ConfigError(
                f"cuts of {self._name}: expected the first at or before the second, "
                f"got {start!r} and {stop!r}"
            )
        return self._network.stages[first:last]

    def suffix(self, cut: str) -> nn.Sequential:
        """Return the trainable modules after `cut`, up to the pooled features."""
        suffix = nn.Sequential(*self._modules[self._length(cut) :])
        for parameter in self.releasable(suffix):
            parameter.requires_grad_(True)
        return suffix

    def releasable(self, module: nn.Module) -> list[nn.Parameter]:
        """Return the parameters of a module that the network's author did not fix."""
        return [p for p in module.parameters() if id(p) not in self._fixed]

    def clone(self) -> "Chain":
        """Return a backbone of the same function with modules and weights of its own."""
        # All in one go: stages that share a tensor share its copy.
        modules = copy.deepcopy(self._all)
        for old, new in zip(self._all.parameters(), modules.parameters(), strict=True):
            new.requires_grad_(id(old) not in self._fixed)
        copies = list(modules)
        classifier = copies.pop() if self._network.classifier is not None else None
        stages = tuple(zip(self._names, copies, strict=True))
        made = Chain(self._name, replace(self._network, stages=stages, classifier=classifier))
        made._shapes = self._shapes
        return made

    def shape(self, cut: str) -> tuple[int, ...]:
        """Return the shape of one sample's activations at `cut`, without the batch axis."""
        if not self._shapes:
            try:
                self._shapes = tuple(dry_run(self._modules, self.input_spec))
            except (RuntimeError, TypeError):
                # Some operations have no meta kernel, and some networks keep tensors out of reach:
                # these are run once for real.
                self._shapes = self._run_once()
        return self._shapes[self._length(cut)]

    def ragged(self, cut: str) -> bool:
        """Return whether activations at `cut` are sequences, each sample's of its own length."""
        return not isinstance(self.input_spec, InputSpec) and self.resolve(cut) != POOLED

    def digest(self, cut: str) -> str:
        """Return a digest of what `prefix(cut)` computes: architecture, cut, weights, buffers."""
        return self.digests(cut)[self.resolve(cut)]

    def digests(self, cut: str = POOLED) -> dict[str, str]:
        """Return the digest at each cut up to `cut`, ``input`` first, reading each weight once."""
        # A chain: each digest takes the one before it in. Nothing is kept between two calls, for
        # weights move.
        digest = digest_json({"version": _DIGEST_VERSION, "of": self._network.architecture})
        digests = {INPUT: digest}
        for name, module in self.modules(INPUT, cut):
            digest = digest_json([digest, name, digest_tensors(state_tensors(module))])
            digests[name] = digest
        return digests

    def to(self, device: torch.device) -> None:
        """Move all modules to a device."""
        self._all.to(device)

    def _device(self) -> torch.device:
        return next((p.device for p in self._all.parameters()), torch.device("cpu"))

    def _length(self, cut: str) -> int:
        """Return how many stages lie before a cut."""
        if cut == INPUT:
            return 0
        group = [i for i, name in enumerate(self._names) if f"{name}.".startswith(f"{cut}.")]
        if group:
            return group[-1] + 1
        hint = nearest(cut, (INPUT, *self._names))
        around = f"{self._names[0]} … {self._names[-1]}"
        raise ConfigError(
            f"cut: expected a stage of {self._name} ({around}), got {cut!r}; {hint}".rstrip("; ")
        )

    @torch.no_grad()
    def _run_once(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes at all cuts, ``input`` first, by computing one sample."""
        x = example_input(self._network.input_spec, 1, self._device())
        shapes = [tuple(x.shape[1:])]
        with evaluating(self._all):
            for module in self._modules:
                x = module(x)
                shapes.append(tuple(x.shape[1:]))
        return tuple(shapes)

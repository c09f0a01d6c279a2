"""Taking somebody else's network apart without copying it or its code."""

import copy
from collections.abc import Callable, Collection, Iterator
from typing import final

import torch
from torch import nn

from headstart.backbones.base import INPUT, POOLED, Backbone

# What may open a stage: anything else (activations, norms) belongs to the layer before it, and may
# work in place, which would write over the cached activations of a cut in front of it.
_OPENERS = (nn.Conv2d, nn.Linear, nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten)


def view(model: nn.Module, keep: Collection[str]) -> nn.Module:
    """Return a second handle on a network that owns only some of its children.

    The handle has the network's methods and plain attributes and shares the children, parameters
    and buffers named in `keep`; the others are missing, so a stage made of it counts, freezes
    and digests no tensor that it does not use.

    Args:
        model: The network.
        keep: Names of direct children, parameters and buffers.

    Returns:
        A shallow copy.
    """
    part = copy.copy(model)
    for table in ("_modules", "_parameters", "_buffers"):
        entries = model.__dict__[table]
        part.__dict__[table] = {name: entries[name] for name in entries if name in keep}
    return part


@final
class Call(nn.Module):
    """A stage that applies a function of a network (or of a `view` of one)."""

    def __init__(
        self, function: Callable[[nn.Module, torch.Tensor], torch.Tensor], part: nn.Module
    ) -> None:
        super().__init__()
        self.function = function
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function."""
        return self.function(self.part, x)


def grouped(layers: nn.Sequential, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Group flat layers into stages: a layer with weights, or a pooling, and what follows it.

    Dropout opens a stage, so that a cut keeps it on the side that may be trained.

    Args:
        layers: Convolutions, norms, activations, poolings, dropouts and linear layers.
        path: Name of the sequence in the network.

    Yields:
        ``path.i``, i the position of the group's last layer, and the group.
    """
    group: list[nn.Module] = []
    for i, layer in enumerate(layers):
        only_dropout = all(isinstance(member, nn.Dropout) for member in group)
        if group and isinstance(layer, _OPENERS) and not only_dropout:
            yield f"{path}.{i - 1}", nn.Sequential(*group)
            group = []
        group.append(layer)
    if group:
        yield f"{path}.{len(layers) - 1}", nn.Sequential(*group)


def children(parent: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield ``path.name`` and module of each child."""
    for name, child in parent.named_children():
        yield f"{path}.{name}", child


def own_classifier(module: object) -> nn.Module | None:
    """Return a network's last layer as a function of a feature vector.

    Args:
        module: What the network calls its classifier.

    Returns:
        The layer, or None where there is none, or several.
    """
    if isinstance(module, nn.Conv2d):
        # Some networks classify by a 1 × 1 convolution of one pixel.
        return nn.Sequential(nn.Unflatten(1, (module.in_channels, 1, 1)), module, nn.Flatten())
    if not isinstance(module, nn.Module) or isinstance(module, nn.Identity | nn.ModuleList):
        return None
    return module


def probe(height: int, width: int) -> torch.Tensor:
    """Return one fixed input without symmetry, [1, 3, height, width], drawn from no generator."""
    ramp = torch.arange(3 * height * width, dtype=torch.float32)
    return torch.sin(ramp * 0.37).reshape(1, 3, height, width)


def called(model: nn.Module, run: Callable[[], object]) -> set[str]:
    """Return the names of the direct children that work while `run` does."""
    seen: set[str] = set()
    handles = []
    for name, child in model.named_children():

        def note(module: nn.Module, inputs: object, name: str = name) -> None:
            del module, inputs
            seen.add(name)

        handles += [part.register_forward_pre_hook(note) for part in child.modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def same(got: object, expected: torch.Tensor) -> bool:
    """Return whether a result is a tensor of the expected shape and values, up to rounding."""
    if not isinstance(got, torch.Tensor) or got.shape != expected.shape:
        return False
    scale = float(expected.abs().max())
    return torch.allclose(got, expected, rtol=0.0, atol=1e-5 * scale, equal_nan=True)


def shared_stages(backbone: Backbone) -> tuple[tuple[str, ...], ...]:
    """Return the groups of stages that hold the same parameters, such as all layers of ALBERT.

    A group is trained whole or frozen whole: a cut inside it would freeze what is trained behind.

    Args:
        backbone: Any backbone.

    Returns:
        Groups of two or more stage names, each in the order of the stages.
    """
    groups: list[tuple[set[int], list[str]]] = []
    for name, module in backbone.modules(INPUT, POOLED):
        tensors = {id(parameter) for parameter in module.parameters()}
        names = [name]
        apart = []
        for others, members in groups:
            if tensors & others:
                tensors, names = tensors | others, [*members, *names]
            else:
                apart.append((others, members))
        groups = [*apart, (tensors, names)]
    order = list(backbone.stages)
    shared = [tuple(sorted(names, key=order.index)) for _, names in groups if len(names) > 1]
    return tuple(sorted(shared, key=lambda names: order.index(names[0])))

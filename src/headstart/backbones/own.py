"""`headstart/NAME`: Headstart's own small networks, which nobody publishes weights for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from headstart.backbones import cifar, dcnn
from headstart.backbones.chain import Network
from headstart.backbones.weights import (
    PRETRAINED,
    RANDOM,
    count_parameters,
    file_weights,
    load_into,
    random_weights,
    read_state,
    seeded,
    weights_path,
)
from headstart.errors import ConfigError, WeightsError, nearest
from headstart.types import InputSpec


@dataclass(frozen=True, slots=True)
class _Design:
    """How one network is made: its last layer is called ``fc``."""

    make: Callable[[], nn.Module]
    stages: Callable[[Any], tuple[tuple[str, nn.Module], ...]]
    spec: InputSpec


def _designs() -> dict[str, _Design]:
    resnets = {
        f"resnet{depth}": _Design(partial(cifar.CifarResNet, depth), cifar.stages, cifar.SPEC)
        for depth in cifar.DEPTHS
    }
    return {**resnets, "dcnn": _Design(dcnn.DeepCnn, dcnn.stages, dcnn.SPEC)}


def names() -> tuple[str, ...]:
    """Return the names of the networks."""
    return tuple(_designs())


def build(name: str, weights: str | Path, seed: int, allow_network: bool) -> Network:
    """Build one of Headstart's own networks and take it apart.

    Args:
        name: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56`` or ``dcnn``.
        weights: ``random`` or a file; nobody publishes any for these.
        seed: For random weights.
        allow_network: Not used: there is nothing to download.

    Returns:
        The parts.

    Raises:
        ConfigError: The name is unknown.
        WeightsError: Pretrained weights are asked for, or the file's do not fit.
    """
    del allow_network
    if name not in names():
        raise ConfigError(f"headstart has no network {name!r}; {nearest(name, names())}")
    if weights == PRETRAINED:
        raise WeightsError(
            f"headstart/{name} has no published weights: use 'random', or a file of your own"
        )
    design = _designs()[name]
    own, record = True, random_weights(seed)
    with seeded(seed, f"headstart/{name}"):
        model = design.make()
    if weights != RANDOM:
        path = weights_path(f"headstart/{name}", weights)
        own = load_into(model, read_state(path), ("fc.weight", "fc.bias"), str(path))
        record = file_weights(path)
    return Network(
        architecture=f"headstart/{name}",
        stages=design.stages(model),
        classifier=model.get_submodule("fc") if own else None,
        input_spec=design.spec,
        weights=record,
        parameters_total=count_parameters(model),
    )

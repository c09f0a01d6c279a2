"""`torchvision/NAME`: the classification models of torchvision, their weights and preprocessing."""

from pathlib import Path
from typing import Any

import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights

from headstart.backbones.base import Weights
from headstart.backbones.chain import Network
from headstart.backbones.torchvision_stages import classifier_name, take_apart
from headstart.backbones.weights import (
    PRETRAINED,
    RANDOM,
    count_parameters,
    file_weights,
    load_into,
    random_weights,
    read_state,
    seeded,
    torch_hub_file,
    weights_path,
)
from headstart.errors import ConfigError, nearest
from headstart.types import Fit, InputSpec

_LICENSE = "BSD-3-Clause"
# Classifiers on intermediate layers, used only while the whole network was trained.
_AUXILIARY = {"inception_v3": ("AuxLogits",), "googlenet": ("aux1", "aux2")}


def names() -> tuple[str, ...]:
    """Return the names of all classification architectures, without the tags of their weights."""
    return tuple(torchvision.models.list_models(module=torchvision.models))


def build(name: str, weights: str | Path, seed: int, allow_network: bool) -> Network:
    """Build a torchvision model and take it apart.

    Args:
        name: Architecture, with the name of its weights or without: ``resnet50`` (torchvision's
            default weights) or ``resnet50.IMAGENET1K_V1``.
        weights: ``pretrained``, ``random`` or a file.
        seed: For random weights.
        allow_network: Whether weights may be downloaded.

    Returns:
        The parts.

    Raises:
        ConfigError: The name is unknown, or the model cannot be cut.
        WeightsError: The weights are missing, damaged or of another network.
    """
    architecture, _, tag = name.partition(".")
    if architecture not in names():
        hint = nearest(architecture, names())
        raise ConfigError(f"torchvision has no model {architecture!r}; {hint}")
    published = {entry.name: entry for entry in get_model_weights(architecture)}
    if tag and tag not in published:
        hint = nearest(tag, published)
        raise ConfigError(f"torchvision has no weights {tag!r} for {architecture}; {hint}")
    entry = published[tag] if tag else get_model_weights(architecture).DEFAULT
    with seeded(seed, f"torchvision/{architecture}"):
        model = _build(architecture, entry)
    if weights == RANDOM:
        record, path = random_weights(seed), None
    elif weights == PRETRAINED:
        path = torch_hub_file(f"torchvision/{name}", entry.url, allow_network)
        record = Weights(kind=PRETRAINED, origin=entry.url, license=_LICENSE)
    else:
        path = weights_path(f"torchvision/{name}", weights)
        record = file_weights(path)
    total = count_parameters(model)
    own = True if path is None else _load(model, architecture, path)
    _drop_auxiliary(model, architecture)
    if architecture == "googlenet":
        # torchvision publishes GoogLeNet's count without the auxiliary classifiers, and Inception
        # v3's with them.
        total = count_parameters(model)
    spec = input_spec(entry.transforms())
    stages, classifier = take_apart(architecture, model.eval(), spec)
    return Network(
        architecture=f"torchvision/{architecture}",
        stages=stages,
        classifier=classifier if own else None,
        input_spec=spec,
        weights=record,
        parameters_total=total,
    )


def input_spec(transforms: Any) -> InputSpec:
    """Say how torchvision prepares pictures for some weights.

    Args:
        transforms: The weights' ``transforms()``.

    Returns:
        The specification.
    """
    (crop,) = transforms.crop_size
    (resize,) = transforms.resize_size
    fit: Fit = "crop"
    return InputSpec(
        height=crop,
        width=crop,
        resize=resize,
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        fit=fit,
    )


def _build(architecture: str, entry: Any) -> nn.Module:
    """Build the architecture as its published weights need it, with random numbers in it."""
    options: dict[str, Any] = {}
    if architecture in _AUXILIARY:
        # The pretrained networks change ImageNet's normalisation to their own inside. Do so for
        # every kind of weights, so that one name always means one function.
        options = {"transform_input": True, "aux_logits": True, "init_weights": True}
    if architecture.startswith("vit_"):
        options = {"image_size": entry.meta["min_size"][0]}
    model: nn.Module = get_model(architecture, weights=None, **options)
    return model


def _load(model: nn.Module, architecture: str, path: Path) -> bool:
    got = read_state(path)
    auxiliary = _AUXILIARY.get(architecture, ())
    if not any(key.startswith(auxiliary) for key in got):
        _drop_auxiliary(model, architecture)
    head = classifier_name(architecture, model)
    keys = tuple(key for key in model.state_dict() if key.rpartition(".")[0] == head)
    return load_into(model, got, keys, str(path))


def _drop_auxiliary(model: Any, architecture: str) -> None:
    for name in _AUXILIARY.get(architecture, ()):
        setattr(model, name, None)
        model.aux_logits = False

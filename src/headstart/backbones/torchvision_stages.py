"""Where torchvision's model families can be cut."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models import (
    VGG,
    AlexNet,
    ConvNeXt,
    EfficientNet,
    Inception3,
    MobileNetV2,
    MobileNetV3,
    ResNet,
    VisionTransformer,
)

from headstart.backbones.base import POOLED
from headstart.backbones.parts import Call, children, grouped, probe, same, view
from headstart.errors import ConfigError
from headstart.types import InputSpec

Stages = tuple[tuple[str, nn.Module], ...]


def take_apart(name: str, model: Any, spec: InputSpec) -> tuple[Stages, nn.Module]:
    """Return a torchvision model's stages and classifier.

    The dropout in front of the classifier is left out: a new head brings its own.

    Args:
        name: The architecture, for messages.
        model: The model, in eval mode, without auxiliary classifiers.
        spec: Its input, for the models that have to be tried out.

    Returns:
        The stages, the last named ``pooled``, and the classifier.

    Raises:
        ConfigError: The model does not end in one linear layer.
    """
    classifier = model.get_submodule(classifier_name(name, model))
    # Exactly these classes: a subclass may have a forward pass of its own.
    families: dict[type, Callable[[Any], Stages]] = {
        AlexNet: _flat,
        VGG: _flat,
        MobileNetV2: _mobilenetv2,
        MobileNetV3: _blocks,
        EfficientNet: _blocks,
        ConvNeXt: _blocks,
        ResNet: _resnet,
        Inception3: _inception,
        VisionTransformer: _vision_transformer,
    }
    family = families.get(type(model))
    return (family(model) if family else _any_other(name, model, spec)), classifier


def classifier_name(name: str, model: nn.Module) -> str:
    """Return the path of a model's classifier: its last linear layer.

    Args:
        name: The architecture, for messages.
        model: The model.

    Returns:
        A path such as ``classifier.6``.

    Raises:
        ConfigError: The model has no linear layer.
    """
    linear: list[str] = [
        path for path, part in model.named_modules() if isinstance(part, nn.Linear)
    ]
    if not linear:
        raise ConfigError(
            f"torchvision/{name} cannot be used as a backbone: it does not end in a linear layer"
        )
    return linear[-1]


def _before_classifier(classifier: nn.Sequential) -> nn.Sequential:
    """Return the layers in front of the last linear one, without the dropout just before it."""
    layers = list(classifier)[:-1]
    while layers and isinstance(layers[-1], nn.Dropout):
        layers.pop()
    return nn.Sequential(*layers)


def _flat(model: Any) -> Stages:
    """Cut AlexNet and VGG: a flat list of layers, a pooling, two hidden linear layers."""
    *hidden, (_, last) = grouped(_before_classifier(model.classifier), "classifier")
    return (
        *grouped(model.features, "features"),
        ("avgpool", nn.Sequential(model.avgpool, nn.Flatten())),
        *hidden,
        (POOLED, last),
    )


def _mobilenetv2(model: Any) -> Stages:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return (*children(model.features, "features"), (POOLED, pool))


def _blocks(model: Any) -> Stages:
    """Cut networks of blocks, a pooling, and a few layers in front of the classifier."""
    rest = _before_classifier(model.classifier)
    # ConvNeXt normalises before it flattens, and brings its own layer for the latter.
    flatten = [] if any(isinstance(layer, nn.Flatten) for layer in rest) else [nn.Flatten()]
    pool = nn.Sequential(model.avgpool, *flatten, *rest)
    blocks = [
        stage
        for name, group in children(model.features, "features")
        for stage in (children(group, name) if _is_stack(group) else [(name, group)])
    ]
    return (*blocks, (POOLED, pool))


def _is_stack(group: nn.Module) -> bool:
    """Return whether a group is a plain row of blocks, not one layer made of several modules."""
    return type(group) is nn.Sequential and all(
        not isinstance(part, nn.Conv2d) and any(True for _ in part.parameters()) for part in group
    )


def _resnet(model: Any) -> Stages:
    return (
        ("stem", nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)),
        *children(model.layer1, "layer1"),
        *children(model.layer2, "layer2"),
        *children(model.layer3, "layer3"),
        *children(model.layer4, "layer4"),
        (POOLED, nn.Sequential(model.avgpool, nn.Flatten())),
    )


def _inception(model: Any) -> Stages:
    steps = ("Conv2d_", "maxpool", "Mixed_")
    layers = [child for child in model.named_children() if child[0].startswith(steps)]
    (first, conv), *rest = layers
    return (
        (first, nn.Sequential(Call(_inception_input, view(model, ())), conv)),
        *rest,
        (POOLED, nn.Sequential(model.avgpool, nn.Flatten())),
    )


def _inception_input(model: Any, x: torch.Tensor) -> torch.Tensor:
    return model._transform_input(x)  # type: ignore[no-any-return]


def _vision_transformer(model: Any) -> Stages:
    tokens = Call(_vit_tokens, view(model, ("conv_proj", "class_token")))
    positions = Call(_vit_positions, view(model.encoder, ("pos_embedding", "dropout")))
    return (
        ("conv_proj", nn.Sequential(tokens, positions)),
        *children(model.encoder.layers, "encoder.layers"),
        ("encoder.ln", model.encoder.ln),
        (POOLED, Call(_first_token, view(model, ()))),
    )


def _vit_tokens(model: Any, x: torch.Tensor) -> torch.Tensor:
    tokens = model._process_input(x)
    return torch.cat([model.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)


def _vit_positions(encoder: Any, x: torch.Tensor) -> torch.Tensor:
    return encoder.dropout(x + encoder.pos_embedding)  # type: ignore[no-any-return]


def _first_token(model: Any, x: torch.Tensor) -> torch.Tensor:
    del model
    return x[:, 0]


@torch.no_grad()
def _any_other(name: str, model: nn.Module, spec: InputSpec) -> Stages:
    """Keep a model of no known family in one piece, and check on one input that this is right."""
    path = classifier_name(name, model)
    parent, _, leaf = path.rpartition(".")
    classifier = model.get_submodule(path)
    x = probe(spec.height, spec.width)
    logits = model(x)
    setattr(model.get_submodule(parent), leaf, nn.Identity())
    pooled = model(x)
    if pooled.ndim != 2 or not same(classifier(pooled), logits):
        raise ConfigError(
            f"torchvision/{name} cannot be used as a backbone: its logits are not a linear layer "
            "of one vector of features"
        )
    return ((POOLED, model),)

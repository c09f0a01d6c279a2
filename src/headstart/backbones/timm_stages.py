"""Where timm's model families can be cut."""

from collections.abc import Callable
from typing import Any, final

import torch
from timm.models.efficientnet import EfficientNet
from timm.models.inception_v3 import InceptionV3
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from headstart.backbones.base import POOLED
from headstart.backbones.parts import (
    Call,
    called,
    children,
    grouped,
    own_classifier,
    probe,
    same,
    view,
)
from headstart.errors import ConfigError
from headstart.types import InputSpec

Stages = tuple[tuple[str, nn.Module], ...]
Parts = tuple[Stages, nn.Module | None]


def take_apart(name: str, model: nn.Module, spec: InputSpec) -> Parts:
    """Return a timm model's stages and classifier.

    The dropout in front of the classifier is left out: a new head brings its own.

    Args:
        name: The model's name, for messages.
        model: The model, in eval mode.
        spec: Its input, for the models that have to be tried out.

    Returns:
        The stages, the last named ``pooled``, and the classifier or None.

    Raises:
        ConfigError: The model does not map pictures to one vector of features each.
    """
    # Exactly these classes: a subclass may have a forward pass of its own.
    families: dict[type, Callable[[Any], Parts]] = {
        EfficientNet: _efficientnet,
        MobileNetV3: _mobilenetv3,
        ResNet: _resnet,
        VGG: _vgg,
        InceptionV3: _inception,
        VisionTransformer: _vision_transformer,
    }
    family = families.get(type(model))
    return family(model) if family else _any_other(name, model, spec)


def _blocks(groups: nn.Module) -> list[tuple[str, nn.Module]]:
    return [stage for name, group in children(groups, "blocks") for stage in children(group, name)]


def _efficientnet(model: Any) -> Parts:
    stages = (
        ("conv_stem", nn.Sequential(model.conv_stem, model.bn1)),
        *_blocks(model.blocks),
        ("conv_head", nn.Sequential(model.conv_head, model.bn2)),
        (POOLED, model.global_pool),
    )
    return stages, own_classifier(model.classifier)


def _mobilenetv3(model: Any) -> Parts:
    head = (model.conv_head, model.norm_head, model.act2, model.flatten)
    stages = (
        ("conv_stem", nn.Sequential(model.conv_stem, model.bn1)),
        *_blocks(model.blocks),
        ("global_pool", model.global_pool),
        (POOLED, nn.Sequential(*head)),
    )
    return stages, own_classifier(model.classifier)


def _resnet(model: Any) -> Parts:
    stages = (
        ("stem", nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool)),
        *children(model.layer1, "layer1"),
        *children(model.layer2, "layer2"),
        *children(model.layer3, "layer3"),
        *children(model.layer4, "layer4"),
        (POOLED, model.global_pool),
    )
    return stages, own_classifier(model.fc)


def _vgg(model: Any) -> Parts:
    # timm runs the two hidden fully connected layers as convolutions, fc1 on at least 7 × 7.
    hidden = model.pre_logits
    fc1 = Call(_vgg_fc1, view(hidden, ("fc1", "act1")))
    fc2 = nn.Sequential(hidden.drop, _Covering(hidden.fc2), hidden.act2, model.head.global_pool)
    stages = (*grouped(model.features, "features"), ("pre_logits.fc1", fc1), (POOLED, fc2))
    return stages, own_classifier(model.head.fc)


def _vgg_fc1(hidden: Any, x: torch.Tensor) -> torch.Tensor:
    size = hidden.input_kernel_size
    height, width = x.shape[-2:]
    if height < size or width < size:
        x = nn.functional.adaptive_avg_pool2d(x, (max(size, height), max(size, width)))
    return hidden.act1(_cover(x, hidden.fc1.weight, hidden.fc1.bias))  # type: ignore[no-any-return]


@final
class _Covering(nn.Module):
    """A convolution without stride and padding, with the same tensors under the same names."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        plain = convolution.stride == (1, 1) and convolution.padding == (0, 0)
        assert plain, "a kernel of the input's size fits in one place only without padding"
        assert convolution.groups == 1
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _cover(x, self.weight, self.bias)


def _cover(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Convolve [b, c, h, w]; where the kernel fits in one place only, as a matrix product.

    It is the same sum. A convolution would copy its weights into a layout of its own at each call:
    of VGG16's 120 million more time goes into that, and into their gradients, than into the sums.
    """
    if x.shape[-2:] != weight.shape[-2:]:
        return nn.functional.conv2d(x, weight, bias)
    if not weight.is_contiguous():  # channels last: in the order in which the numbers lie
        x, weight = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
    return nn.functional.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]


def _inception(model: Any) -> Parts:
    steps = ("Conv2d_", "Pool", "Mixed_")
    layers = [child for child in model.named_children() if child[0].startswith(steps)]
    return (*layers, (POOLED, model.global_pool)), own_classifier(model.fc)


def _vision_transformer(model: Any) -> Parts:
    embed = ("patch_embed", "cls_token", "reg_token", "pos_embed", "pos_drop", "patch_drop")
    stages = (
        ("patch_embed", Call(_vit_embed, view(model, (*embed, "norm_pre")))),
        *children(model.blocks, "blocks"),
        ("norm", model.norm),
        (POOLED, Call(_vit_pool, view(model, ("attn_pool", "fc_norm")))),
    )
    return stages, own_classifier(model.head)


def _vit_embed(model: Any, x: torch.Tensor) -> torch.Tensor:
    x = model._pos_embed(model.patch_embed(x))
    return model.norm_pre(model.patch_drop(x))  # type: ignore[no-any-return]


def _vit_pool(model: Any, x: torch.Tensor) -> torch.Tensor:
    return model.fc_norm(model.pool(x))  # type: ignore[no-any-return]


def _features(model: Any, x: torch.Tensor) -> torch.Tensor:
    return model.forward_features(x)  # type: ignore[no-any-return]


def _pool(model: Any, x: torch.Tensor) -> torch.Tensor:
    return model.forward_head(x, pre_logits=True)  # type: ignore[no-any-return]


def _features_and_pool(model: Any, x: torch.Tensor) -> torch.Tensor:
    return _pool(model, _features(model, x))


@torch.no_grad()
def _any_other(name: str, model: Any, spec: InputSpec) -> Parts:
    """Cut a model of no known family by timm's common methods, and check the parts on one input."""
    x = probe(spec.height, spec.width)
    try:
        logits = model(x)
        classifier = own_classifier(model.get_classifier())
        pooled = _features_and_pool(model, x)
        if classifier is not None:
            if not same(classifier(pooled), logits):
                classifier = None  # the logits are not simply the last layer of these features
            model.reset_classifier(0)
        whole = Call(_features_and_pool, model)
        if pooled.ndim != 2 or not same(whole(x), pooled):
            raise TypeError(f"its features have the shape {tuple(pooled.shape)}")
    except (AttributeError, TypeError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(
            f"timm/{name} cannot be used as a backbone: it does not map a picture to one vector of "
            f"features by timm's forward_features and forward_head ({error})"
        ) from error
    parts = _body_and_head(model, x)
    if parts is not None and same(_run(parts, x), pooled):
        return parts, classifier
    return ((POOLED, whole),), classifier


def _body_and_head(model: Any, x: torch.Tensor) -> Stages | None:
    """Give each of the two methods the children that it uses, or None where that is impossible."""
    features: Any = _features(model, x)
    if not isinstance(features, torch.Tensor):  # some give one tensor per scale
        return None
    in_head = called(model, lambda: _pool(model, features.clone()))
    in_body = called(model, lambda: _features(model, x))
    own = {n for t in ("_modules", "_parameters", "_buffers") for n in model.__dict__[t]}
    body = Call(_features, view(model, own - (in_head - in_body)))
    head = Call(_pool, view(model, in_head))
    return (("features", body), (POOLED, head))


def _run(stages: Stages, x: torch.Tensor) -> torch.Tensor | None:
    """Run the stages, or return None where one lacks something or writes to its input."""
    for _, stage in stages:
        before = x.clone()
        try:
            result = stage(x)
        except AttributeError:
            return None
        if not torch.equal(x, before):
            return None
        x = result
    return x

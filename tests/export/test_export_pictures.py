"""timm and torchvision load an export by their own names and say what the bundle says."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from tiny_bundles import picture, trained, write_tiny
from torchvision.models import get_model

from headstart.errors import ConfigError
from headstart.export import Library, export_library
from headstart.heads import HeadSpec, build_head
from headstart.predict import load_bundle
from headstart.predict.saved import TrainedModel, trained_tensors
from headstart.types import FloatArray

pytestmark = pytest.mark.usefixtures("one_thread")

PICTURES = [picture(seed) for seed in range(3)]


def write(folder: Path, backbone: str, image_size: int | None = 64, **options: Any) -> FloatArray:
    network = trained(backbone, image_size=image_size, **options)
    return write_tiny(folder / "bundle", PICTURES, network)


def prepared(folder: Path) -> torch.Tensor:
    with load_bundle(folder / "bundle") as bundle:
        return torch.from_numpy(np.stack([bundle.prepare(one) for one in PICTURES]))


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_efficientnet", 64), ("test_resnet", 64), ("test_vit", None), ("test_convnext", 64)],
)
def test_timm_loads_it_with_strict_names(tmp_path: Path, name: str, size: int | None) -> None:
    expected = write(tmp_path, f"timm/{name}", size, temperature=2.0)
    with load_bundle(tmp_path / "bundle") as bundle:
        found = export_library(bundle, tmp_path / "out", "timm")
    assert found.difference < 1e-5
    model = timm.create_model(
        name, pretrained=False, num_classes=3, checkpoint_path=tmp_path / "out/model.safetensors"
    ).eval()
    with torch.inference_mode():
        got = model(prepared(tmp_path)).softmax(dim=1).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_timm_knows_how_pictures_are_prepared(tmp_path: Path) -> None:
    expected = write(tmp_path, "timm/test_resnet")
    with load_bundle(tmp_path / "bundle") as bundle:
        export_library(bundle, tmp_path / "out", "timm")
        spec = bundle.info.spec
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    assert tuple(config["input_size"]) == (3, spec.height, spec.width)
    assert (tuple(config["mean"]), tuple(config["std"])) == (spec.mean, spec.std)
    assert config["interpolation"] == spec.interpolation
    assert model.pretrained_cfg["label_names"] == ["a", "b", "c"]
    with torch.inference_mode():
        got = model(prepared(tmp_path)).softmax(dim=1).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_torchvision_loads_it_with_strict_names(tmp_path: Path, name: str) -> None:
    expected = write(tmp_path, f"torchvision/{name}")
    with load_bundle(tmp_path / "bundle") as bundle:
        export_library(bundle, tmp_path / "out", "torchvision")
    model = get_model(name, weights=None, num_classes=3).eval()
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "out/model.safetensors"))
    with torch.inference_mode():
        got = model(prepared(tmp_path)).softmax(dim=1).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def with_head(network: tuple[TrainedModel, Any], spec: HeadSpec) -> tuple[TrainedModel, Any]:
    """The same network with another head, whose statistics are far from where they begin."""
    model, backbone = network
    head = build_head(spec, model.model.width, 3, seeds=[1])
    draw = torch.Generator().manual_seed(5)
    for name, value in head.state_dict().items():
        if "norms" in name:
            value.uniform_(0.5, 2, generator=draw)
    other = dataclasses.replace(model.model, head=spec)
    return TrainedModel(other, trained_tensors(backbone, "input", "pooled", head)), backbone


def test_batch_normalisation_of_the_head_is_folded_in(tmp_path: Path) -> None:
    network = with_head(trained("timm/test_resnet", image_size=64), HeadSpec(normalization="batch"))
    write_tiny(tmp_path / "bundle", PICTURES, network)
    with load_bundle(tmp_path / "bundle") as bundle:
        assert export_library(bundle, tmp_path / "out", "timm").difference < 1e-5


@pytest.mark.parametrize(
    ("backbone", "library", "words"),
    [
        ("timm/test_resnet", "torchvision", "--format timm"),
        ("timm/test_resnet", "transformers", "no network of transformers"),
        ("headstart/resnet20", "timm", "--format onnx"),
    ],
)
def test_another_library_is_named(
    tmp_path: Path, backbone: str, library: Library, words: str
) -> None:
    write(tmp_path, backbone, None)
    with load_bundle(tmp_path / "bundle") as bundle, pytest.raises(ConfigError, match=words):
        export_library(bundle, tmp_path / "out", library)
    assert not (tmp_path / "out").exists()


def test_hidden_layers_ensembles_and_taken_names_are_refused(tmp_path: Path) -> None:
    base = trained("timm/test_resnet", image_size=64)
    write_tiny(tmp_path / "deep", PICTURES, with_head(base, HeadSpec(hidden=(4,))))
    members = [trained("timm/test_resnet", image_size=64, seed=seed) for seed in (0, 1)]
    write_tiny(tmp_path / "two", PICTURES, *members, voting="soft", weights=[0.5, 0.5])
    for name, words in (("deep", "1 hidden layer"), ("two", "ensemble of 2 networks")):
        with load_bundle(tmp_path / name) as bundle, pytest.raises(ConfigError, match=words):
            export_library(bundle, tmp_path / "out", "timm")
    (tmp_path / "taken").mkdir()
    with load_bundle(tmp_path / "deep") as bundle, pytest.raises(ConfigError, match="already"):
        export_library(bundle, tmp_path / "taken", "timm")

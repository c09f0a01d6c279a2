"""The arithmetic of a forward pass agrees with what is published."""

import pytest
import torch

from headstart.backbones import chain, dry
from headstart.backbones.base import example_input
from headstart.backbones.registry import load_backbone
from headstart.features import choose
from headstart.features.flops import forward_flops, macs, matrix_flops_per_second
from headstart.features.trials import Job
from headstart.types import InputSpec


def square(size: int) -> InputSpec:
    return InputSpec(size, size, size, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet50", 224),
        ("vgg16", 224),
        ("mobilenet_v2", 224),
        ("resnet18", 224),
        ("efficientnet_b0", 224),
        ("inception_v3", 299),
        ("densenet121", 224),
        ("vit_b_16", 224),
        ("swin_t", 224),
        ("convnext_tiny", 224),
    ],
)
def test_multiply_adds_are_those_that_torchvision_publishes(name: str, size: int) -> None:
    from torchvision import models

    options = {"init_weights": False} if name == "inception_v3" else {}  # else it warns
    with torch.device("meta"):  # no numbers, so no memory and no time
        network = models.get_model(name, weights=None, **options)
    published = models.get_model_weights(name).IMAGENET1K_V1.meta["_ops"]  # in 10^9
    found = macs(network, square(size))
    assert found is not None
    assert found / 1e9 == pytest.approx(published, rel=0.01)
    assert network.training  # left as it was


@pytest.mark.parametrize(("lite", "size", "million"), [(0, 224, 407), (1, 240, 631), (2, 260, 899)])
def test_multiply_adds_of_efficientnet_lite(lite: int, size: int, million: int) -> None:
    # Published at github.com/tensorflow/tpu, models/official/efficientnet/lite: by a counter that
    # also counts normalisation, some 5% more in networks that are mostly thin convolutions.
    import timm

    found = macs(timm.create_model(f"tf_efficientnet_lite{lite}"), square(size))
    assert found is not None
    assert 0.94 < found / (million * 1e6) < 1


def test_multiply_adds_of_a_text_encoder_by_hand() -> None:
    backbone = load_backbone("packaged/minilm-l6", weights="random")
    network = backbone.prefix("pooled")
    for tokens in (8, 64):
        # Six layers: four products of 384 x 384 and two of 384 x 1536 for each token; and each
        # token's query with every key, its weights with every value.
        layer = tokens * (4 * 384**2 + 2 * 384 * 1536) + 2 * tokens**2 * 384
        found = macs(network, backbone.input_spec, tokens)
        assert found == pytest.approx(6 * layer, rel=0.01)


@pytest.mark.parametrize(
    ("name", "billion_multiplications"),
    [  # published for 224 x 224 pictures, without the classifier
        ("timm/resnet18", 1.82),  # timm's results table: 1.82 GMACs
        ("timm/resnet50", 4.11),  # 4.11
        ("timm/mobilenetv2_100", 0.30),  # the paper: 300 million
    ],
)
def test_flops_are_those_of_published_tables(name: str, billion_multiplications: float) -> None:
    backbone = load_backbone(name, weights="random")
    flops = forward_flops(backbone, backbone.stages[-1])
    assert flops is not None
    assert flops / 2e9 == pytest.approx(billion_multiplications, rel=0.03)
    assert next(backbone.modules("input", "pooled")[0][1].parameters()).device.type == "cpu"


def test_an_earlier_cut_takes_less() -> None:
    backbone = load_backbone("headstart/resnet20", weights="random")
    counts = [forward_flops(backbone, cut) for cut in backbone.stages]
    assert counts == sorted(counts)
    # 3 x 3 convolution of 3 to 16 channels at 32 x 32 pixels, by hand.
    assert counts[0] == 2 * 9 * 3 * 16 * 32 * 32


def test_this_processor_multiplies() -> None:
    before = torch.random.get_rng_state()
    assert 1e8 < matrix_flops_per_second() < 1e14
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_other_engine_is_tried_where_torch_is_at_the_ceiling(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    from pathlib import Path

    import numpy as np

    backbone = load_backbone("headstart/resnet20", weights="random")
    job = Job(
        backbone=backbone,
        cut="pooled",
        network=backbone.digest("pooled"),
        device=torch.device("cpu"),
        images=3_000,  # 3 s for torch: long enough to think about, short enough to have to
        graphs=Path(str(tmp_path)) / "graphs",
        memory=Path(str(tmp_path)) / "memory",
    )
    samples = np.zeros((8, 3, 32, 32), dtype=np.float32)
    monkeypatch.setattr(choose, "timed", lambda _, samples: len(samples) / 1000)
    monkeypatch.setattr(choose, "matrix_flops_per_second", lambda: 1.0)  # torch is far above it
    choice = choose.choose_engine(job, samples)
    assert choice.engine.name == "torch"
    assert [trial.name for trial in choice.trials] == ["torch"]
    assert "100% of the speed of a plain matrix product" in choice.trials[0].reason


@pytest.mark.parametrize(
    "name", ["headstart/resnet20", "packaged/efficientnet-lite0", "torchvision/vit_b_32"]
)
def test_a_dry_run_leaves_out_nothing_that_counts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(name, weights="random")
    x = example_input(backbone.input_spec, 1, torch.device("cpu"))
    shapes = []
    with torch.inference_mode():
        for _, module in backbone.modules("input", "pooled"):
            x = module(x)
            shapes.append(tuple(x.shape[1:]))
    assert [backbone.shape(cut) for cut in backbone.stages] == shapes
    found = forward_flops(backbone, "pooled")
    monkeypatch.setattr(dry, "_SAME_SHAPE", frozenset())
    assert found == forward_flops(backbone, "pooled")


def test_shapes_of_a_copy_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("headstart/resnet20", weights="random")
    shape = backbone.shape("pooled")
    monkeypatch.setattr(chain, "dry_run", None)  # calling it would be an error
    assert backbone.clone().shape("pooled") == shape

"""The arithmetic of a forward pass agrees with what is published."""

import pytest
import torch

from headstart.backbones.registry import load_backbone
from headstart.features import choose
from headstart.features.flops import forward_flops, matrix_flops_per_second


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
    job = choose.Job(
        backbone=backbone,
        cut="pooled",
        network=backbone.digest("pooled"),
        device=torch.device("cpu"),
        images=100_000,
        graphs=Path(str(tmp_path)) / "graphs",
        memory=Path(str(tmp_path)) / "memory",
    )
    samples = np.zeros((8, 3, 32, 32), dtype=np.float32)
    monkeypatch.setattr(choose, "matrix_flops_per_second", lambda: 1.0)  # torch is far above it
    choice = choose.choose_engine(job, samples)
    assert choice.engine.name == "torch"
    assert [trial.name for trial in choice.trials] == ["torch"]
    assert "100% of the speed of a plain matrix product" in choice.trials[0].reason

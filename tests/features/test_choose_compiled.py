"""On a GPU torch's compiler is used where it is worth while and right; the GPU is stood in for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.backbones.base import Backbone
from headstart.backbones.registry import load_backbone
from headstart.features import choose_compiled as module
from headstart.features.choose import choose_engine
from headstart.features.engine_torch import TorchEngine
from headstart.features.trials import Choice, EngineTrial, Job
from headstart.types import FloatArray

CUDA = torch.device("cuda")
SAMPLES = np.random.default_rng(0).normal(size=(5, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("torchvision/mobilenet_v2", weights="random", seed=0)


class Timed:
    """An engine at a speed that is told; `fault` is added to each feature."""

    micro_batch, name = 4, "torch"
    built: list[str]

    def __init__(self, rate: float, fault: float = 0.0) -> None:
        self.rate, self.fault = rate, fault

    def run(self, batch: FloatArray) -> FloatArray:
        return batch.mean(axis=(2, 3)) + np.float32(self.fault)


@pytest.fixture
def choose(
    monkeypatch: pytest.MonkeyPatch, backbone: Backbone, tmp_path: Path
) -> Callable[..., Choice]:
    """Choose between a plain engine and a compiled one, both stood in for."""

    def made(plain: Timed, compiled: Timed | None, *, images: int, can: bool = True) -> Choice:
        def build_compiled(*_: object, compiled_: Timed | None = compiled, **__: object) -> Timed:
            assert compiled_ is not None, "it was not to be compiled"
            return compiled_

        trial = EngineTrial("torch", 0.0, None, None, False, "")
        monkeypatch.setattr(module, "built", lambda *_: (plain, trial))
        monkeypatch.setattr(module, "TorchEngine", build_compiled)
        monkeypatch.setattr(module, "can_compile", lambda device: can and device == CUDA)
        monkeypatch.setattr(module, "timed", lambda engine, samples: len(samples) / engine.rate)
        job = Job(backbone, "pooled", "ab" * 32, CUDA, images, tmp_path / "g", tmp_path / "e")
        return choose_engine(job, SAMPLES)

    return made


def test_long_work_is_compiled_where_that_is_faster(choose: Callable[..., Choice]) -> None:
    faster = Timed(1500.0, fault=1e-6)
    choice = choose(Timed(1000.0), faster, images=10**6)
    assert choice.engine is faster
    (trial,) = choice.trials
    assert (trial.chosen, trial.name, trial.images_per_second) == (True, "torch", 1500.0)
    assert "as it is it makes 1,000 images/s" in trial.reason
    assert trial.max_relative_difference is not None
    assert 0 < trial.max_relative_difference < 1e-4


@pytest.mark.parametrize(
    ("compiled", "reason"),
    [
        (Timed(900.0), "compiled it makes 900 images/s"),
        (Timed(9000.0, fault=0.05), "compiled it differs from torch by"),
    ],
)
def test_a_compiled_pass_that_is_slower_or_wrong_is_left(
    choose: Callable[..., Choice], compiled: Timed, reason: str
) -> None:
    plain = Timed(1000.0)
    choice = choose(plain, compiled, images=10**6)
    assert choice.engine is plain
    assert choice.trials[0].chosen
    assert reason in choice.trials[0].reason


def test_short_work_and_old_devices_are_not_compiled(choose: Callable[..., Choice]) -> None:
    plain = Timed(1000.0)
    choice = choose(plain, None, images=10_000)  # ten seconds
    assert choice.engine is plain
    assert "needs 10 s" in choice.trials[0].reason
    assert choose(plain, None, images=10**9, can=False).engine is plain


def test_a_compiled_engine_gives_torchs_features(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The part of the compiler that writes code needs a GPU; everything before it is torch's own.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    cpu = torch.device("cpu")
    plain = TorchEngine(backbone, "pooled", cpu).run(SAMPLES)
    compiled = TorchEngine(backbone, "pooled", cpu, compiled=True).run(SAMPLES)
    np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-6)

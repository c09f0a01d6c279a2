"""What training steps do on a GPU besides, with the GPU stood in for."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_loop_options import activations, close, train_tail
from torch import nn

from headstart._util import compiling
from headstart.config import schema
from headstart.runs import build
from headstart.train import TrainPlan, acceleration, pays_to_compile, step_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stand in for a GPU of a capability, which computes in bfloat16 or does not."""

    def made(capability: tuple[int, int], *, bfloat16: bool) -> None:
        def supported(including_emulation: bool = True) -> bool:
            return bfloat16 or including_emulation  # emulated, it is slower than float32

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(compiling, "find_spec", lambda name: name)

    return made


def test_auto_is_bfloat16_where_a_gpu_computes_in_it(gpu: Callable[..., None]) -> None:
    gpu((9, 0), bfloat16=True)
    assert step_precision("auto", CUDA, deep=True) == "bfloat16"
    assert step_precision("auto", CUDA, deep=False) == "float32"  # a head is small
    assert step_precision("auto", CPU, deep=True) == "float32"
    gpu((7, 5), bfloat16=False)
    assert step_precision("auto", CUDA, deep=True) == "float32"


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
def test_what_is_asked_for_is_done(asked: Any, device: torch.device) -> None:
    assert step_precision(asked, device, deep=True) == asked


def test_only_long_trainings_on_a_new_gpu_are_compiled(gpu: Callable[..., None]) -> None:
    gpu((7, 0), bfloat16=False)
    many = acceleration.COMPILED_FROM
    assert pays_to_compile(CUDA, many, fixed=True)
    assert not pays_to_compile(CUDA, many - 1, fixed=True)
    assert not pays_to_compile(CUDA, many, fixed=False)
    assert not pays_to_compile(CPU, many, fixed=True)
    gpu((6, 1), bfloat16=False)
    assert not pays_to_compile(CUDA, many, fixed=True)


def stage_plan(device: torch.device, *, deep: bool = True, count: int = 640) -> TrainPlan:
    part = schema.ModelPart.model_validate(
        {"kind": "model", "epochs": 100, "batch_size": 32, "stages": ({"trainable": {"last": 1}},)}
    )
    dataset: Any = SimpleNamespace(
        goal="classification", labels=np.zeros(count, int), classes=("a", "b")
    )
    (stage,) = build.stages_of(part)
    rows = np.arange(count)
    return build.stage_plan(stage, 0, part, dataset, rows, device=device, deep=deep, fixed=True)


def test_a_stage_takes_both_from_its_device(gpu: Callable[..., None]) -> None:
    gpu((9, 0), bfloat16=True)
    on_gpu, on_cpu = stage_plan(CUDA), stage_plan(CPU)
    assert (on_gpu.precision, on_gpu.compiled) == ("bfloat16", True)  # 100 epochs of 20 steps
    assert (on_cpu.precision, on_cpu.compiled) == ("float32", False)
    assert not stage_plan(CUDA, count=639 - 32).compiled  # of 19
    head_alone = stage_plan(CUDA, deep=False)
    assert (head_alone.precision, head_alone.compiled) == ("float32", False)


def test_compiled_steps_lead_to_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[torch.Size] = []

    def compiler(graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Any:
        called.append(inputs[0].shape)
        return torch._dynamo.backends.debugging.aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    plain, records, _ = train_tail(activations(), norm=nn.BatchNorm2d, epochs=3)
    assert not called
    compiled, again, _ = train_tail(activations(), norm=nn.BatchNorm2d, epochs=3, compiled=True)
    assert called
    close(compiled, plain)
    assert [r.loss for r in again] == pytest.approx([r.loss for r in records], rel=1e-5)


@pytest.mark.filterwarnings("ignore")  # torch says what did not compile
def test_a_compiler_that_fails_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Any:
        raise RuntimeError("no code for this device")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    plain, _, _ = train_tail(activations(), epochs=2)
    compiled, _, _ = train_tail(activations(), epochs=2, compiled=True)
    close(compiled, plain)

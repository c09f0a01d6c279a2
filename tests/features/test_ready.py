"""An engine that was chosen stays ready for its network, and for nothing else."""

import gc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_backbone import Pictures, TinyBackbone, pictures, truth

from headstart._util.progress import SilentProgress
from headstart.errors import EngineError
from headstart.features import ready, work
from headstart.features.choose import trial_images, use_engine
from headstart.features.extract import Extraction, extract
from headstart.features.store import FeatureStore
from headstart.features.trials import Choice, Job
from headstart.types import FloatArray

MANY = trial_images() + 3


@pytest.fixture(autouse=True)
def nothing_ready() -> Iterator[None]:
    ready.forget_ready()
    yield
    ready.forget_ready()


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Let ONNX Runtime win each trial; return the jobs of which there was one."""
    seen: list[Job] = []

    def choose(job: Job, samples: FloatArray) -> Choice:
        seen.append(job)
        return use_engine("onnxruntime", job, samples)

    monkeypatch.setattr(work, "choose_engine", choose)
    return seen


def run(images: Pictures, backbone: TinyBackbone, folder: Path, **options: Any) -> Extraction:
    given: dict[str, Any] = {"cut": "pooled", "engine": "auto", **options}
    return extract(
        images,
        range(len(images)),
        backbone,
        given.pop("cut"),
        store=FeatureStore(folder),
        device=torch.device("cpu"),
        workers=0,
        progress=SilentProgress(),
        **given,
    )


def test_the_next_pictures_are_computed_by_the_engine_that_is_there(
    choices: list[Job], tmp_path: Path
) -> None:
    backbone = TinyBackbone()
    run(pictures(MANY), backbone, tmp_path)
    others = pictures(MANY, seed=5)
    again = run(others, backbone, tmp_path)
    assert len(choices) == 1
    assert (again.engine, again.extracted) == ("onnxruntime", MANY)
    assert [trial.reason for trial in again.engine_report] == [
        "built and held to torch's features before, in this process"
    ]
    expected = truth(backbone, "pooled", others)
    np.testing.assert_allclose(again.features.load(), expected, rtol=1e-5, atol=1e-6)


def test_an_engine_that_the_user_names_is_the_one_that_computes(
    choices: list[Job], tmp_path: Path
) -> None:
    backbone = TinyBackbone()
    run(pictures(MANY), backbone, tmp_path)
    assert run(pictures(MANY, seed=5), backbone, tmp_path, engine="torch").engine == "torch"


@pytest.mark.parametrize(
    "change", ["weights", "cut", "folder", "threads", "network", "process", "more"]
)
def test_anything_else_is_chosen_for_anew(
    choices: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    backbone, cut, folder = TinyBackbone(), "pooled", tmp_path
    run(pictures(MANY), backbone, folder)
    if change == "weights":
        with torch.no_grad():
            for _, module in backbone.modules("input", "pooled"):
                for parameter in module.parameters():
                    parameter.mul_(2)
    elif change == "network":
        backbone = TinyBackbone()
    elif change == "cut":
        cut = "conv"
    elif change == "folder":
        folder = tmp_path / "elsewhere"
    elif change == "threads":
        monkeypatch.setattr(ready, "cpu_threads", lambda: 99)
    elif change == "process":
        monkeypatch.setattr(ready, "os", SimpleNamespace(getpid=lambda: -1))
    others = pictures(MANY + (change == "more"), seed=5)
    again = run(others, backbone, folder, cut=cut)
    assert len(choices) == 2
    expected = truth(backbone, cut, others)
    np.testing.assert_allclose(again.features.load(), expected, rtol=1e-5, atol=1e-6)


def test_large_networks_and_forgotten_ones_take_no_memory(
    choices: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, second = TinyBackbone(), TinyBackbone(seed=3)
    run(pictures(MANY), backbone, tmp_path)
    assert list(ready._ready) == [backbone]
    run(pictures(MANY), second, tmp_path)
    assert list(ready._ready) == [second]  # one engine at a time
    choices.clear()  # they name the backbone
    del second
    gc.collect()
    assert not ready._ready
    monkeypatch.setattr(ready, "_MOST_BYTES", 0)
    run(pictures(MANY, seed=5), backbone, tmp_path)
    assert not ready._ready


def test_an_engine_that_failed_is_chosen_anew(
    choices: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = TinyBackbone()
    run(pictures(MANY), backbone, tmp_path)
    (_, _, choice) = ready._ready[backbone]

    def dying(*_: Any) -> Any:
        raise EngineError("out of memory")

    others = pictures(MANY, seed=5)
    with monkeypatch.context() as patch:
        patch.setattr(type(choice.engine), "run", dying)
        with pytest.raises(EngineError, match="out of memory"):
            run(others, backbone, tmp_path)
    assert run(others, backbone, tmp_path).extracted == MANY
    assert len(choices) == 2

"""The engine that is chosen is the fastest of those that are right."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_backbone import TinyBackbone

from headstart.errors import EngineError
from headstart.features import choose as choose_module
from headstart.features import trials as trials_module
from headstart.features.choose import choose_engine, remembered_trial, use_engine
from headstart.features.trials import Choice, EngineTrial, Job

CPU = torch.device("cpu")
SAMPLES = np.linspace(-1, 1, 8 * 3 * 4 * 4, dtype=np.float32).reshape(8, 3, 4, 4)


class Fake:
    """Sums each picture, at the speed and with the mistake it is told."""

    micro_batch = 4

    def __init__(self, name: str, seconds: float, mistake: float = 0.0, first: float = 0.0) -> None:
        self.name, self.seconds, self.mistake, self.first = name, seconds, mistake, first
        self.calls = 0

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.calls += 1
        time.sleep(self.seconds + self.first * (self.calls == 1))
        out = batch.sum(axis=(2, 3))
        return (out + self.mistake * np.abs(out).max()).astype(np.float32)


class Workshop:
    """Builds fakes in the place of engines, and keeps the order in which they were asked for."""

    build_seconds = 0.0

    def __init__(self, **engines: Fake | Exception) -> None:
        self.engines = {"torch": Fake("torch", 0.02), **engines}
        self.built: list[str] = []

    def __call__(
        self, name: str, backbone: TinyBackbone, cut: str, *, device: torch.device, graph: Path
    ) -> Fake:
        assert (backbone.name, cut, graph.suffix) == ("tiny", "pooled", ".onnx")
        assert isinstance(device, torch.device)
        time.sleep(0.0 if name == "torch" else self.build_seconds)
        self.built.append(name)
        made = self.engines[name]
        if isinstance(made, Exception):
            raise made
        return made


Setup = Callable[..., tuple[Workshop, Job]]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    def make(images: int = 10**6, **engines: Fake | Exception) -> tuple[Workshop, Job]:
        workshop = Workshop(**engines)
        monkeypatch.setattr(trials_module, "build_engine", workshop)
        backbone = TinyBackbone()
        job = Job(backbone, "pooled", "ab" * 32, CPU, images, tmp_path / "g", tmp_path / "e")
        return workshop, job

    return make


def by_name(choice: Choice) -> dict[str, EngineTrial]:
    assert sum(trial.chosen for trial in choice.trials) == 1
    return {trial.name: trial for trial in choice.trials}


def test_the_fastest_that_agrees_is_taken(setup: Setup) -> None:
    _, job = setup(
        openvino=Fake("openvino", 0.01, mistake=1e-6), onnxruntime=Fake("onnxruntime", 0.0)
    )
    choice = choose_engine(job, SAMPLES)
    assert choice.engine.name == "onnxruntime"
    trials = by_name(choice)
    assert set(trials) == {"torch", "openvino", "onnxruntime"}
    rates = [trials[name].images_per_second for name in ("torch", "openvino", "onnxruntime")]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(8 / 0.02, rel=0.3)
    assert trials["openvino"].max_relative_difference == pytest.approx(1e-6, rel=0.2)
    assert "slower than onnxruntime" in trials["torch"].reason


@pytest.mark.parametrize(
    ("mistake", "reason"),
    [
        (2e-3, r"differs from torch by 2\.0e-03, allowed 1e-03"),
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
    ],
)
def test_a_fast_engine_that_gives_wrong_numbers_is_rejected(
    setup: Setup, mistake: float, reason: str
) -> None:
    _, job = setup(
        openvino=Fake("openvino", 0.0, mistake=mistake), onnxruntime=Fake("onnxruntime", 0.01)
    )
    choice = choose_engine(job, SAMPLES)
    assert choice.engine.name == "onnxruntime"
    rejected = by_name(choice)["openvino"]
    assert not rejected.chosen
    assert re.search(reason, rejected.reason)


def test_engines_that_cannot_be_built_or_run_leave_torch(setup: Setup) -> None:
    broken = Fake("onnxruntime", 0.0)
    broken.seconds = -1.0  # time.sleep refuses that
    _, job = setup(openvino=EngineError("no such operator"), onnxruntime=broken)
    choice = choose_engine(job, SAMPLES)
    assert choice.engine.name == "torch"
    trials = by_name(choice)
    assert trials["openvino"].reason == "failed: no such operator"
    assert trials["onnxruntime"].reason == "failed: sleep length must be non-negative"


def test_engines_that_are_not_installed_are_said_so(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop, job = setup()
    monkeypatch.setattr(choose_module, "installed", lambda name: name == "torch")
    choice = choose_engine(job, SAMPLES)
    assert choice.engine.name == "torch"
    assert "pip install 'headstart[engines]'" in by_name(choice)["openvino"].reason
    assert workshop.built == ["torch"]


def test_a_job_of_few_pictures_is_not_worth_an_export_however_slow_torch_is(
    setup: Setup,
) -> None:
    workshop, job = setup(images=100)
    workshop.engines["torch"] = Fake("torch", 0.3)  # 3.8 s for the job
    assert choose_engine(job, SAMPLES).engine.name == "torch"
    assert workshop.built == ["torch"]


def test_a_small_job_builds_nothing_but_torch(setup: Setup) -> None:
    workshop, job = setup(images=400)  # 1 s for torch
    choice = choose_engine(job, SAMPLES)
    assert (choice.engine.name, workshop.built) == ("torch", ["torch"])
    assert "needs 1." in by_name(choice)["torch"].reason
    assert not job.memory.exists()


def test_what_cannot_win_is_not_timed_again(setup: Setup) -> None:
    engines = {"onnxruntime": Fake("onnxruntime", 0.005), "openvino": Fake("openvino", 0.012)}
    workshop, job = setup(**engines)
    assert choose_engine(job, SAMPLES).engine.name == "onnxruntime"
    # Each: what is compared, and once more warm.
    assert {engine.calls for engine in workshop.engines.values()} == {2}


def test_an_engine_that_is_slow_at_first_is_not_dropped_for_it(setup: Setup) -> None:
    engines = {
        "onnxruntime": Fake("onnxruntime", 0.012),
        "openvino": Fake("openvino", 0.004, first=0.1),
    }
    _, job = setup(**engines)
    assert choose_engine(job, SAMPLES).engine.name == "openvino"


def test_a_close_race_is_timed_until_it_is_settled(setup: Setup) -> None:
    engines = {"onnxruntime": Fake("onnxruntime", 0.0052), "openvino": Fake("openvino", 0.005)}
    _, job = setup(**engines)
    choose_engine(job, SAMPLES)
    assert {engine.calls for engine in engines.values()} == {5}


def test_a_second_engine_is_not_built_for_what_the_first_does_soon(setup: Setup) -> None:
    engines = {"onnxruntime": Fake("onnxruntime", 0.002), "openvino": Fake("openvino", 0.0)}
    workshop, job = setup(images=1000, **engines)  # 2.5 s for torch
    for built in (["torch", "onnxruntime"], ["torch", "onnxruntime"]):  # found, and remembered
        workshop.built.clear()
        choice = choose_engine(job, SAMPLES)
        assert (choice.engine.name, workshop.built) == ("onnxruntime", built)
    large = Job(job.backbone, job.cut, job.network, CPU, 10**6, job.graphs, job.memory)
    assert choose_engine(large, SAMPLES).engine.name == "openvino"
    assert choose_engine(job, SAMPLES).engine.name == "openvino"  # and that is remembered


def test_a_second_engine_is_tried_where_the_first_is_no_faster_than_torch(setup: Setup) -> None:
    workshop, job = setup(
        images=1000, onnxruntime=Fake("onnxruntime", 0.02), openvino=Fake("openvino", 0.0)
    )
    assert choose_engine(job, SAMPLES).engine.name == "openvino"
    assert workshop.built == ["torch", "onnxruntime", "openvino"]


def test_the_choice_is_remembered_and_checked_again(setup: Setup) -> None:
    engines = {
        "openvino": Fake("openvino", 0.0),
        "onnxruntime": Fake("onnxruntime", 0.01),
    }
    workshop, job = setup(**engines)
    first = choose_engine(job, SAMPLES)
    workshop.built.clear()
    engines["openvino"].calls = 0
    again = choose_engine(job, SAMPLES)
    assert again.engine.name == "openvino"
    assert workshop.built == ["torch", "openvino"]
    assert engines["openvino"].calls == 1  # compared, not timed
    trial = by_name(again)["openvino"]
    assert trial.max_relative_difference == 0.0
    assert trial.images_per_second == by_name(first)["openvino"].images_per_second
    (path,) = job.memory.iterdir()
    kept = json.loads(path.read_text())["circumstances"]
    assert {"cpu", "cores", "versions", "network", "input"} <= set(kept)


@pytest.mark.parametrize("what", [Fake("openvino", 0.0, mistake=0.1), RuntimeError("gone")])
def test_a_remembered_engine_that_fails_makes_all_be_tried_again(
    setup: Setup, what: Fake | Exception
) -> None:
    good = Fake("onnxruntime", 0.01)
    _, job = setup(openvino=Fake("openvino", 0.0), onnxruntime=good)
    assert choose_engine(job, SAMPLES).engine.name == "openvino"
    _, job = setup(openvino=what, onnxruntime=good)
    assert choose_engine(job, SAMPLES).engine.name == "onnxruntime"
    assert choose_engine(job, SAMPLES).engine.name == "onnxruntime"  # and that is remembered


def test_a_remembered_engine_is_not_built_for_a_job_that_torch_does_sooner(setup: Setup) -> None:
    workshop, job = setup(openvino=Fake("openvino", 0.0), onnxruntime=Fake("onnxruntime", 0.0))
    workshop.build_seconds = 0.3
    assert choose_engine(job, SAMPLES).engine.name != "torch"
    workshop.built.clear()
    small = Job(job.backbone, job.cut, job.network, CPU, 50, job.graphs, job.memory)
    assert choose_engine(small, SAMPLES).engine.name == "torch"
    assert workshop.built == ["torch"]


def test_what_others_are_to_build_is_remembered_without_building_it(setup: Setup) -> None:
    workshop, job = setup(openvino=Fake("openvino", 0.0), onnxruntime=Fake("onnxruntime", 0.01))
    workshop.build_seconds = 0.3
    assert remembered_trial(job) is None
    choose_engine(job, SAMPLES)
    workshop.built.clear()
    trial = remembered_trial(job)
    assert trial is not None
    assert (trial.name, trial.chosen) == ("openvino", True)
    assert workshop.built == []
    # The other engine would have been tried for it, or torch would be done sooner.
    small = Job(job.backbone, job.cut, job.network, CPU, 50, job.graphs, job.memory)
    assert remembered_trial(small) is None


@pytest.mark.parametrize("change", ["network", "cores", "threads", "engines", "versions"])
def test_another_network_or_machine_is_another_choice(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    workshop, job = setup(openvino=Fake("openvino", 0.0), onnxruntime=Fake("onnxruntime", 0.0))
    choose_engine(job, SAMPLES)
    if change == "network":
        job = Job(job.backbone, "pooled", "cd" * 32, CPU, job.images, job.graphs, job.memory)
    elif change == "cores":
        monkeypatch.setattr(choose_module, "usable_cores", lambda: 77)
    elif change == "threads":
        monkeypatch.setattr(choose_module, "cpu_threads", lambda: 77)
    elif change == "engines":
        monkeypatch.setattr(choose_module, "_ENGINES", 77)
    else:
        monkeypatch.setattr(choose_module.metadata, "version", lambda package: f"77 of {package}")
    workshop.built.clear()
    choose_engine(job, SAMPLES)
    assert workshop.built == ["torch", "onnxruntime", "openvino"]


@pytest.mark.parametrize("text", ["", "[]", '{"trials": []}', '{"trials": [{"name": "rm"}]}'])
def test_a_damaged_memory_is_forgotten(setup: Setup, text: str) -> None:
    workshop, job = setup(openvino=Fake("openvino", 0.0), onnxruntime=Fake("onnxruntime", 0.01))
    choose_engine(job, SAMPLES)
    (path,) = job.memory.iterdir()
    path.write_text(text)
    workshop.built.clear()
    assert choose_engine(job, SAMPLES).engine.name == "openvino"
    assert len(workshop.built) == 3


def test_on_another_device_than_the_cpu_torch_is_taken(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.features.choose_compiled.can_compile", lambda _: False)
    workshop, job = setup()
    there = Job(job.backbone, "pooled", "", torch.device("cuda"), 10**6, job.graphs, job.memory)
    choice = choose_engine(there, SAMPLES)
    assert (choice.engine.name, workshop.built) == ("torch", ["torch"])
    assert "device is cuda" in choice.trials[0].reason


def test_an_engine_that_was_asked_for_and_fails_is_one_clear_error(setup: Setup) -> None:
    _, job = setup(openvino=Fake("openvino", -1.0))
    with pytest.raises(
        EngineError, match=r"'openvino' fails on tiny at pooled \(ValueError: sleep"
    ):
        use_engine("openvino", job, SAMPLES)


def test_an_engine_that_was_asked_for_is_held_to_torch_too(setup: Setup) -> None:
    _, job = setup(
        openvino=Fake("openvino", 0.0, mistake=1e-2), onnxruntime=Fake("onnxruntime", 0.0)
    )
    choice = use_engine("onnxruntime", job, SAMPLES)
    assert by_name(choice)["onnxruntime"].reason == "asked for"
    with pytest.raises(
        EngineError, match=r"'openvino' does not agree with torch: it differs.*1\.0e-02"
    ):
        use_engine("openvino", job, SAMPLES)

"""Every executor leaves what a run in one process leaves, also when its processes die."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from run_records import STUDY, last_written

from benchmarks.likeness import without_times
from headstart import RunResult, resume, run
from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop
from headstart.errors import ConfigError, RunError, StoppedError
from headstart.predict import load_model
from headstart.runs import apart
from headstart.runs.executors import Executor, Processes, executor_for
from headstart.runs.jobs import Job

EXECUTORS = ("processes", "ray")
LOSSES = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from colour_photos import write_photos

    folder = tmp_path_factory.mktemp("apart")
    write_photos(folder / "photos")
    (folder / "study.yaml").write_text(STUDY.format(photos=folder / "photos"))
    return folder


@pytest.fixture(scope="module")
def here(place: Path) -> RunResult:
    """What a run in one process leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(place / "cache-here"))
        return run(place / "study.yaml", out=place / "here", show=SilentProgress())


@pytest.fixture(params=EXECUTORS)
def executor(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Executor]:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    if request.param == "ray":
        pytest.importorskip("ray")
    jobs = 2 if request.param == "processes" else None
    with executor_for(request.param, jobs=jobs) as opened:
        assert opened is not None
        yield opened


def same(result: RunResult, expected: RunResult) -> None:
    assert without_times(result.results) == without_times(expected.results)
    for part in ("sweep", "best", "staged", "standard", "scratch"):
        ours, theirs = (load_model(r.folder / "models" / part) for r in (result, expected))
        assert ours.tensors.keys() == theirs.tensors.keys()
        assert all(torch.equal(ours.tensors[k], theirs.tensors[k]) for k in ours.tensors), part


def test_results_and_weights_are_those_of_one_process(
    executor: Executor, here: RunResult, place: Path, tmp_path: Path
) -> None:
    result = run(
        place / "study.yaml", out=tmp_path / "runs", show=SilentProgress(), executor=executor
    )
    same(result, here)
    assert "executor" not in json.dumps(result.results)  # nothing says who did it


def test_what_a_user_can_mend_is_the_same_error(
    executor: Executor, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    from colour_photos import write_photos

    write_photos(photos)
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(photos=photos))
    begin = apart.Apart.run

    def damaged(self: apart.Apart, study: Any) -> None:
        (photos / "red" / "0.png").write_bytes(b"no picture any more")
        begin(self, study)

    monkeypatch.setattr(apart.Apart, "run", damaged)
    with pytest.raises(RunError, match="expected the data that this run began with"):
        run(study, out=tmp_path / "runs", show=SilentProgress(), executor=executor)


@pytest.mark.cluster
def test_a_run_that_was_stopped_goes_on_anywhere(
    executor: Executor, here: RunResult, place: Path, tmp_path: Path
) -> None:
    stop = Stop()

    def watch() -> None:
        while not list((tmp_path / "runs").glob("*/models/sweep/part.json")):
            time.sleep(0.02)
        stop.request()

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(StoppedError, match="headstart resume"):
        run(
            place / "study.yaml",
            out=tmp_path / "runs",
            show=SilentProgress(),
            stop=stop,
            executor=executor,
        )
    (folder,) = (f for f in (tmp_path / "runs").iterdir() if f.is_dir())
    same(resume(folder, show=SilentProgress()), here)  # in this process


LONG = """
name: long
title: Longer than anybody waits
data: {{kind: auto, path: {photos}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones: {{net: {{name: headstart/resnet20, weights: random}}}}
device: cpu
checkpoints: {{minutes: 0.1}}
parts:
  long: {{kind: model, mode: standard, epochs: 100000, seeds: 2}}
"""


@pytest.mark.cluster
def test_a_training_that_is_told_to_stop_saves_what_it_has(
    executor: Executor, place: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(LONG.format(photos=place / "photos"))
    stop, first = Stop(), [0]

    def watch() -> None:
        while not last_written(tmp_path):
            time.sleep(0.02)
        first[0] = last_written(tmp_path)
        stop.request()

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(StoppedError):
        run(study, out=tmp_path / "runs", show=SilentProgress(), stop=stop, executor=executor)
    # The next checkpoint was due after six seconds: this one was made since somebody asked.
    assert 0 < last_written(tmp_path) - first[0] < 5e9


class Heard(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def killing(
    executor: Processes, folder: Path, done: threading.Event, killed: list[int]
) -> threading.Thread:
    """Kill a process of the executor's now and then, at moments that nobody knows.

    They come after something was saved: by the clock alone a slow machine would get nowhere.
    """
    draw = random.Random(0)

    def kill() -> None:
        seen = 0
        while len(killed) < LOSSES and not done.wait(0.02):
            if last_written(folder) <= seen or done.wait(draw.uniform(0.0, 0.2)):
                continue
            pids = executor.processes
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(pids), signal.SIGKILL)
                    killed.append(len(killed))
                seen = last_written(folder)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.cluster
def test_processes_that_die_cost_their_own_work_only(
    here: RunResult, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(apart, "TRIES", 1000)  # jobs do not die of themselves here
    done, killed, show = threading.Event(), list[int](), Heard()
    with executor_for("processes", jobs=2) as executor:
        assert isinstance(executor, Processes)
        thread = killing(executor, tmp_path, done, killed)
        try:
            result = run(
                place / "study.yaml",
                out=tmp_path / "runs",
                show=show,
                executor=executor,
            )
        finally:
            done.set()
            thread.join()
    same(result, here)
    assert len(killed) == LOSSES
    begun_again = [said for said in show.said if "is begun again" in said]
    assert len(begun_again) >= LOSSES // 3  # the others had nothing to do when they were killed


def test_one_that_dies_takes_no_other_with_it(tmp_path: Path) -> None:
    executor = Processes(2, str(tmp_path))
    try:
        # Neither folder is a run: both jobs end with an error, or with their process.
        for part in "ab":
            executor.submit(Job(str(tmp_path / "nothing"), part))
        os.kill(executor.processes[0], signal.SIGKILL)
        ended = {}
        while len(ended) < 2:
            done = executor.next(5.0)
            if done is not None:
                ended[done.job.part] = done.report
        assert ended["a"] is None
        assert ended["b"] is not None
        assert executor.slots == 2
    finally:
        executor.close()
    assert executor.processes == ()


@pytest.mark.cluster
def test_processes_end_with_the_one_that_began_them(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from headstart.runs.executors import Processes\n"
        "from headstart.runs.jobs import Job\n"
        "if __name__ == '__main__':\n"
        f"    executor = Processes(1, {str(tmp_path)!r})\n"
        f"    executor.submit(Job({str(tmp_path)!r}, 'a'))\n"
        "    executor.next(60)\n"
        "    print(*executor.processes, flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as begun:
        assert begun.stdout is not None
        (pid,) = map(int, begun.stdout.readline().split())
        begun.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.cluster
def test_a_job_that_kills_its_process_is_not_begun_for_ever(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    with executor_for("processes", jobs=1) as executor:
        assert isinstance(executor, Processes)
        submit = Processes.submit

        def deadly(self: Processes, job: Job) -> None:
            submit(self, job)
            for pid in self.processes:
                os.kill(pid, signal.SIGKILL)

        monkeypatch.setattr(Processes, "submit", deadly)
        with pytest.raises(RunError, match="ended 4 times before it was done"):
            run(
                place / "study.yaml",
                out=tmp_path / "runs",
                show=SilentProgress(),
                executor=executor,
            )


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("local", {"jobs": 2}, "--jobs: is for --executor processes"),
        ("ray", {"jobs": 2}, "--jobs: is for --executor processes"),
        ("processes", {"address": "auto"}, "--address: is for --executor ray"),
    ],
)
def test_what_does_not_go_together_is_refused(
    name: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message), executor_for(name, **given):
        pass


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:9", "nowhere", "ray://127.0.0.1:9"])
def test_a_cluster_that_is_not_there_is_one_clear_error(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray notes which clusters there are
    with (
        pytest.raises(RunError, match="expected the address of a Ray cluster"),
        executor_for("ray", address=address),
    ):
        pass

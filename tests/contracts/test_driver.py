"""Programs that are killed, begun by others, or spread over processes: what is done stays done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from colour_photos import write_photos
from listening import listening, outside
from run_records import STUDY

from benchmarks.likeness import without_times

pytestmark = pytest.mark.cluster
TEAM_STUDY = """
name: team
title: One model, two processes
data: {{kind: auto, path: {photos}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones: {{net: {{name: headstart/resnet20, weights: random}}}}
timing: {{measure: false}}
device: cpu
cache: {{engine: torch}}
parts:
  tuned:
    kind: model
    batch_size: 8
    stages:
      - {{trainable: head, epochs: 1}}
      - {{trainable: {{last: 1}}, epochs: 3}}
"""


def headstart(*words: str, before: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *before, "-m", "headstart", *words]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "HEADSTART_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def finish(command: list[str], cache: Path) -> set[str]:
    """Run a program; return the addresses that it, and all that it began, listened on."""
    log = cache.parent / f"{cache.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    found: set[str] = set()
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, env=environment(cache), stdout=file, stderr=subprocess.STDOUT
        ) as begun,
    ):
        deadline = time.monotonic() + 300
        while begun.poll() is None and time.monotonic() < deadline:
            found |= listening(begun.pid)
            time.sleep(0.1)
        begun.kill()
    assert begun.returncode == 0, log.read_text()[-2000:]
    return found


def results_of(runs: Path) -> dict[str, object]:
    (path,) = runs.glob("*/results.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos")
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(photos=tmp_path / "photos"))
    return path


def test_after_the_program_was_killed_no_finished_job_runs_again(
    study: Path, tmp_path: Path
) -> None:
    finish(headstart("run", str(study), "--out", str(tmp_path / "here")), tmp_path)
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    words = ("--executor", "processes", "--jobs", "2")
    command = headstart("run", str(study), "--out", str(runs), *words)
    with subprocess.Popen(
        command, env=environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as begun:
        deadline = time.monotonic() + 120
        while not list(runs.glob("*/models/sweep/part.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        begun.send_signal(signal.SIGKILL)
    (folder,) = (path for path in runs.iterdir() if path.is_dir())
    finished = {
        path: path.stat().st_mtime_ns
        for path in [*folder.glob("models/*/part.json"), *cache.glob("features/*/*.npy")]
    }
    assert finished
    assert not (folder / "report.html").exists()
    finish(headstart("resume", str(folder), *words), cache)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    expected = results_of(tmp_path / "here")
    assert without_times(results_of(runs)) == without_times(expected)


@pytest.mark.parametrize("launcher", ["torchrun", "ray"])
def test_two_processes_train_what_one_trains(tmp_path: Path, launcher: str) -> None:
    if launcher == "ray":
        pytest.importorskip("ray")
    write_photos(tmp_path / "photos")
    path = tmp_path / "team.yaml"
    path.write_text(TEAM_STUDY.format(photos=tmp_path / "photos"))
    words = ("run", str(path), "--out")
    one, two = tmp_path / "one", tmp_path / "two"
    finish(headstart(*words, str(one)), one / "cache")
    if launcher == "ray":
        more = ("--executor", "ray", "--data-parallel", "2")
        command = headstart(*words, str(two), *more)
    else:
        before = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
        command = headstart(*words, str(two), before=before)
    found = finish(command, two / "cache")
    if launcher == "ray":
        assert found
        assert not outside(found)
    losses = []
    for runs in (one, two):
        (table,) = runs.glob("*/models/tuned/history.*")
        losses.append(_losses(table))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[1] != losses[0]  # bit for bit one process alone would have trained


def _losses(path: Path) -> list[float]:
    import pandas

    table = pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path)
    return [float(value) for value in table["loss"]]

"""A run that is killed and resumed ends like one that was never stopped, bit for bit."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

# One of each training, and with `make cluster` many.
KILLS = [pytest.param(4), pytest.param(20, marks=pytest.mark.cluster)]

# Everything that has a state: a sweep as one batch, dropout, BatchNorm, two optimisers, a schedule,
# an average of the weights, augmentation, blended pictures, early stopping, stored features.
STUDY = """
name: killed
title: Killed
data: {{kind: auto, path: {photos}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones:
  small: {{name: headstart/resnet20, weights: random}}
cache: {{engine: torch}}
checkpoints: {{steps: 1}}
timing: {{measure: false}}
parts:
  rates:
    kind: sweep
    head: {{kind: linear, dropout: 0.2}}
    optimizer: {{kind: sgd, learning_rate: 0.1, momentum: 0.9}}
    epochs: 4
    batch_size: 4
    grid: {{optimizer.learning_rate: [0.1, 0.01]}}
  stages:
    kind: model
    head: {{kind: mlp, hidden: [8], dropout: 0.3}}
    batch_size: 4
    epochs: 3
    optimizer: {{kind: adam, learning_rate: 0.01}}
    schedule: {{kind: cosine, warmup_epochs: 0.5}}
    stages:
      - {{trainable: head}}
      - {{trainable: {{last: 2}}, early_stopping: {{patience: 2}}, layer_decay: 0.8}}
      - trainable: [layer2, layer3]
        optimizer: {{kind: sgd, learning_rate: 0.01, momentum: 0.9}}
        augmentation: {{flip: true, rotate: 20}}
        mixup: 0.3
        ema: 0.9
        clip_norm: 1.0
        micro_batch_size: 3
  together: {{kind: ensemble, members: [rates, stages], voting: weighted}}
"""


UNITS = ("rates/member-0-stage-0", *(f"stages/member-0-stage-{i}" for i in range(3)))


class Server:
    """Processes that run studies and may be killed."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("fork_server.py")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._line() == "ready"

    def start(self, verb: str, cache: Path, where: Path, study: Path) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, str(cache), str(where), str(study)]) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def wait(self) -> int:
        return int(self._line())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


def the_run(out: Path) -> Path | None:
    found = list(out.glob("*/run.json"))
    return found[0].parent if found else None


def at_least(out: Path, unit: str, step: int) -> bool:
    """Say whether a training has made so many steps, or is over."""
    folder = the_run(out)
    if folder is None:
        return False
    states = (folder / "checkpoints" / unit).glob("state-*.safetensors")
    made = max((int(p.stem.removeprefix("state-")) for p in states), default=0)
    return made >= step or (folder / "models" / unit.partition("/")[0] / "part.json").exists()


def what_lasts(folder: Path) -> dict[str, object]:
    """Weights, histories and predictions: everything but times."""
    out: dict[str, object] = {}
    for path in sorted((folder / "models").rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in ("model.safetensors", "model.json"):
            out[name] = path.read_bytes()
        elif path.suffix == ".parquet":
            table: pd.DataFrame = pq.read_table(path).to_pandas()
            out[name] = table.drop(columns="seconds", errors="ignore").to_csv()
    for path in (folder / "sweeps").rglob("*.parquet"):
        out[str(path)[len(str(folder)) :]] = (
            pq.read_table(path).to_pandas().drop(columns="seconds").to_csv()
        )
    return out


@pytest.mark.parametrize("kills", KILLS)
def test_killed_at_any_moment_and_resumed_is_as_if_never_stopped(
    server: Server, photos: Path, tmp_path: Path, kills: int
) -> None:
    study = tmp_path / "killed.yaml"
    study.write_text(STUDY.format(photos=photos))
    server.start("run", tmp_path / "cache", tmp_path / "whole", study)
    assert server.wait() == 0
    whole = the_run(tmp_path / "whole")
    assert whole is not None
    expected = what_lasts(whole)
    assert len(expected) >= 13

    chance = random.Random(0)
    # Each training of the study, and a step of it; each has at least nine.
    places = [(unit, step) for unit in UNITS for step in range(1, 10)]
    in_training = 0
    for number in range(kills):
        out, cache = tmp_path / f"out-{number}", tmp_path / f"cache-{number}"
        process = server.start("run", cache, out, study)
        unit, step = places[number % len(UNITS) * 9 + chance.randrange(9)]
        limit = time.monotonic() + 120
        while not at_least(out, unit, step):
            assert time.monotonic() < limit
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))  # in a step, or while it is saved
        with contextlib.suppress(ProcessLookupError):  # it was faster
            os.kill(process, signal.SIGKILL)
        assert server.wait() in (-signal.SIGKILL, 0)
        folder = the_run(out)
        assert folder is not None
        in_training += any((folder / "checkpoints").rglob("checkpoint.json"))
        server.start("resume", cache, folder, study)
        assert server.wait() == 0
        found = what_lasts(folder)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == value, f"kill {number}: {name}"
        assert not (folder / "checkpoints").exists()
    assert in_training >= kills // 2, "most were killed while a model was trained"

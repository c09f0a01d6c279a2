"""Several processes end with the weights that one would end with."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from headstart.train.team import ALONE, own_share

HERE = Path(__file__).parent
Trained = tuple[dict[str, torch.Tensor], list[list[Any]]]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def run(
    out: Path,
    size: int,
    options: dict[str, Any] | None = None,
    folder: Path | None = None,
    stop_after: int | None = None,
) -> list[subprocess.CompletedProcess[str]]:
    """Train in so many processes."""
    out.mkdir()
    given = {
        "options": options or {},
        "folder": None if folder is None else str(folder),
        "stop_after": stop_after,
        "out": str(out),
    }
    port = free_port()
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    began = [
        subprocess.Popen(
            [sys.executable, str(HERE / "team_process.py"), json.dumps(given)],
            env={
                **os.environ,
                "PYTHONPATH": path,
                "RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    ended = []
    for process in began:
        said, complained = process.communicate(timeout=120)
        ended.append(
            subprocess.CompletedProcess(process.args, process.returncode, said, complained)
        )
    return ended


def trained(out: Path, size: int, **given: Any) -> list[Trained]:
    for process in run(out, size, **given):
        assert process.returncode == 0, process.stderr
    return [
        (
            safetensors.torch.load_file(out / f"rank-{rank}.safetensors"),
            json.loads((out / f"rank-{rank}.json").read_text()),
        )
        for rank in range(size)
    ]


def same(found: Trained, expected: Trained) -> None:
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-4, atol=1e-5, msg=name)
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2:] == pytest.approx(theirs[2:], rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"micro_batch_size": 2, "clip_norm": 0.5},
        {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 0.5, 1.5], "ema": 0.9},
    ],
    ids=["plain", "pieces", "weights"],
)
def test_two_processes_train_what_one_trains(tmp_path: Path, options: dict[str, Any]) -> None:
    (alone,) = trained(tmp_path / "one", 1, options=options)
    first, second = trained(tmp_path / "two", 2, options=options)
    if "micro_batch_size" in options:
        # BatchNorm sees a piece of each process together: others than one process makes.
        assert {k: v.shape for k, v in first[0].items()} == {
            k: v.shape for k, v in alone[0].items()
        }
    else:
        same(first, alone)
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    assert first[1] == second[1]


def test_what_is_stopped_goes_on_in_another_number_of_processes(tmp_path: Path) -> None:
    (alone,) = trained(tmp_path / "one", 1)
    folder = tmp_path / "checkpoint"
    stopped = run(tmp_path / "two", 2, folder=folder, stop_after=9)
    assert all("StoppedError" in process.stderr for process in stopped)
    (found,) = trained(tmp_path / "again", 1, folder=folder)
    same(found, alone)


class Three:
    size = 3

    def __init__(self, rank: int) -> None:
        self.rank = rank


def test_shares_are_all_of_each_batch_once() -> None:
    batches = own_share(20, 8, ALONE)
    assert [(b.start, b.stop) for b in batches] == [(0, 8), (8, 16), (16, 20)]
    shares = [own_share(20, 8, Three(rank)) for rank in range(3)]  # type: ignore[arg-type]
    for batch, *own in zip(batches, *shares, strict=True):
        places = [place for share in own for place in range(share.start, share.stop)]
        assert places == list(range(batch.start, batch.stop))
        assert max(s.stop - s.start for s in own) - min(s.stop - s.start for s in own) <= 1


def test_a_batch_with_fewer_samples_than_processes_is_told() -> None:
    with pytest.raises(ValueError, match="at least 3 samples, one for each process"):
        own_share(10, 8, Three(0))  # type: ignore[arg-type]

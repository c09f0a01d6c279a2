"""A run on a cluster of two machines of one core, of which processes and machines are lost."""

import gc
import json
import os
import random
import signal
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from run_records import last_written

from benchmarks.likeness import without_times
from headstart import RunResult, run
from headstart._util.progress import SilentProgress
from headstart.predict import load_model
from headstart.runs.executors import executor_for

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

MEMORY = 100 * 1024**2
pytestmark = pytest.mark.cluster
LOSSES = 5  # of each kind of work
STUDY = """
name: cluster
title: On a cluster
data: {{kind: auto, path: {photos}, split: {{train: 0.6, val: 0.2, test: 0.2}}}}
backbones: {{net: {{name: headstart/resnet20, weights: random, image_size: 96}}}}
timing: {{measure: false}}
device: cpu
cache: {{engine: torch}}
checkpoints: {{steps: 1}}
parts:
  frozen: {{kind: model, epochs: 3}}
  tuned:
    kind: model
    seeds: 2
    batch_size: 8
    stages:
      - {{trainable: head, epochs: 1}}
      - {{trainable: {{last: 1}}, epochs: 4}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from colour_photos import write_photos

    folder = tmp_path_factory.mktemp("cluster")
    write_photos(folder / "photos", each=160)
    (folder / "study.yaml").write_text(STUDY.format(photos=folder / "photos"))
    return folder


@pytest.fixture(scope="module")
def here(place: Path) -> RunResult:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a machine of the cluster has
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEADSTART_CACHE", str(place / "cache-here"))
            return run(place / "study.yaml", out=place / "here", show=SilentProgress())
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def cluster() -> Iterator[Any]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray's: its server's logs stay open
        made = cluster_utils.Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1, "include_dashboard": False, "object_store_memory": MEMORY,
                "ray_client_server_port": port,
            },
        )  # fmt: skip
        gc.collect()
    made.clients = f"ray://127.0.0.1:{port}"
    made.add_node(num_cpus=1, object_store_memory=MEMORY)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def same(result: RunResult, expected: RunResult) -> None:
    assert without_times(result.results) == without_times(expected.results)
    for part in ("frozen", "tuned"):
        ours, theirs = (load_model(r.folder / "models" / part) for r in (result, expected))
        assert all(torch.equal(ours.tensors[k], theirs.tensors[k]) for k in ours.tensors), part


def stored_twice(cache: Path) -> int:
    """Return how many samples lie in more than one shard."""
    twice = 0
    for key in (cache / "features").glob("*/key.json"):
        digests: list[str] = []
        for sidecar in key.parent.glob("*.json"):
            if sidecar.name != "key.json":
                digests += json.loads(sidecar.read_text())["samples"]
        twice += len(digests) - len(set(digests))
    return twice


@pytest.mark.parametrize("address", ["address", "clients"])
def test_two_machines_leave_what_one_process_leaves(
    cluster: Any, here: RunResult, place: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, address: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    with executor_for("ray", address=getattr(cluster, address)) as executor:
        assert executor is not None
        assert executor.slots == 2
        result = run(
            place / "study.yaml", out=tmp_path / "runs", show=SilentProgress(), executor=executor
        )
    same(result, here)
    assert stored_twice(tmp_path / "cache") == 0


def workers(nodes: Iterable[Any]) -> dict[int, str]:
    """Return the processes of some machines that are at work on something of ours, and on what."""
    raylets = {
        process.process.pid for node in nodes for process in node.all_processes.get("raylet", [])
    }
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
        # Ray names a process by what it does: a share of ours, or a job by its label.
        if parent in raylets and title.startswith("ray::"):
            if "_performed" in title:
                found[int(entry.name)] = "extraction"
            elif "frozen" in title or "tuned" in title:
                found[int(entry.name)] = "training"
    return found


class Losses:
    """Kills processes, or removes machines, that are at work, at moments that nobody knows.

    They come after something was saved: by the clock alone a slow machine would get nowhere. One
    thread for all runs: what Ray begins ends with the thread that began it.
    """

    def __init__(self, cluster: Any, what: str) -> None:
        self.cluster, self.what = cluster, what
        self.folder = Path("nowhere")  # of the run
        self.counts: Counter[str] = Counter()
        self._draw = random.Random(0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def enough(self) -> bool:
        return min(self.counts["extraction"], self.counts["training"]) >= LOSSES

    def __enter__(self) -> "Losses":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        seen = 0  # nothing
        while not self._done.wait(0.1):
            if last_written(self.folder) <= seen or self._done.wait(self._draw.uniform(0, 1)):
                continue
            if self._lose():
                seen = last_written(self.folder)

    def _lose(self) -> bool:
        node = next(iter(self.cluster.worker_nodes))
        nodes = [node] if self.what == "node" else self.cluster.list_all_nodes()
        at_work = [(k, v) for k, v in workers(nodes).items() if self.counts[v] < LOSSES]
        if not at_work:
            return False
        pid, work = self._draw.choice(at_work)
        if self.what == "node":
            self.cluster.remove_node(node, allow_graceful=False)
            self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        else:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
        self.counts[work] += 1
        return True


@pytest.mark.parametrize("what", ["process", "node"])
def test_what_is_lost_is_done_again_and_nothing_else(
    cluster: Any, here: RunResult, place: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, what: str,
) -> None:  # fmt: skip
    # Only the main thread may have such a handler; machines are begun by another one here.
    monkeypatch.setattr("ray._private.utils.set_sigterm_handler", lambda _: None)
    with Losses(cluster, what) as losses:
        for number in range(5):
            folder = losses.folder = tmp_path / str(number)
            monkeypatch.setenv("HEADSTART_CACHE", str(folder / "cache"))
            with executor_for("ray", address=cluster.address) as executor:
                result = run(
                    place / "study.yaml",
                    out=folder / "runs",
                    show=SilentProgress(),
                    executor=executor,
                )
            same(result, here)
            assert stored_twice(folder / "cache") == 0
            if losses.enough:
                break
        assert losses.enough

"""Several processes at one store: everything once, everything right, whoever dies."""

import os
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest
import torch
from tiny_backbone import (
    Listener,
    TinyBackbone,
    environment_with_helpers,
    pictures,
    truth,
)

from headstart.features.extract import extract
from headstart.features.store import FeatureStore

# Begins when it is told to and reads slowly, so that two processes are sure to meet; says what it
# reads, so that it is seen who did what. Arguments: the store, how many pictures, seconds per
# picture, where to put the result.
WORKER = """
import sys, time
from pathlib import Path
import numpy as np, torch
from headstart.features import store as store_module
from headstart.features.extract import extract
from headstart._util.progress import LineProgress
from tiny_backbone import Pictures, TinyBackbone, pictures

root, count, seconds, result = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
store_module.MAX_SHARD_SAMPLES = 8

class Slow(Pictures):
    def read(self, index):
        print("read", index, flush=True)
        time.sleep(seconds)
        return super().read(index)

images = Slow(pictures(count).encoded)
print("ready", flush=True)
sys.stdin.readline()
done = extract(images, range(count), TinyBackbone(), "pooled", device=torch.device("cpu"),
               store=store_module.FeatureStore(root), engine="torch", batch_size=4, workers=0,
               progress=LineProgress())
np.save(result, done.features.load())
print("extracted", done.extracted)
"""


def start(root: Path, count: int, seconds: float, *results: Path) -> "list[Popen[str]]":
    """Start one process per result; all begin at the same moment."""
    processes = [
        Popen(
            [sys.executable, "-c", WORKER, str(root), str(count), str(seconds), str(result)],
            env=environment_with_helpers(),
            stdin=PIPE,
            stdout=PIPE,
            text=True,
        )
        for result in results
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def numbers(lines: list[str], word: str) -> list[int]:
    return [int(line.split()[1]) for line in lines if line.startswith(word)]


def test_two_processes_extract_every_picture_once_in_total(tmp_path: Path) -> None:
    count, root = 30, tmp_path / "store"
    both = start(root, count, 0.05, tmp_path / "a.npy", tmp_path / "b.npy")
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert any("waiting for it" in line for lines in outputs for line in lines)
    read = [number for lines in outputs for number in numbers(lines, "read")]
    assert sorted(read) == list(range(count))
    assert sum(numbers(outputs[0], "extracted") + numbers(outputs[1], "extracted")) == count
    expected = truth(TinyBackbone(), "pooled", pictures(count))
    for name in "ab":
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, atol=1e-6)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_that_is_killed_leaves_a_store_that_can_be_used(tmp_path: Path) -> None:
    count, root = 30, tmp_path / "store"
    (process,) = start(root, count, 0.05, tmp_path / "never.npy")
    assert process.stdin is not None
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("read 20"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stdin.close()
    store = FeatureStore(root)
    assert store.verify() == ()
    (entry,) = store.ls()
    assert entry.samples == 16  # two shards of eight; the third was not complete
    images, listener, begun = pictures(count), Listener(), time.monotonic()
    result = extract(
        images,
        range(count),
        TinyBackbone(),
        "pooled",
        store=store,
        engine="torch",
        device=torch.device("cpu"),
        progress=listener,
    )
    assert time.monotonic() - begun < 30  # its lock went with it
    assert (result.extracted, result.reused) == (count - 16, 16)
    expected = truth(TinyBackbone(), "pooled", images)
    np.testing.assert_allclose(result.features.load(), expected, atol=1e-6)
    assert not list(root.rglob("*.tmp"))

"""Headstart: the most memory that a process has taken after extracting many small pictures."""

import re
import tempfile
from pathlib import Path

import torch

from benchmarks.contender import Answer, Job, answer
from benchmarks.growth import NETWORK, Made
from benchmarks.ours.libraries import PACKAGES
from headstart._util.progress import SilentProgress
from headstart.backbones.registry import load_backbone
from headstart.features.extract import extract
from headstart.features.store import FeatureStore


def peak_bytes() -> int:
    """Return the most memory that this process has held (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "the system does not tell"
    return 1024 * int(found[1])


def work(job: Job) -> Answer:
    """Extract, and look."""
    torch.set_num_threads(job["threads"])
    backbone = load_backbone(NETWORK, weights="random")
    before = peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        extract(
            Made(job["pictures"]),
            range(job["pictures"]),
            backbone,
            backbone.stages[-1],
            store=FeatureStore(Path(folder)),
            engine="onnxruntime",  # `auto` would import another one for many pictures only
            device=torch.device("cpu"),
            progress=SilentProgress(),
        )
    return {"peak_bytes": peak_bytes(), "before_bytes": before}


if __name__ == "__main__":
    # Nothing else is imported: what a library holds for nothing would hide what grows.
    answer(work, PACKAGES)

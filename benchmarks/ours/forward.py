"""Headstart: the frozen forward pass by the engine that it chooses, beside the speed of matmul."""

import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.contender import Answer, Job, answer, corner
from benchmarks.ours.engines import engine_for, noise
from benchmarks.ours.floors import matmul_peak
from benchmarks.ours.libraries import PACKAGES, import_all
from headstart.backbones.registry import load_backbone
from headstart.features.engine import Engine
from headstart.features.flops import forward_flops
from headstart.types import FloatArray


def rate(engine: Engine, x: FloatArray, passes: int) -> float:
    """Return pictures per second: the median of some passes."""
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        engine.run(x)
        seconds.append(time.perf_counter() - start)
    return len(x) / statistics.median(seconds)


def work(job: Job) -> Answer:
    """Choose an engine and time it; the peak is measured before and after."""
    torch.set_num_threads(job["threads"])
    backbone = load_backbone(job["backbone"], weights=job.get("weights", "random"))
    x = noise(backbone, job["pictures"])
    with tempfile.TemporaryDirectory() as folder:
        engine = engine_for(backbone, x[:8], Path(folder))
        computed = engine.run(x)
        peak = matmul_peak()
        found = rate(engine, x, job["passes"])
        peak = max(peak, matmul_peak())
    flops = forward_flops(backbone, backbone.stages[-1])
    assert flops is not None
    return {
        "images_per_second": found,
        "engine": engine.name,
        "flops": flops,
        "peak_flops": peak,
        "share": flops * found / peak,
        "sample": corner(computed.reshape(len(x), -1)),
    }


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)

"""Headstart: the frozen forward pass by the engine that it chooses, beside the speed of matmul."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.contender import Answer, Job, answer
from benchmarks.ours.engines import engine_for, noise
from benchmarks.ours.libraries import PACKAGES, import_all
from headstart.backbones.registry import load_backbone
from headstart.features.engine import Engine
from headstart.features.flops import forward_flops
from headstart.types import FloatArray

SIDES = (1024, 2048, 3072, 4096)
_PRODUCTS = 3


def matmul_peak() -> float:
    """Return the most operations per second of a float32 product, of torch and numpy, any size."""
    best = 0.0
    for side in SIDES:
        a = torch.ones(side, side)
        for multiply, x in ((torch.mm, a), (np.matmul, a.numpy())):
            for _ in range(_PRODUCTS):
                start = time.perf_counter()
                multiply(x, x)
                best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


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
    backbone = load_backbone(job["backbone"], weights="random")
    x = noise(backbone, job["pictures"])
    with tempfile.TemporaryDirectory() as folder:
        engine = engine_for(backbone, x[:8], Path(folder))
        engine.run(x)
        peaks = [matmul_peak()] if job["peak"] else []
        found = rate(engine, x, job["passes"])
        peaks += [matmul_peak()] if job["peak"] else []
    flops = forward_flops(backbone, backbone.stages[-1])
    assert flops is not None
    result: Answer = {"images_per_second": found, "engine": engine.name, "flops": flops}
    if peaks:
        result |= {"peak_flops": max(peaks), "peaks": peaks, "share": flops * found / max(peaks)}
    return result


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)

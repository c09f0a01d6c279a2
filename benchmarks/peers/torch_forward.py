"""Eager torch: the frozen forward pass, at its best memory layout and batch size."""

import statistics
import time

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.contender import Answer, Job, answer, corner

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


@torch.inference_mode()
def rates(model: nn.Module, size: int, layout: str, passes: int) -> float:
    """Return pictures per second: the median of some passes over one batch."""
    model = model.to(memory_format=LAYOUTS[layout])
    x = torch.randn(size, 3, 224, 224).contiguous(memory_format=LAYOUTS[layout])
    model(x)
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        model(x)
        seconds.append(time.perf_counter() - start)
    return size / statistics.median(seconds)


def work(job: Job) -> Answer:
    """Time every layout and batch size."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    model = timm.create_model(job["network"], num_classes=0).eval().requires_grad_(False)
    model.load_state_dict(load_file(job["weights"]))
    # The first pictures of the other side's noise, whatever their number.
    shape = (4, 3, 224, 224)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    with torch.inference_mode():
        sample = corner(model(x))
    found = {
        f"{layout}, {size}": rates(model, size, layout, max(2, job["pictures"] // size))
        for layout in LAYOUTS
        for size in job["sizes"]
    }
    best = max(found, key=lambda key: found[key])
    return {"images_per_second": found[best], "best": best, "sample": sample}


if __name__ == "__main__":
    answer(work, ("torch", "timm"))

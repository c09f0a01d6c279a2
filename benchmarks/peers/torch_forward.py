"""Eager torch: the frozen forward pass, at its best memory layout and batch size."""

import statistics
import time

import timm
import torch
from torch import nn

from benchmarks.contender import Answer, Job, answer

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
    found = {
        f"{layout}, {size}": rates(model, size, layout, max(2, job["pictures"] // size))
        for layout in LAYOUTS
        for size in job["sizes"]
    }
    best = max(found, key=lambda key: found[key])
    return {"images_per_second": found[best], "best": best, "rates": found}


if __name__ == "__main__":
    answer(work, ("torch", "timm"))

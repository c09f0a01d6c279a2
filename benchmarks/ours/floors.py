"""The least time that a piece of work can take on this machine: measured beside it, not timed."""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.contender import Answer
from headstart.backbones.base import Backbone
from headstart.data.encode import converter
from headstart.features.flops import forward_flops, macs
from headstart.types import InputSpec

SIDES = (1024, 2048, 3072, 4096)
_TRIES = 3
_DECODED = 32
_NUMBERS = 2**26  # 256 MiB of float32: more than any cache
SGD_PASSES = 6  # the gradient is written and read; momentum and weight are each read and written


def matmul_peak() -> float:
    """Return the most operations per second of a float32 product, of torch and numpy, any size."""
    best = 0.0
    for side in SIDES:
        a = torch.ones(side, side)
        for multiply, x in ((torch.mm, a), (np.matmul, a.numpy())):
            for _ in range(_TRIES):
                start = time.perf_counter()
                multiply(x, x)
                best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def bytes_per_second() -> float:
    """Return how fast memory is read and written: the best of a few sums of large tensors."""
    a, b, out = (torch.ones(_NUMBERS) for _ in range(3))
    best = 0.0
    for _ in range(_TRIES):
        start = time.perf_counter()
        torch.add(a, b, out=out)
        best = max(best, 3 * a.nbytes / (time.perf_counter() - start))
    return best


def decode_core_seconds(photos: Sequence[str], spec: InputSpec) -> float:
    """Return what one core takes to read, decode and resize a photograph."""
    convert = converter(spec)
    convert(Path(photos[0]).read_bytes())  # what is loaded at the first use is no decoding
    some = photos[:_DECODED]
    start = time.thread_time()
    for path in some:
        convert(Path(path).read_bytes())
    return (time.thread_time() - start) / len(some)


def frozen(photos: Sequence[str], backbone: Backbone) -> Answer:
    """Return what bounds the frozen pass over photographs."""
    flops = forward_flops(backbone, backbone.stages[-1])
    assert flops is not None
    assert isinstance(backbone.input_spec, InputSpec)
    return {
        "flops": flops,
        "peak_flops": matmul_peak(),
        "decode_core_seconds": decode_core_seconds(photos, backbone.input_spec),
        "pictures": len(photos),
    }


def last_stages(backbone: Backbone, first: str) -> Answer:
    """Return what bounds a training of the stages from one on, on one pass over what is frozen.

    A trained layer computes its outputs, the gradients of its weights and those of its inputs; the
    first of them needs no gradients of its inputs.
    """
    at = backbone.stages.index(first)
    before, last = backbone.stages[at - 1], backbone.stages[-1]
    counts = [forward_flops(backbone, cut) for cut in (before, first, last)]
    known = [count for count in counts if count is not None]
    assert len(known) == len(counts)
    one, rest = (b - a for a, b in pairwise(known))
    numbers = sum(
        p.numel() for _, module in backbone.modules(before, last) for p in module.parameters()
    )
    return {
        "frozen_flops": known[0],
        "step_flops": 2 * one + 3 * rest,
        "update_bytes": SGD_PASSES * 4 * numbers,
        "peak_flops": matmul_peak(),
        "bytes_per_second": bytes_per_second(),
    }


def texts(lengths: Sequence[int], backbone: Backbone, cut: str, longest: int) -> Answer:
    """Return what bounds a forward pass over texts of so many tokens, none of them filling."""
    network = backbone.prefix(cut)
    # Products with weights grow with the length, attention with its square: three points tell all.
    points = (longest // 8, longest // 2, longest)
    counts = [macs(network, backbone.input_spec, length) for length in points]
    known = [2.0 * count for count in counts if count is not None]
    assert len(known) == len(counts)
    law = np.polynomial.Polynomial.fit(points, known, 2)
    return {
        "flops": float(law(np.minimum(lengths, longest)).sum()),
        "peak_flops": matmul_peak(),
    }

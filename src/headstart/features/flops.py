"""Counting the floor: the arithmetic of a forward pass, and how fast this processor multiplies."""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from headstart.backbones.base import INPUT, Backbone, example_input
from headstart.backbones.frozen import evaluating, state_tensors

_SIDE = 1536  # 7.2 billion operations a product: long enough to time, short enough not to matter


@torch.no_grad()
def forward_flops(backbone: Backbone, cut: str) -> int | None:
    """Count the floating-point operations of the stages up to a cut for one (longest) sample.

    Convolutions, matrix products and attention are counted, a multiplication and an addition as
    two; nothing is computed.

    Args:
        backbone: The network; it is left as it is.
        cut: Name of a stage.

    Returns:
        The number, or None where some operation cannot be run without numbers.
    """
    x = example_input(backbone.input_spec, 1, torch.device("meta"))
    try:
        with FlopCounterMode(display=False) as counter:
            for _, module in backbone.modules(INPUT, cut):
                with evaluating(module):
                    tensors = {name: t.to("meta") for name, t in state_tensors(module).items()}
                    x = torch.func.functional_call(module, tensors, (x,))
    except (RuntimeError, TypeError):
        return None
    return int(counter.get_total_flops())


@torch.no_grad()
def matrix_flops_per_second(repeats: int = 3) -> float:
    """Return the speed of a large product of float32 matrices: the best of a few."""
    a = torch.ones(_SIDE, _SIDE)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - start)
    return 2 * _SIDE**3 / best

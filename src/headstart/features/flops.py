"""Counting the floor: the arithmetic of a forward pass, and how fast this processor multiplies."""

import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from headstart.backbones.base import INPUT, Backbone
from headstart.backbones.dry import dry_run
from headstart.types import Spec

# 2.1 billion operations a product: 10 ms on two cores, where larger ones are no faster.
_SIDE = 1024


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
    return _flops([module for _, module in backbone.modules(INPUT, cut)], backbone.input_spec, None)


def macs(network: nn.Module, spec: Spec, length: int | None = None) -> int | None:
    """Count the multiply-adds of a forward pass for one sample, as publications count them.

    Those of convolutions, matrix products and attention: half of their floating-point operations.
    What is not a sum of products (activations, normalisation, pooling, softmax) is not counted.

    Args:
        network: Takes samples; it is left as it is.
        spec: How samples are prepared.
        length: Tokens or steps of the sample; None: as many as the network takes.

    Returns:
        The number, or None where some operation cannot be run without numbers.
    """
    flops = _flops([network], spec, length)
    return None if flops is None else flops // 2


def _flops(modules: Sequence[nn.Module], spec: Spec, length: int | None) -> int | None:
    try:
        with FlopCounterMode(display=False) as counter:
            for _ in dry_run(modules, spec, length):
                pass
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

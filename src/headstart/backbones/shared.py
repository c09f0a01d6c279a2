"""Tensors that stand under several names: told apart, and kept once."""

from collections.abc import Mapping

import torch
from torch import Tensor


def first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return, for each name, the first under which the same tensor stands.

    The twelve layers of ALBERT are one set of weights: kept once, they take a twelfth.

    Args:
        tensors: By name, in order, on one device.

    Returns:
        Names of all tensors; one that stands alone, or holds nothing, is its own.
    """
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    names: dict[str, str] = {}
    for name, value in tensors.items():
        at = (value.data_ptr(), value.shape, value.stride())
        names[name] = first.setdefault(at, name) if value.numel() else name
    return names

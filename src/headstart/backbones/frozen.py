"""Frozen means frozen: set it, measure it, and fail when it moved."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from headstart._util.hashing import digest_json, digest_tensors
from headstart.errors import FrozenStateError

_NAMED = 5  # an error names this many tensors and counts the rest


def state_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, those that a state dict leaves out included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def freeze(module: nn.Module) -> None:
    """Turn gradients off and evaluation on: BatchNorm then reads its statistics and moves none."""
    module.requires_grad_(False)
    module.eval()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode for a while, and each of its parts back in its own mode after.

    Args:
        module: The module; parts of it may be in train mode and others in eval mode.

    Yields:
        Nothing.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def frozen_state(module: nn.Module) -> dict[str, str]:
    """Return one digest per parameter and buffer, by name."""
    return {name: digest_tensors({name: t}) for name, t in state_tensors(module).items()}


def frozen_digest(module: nn.Module) -> str:
    """Return one digest of all parameters and buffers: equal as long as nothing moved."""
    return digest_json(frozen_state(module))


def require_unmoved(module: nn.Module, before: dict[str, str], what: str) -> None:
    """Compare a module with its state at an earlier time.

    Args:
        module: The module that was promised to be frozen.
        before: What `frozen_state` returned at the earlier time.
        what: The part for people, such as ``the backbone up to 'pooled'``.

    Raises:
        FrozenStateError: A parameter or buffer changed, appeared or vanished.
    """
    after = frozen_state(module)
    moved = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not moved:
        return
    more = f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
    raise FrozenStateError(
        f"{what} was frozen and has changed: {', '.join(moved[:_NAMED])}{more} "
        f"({len(moved)} of {len(before)} tensors). The results would not be those of a frozen "
        "network. Parameters move when an optimiser holds them, running_mean and running_var when "
        "BatchNorm runs in train mode."
    )


@contextmanager
def guard_frozen(module: nn.Module, what: str) -> Iterator[None]:
    """Make sure that a module is the same, bit for bit, at the end of a block as at its start.

    Args:
        module: The module that is promised to be frozen.
        what: The part for people, such as ``the backbone up to 'pooled'``.

    Yields:
        Nothing.

    Raises:
        FrozenStateError: A parameter or buffer changed. Not raised over another error.
    """
    before = frozen_state(module)
    yield
    require_unmoved(module, before, what)

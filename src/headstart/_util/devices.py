"""Which device to compute on, and what machine this is."""

import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING

from headstart.errors import ConfigError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str) -> "torch.device":
    """Return the torch device that a user's word means.

    Args:
        name: ``auto`` (CUDA, then Apple's MPS, then CPU), or a torch device such as ``cpu``,
            ``cuda`` or ``cuda:1``.

    Returns:
        The device.

    Raises:
        ConfigError: The device is unknown to torch or not on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', got {name!r}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {name!r} was asked for, but torch sees no CUDA device here")
    return device


@cache
def cpu_model() -> str:
    """Return the processor's name as the operating system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_WORTH_A_THREAD = 2e8  # operations between two meetings of the threads: some milliseconds


@contextmanager
def threads_for(operations: float) -> Iterator[None]:
    """Let torch compute in one thread, inside a block, where pieces of work are small.

    Threads that meet every millisecond wait for each other; where another program takes a core
    they wait for it too, and the work takes ten times as long as in one thread.

    Args:
        operations: Floating-point operations of one step of the work.

    Yields:
        Nothing; the number of threads is what it was before when the block ends.
    """
    import torch

    before = torch.get_num_threads()
    if operations >= _WORTH_A_THREAD or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def full_float32() -> AbstractContextManager[None]:
    """Keep convolutions on CUDA in float32, inside a block.

    cuDNN convolves in TF32 by default, which keeps ten bits of each number: too few for features
    that promise float32 and are compared with those of other engines. Elsewhere nothing changes.
    """
    import torch

    context: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True,
        benchmark=False,
        deterministic=True,
        allow_tf32=False,
        fp32_precision="ieee",
    )
    return context

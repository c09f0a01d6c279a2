"""What training steps do on a GPU besides: compute in bfloat16, and run compiled.

Both are decided from what is known before the first step, so that a run which was interrupted goes
on as it began. Nothing here has been timed on a GPU; the sizes below are meant to err on the side
of doing nothing.
"""

from typing import Literal

import torch

from headstart._util.compiling import can_compile
from headstart.train.plan import Precision

COMPILED_FROM = 2000
"""Training steps from which compiling, which takes about a minute, is worth while."""


def step_precision(
    asked: Precision | Literal["auto"], device: torch.device, *, deep: bool
) -> Precision:
    """Return what training steps compute in.

    Args:
        asked: The user's word. ``auto`` is bfloat16 on a CUDA device that computes in it, where
            stages of the network are trained, and float32 everywhere else.
        device: Where torch computes.
        deep: Whether a stage of the network is trained; a head alone is so small that nothing is
            gained.

    Returns:
        The precision of the forward pass; weights and their updates are float32 in each.
    """
    if asked != "auto":
        return asked
    if deep and device.type == "cuda":
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return "bfloat16"
    return "float32"


def pays_to_compile(device: torch.device, steps: int, *, fixed: bool) -> bool:
    """Say whether training steps are to be compiled.

    Args:
        device: Where torch computes.
        steps: Steps of the whole training, at most.
        fixed: Whether all batches have one shape: each other shape is compiled anew.

    Returns:
        Whether the forward pass is to run through the compiler.
    """
    return fixed and steps >= COMPILED_FROM and can_compile(device)

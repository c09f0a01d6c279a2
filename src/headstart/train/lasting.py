"""Gradients of large fully connected layers in memory that lasts from step to step.

Autograd allocates a weight's gradient anew in each step. Above some size the C library asks the
system for such memory and gives it back every time, and the system clears each page of it: VGG16's
first fully connected layer, 411 MB, spends a sixth of its step on that. Here the product is written
where it was written before.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from headstart.train.plan import TrainPlan

LEAST_BYTES: Final = 64 * 1024**2
"""Smaller gradients stay in memory that the C library keeps (32 MiB at most, with glibc)."""


class LastingGradients:
    """The memory of the gradients of a model's large layers, for as long as it is trained."""

    def __init__(self, model: nn.Module, plan: TrainPlan) -> None:
        """Look for the layers; the memory comes with the first step.

        Args:
            model: What is trained; none of its layers is changed but while `used`.
            plan: How: what is compiled, or multiplied in less precision, is left as it is.
        """
        plain = not plan.compiled and plan.precision == "float32"
        self._layers = [
            _Layer(module)
            for module in (model.modules() if plain else ())
            if type(module) is nn.Linear and _large(module.weight)
        ]

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Let the layers' gradients be written there."""
        with contextlib.ExitStack() as stack:
            for layer in self._layers:
                stack.enter_context(layer.used())
            yield


def _large(weight: Tensor) -> bool:
    size = weight.numel() * weight.element_size()
    kind = (weight.device.type, weight.dtype)
    return weight.requires_grad and kind == ("cpu", torch.float32) and size >= LEAST_BYTES


class _Layer:
    """A layer, and the memory of its weight's gradient while nothing else is written there."""

    def __init__(self, module: nn.Linear) -> None:
        self._module = module
        self._memory: Tensor | None = None
        self._given = False

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        weight: Any = self._module.weight
        hook = weight.register_post_accumulate_grad_hook(self._taken)
        self._module.__dict__["forward"] = self._forward
        try:
            yield
        finally:
            del self._module.__dict__["forward"]
            hook.remove()

    def _forward(self, x: Tensor) -> Tensor:
        weight, bias = self._module.weight, self._module.bias
        if x.dim() != 2 or not torch.is_grad_enabled():
            return nn.functional.linear(x, weight, bias)
        out: Tensor = _Product.apply(x, weight, bias, self)
        return out

    def gradient(self, above: Tensor, x: Tensor) -> Tensor:
        """Return the weight's gradient [out, in] of a batch.

        Args:
            above: Gradient of what the layer returned, [b, out].
            x: What it was given, [b, in].

        Returns:
            The product of both. A gradient that is there already is added to by autograd: then, and
            where the layer was passed twice, it has memory of its own.
        """
        weight = self._module.weight
        if self._given or weight.grad is not None:
            return above.t() @ x
        if self._memory is None:
            self._memory = torch.empty_like(weight, memory_format=torch.contiguous_format)
        self._given = True
        # A tensor that nobody else holds: autograd takes it as the gradient without a copy.
        out = torch.empty(0).set_(self._memory.untyped_storage(), 0, weight.shape)  # type: ignore[call-overload]
        return torch.mm(above.t(), x, out=out)

    def _taken(self, weight: Tensor) -> None:
        del weight
        self._given = False


class _Product(torch.autograd.Function):
    """A fully connected layer whose weight's gradient goes where its `_Layer` says."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: _Layer) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            above @ weight if wanted[0] else None,
            ctx.layer.gradient(above, x) if wanted[1] else None,
            above.sum(0) if wanted[2] else None,
            None,
        )

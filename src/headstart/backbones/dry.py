"""A network run without numbers: only the shapes of what it computes are followed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from headstart.backbones.base import example_input
from headstart.backbones.frozen import evaluating, state_tensors
from headstart.types import InputSpec, Spec

# What gives a tensor of its first argument's shape and type. On the meta device torch computes the
# shapes of these step by step in Python, which takes five times as long as the whole rest.
_SAME_SHAPE = frozenset(
    {
        F.batch_norm,
        F.dropout,
        F.elu,
        F.gelu,
        F.group_norm,
        F.hardsigmoid,
        F.hardswish,
        F.hardtanh,
        F.hardtanh_,
        F.layer_norm,
        F.leaky_relu,
        F.relu,
        F.relu6,
        F.relu_,
        F.silu,
        torch.relu,
        torch.relu_,
        torch.sigmoid,
    }
)


class _ShapesOnly(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if func in _SAME_SHAPE and args:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def dry_run(
    modules: Sequence[nn.Module], spec: Spec, length: int | None = None
) -> Iterator[tuple[int, ...]]:
    """Run modules one after the other without numbers, for one sample of the largest shape.

    Args:
        modules: In order; they are left as they are.
        spec: How samples are prepared.
        length: Tokens or steps of the sample; None: as many as the network takes.

    Yields:
        The shape without the batch axis: of the sample, then of what each module gives.

    Raises:
        RuntimeError: Some operation cannot be run without numbers.
        TypeError: The same.
    """
    meta = torch.device("meta")
    x = example_input(spec, 1, meta)
    if length is not None and not isinstance(spec, InputSpec):
        x = x[:, :length]
    yield tuple(x.shape[1:])
    for module in modules:
        x = _passed(module, x)
        yield tuple(x.shape[1:])


def _passed(module: nn.Module, x: Tensor) -> Tensor:
    with evaluating(module), _ShapesOnly():
        tensors = {name: t.to("meta") for name, t in state_tensors(module).items()}
        found: Tensor = torch.func.functional_call(module, tensors, (x,))
    return found

"""Several processes that train one model: each computes a share of every batch.

What they add up is exactly what one process computes of the whole batch, but for rounding: the loss
is divided by the samples of all, gradients are summed, and BatchNorm's statistics are of all
samples (Ioffe, Szegedy 2015, of the whole batch; the gradients of its means as they derive them).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.overrides import TorchFunctionMode

from headstart.errors import ConfigError
from headstart.heads import Tail
from headstart.heads.batched import BatchedNorm

_BATCH_NORM = nn.functional.batch_norm


class Team(Protocol):
    """The processes that train one model."""

    @property
    def rank(self) -> int:
        """Which of them this is, from 0: the first alone writes files."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def add_up(self, value: Tensor) -> Tensor:
        """Return the sum over all processes; each gets the same numbers."""
        ...

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """Return the numbers that the first process has: what decides is the same for all."""
        ...

    def wait(self) -> None:
        """Wait until all are here."""
        ...

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return what computes the model's forward pass so that gradients become everybody's."""
        ...

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Let BatchNorm see the samples of all processes, inside a block."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """One process."""

    rank: int = 0
    size: int = 1

    def add_up(self, value: Tensor) -> Tensor:
        """Return the value."""
        return value

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """Return the numbers."""
        return numbers

    def wait(self) -> None:
        """Go on."""

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return the model."""
        return model

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Change nothing."""
        return contextlib.nullcontext()


ALONE = Alone()


@dataclass(frozen=True, slots=True)
class Processes:
    """The default group of `torch.distributed`, which is initialised."""

    @property
    def rank(self) -> int:
        """Which of them this is."""
        return distributed.get_rank()

    @property
    def size(self) -> int:
        """How many there are."""
        return distributed.get_world_size()

    def add_up(self, value: Tensor) -> Tensor:
        """Return the sum over all processes."""
        out = value.detach().clone()
        distributed.all_reduce(out)
        return out

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """Return the numbers that the first process has."""
        box = [numbers]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Wait until all are here."""
        distributed.barrier()

    def parallel(self, model: nn.Module) -> nn.Module:
        """Wrap the model: its gradients are summed while they are computed."""
        if any(isinstance(m, BatchedNorm) and m.kind == "batch" for m in model.modules()):
            raise ConfigError(
                "head.normalization: expected layer or none where several processes train one "
                "model, got batch: its statistics would be of each process's samples alone"
            )
        if isinstance(model, Tail):
            model.together = True
        # DDP divides by the number of processes; the loss is multiplied by it (see autograd).
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Let BatchNorm see the samples of all processes."""
        return _whole_batch_norm()


def current_team() -> Team:
    """Return the processes that this one trains with, as `torch.distributed` was set up."""
    if distributed.is_available() and distributed.is_initialized():
        return Processes() if distributed.get_world_size() > 1 else ALONE
    return ALONE


def own_share(count: int, batch_size: int, team: Team) -> tuple[slice, ...]:
    """Return which places of each batch a process computes.

    Args:
        count: Samples in an epoch, in the order of visiting.
        batch_size: Samples of all processes per step.
        team: The processes.

    Returns:
        A slice of places for each step; batches are parted as evenly as can be.

    Raises:
        ValueError: A batch has fewer samples than there are processes.
    """
    shares = []
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        length, more = divmod(stop - start, team.size)
        if not length:
            raise ValueError(
                f"batch_size: expected batches of at least {team.size} samples, one for each "
                f"process, but the last of {count:,} samples in batches of {batch_size} has "
                f"{stop - start}: choose another batch_size"
            )
        first = start + team.rank * length + min(team.rank, more)
        shares.append(slice(first, first + length + (team.rank < more)))
    return tuple(shares)


class _WholeBatchNorm(torch.autograd.Function):
    """Normalises by the mean and variance of all processes' samples, [b, channels, …]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = (0, *range(2, x.dim()))
        wide = x.double() if x.dtype == torch.float64 else x.float()
        count = torch.tensor([x.numel() / x.shape[1]], dtype=wide.dtype, device=x.device)
        sums = torch.cat([wide.sum(axes), count])
        distributed.all_reduce(sums)
        total = sums[-1]
        mean = sums[:-1] / total
        shape = (1, -1, *(1,) * (x.dim() - 2))
        # In two passes: a variance from sums of squares loses the digits that large means take.
        squares = (wide - mean.view(shape)).square().sum(axes)
        distributed.all_reduce(squares)
        variance = squares / total
        scale = (variance + eps).rsqrt()
        normal = (wide - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normal, scale, total)
        ctx.axes, ctx.shape, ctx.dtype = axes, shape, x.dtype
        ctx.mark_non_differentiable(mean, variance, total)
        return normal.to(x.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        normal, scale, total = ctx.saved_tensors
        wide = gradient.to(normal.dtype)
        sums = torch.stack([wide.sum(ctx.axes), (wide * normal).sum(ctx.axes)])
        distributed.all_reduce(sums)
        first, second = (one.view(ctx.shape) / total for one in sums)
        found = scale.view(ctx.shape) * (wide - first - normal * second)
        return found.to(ctx.dtype), None


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return _BATCH_NORM(input, running_mean, running_var, weight, bias, training, momentum, eps)
    normal: Tensor
    normal, mean, variance, total = _WholeBatchNorm.apply(input, eps)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (total / (total - 1).clamp(min=1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    shape = (1, -1, *(1,) * (input.dim() - 2))
    if weight is not None:
        normal = normal * weight.view(shape).to(normal.dtype)
    return normal if bias is None else normal + bias.view(shape).to(normal.dtype)


class _WholeBatchNormMode(TorchFunctionMode):
    """Puts `_batch_norm` in the place of torch's, whichever module calls it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        return (_batch_norm if func is _BATCH_NORM else func)(*args, **(kwargs or {}))


@contextlib.contextmanager
def _whole_batch_norm() -> Iterator[None]:
    with _WholeBatchNormMode():
        yield

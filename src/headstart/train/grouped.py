"""Optimisers for a network that is trained by itself: torch's own, with a rate for each group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headstart.train.optim import Hyperparameters, Optimizer, OptimizerKind


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes:
        name: ``head``, or the name of a backbone stage.
        parameters: The parameters, each in one group only.
        learning_rate: Their learning rate before the schedule's factor.
        decays: Whether weight decay reaches them.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    decays: bool = True


def build_grouped_optimizer(
    kind: OptimizerKind,
    groups: Sequence[ParameterGroup],
    settings: Hyperparameters,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Build an optimiser for one network whose parts may learn at different rates.

    Args:
        kind: Which update rule.
        groups: The parameters, by identity: a parameter that stands twice is an error.
        settings: Everything but the learning rate.
        nesterov: SGD: look ahead along the momentum.

    Returns:
        The optimiser; state lives on the parameters' device.
    """
    seen = [id(p) for group in groups for p in group.parameters]
    assert len(seen) == len(set(seen)), "a parameter is in two groups"
    return _Grouped(kind, groups, settings, nesterov)


class _Grouped:
    """torch.optim with one group for each learning rate.

    It is given each parameter in the order in which its numbers lie in memory: the fused updates,
    one pass over all of them instead of one for each operation, copy what lies otherwise.
    """

    def __init__(
        self,
        kind: OptimizerKind,
        groups: Sequence[ParameterGroup],
        settings: Hyperparameters,
        nesterov: bool,
    ) -> None:
        self._rates = [group.learning_rate for group in groups]
        self._parameters = [p for group in groups for p in group.parameters]
        self._values = [
            _as_it_lies(p.detach(), p) if _channels_last(p) else p for p in self._parameters
        ]
        values = iter(self._values)
        given: list[dict[str, object]] = [
            {
                "params": [next(values) for _ in group.parameters],
                "lr": group.learning_rate,
                "weight_decay": settings.weight_decay if group.decays else 0.0,
            }
            for group in groups
        ]
        self._fused = kind != "rmsprop" and all(
            p.dtype == torch.float32 and p.device.type in ("cpu", "cuda") for p in self._parameters
        )
        self._torch = _torch_optimizer(kind, given, settings, nesterov, self._fused)

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        return self._parameters

    def zero_grad(self) -> None:
        for p, value in zip(self._parameters, self._values, strict=True):
            p.grad = value.grad = None

    def step(self, factor: float) -> None:
        for p, value in zip(self._parameters, self._values, strict=True):
            assert value.data_ptr() == p.data_ptr(), "a parameter has moved in memory"
            # Fused updates pair numbers by their places in memory, whatever the strides say.
            value.grad = None if p.grad is None else _laid_like(_as_it_lies(p.grad, p), value)
        for group, rate in zip(self._torch.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._torch.step()

    def state(self) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for index, (p, own) in enumerate(zip(self._parameters, self._values, strict=True)):
            for name, value in self._torch.state.get(own, {}).items():
                if isinstance(value, Tensor):
                    back = own is not p and value.dim() == 4
                    out[f"{index}.{name}"] = value.permute(0, 3, 1, 2) if back else value
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._torch.state.clear()
        for key, value in state.items():
            index, _, name = key.partition(".")
            p, own = self._parameters[int(index)], self._values[int(index)]
            # torch keeps the count of steps on the CPU, or with the others where the update is
            # fused, and these where the parameter is and in its memory layout: a step then runs the
            # same code as before the pause.
            if name == "step":
                kept = value.to(own.device if self._fused else "cpu", copy=True)
            else:
                kept = torch.empty_like(own).copy_(_as_it_lies(value, p))
            self._torch.state[own][name] = kept


def _laid_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor, or a copy whose numbers lie in the order in memory that another's have."""
    strides = zip(tensor.shape, tensor.stride(), like.stride(), strict=True)
    if all(own == others for size, own, others in strides if size != 1):
        return tensor
    return torch.empty_like(like).copy_(tensor)


def _channels_last(parameter: Tensor) -> bool:
    return not parameter.is_contiguous() and parameter.is_contiguous(
        memory_format=torch.channels_last
    )


def _as_it_lies(value: Tensor, parameter: Tensor) -> Tensor:
    """Return something of a parameter's shape with its axes in the parameter's memory order."""
    return value.permute(0, 2, 3, 1) if _channels_last(parameter) else value


def _torch_optimizer(
    kind: OptimizerKind,
    groups: list[dict[str, object]],
    s: Hyperparameters,
    nesterov: bool,
    fused: bool,
) -> torch.optim.Optimizer:
    rate, decay, epsilon = s.learning_rate, s.weight_decay, s.epsilon
    if kind == "sgd":
        return torch.optim.SGD(
            groups, rate, s.momentum, weight_decay=decay, nesterov=nesterov, fused=fused
        )
    if kind == "rmsprop":
        return torch.optim.RMSprop(
            groups, alpha=s.alpha, momentum=s.momentum, weight_decay=decay, eps=epsilon
        )
    rule = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    betas = (s.beta1, s.beta2)
    return rule(groups, betas=betas, eps=epsilon, weight_decay=decay, fused=fused)

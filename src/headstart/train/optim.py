"""Optimisers and schedules for heads whose first axis is members, each with its own settings.

The update rules are those of torch.optim (tests hold them equal), written out because torch's take
one learning rate for a whole tensor and a batched head needs one for each slice of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

OptimizerKind = Literal["sgd", "adam", "adamw", "rmsprop"]
ScheduleKind = Literal["constant", "step", "exponential", "cosine"]


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """One member's optimiser settings; those that its optimiser does not know are ignored.

    Attributes:
        learning_rate: Step size before the schedule's factor.
        momentum: SGD and RMSProp.
        weight_decay: L2 penalty added to the gradient; AdamW: decay of the weights themselves.
        beta1: Adam and AdamW: decay of the mean of gradients.
        beta2: Adam and AdamW: decay of the mean of squared gradients.
        alpha: RMSProp: decay of the mean of squared gradients.
        epsilon: Adam, AdamW and RMSProp: added to the denominator.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    alpha: float = 0.99
    epsilon: float = 1e-8


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """How the learning rate changes, as a factor on each member's own.

    Attributes:
        kind: ``constant``; ``step``: × `gamma` after every `every` epochs; ``exponential``:
            × `gamma` after every epoch; ``cosine``: from 1 to 0 over the whole training, by step.
        gamma: Factor of ``step`` and ``exponential``.
        every: Epochs between two steps.
    """

    kind: ScheduleKind = "constant"
    gamma: float = 0.1
    every: int = 10


def learning_rate_factor(spec: ScheduleSpec, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the factor on the learning rate at one step.

    Args:
        spec: The schedule.
        step: Optimiser steps done before this one, from 0.
        steps_per_epoch: Optimiser steps in an epoch.
        epochs: Epochs in the training.

    Returns:
        A factor, 1 at the first step.
    """
    epoch = step // steps_per_epoch
    if spec.kind == "step":
        return float(spec.gamma ** (epoch // spec.every))
    if spec.kind == "exponential":
        return float(spec.gamma**epoch)
    if spec.kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * epochs)))
    return 1.0


class Optimizer(Protocol):
    """What the loop asks of an optimiser."""

    def step(self, factor: float) -> None:
        """Update the parameters from their gradients at `factor` times the learning rate."""
        ...

    def zero_grad(self) -> None:
        """Forget the gradients."""
        ...


def build_optimizer(
    kind: OptimizerKind,
    parameters: Sequence[nn.Parameter],
    members: Sequence[Hyperparameters],
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Build an optimiser for parameters of shape [members, …].

    Args:
        kind: Which update rule.
        parameters: Tensors whose first axis is the members.
        members: Settings of each member.
        nesterov: SGD: look ahead along the momentum (Sutskever et al. 2013).

    Returns:
        The optimiser; state lives on the parameters' device.
    """
    settings = _Settings(parameters, members)
    if kind == "sgd":
        return _SGD(settings, nesterov)
    if kind == "rmsprop":
        return _RMSProp(settings)
    return _Adam(settings, decoupled=kind == "adamw")


class _Settings:
    """The parameters, and each hyperparameter shaped to broadcast over any of them."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], members: Sequence[Hyperparameters]
    ) -> None:
        self.parameters = list(parameters)
        for parameter in self.parameters:
            assert parameter.shape[0] == len(members), "the first axis must be the members"
        self._members = members
        self._tables: dict[tuple[str, int], Tensor] = {}

    def of(self, name: str, parameter: Tensor) -> Tensor:
        """Return a hyperparameter of all members as [M, 1, …] for this parameter."""
        key = (name, parameter.dim())
        if key not in self._tables:
            values = [float(getattr(m, name)) for m in self._members]
            shape = (-1,) + (1,) * (parameter.dim() - 1)
            self._tables[key] = torch.tensor(
                values, dtype=parameter.dtype, device=parameter.device
            ).view(shape)
        return self._tables[key]

    def any(self, name: str) -> bool:
        """Return whether any member has a value other than zero."""
        return any(getattr(m, name) != 0 for m in self._members)

    def state(self) -> list[Tensor]:
        return [torch.zeros_like(p) for p in self.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


class _SGD:
    def __init__(self, settings: _Settings, nesterov: bool) -> None:
        self._s = settings
        self._nesterov = nesterov
        self._momentum = settings.any("momentum")
        self._decay = settings.any("weight_decay")
        self._velocity = settings.state() if self._momentum else []

    def zero_grad(self) -> None:
        self._s.zero_grad()

    @torch.no_grad()
    def step(self, factor: float) -> None:
        for index, p in enumerate(self._s.parameters):
            assert p.grad is not None
            g = p.grad
            if self._decay:
                g = g + self._s.of("weight_decay", p) * p
            if self._momentum:
                momentum = self._s.of("momentum", p)
                velocity = self._velocity[index].mul_(momentum).add_(g)
                g = g + momentum * velocity if self._nesterov else velocity
            p.addcmul_(g, self._s.of("learning_rate", p), value=-factor)


class _Adam:
    def __init__(self, settings: _Settings, decoupled: bool) -> None:
        self._s = settings
        self._decoupled = decoupled
        self._decay = settings.any("weight_decay")
        self._mean = settings.state()
        self._square = settings.state()
        self._steps = 0

    def zero_grad(self) -> None:
        self._s.zero_grad()

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self._steps += 1
        for index, p in enumerate(self._s.parameters):
            assert p.grad is not None
            g = p.grad
            rate = self._s.of("learning_rate", p) * factor
            beta1, beta2 = self._s.of("beta1", p), self._s.of("beta2", p)
            if self._decay:
                decay = self._s.of("weight_decay", p)
                if self._decoupled:
                    p.mul_(1 - rate * decay)
                else:
                    g = g + decay * p
            mean = self._mean[index].mul_(beta1).add_((1 - beta1) * g)
            square = self._square[index].mul_(beta2).add_((1 - beta2) * g * g)
            denominator = (square / (1 - beta2**self._steps)).sqrt_() + self._s.of("epsilon", p)
            p.sub_(rate / (1 - beta1**self._steps) * mean / denominator)


class _RMSProp:
    def __init__(self, settings: _Settings) -> None:
        self._s = settings
        self._momentum = settings.any("momentum")
        self._decay = settings.any("weight_decay")
        self._square = settings.state()
        self._velocity = settings.state() if self._momentum else []

    def zero_grad(self) -> None:
        self._s.zero_grad()

    @torch.no_grad()
    def step(self, factor: float) -> None:
        for index, p in enumerate(self._s.parameters):
            assert p.grad is not None
            g = p.grad
            if self._decay:
                g = g + self._s.of("weight_decay", p) * p
            alpha = self._s.of("alpha", p)
            square = self._square[index].mul_(alpha).add_((1 - alpha) * g * g)
            update = g / (square.sqrt() + self._s.of("epsilon", p))
            if self._momentum:
                update = self._velocity[index].mul_(self._s.of("momentum", p)).add_(update)
            p.addcmul_(update, self._s.of("learning_rate", p), value=-factor)

"""Optimisers: for heads whose first axis is members, and for networks with groups.

The update rules for members are those of torch.optim (tests hold them equal), written out because
torch's take one learning rate for a whole tensor and a batched head needs one for each slice of it.
A network that is trained by itself takes torch's own, with one learning rate for each group.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

OptimizerKind = Literal["sgd", "adam", "adamw", "rmsprop"]


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


class Optimizer(Protocol):
    """What the loop asks of an optimiser."""

    def step(self, factor: float) -> None:
        """Update the parameters from their gradients at `factor` times the learning rate."""
        ...

    def zero_grad(self) -> None:
        """Forget the gradients."""
        ...

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """All parameters that it updates."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return everything that it remembers between steps, by name: what a checkpoint keeps."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        ...


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


def build_optimizer(
    kind: OptimizerKind,
    parameters: Sequence[nn.Parameter],
    members: Sequence[Hyperparameters],
    *,
    nesterov: bool = False,
    exempt: Collection[int] = (),
) -> Optimizer:
    """Build an optimiser for parameters of shape [members, …].

    Args:
        kind: Which update rule.
        parameters: Tensors whose first axis is the members.
        members: Settings of each member.
        nesterov: SGD: look ahead along the momentum (Sutskever et al. 2013).
        exempt: `id` of each parameter that weight decay does not reach.

    Returns:
        The optimiser; state lives on the parameters' device.
    """
    settings = _Settings(parameters, members, exempt)
    if kind == "sgd":
        return _SGD(settings, nesterov)
    if kind == "rmsprop":
        return _RMSProp(settings)
    return _Adam(settings, decoupled=kind == "adamw")


class _Settings:
    """The parameters, and each hyperparameter shaped to broadcast over any of them."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        members: Sequence[Hyperparameters],
        exempt: Collection[int],
    ) -> None:
        self._exempt = frozenset(exempt)
        self.parameters = list(parameters)
        for parameter in self.parameters:
            assert parameter.shape[0] == len(members), "the first axis must be the members"
        self._members = members
        self._tables: dict[tuple[str, int, bool], Tensor] = {}

    def of(self, name: str, parameter: Tensor) -> Tensor:
        """Return a hyperparameter of all members as [M, 1, …] for this parameter."""
        none = name == "weight_decay" and id(parameter) in self._exempt
        key = (name, parameter.dim(), none)
        if key not in self._tables:
            values = [0.0 if none else float(getattr(m, name)) for m in self._members]
            shape = (-1,) + (1,) * (parameter.dim() - 1)
            self._tables[key] = torch.tensor(
                values, dtype=parameter.dtype, device=parameter.device
            ).view(shape)
        return self._tables[key]

    def any(self, name: str) -> bool:
        """Return whether any member has a value other than zero."""
        return any(getattr(m, name) != 0 for m in self._members)

    def zeros(self) -> list[Tensor]:
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
        self._velocity = settings.zeros() if self._momentum else []

    def zero_grad(self) -> None:
        self._s.zero_grad()

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        return self._s.parameters

    def state(self) -> dict[str, Tensor]:
        return _named(velocity=self._velocity)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        _restore(state, velocity=self._velocity)

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
        self._mean = settings.zeros()
        self._square = settings.zeros()
        self._steps = 0

    def zero_grad(self) -> None:
        self._s.zero_grad()

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        return self._s.parameters

    def state(self) -> dict[str, Tensor]:
        steps = {"steps": torch.tensor(self._steps)}
        return {**steps, **_named(mean=self._mean, square=self._square)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._steps = int(state["steps"])
        _restore(state, mean=self._mean, square=self._square)

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
        self._square = settings.zeros()
        self._velocity = settings.zeros() if self._momentum else []

    def zero_grad(self) -> None:
        self._s.zero_grad()

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        return self._s.parameters

    def state(self) -> dict[str, Tensor]:
        return _named(square=self._square, velocity=self._velocity)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        _restore(state, square=self._square, velocity=self._velocity)

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


class _Grouped:
    """torch.optim with one group for each learning rate."""

    def __init__(
        self,
        kind: OptimizerKind,
        groups: Sequence[ParameterGroup],
        settings: Hyperparameters,
        nesterov: bool,
    ) -> None:
        self._rates = [group.learning_rate for group in groups]
        self._parameters = [p for group in groups for p in group.parameters]
        given: list[dict[str, object]] = [
            {
                "params": list(group.parameters),
                "lr": group.learning_rate,
                "weight_decay": settings.weight_decay if group.decays else 0.0,
            }
            for group in groups
        ]
        self._torch = _torch_optimizer(kind, given, settings, nesterov)

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        return self._parameters

    def zero_grad(self) -> None:
        self._torch.zero_grad(set_to_none=True)

    def step(self, factor: float) -> None:
        for group, rate in zip(self._torch.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._torch.step()

    def state(self) -> dict[str, Tensor]:
        return {
            f"{index}.{name}": value
            for index, p in enumerate(self._parameters)
            for name, value in self._torch.state.get(p, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._torch.state.clear()
        for key, value in state.items():
            index, _, name = key.partition(".")
            p = self._parameters[int(index)]
            # torch keeps the count of steps on the CPU, and everything else where the parameter is
            # and in its memory layout: a step then runs the same code as before the pause.
            self._torch.state[p][name] = (
                value.clone() if name == "step" else torch.empty_like(p.detach()).copy_(value)
            )


def _torch_optimizer(
    kind: OptimizerKind, groups: list[dict[str, object]], s: Hyperparameters, nesterov: bool
) -> torch.optim.Optimizer:
    decay, epsilon = s.weight_decay, s.epsilon
    if kind == "sgd":
        return torch.optim.SGD(
            groups, momentum=s.momentum, weight_decay=decay, nesterov=nesterov, lr=s.learning_rate
        )
    if kind == "rmsprop":
        return torch.optim.RMSprop(
            groups, alpha=s.alpha, momentum=s.momentum, weight_decay=decay, eps=epsilon
        )
    rule = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return rule(groups, betas=(s.beta1, s.beta2), eps=epsilon, weight_decay=decay)


def _named(**lists: list[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{i}": t for name, tensors in lists.items() for i, t in enumerate(tensors)}


@torch.no_grad()
def _restore(state: Mapping[str, Tensor], **lists: list[Tensor]) -> None:
    for name, tensors in lists.items():
        for index, tensor in enumerate(tensors):
            tensor.copy_(state[f"{name}.{index}"])

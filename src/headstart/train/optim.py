"""Optimisers for heads whose first axis is members.

The update rules are those of torch.optim (tests hold them equal), written out because torch's take
one learning rate for a whole tensor and a batched head needs one for each slice of it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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


class PlainSGD(Protocol):
    """SGD with momentum and nothing else: moves its parameters by gradients that it is given."""

    def move(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Make a step.

        Args:
            gradients: Of the parameters, in their order.
            factor: On the learning rates.
        """
        ...

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return each member's learning rate and momentum, each [M, 1]."""
        ...

    @property
    def velocity(self) -> Sequence[Tensor]:
        """What each parameter moved by last, before the learning rate; empty without momentum."""
        ...


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
        self.parameters = list(parameters)
        # The same memory without autograd's bookkeeping, which costs as much as a small update.
        self.values = [parameter.detach() for parameter in self.parameters]
        self._exempt = frozenset(
            id(value)
            for value, parameter in zip(self.values, self.parameters, strict=True)
            if id(parameter) in exempt
        )
        for parameter in self.parameters:
            assert parameter.shape[0] == len(members), "the first axis must be the members"
        self._members = members
        self._tables: dict[tuple[str, int, bool], Tensor] = {}

    def learning(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the values and the gradient of each parameter; to write to values is to learn."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            assert parameter.grad is not None
            yield value, parameter.grad

    def of(self, name: str, parameter: Tensor) -> Tensor:
        """Return a hyperparameter of all members as [M, 1, …] for the values of a parameter."""
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
        self._rows = [
            (
                value,
                self._velocity[index] if self._velocity else None,
                settings.of("momentum", value),
                settings.of("learning_rate", value),
            )
            for index, value in enumerate(settings.values)
        ]

    @property
    def is_plain(self) -> bool:
        """Whether weights move by gradient and velocity alone."""
        return not (self._decay or self._nesterov)

    def zero_grad(self) -> None:
        self._s.zero_grad()

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        return self._s.parameters

    def state(self) -> dict[str, Tensor]:
        return _named(velocity=self._velocity)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        _restore(state, velocity=self._velocity)

    def move(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Make a step of plain SGD; see `PlainSGD`."""
        for (p, velocity, momentum, rate), g in zip(self._rows, gradients, strict=True):
            moved = g if velocity is None else velocity.mul_(momentum).add_(g)
            p.addcmul_(moved, rate, value=-factor)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return each member's learning rate and momentum; see `PlainSGD`."""
        some = self._s.values[0]
        rate, momentum = (self._s.of(name, some) for name in ("learning_rate", "momentum"))
        return rate.view(-1, 1), momentum.view(-1, 1)

    @property
    def velocity(self) -> Sequence[Tensor]:
        """What each parameter moved by last; see `PlainSGD`."""
        return self._velocity

    def step(self, factor: float) -> None:
        if self.is_plain:
            self.move([gradient for _, gradient in self._s.learning()], factor)
            return
        for index, (p, gradient) in enumerate(self._s.learning()):
            g = gradient
            if self._decay:
                g = g + self._s.of("weight_decay", p) * p
            if self._momentum:
                momentum = self._s.of("momentum", p)
                velocity = self._velocity[index].mul_(momentum).add_(g)
                g = g + momentum * velocity if self._nesterov else velocity
            p.addcmul_(g, self._s.of("learning_rate", p), value=-factor)


def plain_sgd(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> PlainSGD | None:
    """Return an optimiser's rule where it is plain SGD of exactly these parameters, else None."""
    if not isinstance(optimizer, _SGD) or not optimizer.is_plain:
        return None
    same = [id(p) for p in optimizer.parameters] == [id(p) for p in parameters]
    return optimizer if same else None


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

    def step(self, factor: float) -> None:
        self._steps += 1
        for index, (p, gradient) in enumerate(self._s.learning()):
            g = gradient
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

    def step(self, factor: float) -> None:
        for index, (p, gradient) in enumerate(self._s.learning()):
            g = gradient
            if self._decay:
                g = g + self._s.of("weight_decay", p) * p
            alpha = self._s.of("alpha", p)
            square = self._square[index].mul_(alpha).add_((1 - alpha) * g * g)
            update = g / (square.sqrt() + self._s.of("epsilon", p))
            if self._momentum:
                update = self._velocity[index].mul_(self._s.of("momentum", p)).add_(update)
            p.addcmul_(update, self._s.of("learning_rate", p), value=-factor)


def _named(**lists: list[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{i}": t for name, tensors in lists.items() for i, t in enumerate(tensors)}


@torch.no_grad()
def _restore(state: Mapping[str, Tensor], **lists: list[Tensor]) -> None:
    for name, tensors in lists.items():
        for index, tensor in enumerate(tensors):
            tensor.copy_(state[f"{name}.{index}"])

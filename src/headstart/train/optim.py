"""Optimisers: for heads whose first axis is members, and for networks with groups.

The update rules for members are those of torch.optim (tests hold them equal), written out because
torch's take one learning rate for a whole tensor and a batched head needs one for each slice of it.
A network that is trained by itself takes torch's own, with one learning rate for each group.
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
        self.parameters = list(parameters)
        # The same memory without autograd's bookkeeping, which costs as much as a small update.
        self._values = [parameter.detach() for parameter in self.parameters]
        self._exempt = frozenset(
            id(value)
            for value, parameter in zip(self._values, self.parameters, strict=True)
            if id(parameter) in exempt
        )
        for parameter in self.parameters:
            assert parameter.shape[0] == len(members), "the first axis must be the members"
        self._members = members
        self._tables: dict[tuple[str, int, bool], Tensor] = {}

    def learning(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the values and the gradient of each parameter; to write to values is to learn."""
        for value, parameter in zip(self._values, self.parameters, strict=True):
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

    @property
    def settings(self) -> _Settings:
        return self._s

    @property
    def velocity(self) -> Sequence[Tensor]:
        """Of each parameter; empty without momentum. It is the same memory for ever."""
        return self._velocity

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

    def step(self, factor: float) -> None:
        for index, (p, gradient) in enumerate(self._s.learning()):
            g = gradient
            if self._decay:
                g = g + self._s.of("weight_decay", p) * p
            if self._momentum:
                momentum = self._s.of("momentum", p)
                velocity = self._velocity[index].mul_(momentum).add_(g)
                g = g + momentum * velocity if self._nesterov else velocity
            p.addcmul_(g, self._s.of("learning_rate", p), value=-factor)


class PlainSGD:
    """Moves parameters as SGD with momentum does, without anything between two steps."""

    def __init__(self, values: Sequence[Tensor], sgd: "_SGD") -> None:
        settings = sgd.settings
        self._rows = [
            (
                value,
                sgd.velocity[index] if sgd.velocity else None,
                settings.of("momentum", value),
                settings.of("learning_rate", value),
            )
            for index, value in enumerate(values)
        ]

    def move(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Make a step.

        Args:
            gradients: Of the parameters, in their order.
            factor: On the learning rates.
        """
        for (p, velocity, momentum, rate), g in zip(self._rows, gradients, strict=True):
            moved = g if velocity is None else velocity.mul_(momentum).add_(g)
            p.addcmul_(moved, rate, value=-factor)


def plain_sgd(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> PlainSGD | None:
    """Return an optimiser's rule where it is plain SGD of exactly these parameters, else None."""
    if not isinstance(optimizer, _SGD) or not optimizer.is_plain:
        return None
    if [id(p) for p in optimizer.parameters] != [id(p) for p in parameters]:
        return None
    return PlainSGD([p.detach() for p in parameters], optimizer)


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


def _named(**lists: list[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{i}": t for name, tensors in lists.items() for i, t in enumerate(tensors)}


@torch.no_grad()
def _restore(state: Mapping[str, Tensor], **lists: list[Tensor]) -> None:
    for name, tensors in lists.items():
        for index, tensor in enumerate(tensors):
            tensor.copy_(state[f"{name}.{index}"])

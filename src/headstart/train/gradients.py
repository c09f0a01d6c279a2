"""Between backward and step: unscale, clip; and after it: average."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from headstart.train.state import load_own_state, own_state

_FIRST_SCALE = 2.0**16
_GROWTH_STEPS = 2000


class LossScale:
    """Keeps float16 gradients away from zero: the loss is multiplied, the gradients divided.

    After a step with gradients that are not finite the step is left out and the scale halved; after
    2,000 good steps in a row it is doubled. Source: Micikevicius et al., Mixed Precision Training
    (2018), section 3.2.
    """

    def __init__(self, enabled: bool) -> None:
        """Start at 65,536, or at 1 for ever where it is not enabled.

        Args:
            enabled: Whether the forward pass computes in float16.
        """
        self._enabled = enabled
        self.value = _FIRST_SCALE if enabled else 1.0
        self.good_steps = 0

    @torch.no_grad()
    def unscale(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Divide the gradients by the scale.

        Args:
            parameters: Those with gradients.

        Returns:
            Whether the step may be made: False where a gradient is not finite.
        """
        if not self._enabled:
            return True
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient in gradients:
            gradient.div_(self.value)
        if all(bool(torch.isfinite(g).all()) for g in gradients):
            self.good_steps += 1
            if self.good_steps == _GROWTH_STEPS:
                self.value, self.good_steps = self.value * 2, 0
            return True
        self.value, self.good_steps = max(self.value / 2, 1.0), 0
        return False


@torch.no_grad()
def clip(parameters: Sequence[nn.Parameter], members: int, norm: float) -> None:
    """Scale the gradients of each member down to a norm, where they are above it.

    Args:
        parameters: With gradients; their first axis is members where there is more than one.
        members: How many there are.
        norm: The largest Euclidean norm of all gradients of a member together.
    """
    if members == 1:
        torch.nn.utils.clip_grad_norm_(parameters, norm)
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares = [g.reshape(members, -1).pow(2).sum(dim=1) for g in gradients]
    lengths = torch.stack(squares).sum(dim=0).sqrt()
    factors = (norm / (lengths + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *(1,) * (gradient.dim() - 1)))


class Average:
    """A running average of the weights (Polyak, Juditsky 1992), exponentially forgetting or plain.

    The decay rises with the steps t as min(decay, (1 + t) / (10 + t)), so that the first weights
    are soon forgotten; the plain average is the mean of the weights after each step since the
    beginning. Buffers, such as BatchNorm's statistics, are taken as they are.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        """Start at the weights as they are.

        Args:
            model: The model that is trained.
            decay: Share of the old average that stays at a step; None for the plain average.
        """
        self._model = model
        self._decay = decay
        self._steps = 0
        # A parameter that two modules share has two names.
        named = model.named_parameters(remove_duplicate=False)
        self._learned = {name for name, p in named if p.requires_grad}
        self._shadow = {k: v.detach().clone() for k, v in own_state(model).items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        if self._decay is None:
            decay = 1 - 1 / self._steps
        else:
            decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in own_state(self._model).items():
            if name in self._learned:
                self._shadow[name].lerp_(value, 1 - decay)
            else:
                self._shadow[name].copy_(value)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Let the model hold the average for a while.

        Yields:
            Nothing.
        """
        own = {k: v.detach().clone() for k, v in own_state(self._model).items()}
        load_own_state(self._model, self._shadow)
        try:
            yield
        finally:
            load_own_state(self._model, own)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {**self._shadow, ".steps": torch.tensor(self._steps)}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self._steps = int(state[".steps"])
        for name, value in self._shadow.items():
            value.copy_(state[name])

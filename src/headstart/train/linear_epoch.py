"""A whole epoch of linear heads by SGD in one loop: what the general loop does, and nothing else.

For a small head the work between two matrix products costs more than the products. Where nothing
looks at single steps, an epoch's features are put in order once, and losses and right answers are
counted once, of all logits together. Weights end as the general loop's, but for rounding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from headstart.heads.batched import BatchedHead, BatchedLinear
from headstart.train.figures import evaluate
from headstart.train.keeper import Tally
from headstart.train.optim import PlainSGD
from headstart.train.source import FeatureSource

MOST_NUMBERS = 1 << 24
"""Of an epoch's features, and of all its logits: 64 MiB each."""


@runtime_checkable
class Whole(FeatureSource, Protocol):
    """A source that can give an epoch at once."""

    @property
    def batch_size(self) -> int:
        """Samples per optimiser step."""
        ...

    def whole(self, epoch: int, most: int) -> tuple[Tensor, Tensor] | None:
        """Return an epoch's features [n, width] and labels [n] in its order.

        None where they are more than `most` numbers, or not the same for all members.
        """
        ...


@dataclass(frozen=True, slots=True)
class Counted:
    """What an epoch came to, step by step.

    Attributes:
        losses: Mean loss of each member's batch, float32, shape [steps, M].
        right: Right answers, int64, shape [steps, M].
        sizes: Samples of each step.
    """

    losses: Tensor
    right: Tensor
    sizes: tuple[int, ...]

    def until_lost(self) -> tuple[int, bool]:
        """Return how many steps count, and whether no member has a finite loss in the last."""
        lost = ~torch.isfinite(self.losses).any(dim=1)
        first = int(lost.int().argmax())
        return (first + 1, True) if bool(lost[first]) else (len(self.sizes), False)


class LinearEpoch:
    """Trains linear heads for an epoch at a time."""

    def __init__(self, head: BatchedHead, rule: PlainSGD, source: Whole) -> None:
        """Make room.

        Args:
            head: One that `headstart.train.linear.covers` accepts, on its device.
            rule: How its weight and bias move.
            source: Where epochs come from.
        """
        layer = head.layers[0]
        assert isinstance(layer, BatchedLinear)
        self._head, self._source, self._rule = head, source, rule
        # The same memory without autograd's bookkeeping.
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        self._gradients = torch.empty_like(self._weight), torch.empty_like(self._bias)

    @property
    def batch_size(self) -> int:
        """Samples per optimiser step."""
        return self._source.batch_size

    @property
    def operations(self) -> float:
        """Floating-point operations of a step: forward, and both gradients, as autograd counts."""
        return 6.0 * (self._weight.numel() + self._bias.numel()) * self.batch_size

    def prepare(self) -> None:
        """Do nothing: an epoch needs nothing but itself."""

    @property
    def aside(self) -> None:
        """What remembers weights that are kept: nothing, they are the head's."""
        return

    @torch.no_grad()
    def run(self, epoch: int, factor: Callable[[int], float]) -> Counted | None:
        """Train an epoch.

        Args:
            epoch: Which, from 1.
            factor: On the learning rate, of each step from 0.

        Returns:
            What it came to; None where the source cannot give it at once, and nothing was done.
        """
        members, classes, width = self._weight.shape
        rows, size = members * classes, self._source.batch_size
        most = min(MOST_NUMBERS, MOST_NUMBERS // rows * width)
        found = self._source.whole(epoch, most)
        if found is None:
            return None
        z, y = found
        count = len(y)
        weight, bias = self._weight.view(rows, width), self._bias.view(rows, 1)
        gradient, bias_gradient = self._gradients
        flat_gradient = gradient.view(rows, width)
        at = y.expand(members, 1, count)
        logits = torch.empty(rows * count, device=z.device)
        sizes = tuple(min(size, count - start) for start in range(0, count, size))
        for step, batch in enumerate(sizes):
            start = step * size
            x = z[start : start + batch]
            # Each step's logits lie together: [members·classes, b].
            own = logits[start * rows : (start + batch) * rows].view(rows, batch)
            torch.addmm(bias, weight, x.t(), out=own)
            error = torch.softmax(own.view(members, classes, batch), dim=1)
            # ∂loss/∂logits = (p − onehot) / b
            error.scatter_(1, at[:, :, start : start + batch], -1.0, reduce="add")
            error.mul_(1 / batch)
            torch.mm(error.view(rows, batch), x, out=flat_gradient)
            torch.sum(error, dim=2, out=bias_gradient)
            self._rule.move(self._gradients, factor(step))
        return counted(logits, y, (members, classes), sizes)

    def evaluate(self) -> Tally:
        """Return mean loss and accuracy on the validation split, of each member."""
        return evaluate(self._head, self._source, "val")

    def state(self) -> dict[str, Tensor]:
        """Return nothing: head and optimiser are all that decides how the training goes on."""
        return {}

    def resumed(self, state: Mapping[str, Tensor]) -> "LinearEpoch":
        """Go on from the head and the optimiser as they are, whatever else was saved."""
        del state
        return self


def counted(logits: Tensor, y: Tensor, shape: tuple[int, int], sizes: tuple[int, ...]) -> Counted:
    """Count losses and right answers of all steps.

    Args:
        logits: Of each step [members·classes, b], one after the other.
        y: Labels in the epoch's order, [n].
        shape: Members and classes.
        sizes: Samples of each step: all but the last are of one size.

    Returns:
        What the epoch came to.
    """
    members, classes = shape
    losses, right = [], []
    done = 0
    full = sizes.count(sizes[0])
    for steps, batch in ((full, sizes[0]), (len(sizes) - full, sizes[-1])):
        if not steps:
            continue
        stop = done + steps * batch
        some = logits[done * members * classes : stop * members * classes]
        log_p = torch.log_softmax(some.view(steps, members, classes, batch), dim=2)
        at = y[done:stop].view(steps, 1, 1, batch).expand(steps, members, 1, batch)
        losses.append(log_p.gather(2, at).sum(dim=(2, 3)).mul_(-1 / batch))
        # As argmax, the first of equals.
        right.append((log_p.max(dim=2, keepdim=True).indices == at).sum(dim=(2, 3)))
        done = stop
    return Counted(torch.cat(losses), torch.cat(right), sizes)

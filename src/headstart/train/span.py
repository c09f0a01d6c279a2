"""Linear heads under SGD in the span of their samples, where samples are few and features many.

The gradient of a linear head's weight is a sum of samples, so at every step the weight is the first
one and a sum of samples (the representer theorem; Schölkopf et al., 2001). With z̄ the mean of the
n samples z and A [rows, n + 1] the coefficients,

    W = W₀ + Σᵢ Aᵢ (zᵢ − z̄) + Aₙ z̄,    b = b₀ + Aₙ,

a step needs the products of samples with each other, which are the same in all epochs, and neither
samples nor weights: one matrix product gives a batch's logits, and its gradient is added to its own
coefficients. Where the mean were not apart, as large as features after a ReLU have it, rounding
would cost ten times as much.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from headstart.heads.batched import BatchedHead, BatchedLinear
from headstart.train.keeper import Sums, Tally
from headstart.train.linear_epoch import Counted, LinearEpoch, Whole, counted
from headstart.train.optim import PlainSGD

_MOST_SAMPLES = 4096  # their products with each other: 64 MiB
MOST_NUMBERS = 1 << 24
"""Of features, and of an epoch's logits: 64 MiB each."""


@runtime_checkable
class Held(Whole, Protocol):
    """A source that holds its samples, the same in all epochs, in another order in each."""

    def held(self, split: str, most: int) -> tuple[Tensor, Tensor] | None:
        """Return all features [n, width] and labels [n] of a split.

        None where they are more than `most` numbers, not the same in all epochs or for all members.
        """
        ...

    def places(self, epoch: int) -> Tensor:
        """Return which samples of ``train`` an epoch visits, in its order, int64, [n]."""
        ...


class SpanEpoch:
    """Trains linear heads for an epoch at a time, by coefficients of the samples."""

    def __init__(
        self,
        head: BatchedHead,
        rule: PlainSGD,
        source: Held,
        samples: tuple[Tensor, Tensor],
        others: tuple[Tensor, Tensor],
    ) -> None:
        """Multiply the samples with each other.

        Args:
            head: One that `headstart.train.linear.covers` accepts, on its device, before its first
                step.
            rule: How its weight and bias move.
            source: Says in which order.
            samples: What the source holds for training.
            others: What it holds for validation.
        """
        layer = head.layers[0]
        assert isinstance(layer, BatchedLinear)
        self._head, self._rule, self._source = head, rule, source
        # The same memory without autograd's bookkeeping.
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        (z, self._y), (other_z, self._other_y) = samples, others
        mean = z.mean(0, keepdim=True)
        self._basis = torch.cat((z - mean, mean))  # [n + 1, width]
        self._z, self._products = z, self._products_of(z)
        self._other_z, self._other_products = other_z, self._products_of(other_z)
        rows = math.prod(self._weight.shape[:2])
        nothing = torch.zeros(rows, len(self._basis), device=z.device)
        weight, bias = self._weight.view(rows, -1).clone(), self._bias.view(rows, 1).clone()
        self._begin(weight, bias, nothing, nothing.clone())

    def _products_of(self, z: Tensor) -> Tensor:
        """Return the products of samples with the basis: [samples, n + 1]."""
        products = torch.mm(z, self._basis.t())
        products[:, -1] += 1  # the bias moves as the mean does
        return products

    def _begin(self, weight: Tensor, bias: Tensor, coefficients: Tensor, velocity: Tensor) -> None:
        """Begin at a first weight [rows, width] and bias [rows, 1] and what came to them."""
        self._first = weight, bias
        self._coefficients, self._velocity = coefficients, velocity
        # Of the first weight, [rows, samples].
        self._logits = torch.addmm(bias, weight, self._z.t())
        self._other_logits = torch.addmm(bias, weight, self._other_z.t())

    @property
    def batch_size(self) -> int:
        """Samples per optimiser step."""
        return self._source.batch_size

    @torch.no_grad()
    def run(self, epoch: int, factor: Callable[[int], float]) -> Counted:
        """Train an epoch; weight and bias stay behind until they settle. See `LinearEpoch.run`."""
        members, classes, _ = self._weight.shape
        rows, size, count = members * classes, self.batch_size, len(self._y)
        places = self._source.places(epoch)
        y = self._y[places]
        at = y.expand(members, 1, count)
        first = self._logits.index_select(1, places)
        rates, momenta = (table.repeat_interleave(classes, 0) for table in self._rule.tables())
        logits = torch.empty(rows * count, device=y.device)
        room = torch.empty(size, count + 1, device=y.device)
        by_sample, common = self._velocity[:, :-1], self._velocity[:, -1]
        sizes = tuple(min(size, count - start) for start in range(0, count, size))
        for step, batch in enumerate(sizes):
            start = step * size
            chosen = places[start : start + batch]
            products = torch.index_select(self._products, 0, chosen, out=room[:batch])
            # Each step's logits lie together: [members·classes, b].
            own = logits[start * rows : (start + batch) * rows].view(rows, batch)
            before = first[:, start : start + batch]
            torch.addmm(before, self._coefficients, products.t(), out=own)
            error = torch.softmax(own.view(members, classes, batch), dim=1)
            # ∂loss/∂logits = (p − onehot) / b
            error.scatter_(1, at[:, :, start : start + batch], -1.0, reduce="add")
            flat = error.view(rows, batch)
            self._velocity.mul_(momenta)
            by_sample.index_add_(1, chosen, flat, alpha=1 / batch)
            common.add_(flat.sum(1), alpha=1 / batch)
            self._coefficients.addcmul_(self._velocity, rates, value=-factor(step))
        return counted(logits, y, (members, classes), sizes)

    @torch.no_grad()
    def evaluate(self) -> Tally:
        """Return mean loss and accuracy on the validation split, of each member."""
        members, classes, _ = self._weight.shape
        count = len(self._other_y)
        products = self._other_products
        logits = torch.addmm(self._other_logits, self._coefficients, products.t())
        found = counted(logits.view(-1), self._other_y, (members, classes), (count,))
        sums = Sums()
        sums.add(found.losses[0], found.right[0], count)
        return sums.result()

    @torch.no_grad()
    def settle(self, members: Sequence[int]) -> None:
        """Bring weight and bias of some members to where their training is."""
        chosen = torch.tensor(members, device=self._weight.device)
        count, classes, width = self._weight.shape

        def of(rows: Tensor) -> Tensor:
            return rows.view(count, classes, -1).index_select(0, chosen).flatten(0, 1)

        weight, bias = (of(rows) for rows in self._first)
        coefficients = of(self._coefficients)
        weight = torch.addmm(weight, coefficients, self._basis)
        self._weight[chosen] = weight.view(-1, classes, width)
        self._bias[chosen] = (bias + coefficients[:, -1:]).view(-1, classes)

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """Return what decides how the training goes on; settle all of head and rule."""
        self.settle(range(len(self._weight)))
        moved = torch.mm(self._velocity, self._basis), self._velocity[:, -1]
        # Without momentum there is none.
        for velocity, now in zip(self._rule.velocity, moved, strict=False):
            velocity.copy_(now.view_as(velocity))
        weight, bias = self._first
        own = {"coefficients": self._coefficients, "velocity": self._velocity}
        return {"weight": weight, "bias": bias, **own}

    def resumed(self, state: Mapping[str, Tensor]) -> "LinearEpoch | SpanEpoch":
        """Go on from what `state` returned, by what the training did before.

        Args:
            state: Empty where it did single steps, or weights moved by themselves.

        Returns:
            What trains from here on.
        """
        if not state:
            return LinearEpoch(self._head, self._rule, self._source)
        device = self._weight.device
        self._begin(**{name: value.to(device) for name, value in state.items()})
        return self


def pays(z: Tensor, rows: int, epochs: int) -> bool:
    """Return whether steps by coefficients are worth the products of all samples.

    Args:
        z: The training samples, [n, width].
        rows: Members times classes.
        epochs: Of the whole training.

    Returns:
        Whether a step is smaller, memory suffices, and epochs make up for the products.
    """
    samples, width = z.shape
    fits = samples <= _MOST_SAMPLES and samples * rows <= MOST_NUMBERS
    return fits and samples <= width and rows * epochs >= samples

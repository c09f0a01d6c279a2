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

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from headstart.heads.batched import BatchedHead, BatchedLinear
from headstart.train.keeper import Sums, Tally
from headstart.train.linear_epoch import MOST_NUMBERS, Counted, LinearEpoch, Whole, counted
from headstart.train.optim import PlainSGD

_STATE = ("weight", "bias", "coefficients", "velocity", "remembered")
_MOST_SAMPLES = 4096  # their products with each other: 64 MiB


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
    """Trains linear heads for an epoch at a time, by coefficients of the samples.

    Weight and bias of the head stay as they were until `state` or `recall` sets them.
    """

    def __init__(
        self,
        head: BatchedHead,
        rule: PlainSGD,
        source: Held,
        samples: tuple[Tensor, Tensor],
        others: tuple[Tensor, Tensor],
    ) -> None:
        """Begin with no coefficients; samples are multiplied in the first epoch.

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
        self._members, self._classes, width = layer.weight.shape
        rows = self._members * self._classes
        # The same memory without autograd's bookkeeping.
        self._weight = layer.weight.detach().view(rows, width)
        self._bias = layer.bias.detach().view(rows, 1)
        self._first = self._weight.clone(), self._bias.clone()
        self._samples: tuple[Tensor, Tensor] | None = (samples[0], others[0])
        self._y, self._other_y = samples[1], others[1]
        self._coefficients = torch.zeros(rows, len(self._y) + 1, device=self._y.device)
        self._velocity = torch.zeros_like(self._coefficients)
        self._remembered = torch.zeros_like(self._coefficients)
        self._basis = self._products = self._other_products = self._weight[:0]
        self._logits = self._other_logits = self._bias[:0]

    @property
    def batch_size(self) -> int:
        """Samples per optimiser step."""
        return self._source.batch_size

    @property
    def operations(self) -> float:
        """Floating-point operations of a step."""
        return 2.0 * self._coefficients.numel() * self.batch_size

    @property
    def aside(self) -> "SpanEpoch":
        """What remembers weights that are kept: this."""
        return self

    @torch.no_grad()
    def prepare(self) -> None:
        """Multiply the samples with each other, once; they are not needed afterwards."""
        if self._samples is None:
            return
        (z, other_z), self._samples = self._samples, None
        mean = z.mean(0, keepdim=True)
        self._basis = torch.cat((z - mean, mean))  # [n + 1, width]
        weight, bias = self._first
        self._products, self._other_products = (self._products_of(some) for some in (z, other_z))
        # Of the first weight, [rows, samples].
        self._logits = torch.addmm(bias, weight, z.t())
        self._other_logits = torch.addmm(bias, weight, other_z.t())

    @torch.no_grad()
    def run(self, epoch: int, factor: Callable[[int], float]) -> Counted:
        """Train an epoch; see `LinearEpoch.run`."""
        self.prepare()
        members, classes = self._members, self._classes
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
        self.prepare()
        count = len(self._other_y)
        products = self._other_products
        logits = torch.addmm(self._other_logits, self._coefficients, products.t())
        shape = (self._members, self._classes)
        found = counted(logits.view(-1), self._other_y, shape, (count,))
        sums = Sums()
        sums.add(found.losses[0], found.right[0], count)
        return sums.result()

    @torch.no_grad()
    def remember(self, members: Sequence[int]) -> None:
        """Remember some members' weights as they are now."""
        shape = (self._members, self._classes, -1)
        remembered, now = self._remembered.view(shape), self._coefficients.view(shape)
        if len(members) == self._members:
            remembered.copy_(now)
            return
        chosen = torch.tensor(members, device=now.device)
        remembered[chosen] = now[chosen]

    def recall(self) -> None:
        """Set the head to the weights of each member that were remembered last."""
        self._set_head(self._remembered)

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """Return what decides how the training goes on; set head and rule to where it is."""
        self._set_head(self._coefficients)
        moved = torch.mm(self._velocity, self._basis), self._velocity[:, -1]
        # Without momentum there is none.
        for velocity, now in zip(self._rule.velocity, moved, strict=False):
            velocity.copy_(now.view_as(velocity))
        return dict(zip(_STATE, self._tensors(), strict=True))

    @torch.no_grad()
    def resumed(self, state: Mapping[str, Tensor]) -> "LinearEpoch | SpanEpoch":
        """Go on from what `state` returned, by what the training did before.

        Args:
            state: Empty where it did single steps, or weights moved by themselves.

        Returns:
            What trains from here on.
        """
        if state.keys() != set(_STATE):
            return LinearEpoch(self._head, self._rule, self._source)
        for name, tensor in zip(_STATE, self._tensors(), strict=True):
            tensor.copy_(state[name])
        return self

    def _tensors(self) -> tuple[Tensor, ...]:
        return (*self._first, self._coefficients, self._velocity, self._remembered)

    @torch.no_grad()
    def _set_head(self, coefficients: Tensor) -> None:
        # Always all members: a product of fewer rows may round otherwise.
        self.prepare()
        weight, bias = self._first
        torch.addmm(weight, coefficients, self._basis, out=self._weight)
        torch.add(bias, coefficients[:, -1:], out=self._bias)

    def _products_of(self, z: Tensor) -> Tensor:
        """Return the products of samples with the basis: [samples, n + 1]."""
        products = torch.mm(z, self._basis.t())
        products[:, -1] += 1  # the bias moves as the mean does
        return products


def pays(samples: int, width: int, rows: int, epochs: int) -> bool:
    """Return whether steps by coefficients are worth the products of all samples.

    Args:
        samples: Of the training split.
        width: Features.
        rows: Members times classes.
        epochs: Of the whole training.

    Returns:
        Whether a step is smaller, memory suffices, and epochs make up for the products.
    """
    fits = samples <= _MOST_SAMPLES and samples * rows <= MOST_NUMBERS
    return fits and samples <= width and rows * epochs >= samples

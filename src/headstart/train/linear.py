"""Losses and gradients of linear heads in closed form: what autograd gives, in a third of the time.

Of logits a = W z + b, with p = softmax(a), the loss −Σ_c q_c log p_c has the gradient
∂loss/∂a = (Σ_c q_c) p − q. Then ∂loss/∂W = Σ over samples of (∂loss/∂a) zᵀ: one matrix product for
all members. q is what `figures.loss_sums` means by a target: w_y (1 − ε) at the label y, and
w_c ε / classes everywhere, of label smoothing ε and class weights w.

Classes come before samples, [M, classes, b]: softmax then runs along whole vectors of samples.
"""

import torch
from torch import Tensor, nn

from headstart.heads.batched import BatchedHead, BatchedLinear
from headstart.train.figures import denominator
from headstart.train.plan import TrainPlan


def covers(model: nn.Module, plan: TrainPlan) -> bool:
    """Say whether the closed form is of this model and loss; everything else takes autograd.

    Args:
        model: What is trained.
        plan: How.

    Returns:
        Whether `LinearGradients` gives its gradients.
    """
    if not isinstance(model, BatchedHead):
        return False
    spec = model.spec
    plain = not spec.hidden and not spec.dropout and spec.normalization == "none"
    ordinary = plan.goal == "classification" and plan.precision == "float32"
    learns = all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    return plain and ordinary and learns and plan.micro_batch_size is None


class LinearGradients:
    """The gradients of a batch, left where an optimiser looks for them."""

    def __init__(self, head: BatchedHead, plan: TrainPlan) -> None:
        """Make room for the gradients.

        Args:
            head: One that `covers` accepts, on its device.
            plan: Label smoothing and class weights.
        """
        layer = head.layers[0]
        assert isinstance(layer, BatchedLinear)
        self._layer = layer
        members, self._classes, width = layer.weight.shape
        self._members, rows = members, members * self._classes
        # The same memory without autograd's bookkeeping, which costs as much as a small product.
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        self._flat = self._weight.view(rows, width), self._bias.view(rows, 1)
        self._weight_grad = torch.empty_like(self._weight)
        self._flat_grad = self._weight_grad.view(rows, width)
        self._bias_grad = torch.empty_like(self._bias)
        self._sure = 1 - plan.label_smoothing
        device = self._weight.device
        self._class_weight: Tensor | None = None
        if plan.class_weights is not None:
            self._class_weight = torch.tensor(
                plan.class_weights, dtype=torch.float32, device=device
            )
        # What label smoothing adds to the target of every sample: one column, [classes, 1].
        self._everywhere: Tensor | None = None
        if plan.label_smoothing:
            ones = torch.ones(self._classes, device=device)
            weight = ones if self._class_weight is None else self._class_weight
            self._everywhere = (weight * (plan.label_smoothing / self._classes))[:, None]

    def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Put the gradients of the members' mean losses into the parameters.

        Args:
            z: Features, [b, width] or [M, b, width].
            y: Class indices, [b] or [M, b].

        Returns:
            The mean loss of each member and its right answers, each [M].
        """
        members, classes, batch = self._members, self._classes, y.shape[-1]
        if z.dim() == 3:
            logits = torch.baddbmm(self._bias[:, :, None], self._weight, z.transpose(1, 2))
        else:  # one matrix product for all members: [M·classes, width] × [width, b]
            weight, bias = self._flat
            logits = torch.addmm(bias, weight, z.t()).view(members, classes, batch)
        log_p = torch.log_softmax(logits, dim=1)
        at = y.expand(members, 1, batch) if y.dim() == 1 else y[:, None]
        # As argmax, the first of equals, in a fifth of the time.
        right = (log_p.max(dim=1, keepdim=True).indices == at).sum(dim=(1, 2))
        if self._class_weight is None and self._everywhere is None:
            losses = log_p.gather(1, at).sum(dim=(1, 2)).mul_(-1 / batch)
            # ∂loss/∂logits = (p − onehot) / b
            error = log_p.exp_().scatter_(1, at, -1.0, reduce="add").mul_(1 / batch)
        else:
            losses, error = self._weighted(log_p, y, at)
        self._put(error, z)
        return losses, right

    def _weighted(self, log_p: Tensor, y: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean losses [M] and their gradients at the logits, [M, classes, b]."""
        whole = denominator(y, self._class_weight)
        sure = torch.full_like(y, self._sure, dtype=log_p.dtype)
        if self._class_weight is not None:
            sure *= self._class_weight[y]
        sure = sure.expand(at.shape) if y.dim() == 1 else sure[:, None]  # [M, 1, b]
        losses = -(log_p.gather(1, at) * sure).sum(dim=(1, 2))
        mass = sure
        if self._everywhere is not None:
            losses -= (log_p * self._everywhere).sum(dim=(1, 2))
            mass = sure + self._everywhere.sum()
        error = (log_p.exp_() * mass).scatter_add_(1, at, -sure)
        if self._everywhere is not None:
            error -= self._everywhere
        shape = (-1, 1, 1) if isinstance(whole, Tensor) else ()
        return losses / whole, error / torch.as_tensor(whole, device=error.device).view(shape)

    def _put(self, error: Tensor, z: Tensor) -> None:
        """Set the gradients to those of logits [M, classes, b]."""
        if z.dim() == 3:
            torch.bmm(error, z, out=self._weight_grad)
        else:
            torch.mm(error.view(len(self._flat_grad), -1), z, out=self._flat_grad)
        torch.sum(error, dim=2, out=self._bias_grad)
        self._layer.weight.grad, self._layer.bias.grad = self._weight_grad, self._bias_grad

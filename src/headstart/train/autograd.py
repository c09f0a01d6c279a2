"""Losses and gradients of any model, by autograd: the way that everything can go."""

import contextlib

import torch
from torch import Tensor, nn

from headstart._util.compiling import Compiled
from headstart.train.figures import (
    batch_size,
    count_right,
    denominator,
    loss_sums,
    members_apart,
    no_answers,
    squared_sums,
)
from headstart.train.gradients import LossScale
from headstart.train.plan import Penalized, TrainPlan


class AutogradGradients:
    """The gradients of a batch, added to what the parameters hold."""

    def __init__(self, model: nn.Module, plan: TrainPlan, scale: LossScale) -> None:
        """Remember what is trained.

        Args:
            model: Maps features to logits [M, b, classes].
            plan: The loss, the precision, and how many samples are in memory at once.
            scale: What the loss is multiplied by.
        """
        self._forward = Compiled(model) if plan.compiled else model
        self._plan, self._scale = plan, scale
        self._penalized = model if isinstance(model, Penalized) else None
        self._weight: Tensor | None = None

    def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradients of the members' mean losses to the parameters'.

        The loss of a batch is a vector [M]; its sum goes backward, and since no member's loss
        depends on another member's weights, each gets exactly the gradient it would get alone.

        Args:
            z: What the source yields.
            y: Class indices, shares or targets, as the source yields them.

        Returns:
            The mean loss of each member and its right answers, each [M].
        """
        plan = self._plan
        if plan.class_weights is not None and self._weight is None:
            self._weight = torch.tensor(plan.class_weights, dtype=torch.float32, device=z.device)
        regression = plan.goal == "regression"
        apart, batch = members_apart(y, plan.goal), batch_size(y, plan.goal)
        size = plan.micro_batch_size if plan.micro_batch_size is not None else batch
        total: Tensor | None = None
        right: Tensor | None = None
        whole = y.shape[-1] if regression else denominator(y, self._weight)
        for start in range(0, batch, size):
            rows = slice(start, start + size)
            piece = (slice(None), rows) if apart else (rows,)
            one = z if size >= batch else z[piece]
            target = y if size >= batch else y[piece]
            with self._autocast(z.device):
                logits = self._forward(one)
            logits = logits.float()
            if regression:
                losses, hits = squared_sums(logits, target) / whole, no_answers(logits)
            else:
                losses = loss_sums(logits, target, plan.label_smoothing, self._weight) / whole
                hits = count_right(logits.detach(), target)
            objective = losses.sum()
            if self._penalized is not None:
                objective = objective + self._penalized.penalty() * (target.shape[-1] / batch)
            (objective * self._scale.value).backward()  # type: ignore[no-untyped-call]
            total = losses.detach() if total is None else total + losses.detach()
            right = hits if right is None else right + hits
        assert total is not None
        assert right is not None
        return total, right

    def _autocast(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        if self._plan.precision == "float32":
            return contextlib.nullcontext()
        context: contextlib.AbstractContextManager[object] = torch.autocast(
            device.type, dtype=getattr(torch, self._plan.precision)
        )
        return context

"""Losses and gradients of any model, by autograd: the way that everything can go."""

import contextlib
import itertools

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
from headstart.train.team import ALONE, Team


class AutogradGradients:
    """The gradients of a batch, added to what the parameters hold."""

    def __init__(
        self, model: nn.Module, plan: TrainPlan, scale: LossScale, team: Team = ALONE
    ) -> None:
        """Remember what is trained.

        Args:
            model: Maps features to logits [M, b, classes].
            plan: The loss, the precision, and how many samples are in memory at once.
            scale: What the loss is multiplied by.
            team: Who trains: each computes its share of a batch, the gradients are of the whole.
        """
        parallel = team.parallel(model)
        self._forward = Compiled(parallel) if plan.compiled else parallel
        self._team, self._parallel = team, parallel
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
            The mean loss of each member and its right answers, each [M]; of a team's process what
            its samples add to these of the whole batch.
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
        everybody: Tensor | int = batch
        if self._team.size > 1:
            whole = self._team.add_up(torch.as_tensor(whole, dtype=torch.float32, device=z.device))
            everybody = self._team.add_up(torch.tensor(float(batch), device=z.device))
        for rows in _pieces(batch, size, int(everybody) // self._team.size):
            piece = (slice(None), rows) if apart else (rows,)
            whole_batch = rows == slice(0, batch)
            one = z if whole_batch else z[piece]
            target = y if whole_batch else y[piece]
            with self._waiting(rows.stop < batch), self._team.together():
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
                    share = target.shape[-1] / everybody
                    objective = objective + self._penalized.penalty() * share
                # Whoever sums the gradients of several processes divides by their number.
                scaled = objective * (self._scale.value * self._team.size)
                scaled.backward()  # type: ignore[no-untyped-call]
            total = losses.detach() if total is None else total + losses.detach()
            right = hits if right is None else right + hits
        assert total is not None
        assert right is not None
        return total, right

    def _waiting(self, more: bool) -> contextlib.AbstractContextManager[object]:
        """Let gradients be summed with those of the others when the last piece is there."""
        if more and isinstance(self._parallel, nn.parallel.DistributedDataParallel):
            return self._parallel.no_sync()
        return contextlib.nullcontext()

    def _autocast(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        if self._plan.precision == "float32":
            return contextlib.nullcontext()
        context: contextlib.AbstractContextManager[object] = torch.autocast(
            device.type, dtype=getattr(torch, self._plan.precision)
        )
        return context


def _pieces(batch: int, size: int, least: int) -> list[slice]:
    """Return which samples are in memory at a time: in each process of a team as many pieces.

    Args:
        batch: Samples of this process.
        size: In memory at a time; one more where a process has one more than others.
        least: Samples of the process that has the fewest.

    Returns:
        Places, in order; where this is the only process each piece has `size`, but for the last.
    """
    if batch == least:
        return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]
    count = -(-least // size)
    bounds = [batch * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]

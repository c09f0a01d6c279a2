"""The training loop: for each epoch, forward, loss, backward, step; then look at validation.

It trains M members at once (M = 1 for a single model). No member's loss depends on another
member's weights, so each gets exactly the gradient that it would get alone: from autograd, or for
linear heads from the closed form.
"""

import contextlib
import math
import time
from collections.abc import Generator

import torch
from torch import Tensor, nn

from headstart._util.devices import threads_for
from headstart.errors import StoppedError
from headstart.train.checkpoint import Checkpoint, Saved
from headstart.train.figures import batch_size, evaluate
from headstart.train.gradients import Average, LossScale, clip
from headstart.train.history import from_table, step_records, to_table
from headstart.train.keeper import Keeper, Outcome, Sums, Tally
from headstart.train.lasting import LastingGradients
from headstart.train.optim import Optimizer
from headstart.train.plan import Judge, TrainPlan
from headstart.train.schedule import learning_rate_factor
from headstart.train.source import FeatureSource, Paced
from headstart.train.state import load_own_state, own_state
from headstart.train.steps import epochs_at_once, gradients_of, operations
from headstart.train.streams import RandomStreams
from headstart.train.team import ALONE, Team
from headstart.types import StepRecord

_LOOK_EVERY = 25  # steps between two looks at whether the loss is finite, where looking must wait


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    source: FeatureSource,
    plan: TrainPlan,
    checkpoint: Checkpoint | None = None,
    team: Team = ALONE,
    goes_on: Judge | None = None,
) -> Generator[StepRecord, None, tuple[Outcome, ...]]:
    """Train all members and leave the model with each member's kept weights, in eval mode.

    Until then the model's weights, and the optimiser's state, may be those of an earlier epoch.

    Args:
        model: Maps features to logits [M, b, classes]; where M > 1 each parameter's first axis is
            members. Random streams of its own are saved if it has the methods of `Streams`.
        optimizer: Over the model's parameters.
        source: Batches of features and labels.
        plan: What to do.
        checkpoint: Where to save and from where to go on, or None. What was done before the
            program ended is not repeated: the end is the same, bit for bit, on a CPU.
        team: Several processes that call this with equal models and with sources that give each its
            share of every batch: all end with the weights that one would, but for rounding. The
            first of them saves; the others read what it saved.
        goes_on: Says after each epoch, given its validation loss and accuracy, whether another one
            is trained.

    Yields:
        Records of each epoch, those from before the program ended first: those of steps, then, for
        each member that still counts, ``train`` and ``val``.

    Returns:
        How each member's training ended.

    Raises:
        StoppedError: Somebody asked the program to stop; the checkpoint is written.
        ValueError: Several members in float16: one whose loss is lost would hold up the others.
    """  # noqa: DOC405
    if plan.precision == "float16" and len(plan.learning_rates) > 1:
        raise ValueError("precision: expected float32 or bfloat16 for several members, got float16")
    run = _Run(model, optimizer, source, plan, checkpoint, team, goes_on)
    # Between two records whoever reads them may draw from torch's stream: it is theirs then.
    with run.random.drawing():
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is not None:
            run.load(saved)
        team.wait()  # nobody saves before all have read
    yield from tuple(run.records)
    while not run.done:
        with run.random.drawing():
            records = run.next_epoch()
        yield from records
    run.keeper.restore()
    model.eval()
    if checkpoint is not None and (saved is None or not saved.record["done"]) and not team.rank:
        with run.random.drawing():
            checkpoint.save(*run.snapshot())
    team.wait()
    return run.keeper.outcomes()


def drain(
    steps: Generator[StepRecord, None, tuple[Outcome, ...]],
) -> tuple[list[StepRecord], tuple[Outcome, ...]]:
    """Run a training to its end; return its history, and how each member ended."""
    records: list[StepRecord] = []
    while True:
        try:
            records.append(next(steps))
        except StopIteration as end:
            outcomes: tuple[Outcome, ...] = end.value
            return records, outcomes


class _Run:
    """A training and where it is: after `step` batches of `epoch`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        source: FeatureSource,
        plan: TrainPlan,
        checkpoint: Checkpoint | None,
        team: Team,
        goes_on: Judge | None,
    ) -> None:
        self.team, self.stopping = team, False
        self.goes_on, self.ended = goes_on, False
        self.model, self.optimizer, self.source = model, optimizer, source
        self.plan, self.checkpoint = plan, checkpoint
        self.epoch, self.step, self.seconds = 1, 0, 0.0
        self.sums = Sums()
        self.records: list[StepRecord] = []
        # Nobody looks between two steps where checkpoints are made by the clock.
        alone = team.size == 1 and (checkpoint is None or checkpoint.by_time)
        self.at_once = epochs_at_once(model, optimizer, source, plan) if alone else None
        self.keeper = Keeper(
            model,
            plan.learning_rates,
            keep=plan.keep,
            best_by=plan.best_by,
            early_stopping=plan.early_stopping,
            aside=None if self.at_once is None else self.at_once.aside,
        )
        self.scale = LossScale(plan.precision == "float16")
        self.average = None if plan.ema is None else Average(model, plan.ema)
        self.gradients = gradients_of(model, plan, self.scale, team)
        self.lasting = LastingGradients(model, plan)
        # Asked once: to look through what a source can do takes longer than a small step.
        self.paced = source if isinstance(source, Paced) else None
        self.trace = Sums()
        self._began = time.perf_counter()
        self.device = next(model.parameters()).device
        self.random = RandomStreams(model, plan, team.rank)

    @property
    def done(self) -> bool:
        """Whether there is no epoch left that anybody would learn in."""
        over = self.epoch > self.plan.epochs or not self.keeper.active or self.ended
        return over or self._out_of_time()

    def _out_of_time(self) -> bool:
        """Return whether another epoch would end too late; the epochs' own records tell."""
        limit = self.plan.max_seconds
        if limit is None or self.step or not self.records:
            return False
        # Members share the time of an epoch: it counts once.
        shared = {(r.epoch, r.split): r.seconds for r in self.records if r.split != "steps"}
        epochs = [
            sum(seconds for (epoch, _), seconds in shared.items() if epoch == one)
            for one in range(1, self.epoch)
        ]
        return bool(epochs) and sum(epochs) + max(epochs) > limit

    def next_epoch(self) -> list[StepRecord]:
        """Train an epoch, or the rest of one, look at validation, and return the records."""
        known = len(self.records)
        with contextlib.ExitStack() as threads, self.lasting.used():
            whole = self._train(threads)
        train = self.sums.result()
        middle = time.perf_counter()
        with self.average.shown() if self.average is not None else contextlib.nullcontext():
            val = self._evaluate() if whole else train
            val_seconds = time.perf_counter() - middle
            self.seconds, val_seconds = self.team.agree(self.seconds, val_seconds)
            active = self.keeper.active
            self.keeper.look(self.epoch, train, val)
        if self.goes_on is not None:
            figures = float(val.loss[0]), float(val.accuracy[0])
            self.ended = not self.goes_on(self.epoch, *figures)
        factor = self._factor(self.source.steps_per_epoch - 1)
        new = [
            StepRecord(
                member=member,
                stage=self.plan.stage,
                epoch=self.epoch,
                split=split,
                loss=float(tally.loss[member]),
                accuracy=float(tally.accuracy[member]),
                learning_rate=self.plan.learning_rates[member] * factor,
                seconds=seconds,
                step=self.epoch * self.source.steps_per_epoch,
            )
            for member in active
            for split, tally, seconds in (
                ("train", train, self.seconds),
                ("val", val, val_seconds),
            )
        ]
        self.records += new
        self._begin_averaging()
        self.epoch, self.step, self.seconds, self.sums = self.epoch + 1, 0, 0.0, Sums()
        return self.records[known:]

    def _evaluate(self) -> Tally:
        if self.at_once is not None:
            return self.at_once.evaluate()
        return evaluate(self.model, self.source, "val", self.plan.goal, self.team)

    def _begin_averaging(self) -> None:
        """Average from here on where validation is worse than it was some epochs ago."""
        wait = self.plan.average_after
        if wait is None or self.average is not None:
            return
        losses = [r.loss for r in self.records if r.split == "val"]
        if len(losses) > wait + 1 and losses[-1] > min(losses[: -wait - 1]):
            self.average = Average(self.model, None)

    def _trace(self, losses: Tensor) -> None:
        """Record the mean loss of the last steps, every so many of them."""
        every = self.plan.record_steps
        if every is None:
            return
        self.trace.add(losses, torch.zeros_like(losses), 1)
        done = (self.epoch - 1) * self.source.steps_per_epoch + self.step
        if done % every == 0:
            found, self.trace = self.trace.result(), Sums()
            rates = [r * self._factor(self.step - 1) for r in self.plan.learning_rates]
            seconds = time.perf_counter() - self._began
            self.records += step_records(
                found.loss, rates, (self.plan.stage, self.epoch, done), seconds
            )

    def _train_at_once(self) -> bool | None:
        """Train a whole epoch; return None where that cannot be, else what `_train` returns."""
        if self.at_once is None or self.step:
            return None
        start = time.perf_counter() - self.seconds
        self.at_once.prepare()
        # Steps alone: what is saved is computed by as many threads as at the end.
        with threads_for(self.at_once.operations):
            counted = self.at_once.run(self.epoch, self._factor)
        if counted is None:
            return None
        steps, lost = counted.until_lost()
        sizes = torch.tensor(counted.sizes[:steps], device=self.device)
        losses = counted.losses[:steps].double() * sizes[:, None]
        self.sums.add(losses.sum(0) / sizes.sum(), counted.right[:steps].sum(0), int(sizes.sum()))
        self.step = steps
        self.seconds = time.perf_counter() - start
        if not lost:
            self._save_if_due()
        return not lost

    def _train(self, threads: contextlib.ExitStack) -> bool:
        """Train from `step` to the end of the epoch; return False where every loss is lost."""
        self.model.train()
        whole = self._train_at_once()
        if whole is not None:
            return whole
        start = time.perf_counter() - self.seconds
        first = self.step
        for z, y in self.source.train(self.epoch, self.step):
            # A source that computes its batches needs all threads.
            if self.step == first and self.source.ready:
                size = batch_size(y, self.plan.goal)
                threads.enter_context(threads_for(operations(self.model, size)))
            losses = self._learn(z, y)
            self.step += 1
            self._trace(losses)
            if self._lost(losses):
                return False
            self.seconds = time.perf_counter() - start
            self._save_if_due()
        self.seconds = time.perf_counter() - start
        return True

    def _save_if_due(self) -> None:
        if self.checkpoint is not None and (self.checkpoint.due() or self.stopping):
            if not self.team.rank:
                self.checkpoint.save(*self.snapshot())
            if self.stopping or (self.team.size == 1 and self.checkpoint.stopping):
                raise StoppedError(f"stopped in epoch {self.epoch}, after step {self.step}")

    def _learn(self, z: Tensor, y: Tensor) -> Tensor:
        """Make one optimiser step and return each member's mean loss over the batch."""
        plan = self.plan
        self.optimizer.zero_grad()
        losses, right = self.gradients(z, y)
        if self.scale.unscale(self.optimizer.parameters):
            if plan.clip_norm is not None:
                clip(self.optimizer.parameters, len(plan.learning_rates), plan.clip_norm)
            pace = self.paced.rate() if self.paced is not None else 1.0
            self.optimizer.step(self._factor(self.step) * pace)
            if self.average is not None:
                self.average.update()
        count = batch_size(y, plan.goal)
        if self.team.size > 1:
            losses, right, count = self._of_all(losses, right, count)
        self.sums.add(losses, right, count)
        return losses

    def _of_all(self, losses: Tensor, right: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
        """Return the figures of the whole batch, and hear whether anybody was asked to stop."""
        stop = self.checkpoint is not None and self.checkpoint.stopping
        others = torch.tensor([count, stop], dtype=torch.float64, device=losses.device)
        found = self.team.add_up(torch.cat([losses.double(), right.double(), others]))
        members = len(losses)
        self.stopping = bool(found[-1] > 0)
        return found[:members], found[members : 2 * members], int(found[-2])

    def _factor(self, step: int) -> float:
        steps = self.source.steps_per_epoch
        done = (self.epoch - 1) * steps + step
        return learning_rate_factor(self.plan.schedule, done, steps, self.plan.epochs)

    def _lost(self, losses: Tensor) -> bool:
        """Return whether no member has a finite loss: the rest of the epoch is then left out."""
        if losses.device.type != "cpu" and self.step % _LOOK_EVERY:
            return False
        return not any(map(math.isfinite, losses.tolist()))

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that decides how the training goes on; all of it at its end."""
        groups = {
            "best": self.keeper.tensors(),
            "records": {"table": to_table(self.records)},
            # At the end too: the next stage goes on with the head's streams where they are.
            "random": self.random.state(),
        }
        if not self.done:
            groups |= {
                # First: it brings what the optimiser has up to date.
                "at_once": self.at_once.state() if self.at_once is not None else {},
                "model": own_state(self.model),
                "optimizer": self.optimizer.state(),
                "sums": self.sums.state(),
                "average": self.average.state() if self.average is not None else {},
                "trace": self.trace.state(),
            }
        tensors = {f"{group}.{k}": t for group, some in groups.items() for k, t in some.items()}
        return tensors, {
            "done": self.done,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "elapsed": time.perf_counter() - self._began,
            "keeper": self.keeper.words(),
            "scale": [self.scale.value, self.scale.good_steps],
        }

    def load(self, saved: Saved) -> None:
        """Go on from a snapshot."""
        record = saved.record
        self.epoch, self.step, self.seconds = record["epoch"], record["step"], record["seconds"]
        self._began = time.perf_counter() - record["elapsed"]
        self.keeper.load(saved.under("best"), record["keeper"])
        self.records = from_table(saved.under("records")["table"])
        self.random.load(saved, self.epoch, self.step)
        self.ended = record["done"]
        if self.ended:
            return  # the best weights are the model's
        load_own_state(self.model, saved.under("model"))
        self.optimizer.load_state(saved.under("optimizer"))
        if self.at_once is not None:
            self.at_once = self.at_once.resumed(saved.under("at_once"))
            self.keeper.aside = self.at_once.aside
        self.sums.load_state(saved.under("sums"), self.device)
        self.trace.load_state(saved.under("trace"), self.device)
        average = saved.under("average")
        if average:
            # Averaging that began on the way: the weights are put in its place below.
            self.average = self.average or Average(self.model, None)
            self.average.load_state(average)
        self.scale.value, self.scale.good_steps = record["scale"]

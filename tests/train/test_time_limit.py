"""A training with a time limit ends after the epoch behind which another would be too late."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from train_tools import CLASSES, WIDTH, Batches, Memory, assert_same, stop_and_go, weights_of

from headstart.heads import HeadSpec, build_head
from headstart.train import (
    Hyperparameters,
    ScheduleSpec,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
    loop,
)

STEPS = 4


@dataclass
class Slow(Batches):
    """Batches that take time on the loop's clock, by the epoch; validation takes a second."""

    clock: Callable[[float], None] = print
    step_seconds: Callable[[int], float] = float

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in super().train(epoch, skip):
            self.clock(self.step_seconds(epoch))
            yield batch

    def split(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        self.clock(1.0)
        yield from super().split(name)


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock of the loop's own; return what moves it on."""
    now = [100.0]

    def move(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return move


def training(tick, limit, step_seconds=lambda _: 2.25, members: int = 1, **options):
    """Make trainings of up to 8 epochs, each of 4 steps and a look at validation: 10 s."""

    def make(memory: Memory | None):
        random = torch.Generator().manual_seed(0)
        batches = [
            (
                torch.randn(5, WIDTH, generator=random),
                torch.randint(0, CLASSES, (5,), generator=random),
            )
            for _ in range(STEPS + 1)
        ]
        source = Slow(batches[:STEPS], batches[STEPS], clock=tick, step_seconds=step_seconds)
        rates = (0.05,) * members
        head = build_head(HeadSpec(dropout=0.2), WIDTH, CLASSES, range(members))
        numbers = [Hyperparameters(rate, momentum=0.9) for rate in rates]
        optimizer = build_optimizer("sgd", list(head.parameters()), numbers)
        plan = TrainPlan(
            epochs=8,
            schedule=ScheduleSpec("cosine"),
            learning_rates=rates,
            max_seconds=limit,
            keep="last",
            **options,
        )
        return head, fit(head, optimizer, source, plan, memory)

    return make


def epochs_of(make) -> int:
    _, outcomes = drain(make(None)[1])
    assert {one.state for one in outcomes} == {"complete"}
    (epochs,) = {one.epochs for one in outcomes}
    return epochs


@pytest.mark.parametrize(
    ("limit", "epochs"), [(None, 8), (30.0, 3), (39.9, 3), (40.0, 4), (79.9, 7), (1000.0, 8)]
)
def test_an_epoch_begins_only_where_it_would_end_in_time(tick, limit, epochs: int) -> None:
    assert epochs_of(training(tick, limit)) == epochs


@pytest.mark.parametrize("limit", [1e-9, 9.9])
def test_the_first_epoch_is_always_trained(tick, limit: float) -> None:
    assert epochs_of(training(tick, limit)) == 1


def test_the_next_epoch_is_taken_to_be_as_slow_as_the_slowest(tick) -> None:
    # 20 s, then 5 s each: 20 + 5 + 20 fit into 45 and not into 44.
    slow = {1: 4.75}
    assert epochs_of(training(tick, 45.0, lambda epoch: slow.get(epoch, 1.0))) == 3
    assert epochs_of(training(tick, 44.0, lambda epoch: slow.get(epoch, 1.0))) == 2
    # One that is slower than all before may end too late, and is the last.
    assert epochs_of(training(tick, 45.0, lambda epoch: {3: 20.0}.get(epoch, 2.25))) == 3


@pytest.mark.parametrize("options", [{"members": 3}, {"record_steps": 1}])
def test_what_is_trained_or_recorded_at_once_counts_once(tick, options: dict) -> None:
    assert epochs_of(training(tick, 45.0, **options)) == 4


def test_a_training_that_was_stopped_ends_after_the_same_epoch(tick) -> None:
    make = training(tick, 35.0)
    model, steps = make(None)
    expected, (outcome,) = drain(steps)
    assert outcome.epochs == 3
    for stop_after in range(1, 3 * STEPS + 1):
        saved, *_ = stop_and_go(make, None, stop_after)
        tick(10_000.0)  # nobody trains in the meantime
        _, resumed, records, outcomes = stop_and_go(make, saved, None)
        assert_same(weights_of(resumed), weights_of(model))
        assert outcomes == (outcome,)
        assert [(r.epoch, r.split, r.loss) for r in records] == [
            (r.epoch, r.split, r.loss) for r in expected
        ]
        assert sum(r.seconds for r in records) == pytest.approx(30)


def test_a_training_that_ended_in_time_is_not_gone_on_with(tick) -> None:
    make = training(tick, 35.0)
    memory = Memory()
    model, steps = make(memory)
    drain(steps)
    assert memory.saved is not None
    assert memory.saved.record["done"] is True
    again, steps = make(Memory(memory.saved))
    drain(steps)
    assert_same(weights_of(again), weights_of(model))

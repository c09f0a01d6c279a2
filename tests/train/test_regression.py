"""A regression: torch's mean squared error, one value for each member, no accuracy."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error
from torch import nn
from train_tools import (
    CPU,
    WIDTH,
    Batches,
    Memory,
    assert_same,
    data,
    splits,
    stop_and_go,
    timeless,
    weights_of,
)

from headstart.compare import squared_error_difference
from headstart.evaluate import evaluate_regression
from headstart.heads import HeadSpec, build_head, take_member
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    EarlyStopping,
    Hyperparameters,
    ScheduleSpec,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
    predict_split,
)
from headstart.train.figures import evaluate
from headstart.types import Estimates

FEATURES = data(120)[0]
TARGETS = (FEATURES[:, :3].sum(axis=1) + 0.1 * FEATURES[:, 3] ** 2).astype(np.float32)


def plan(rates: tuple[float, ...] = (0.02,), **options) -> TrainPlan:
    given = {"epochs": 3, "schedule": ScheduleSpec(), "learning_rates": rates, "seed": 4}
    return TrainPlan(**{**given, "goal": "regression", **options})


def source(seeds, batch_size: int = 16) -> CachedSource:
    return CachedSource(
        ArrayFeatures(FEATURES),
        TARGETS,
        splits(90, 30),
        seeds=seeds,
        batch_size=batch_size,
        device=CPU,
    )


def train(seeds, rates, memory: Memory | None = None, **options):
    head = build_head(HeadSpec(hidden=(6,)), WIDTH, 1, seeds)
    members = [Hyperparameters(rate, momentum=0.5) for rate in rates]
    optimizer = build_optimizer("sgd", list(head.parameters()), members)
    return head, fit(head, optimizer, source(seeds), plan(rates, **options), memory)


def test_a_step_is_that_of_torchs_mean_squared_error() -> None:
    z, y = torch.from_numpy(FEATURES[:20]), torch.from_numpy(TARGETS[:20])
    for micro in (None, 7):
        head = build_head(HeadSpec(), WIDTH, 1, [0])
        theirs = nn.Linear(WIDTH, 1)
        theirs.load_state_dict(
            {k.removeprefix("layers.0."): v[0] for k, v in head.state_dict().items()}
        )
        optimizer = build_optimizer("sgd", list(head.parameters()), [Hyperparameters(0.1)])
        batches = Batches([(z, y)], (z, y))
        records, _ = drain(
            fit(head, optimizer, batches, plan((0.1,), epochs=1, micro_batch_size=micro))
        )
        loss = nn.functional.mse_loss(theirs(z)[:, 0], y)
        loss.backward()
        with torch.no_grad():
            for parameter in theirs.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
        assert records[0].loss == pytest.approx(loss.item(), rel=1e-6)
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(head.state_dict()[f"layers.0.{name}"][0], value)


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])
def test_members_that_train_together_are_as_if_alone(seeds: tuple[int, ...]) -> None:
    head, steps = train(seeds, (0.02, 0.005))
    together, outcomes = drain(steps)
    assert [o.state for o in outcomes] == ["complete"] * 2
    for member, (seed, rate) in enumerate(zip(seeds, (0.02, 0.005), strict=True)):
        alone, own_steps = train((seed,), (rate,))
        own, _ = drain(own_steps)
        mine = take_member(head, member, WIDTH, 1)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-5, atol=1e-6)
        losses = [r.loss for r in together if r.member == member]
        assert losses == pytest.approx([r.loss for r in own], rel=1e-5)
    if seeds == (0, 1):  # each in its own order: y is [members, batch]
        _, y = next(iter(source(seeds).train(1)))
        assert y.shape == (2, 16)
        assert not torch.equal(y[0], y[1])


def test_a_regression_has_no_accuracy_and_is_chosen_by_its_loss() -> None:
    head, steps = train((0,), (0.02,), early_stopping=EarlyStopping(2), epochs=5)
    records, (outcome,) = drain(steps)
    assert all(math.isnan(r.accuracy) for r in records)
    val = [r.loss for r in records if r.split == "val"]
    assert val[outcome.best_epoch - 1] == min(val)
    assert evaluate(head, source((0,)), "val", "regression").loss[0] == pytest.approx(min(val))


def test_recorded_losses_are_mean_squared_errors() -> None:
    head, steps = train((0, 1), (0.02, 0.02))
    drain(steps)
    values = predict_split(head, source((0, 1)), "val", "regression")
    assert values.shape == (2, 30)
    truth = TARGETS[90:]
    tally = evaluate(head, source((0, 1)), "val", "regression")
    for member in range(2):
        assert tally.loss[member] == pytest.approx(mean_squared_error(truth, values[member]))
        found = evaluate_regression(truth, values[member])
        assert found["mse"].value == pytest.approx(mean_squared_error(truth, values[member]))
        assert found["mae"].value == pytest.approx(mean_absolute_error(truth, values[member]))
        for score in found.values():
            assert score.low <= score.value <= score.high
            assert score.n == 30


def test_the_difference_of_two_regressions_is_paired() -> None:
    random = np.random.default_rng(0)
    names = tuple(f"s{i}" for i in range(400))
    targets = random.normal(size=400).astype(np.float32) * 10
    noise = random.normal(size=400).astype(np.float32)
    good = Estimates(names, targets, targets + noise)
    worse = Estimates(names, targets, targets + 1.1 * noise)
    found = squared_error_difference(good, worse)
    expected = mean_squared_error(targets, good.values) - mean_squared_error(targets, worse.values)
    assert found.value == pytest.approx(expected, rel=1e-4)
    # Their errors go together: far below what either error is known to.
    assert found.high < 0
    assert squared_error_difference(worse, good).value == pytest.approx(-found.value)


@pytest.mark.parametrize("stop_after", [2, 6, 11])
def test_a_stopped_regression_ends_the_same(stop_after: int) -> None:
    def make(memory: Memory | None):
        return train((0, 1), (0.02, 0.01), memory, record_steps=4)

    model, steps = make(None)
    records, outcomes = drain(steps)
    saved, *_ = stop_and_go(make, None, stop_after)
    _, again, resumed, ended = stop_and_go(make, saved, None)
    assert ended == outcomes
    assert str(timeless(resumed)) == str(timeless(records))
    assert_same(weights_of(model), weights_of(again))


def test_a_regression_that_diverges_says_so() -> None:
    _, steps = train((0, 0), (0.02, 1e30))
    _, (good, lost) = drain(steps)
    assert good.state == "complete"
    assert lost.state == "diverged"
    assert lost.message is not None
    assert "lower learning rate" in lost.message


def test_losses_within_epochs_are_means_of_the_steps_since_the_line_before() -> None:
    _, steps = train((0,), (0.02,), record_steps=4, epochs=2)
    records, _ = drain(steps)
    lines = [r for r in records if r.split == "steps"]
    assert [(r.step, r.epoch) for r in lines] == [(4, 1), (8, 2), (12, 2)]
    assert all(r.seconds > 0 and math.isnan(r.accuracy) for r in lines)
    assert [r.step for r in records if r.split == "val"] == [6, 12]
    # The same steps one by one.
    _, steps = train((0,), (0.02,), record_steps=1, epochs=2)
    ones = [r.loss for r in drain(steps)[0] if r.split == "steps"]
    assert len(ones) == 12
    assert [r.loss for r in lines] == pytest.approx(np.reshape(ones, (3, 4)).mean(axis=1).tolist())
    # They come before the record of the epoch in which they were.
    kinds = [(r.epoch, r.split) for r in records]
    assert kinds == sorted(kinds, key=lambda k: (k[0], ["steps", "train", "val"].index(k[1])))


def test_each_member_has_lines_of_its_own() -> None:
    _, steps = train((0, 0), (0.02, 0.001), record_steps=5)
    lines = [r for r in drain(steps)[0] if r.split == "steps"]
    assert [r.member for r in lines] == [0, 1] * 3
    assert [r.learning_rate for r in lines] == [0.02, 0.001] * 3
    assert lines[0].loss != lines[1].loss


def test_no_lines_where_none_are_asked_for() -> None:
    assert {r.split for r in drain(train((0,), (0.02,))[1])[0]} == {"train", "val"}

"""Schedules are the ones that people know from torch and Keras, and warm-up comes before them."""

import itertools

import pytest
import torch
from torch import nn

from headstart.train import ScheduleSpec, learning_rate_factor

EPOCHS, PER_EPOCH = 6, 5
STEPS = EPOCHS * PER_EPOCH
SCHEDULERS = torch.optim.lr_scheduler
KINDS = ["constant", "step", "exponential", "cosine", "linear", "inverse_time"]


def factors(spec: ScheduleSpec, epochs: int = EPOCHS) -> list[float]:
    return [learning_rate_factor(spec, s, PER_EPOCH, epochs) for s in range(epochs * PER_EPOCH)]


def torchs(make, every: int) -> list[float]:
    """Return torch's learning rates where the scheduler moves after each `every` steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("spec", "make", "every"),
    [
        (ScheduleSpec("constant"), lambda o: SCHEDULERS.ConstantLR(o, factor=1.0), 1),
        (
            ScheduleSpec("step", gamma=0.3, every=2),
            lambda o: SCHEDULERS.StepLR(o, 2, gamma=0.3),
            PER_EPOCH,
        ),
        (
            ScheduleSpec("exponential", gamma=0.8),
            lambda o: SCHEDULERS.ExponentialLR(o, gamma=0.8),
            PER_EPOCH,
        ),
        (ScheduleSpec("cosine"), lambda o: SCHEDULERS.CosineAnnealingLR(o, T_max=STEPS), 1),
        (ScheduleSpec("linear"), lambda o: SCHEDULERS.LinearLR(o, 1.0, 0.0, total_iters=STEPS), 1),
        (
            ScheduleSpec("inverse_time", decay=0.02),
            lambda o: SCHEDULERS.LambdaLR(o, lambda step: 1 / (1 + 0.02 * step)),
            1,
        ),
    ],
    ids=KINDS,
)
def test_schedules_are_torchs_own(spec, make, every) -> None:
    assert factors(spec) == pytest.approx(torchs(make, every), abs=1e-7)


def test_inverse_time_is_the_decay_argument_of_keras() -> None:
    # lr = lr * 1 / (1 + decay * iterations): from 0.002 with decay 1e-3, as Keras users know it.
    spec = ScheduleSpec("inverse_time", decay=1e-3)
    for step in (0, 1, 100, 1000, 9999):
        rate = 0.002 * learning_rate_factor(spec, step, 200, 50)
        assert rate == pytest.approx(0.002 / (1 + 1e-3 * step), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_rises_linearly_and_then_the_schedule_begins(kind: str) -> None:
    plain = ScheduleSpec(kind, gamma=0.5, every=1, decay=0.1)
    warm = ScheduleSpec(kind, gamma=0.5, every=1, decay=0.1, warmup_epochs=2)
    got = factors(warm)
    rise, rest = got[: 2 * PER_EPOCH], got[2 * PER_EPOCH :]
    steps = {round(b - a, 12) for a, b in itertools.pairwise([0.0, *rise, 1.0])}
    assert len(steps) == 1
    # What follows is the whole schedule in the epochs that are left.
    assert rest == pytest.approx(factors(plain, EPOCHS - 2))
    assert rest[0] == 1


def test_half_an_epoch_of_warm_up() -> None:
    got = [
        learning_rate_factor(ScheduleSpec("constant", warmup_epochs=0.5), s, 8, 3)
        for s in (*range(6), 23)
    ]
    assert got == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup", [0, 0.1, 1, EPOCHS, 2 * EPOCHS])
def test_no_step_is_ever_lost_to_a_rate_of_zero(kind: str, warmup: float) -> None:
    got = factors(ScheduleSpec(kind, gamma=0.5, warmup_epochs=warmup))
    assert all(0 < factor <= 1 for factor in got)

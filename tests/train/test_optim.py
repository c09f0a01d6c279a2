import itertools

import numpy as np
import pytest
import torch
from torch import nn

from headstart.train import Hyperparameters, ScheduleSpec, build_optimizer, learning_rate_factor

CASES = [
    ("sgd", {}, {"learning_rate": 0.1}),
    ("sgd", {}, {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("sgd", {"nesterov": True}, {"learning_rate": 0.05, "momentum": 0.8}),
    ("adam", {}, {"learning_rate": 0.01, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95}),
    ("adamw", {}, {"learning_rate": 0.01, "weight_decay": 0.1}),
    ("rmsprop", {}, {"learning_rate": 0.01, "alpha": 0.9}),
    ("rmsprop", {}, {"learning_rate": 0.01, "momentum": 0.5, "weight_decay": 0.02}),
]


def torchs(kind: str, parameter: nn.Parameter, h: Hyperparameters, nesterov: bool):
    common = {"lr": h.learning_rate, "weight_decay": h.weight_decay}
    betas = (h.beta1, h.beta2)
    if kind == "sgd":
        return torch.optim.SGD([parameter], momentum=h.momentum, nesterov=nesterov, **common)
    if kind == "rmsprop":
        return torch.optim.RMSprop([parameter], alpha=h.alpha, momentum=h.momentum, **common)
    maker = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    return maker([parameter], betas=betas, **common)


@pytest.mark.parametrize(("kind", "options", "settings"), CASES)
def test_each_member_moves_as_torchs_optimiser_moves_it(kind, options, settings) -> None:
    members = [
        Hyperparameters(**settings),
        Hyperparameters(**{**settings, "learning_rate": settings["learning_rate"] / 7}),
    ]
    start = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    batched = nn.Parameter(start.clone())
    ours = build_optimizer(kind, [batched], members, **options)
    alone = [nn.Parameter(start[m].clone()) for m in range(2)]
    theirs = [
        torchs(kind, p, h, options.get("nesterov", False))
        for p, h in zip(alone, members, strict=True)
    ]
    for step in range(12):
        factor = 0.9**step
        target = torch.from_numpy(np.random.default_rng(step).normal(size=(3, 4))).float()
        ours.zero_grad()
        ((batched - target) ** 2).sum().backward()
        ours.step(factor)
        for p, h, optimizer in zip(alone, members, theirs, strict=True):
            optimizer.param_groups[0]["lr"] = h.learning_rate * factor
            optimizer.zero_grad()
            ((p - target) ** 2).sum().backward()
            optimizer.step()
    for member in range(2):
        torch.testing.assert_close(batched[member], alone[member], rtol=1e-5, atol=1e-6)


def test_schedules_are_torchs_own() -> None:
    epochs, per_epoch = 9, 4
    makers = {
        "step": (
            ScheduleSpec("step", gamma=0.3, every=2),
            lambda o: torch.optim.lr_scheduler.StepLR(o, 2, gamma=0.3),
        ),
        "exponential": (
            ScheduleSpec("exponential", gamma=0.8),
            lambda o: torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.8),
        ),
    }
    for spec, make in makers.values():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = make(optimizer)
        for epoch in range(epochs):
            for step in range(per_epoch):
                got = learning_rate_factor(spec, epoch * per_epoch + step, per_epoch, epochs)
                assert got == pytest.approx(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()


def test_cosine_goes_from_one_to_almost_zero_without_rising() -> None:
    spec = ScheduleSpec("cosine")
    factors = [learning_rate_factor(spec, s, 5, 4) for s in range(20)]
    assert factors[0] == 1
    assert all(a > b for a, b in itertools.pairwise(factors))
    assert 0 < factors[-1] < 0.01

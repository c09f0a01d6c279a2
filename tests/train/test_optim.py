"""Optimisers: torch's own updates, for members and for groups, before and after a pause."""

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from headstart.train import (
    Hyperparameters,
    Optimizer,
    ParameterGroup,
    build_grouped_optimizer,
    build_optimizer,
)

CASES = [
    ("sgd", {}, {"learning_rate": 0.1}),
    ("sgd", {}, {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("sgd", {"nesterov": True}, {"learning_rate": 0.05, "momentum": 0.8}),
    ("adam", {}, {"learning_rate": 0.01, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95}),
    ("adamw", {}, {"learning_rate": 0.01, "weight_decay": 0.1}),
    ("rmsprop", {}, {"learning_rate": 0.01, "alpha": 0.9}),
    ("rmsprop", {}, {"learning_rate": 0.01, "momentum": 0.5, "weight_decay": 0.02}),
    ("adamw", {}, {"learning_rate": 0.01, "epsilon": 1e-3}),
]


def torchs(kind: str, parameters, h: Hyperparameters, nesterov: bool):
    """Build torch's optimiser of one learning rate, or of groups that bring theirs."""
    common = {"lr": h.learning_rate, "weight_decay": h.weight_decay}
    if kind == "sgd":
        return torch.optim.SGD(parameters, momentum=h.momentum, nesterov=nesterov, **common)
    common["eps"] = h.epsilon
    if kind == "rmsprop":
        return torch.optim.RMSprop(parameters, alpha=h.alpha, momentum=h.momentum, **common)
    maker = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    return maker(parameters, betas=(h.beta1, h.beta2), **common)


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
        torchs(kind, [p], h, options.get("nesterov", False))
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


def network(seed: int = 0) -> nn.Sequential:
    """Make convolutions as a tail has them: channels last, and one that is 1 x 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 1), nn.Flatten(), nn.Linear(20, 3))
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def learn(model: nn.Module, step: int) -> None:
    x = torch.from_numpy(np.random.default_rng(step).normal(size=(7, 3, 4, 4))).float()
    x = x.contiguous(memory_format=torch.channels_last)
    model(x).square().sum().backward()


def grouped(kind: str, model: nn.Sequential, options, settings) -> Optimizer:
    groups = [
        ParameterGroup("early", tuple(model[0].parameters()), settings["learning_rate"] / 9),
        ParameterGroup("late", tuple(model[2].parameters()), settings["learning_rate"] / 3),
        ParameterGroup("head", tuple(model[4].parameters()), settings["learning_rate"]),
    ]
    return build_grouped_optimizer(kind, groups, Hyperparameters(**settings), **options)


@pytest.mark.parametrize(("kind", "options", "settings"), CASES)
def test_groups_move_as_torchs_groups_move(kind, options, settings) -> None:
    ours, theirs = network(), network()
    settings = {**settings, "learning_rate": settings["learning_rate"] / 10}
    optimizer = grouped(kind, ours, options, settings)
    assert {id(p) for p in optimizer.parameters} == {id(p) for p in ours.parameters()}
    rates = [settings["learning_rate"] / share for share in (9, 3, 1)]
    groups = [
        {"params": list(theirs[i].parameters()), "lr": r}
        for i, r in zip((0, 2, 4), rates, strict=True)
    ]
    reference = torchs(kind, groups, Hyperparameters(**settings), options.get("nesterov", False))
    start = {name: p.detach().clone() for name, p in ours.named_parameters()}
    for step in range(5):
        factor = 0.8**step
        for group, rate in zip(reference.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        for model, one in ((ours, optimizer), (theirs, reference)):
            one.zero_grad()
            learn(model, step)
        optimizer.step(factor)
        reference.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # Fused updates round once where torch's others round twice, in the last of 24 bits.
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)
        assert not torch.equal(a, start[name]), name


def test_what_lies_with_channels_last_is_updated_as_what_does_not() -> None:
    for kind, options, settings in CASES:
        last, rows = network(), network().to(memory_format=torch.contiguous_format)
        for model in (last, rows):
            optimizer = grouped(kind, model, options, settings)
            for step in range(3):
                optimizer.zero_grad()
                for number, p in enumerate(model.parameters()):
                    draw = torch.Generator().manual_seed(10 * step + number)
                    p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=draw))
                optimizer.step(1.0)
        for (name, a), b in zip(last.named_parameters(), rows.parameters(), strict=True):
            assert torch.equal(a, b), (kind, name)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_a_gradient_that_lies_otherwise_than_its_parameter_is_read_by_its_axes(kind: str) -> None:
    shape = (3, 5, 2, 4)
    draw = torch.Generator().manual_seed(1)
    weights, gradient = torch.randn(2, *shape, generator=draw).unbind()
    last, rows = torch.channels_last, torch.contiguous_format
    found = []
    for layout, lies in ((rows, rows), (rows, last), (last, rows), (last, last)):
        p = nn.Parameter(weights.clone(memory_format=layout))
        groups = [ParameterGroup("a", (p,), 0.1)]
        optimizer = build_grouped_optimizer(kind, groups, Hyperparameters(0.1))
        p.grad = gradient.clone(memory_format=lies)
        optimizer.step(1.0)
        found.append(p.detach())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=0)
    turned = nn.Parameter(torch.zeros(4, 4))
    turned.grad = torch.arange(16.0).view(4, 4).T
    build_grouped_optimizer(
        "sgd", [ParameterGroup("a", (turned,), 1.0)], Hyperparameters(1.0)
    ).step(1.0)
    assert torch.equal(turned.detach(), -turned.grad)


def test_a_parameter_in_two_groups_is_an_error() -> None:
    twice = nn.Parameter(torch.zeros(2))
    groups = [ParameterGroup(name, (twice,), 0.1) for name in ("a", "b")]
    with pytest.raises(AssertionError, match="two groups"):
        build_grouped_optimizer("sgd", groups, Hyperparameters(0.1))


def paused(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Write and read as a checkpoint does: in rows, whatever the layout in memory was."""
    return safetensors.torch.load(
        safetensors.torch.save({k: v.contiguous().clone() for k, v in state.items()})
    )


@pytest.mark.parametrize(("kind", "options", "settings"), CASES)
def test_groups_go_on_from_their_state_bit_for_bit(kind, options, settings) -> None:
    whole, first = network(), network()
    straight, before = (grouped(kind, m, options, settings) for m in (whole, first))

    def train(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            learn(model, step)
            optimizer.step(0.9**step)

    train(whole, straight, range(8))
    train(first, before, range(3))
    second = network(1)
    second.load_state_dict(first.state_dict())
    after = grouped(kind, second, options, settings)
    learn(second, 77)
    after.step(1.0)  # what it remembers of other steps is forgotten
    second.load_state_dict(first.state_dict())
    kept = paused(before.state())
    after.load_state(kept)
    for name, value in before.state().items():
        assert torch.equal(after.state()[name], value)
        # The same layout in memory, so that the same sums run in the same order.
        if value.dim() == 4:
            assert after.state()[name].is_contiguous(memory_format=torch.channels_last), name
    train(second, after, range(3, 8))
    assert all(torch.equal(kept[name], value) for name, value in before.state().items())
    for (name, a), b in zip(whole.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert straight.state().keys() == after.state().keys()


@pytest.mark.parametrize(("kind", "options", "settings"), CASES)
def test_members_go_on_from_their_state_bit_for_bit(kind, options, settings) -> None:
    members = [
        Hyperparameters(**settings),
        Hyperparameters(**{**settings, "learning_rate": settings["learning_rate"] / 7}),
    ]

    def make(start: torch.Tensor) -> tuple[nn.Parameter, Optimizer]:
        parameter = nn.Parameter(start.detach().clone())
        return parameter, build_optimizer(kind, [parameter], members, **options)

    def train(parameter: nn.Parameter, optimizer: Optimizer, steps: range) -> None:
        for step in steps:
            target = torch.from_numpy(np.random.default_rng(step).normal(size=(3, 4))).float()
            optimizer.zero_grad()
            ((parameter - target) ** 2).sum().backward()
            optimizer.step(0.9**step)

    whole, straight = make(torch.ones(2, 3, 4))
    train(whole, straight, range(8))
    first, before = make(torch.ones(2, 3, 4))
    train(first, before, range(3))
    second, after = make(first)
    after.load_state(paused(before.state()))
    train(second, after, range(3, 8))
    assert torch.equal(whole, second)

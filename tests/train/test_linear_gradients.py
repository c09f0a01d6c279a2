"""Linear heads in closed form: the weights, figures and checkpoints that autograd gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from train_tools import CLASSES, CPU, WIDTH, Memory, assert_same, data, splits, stop_and_go

from headstart.heads import HeadSpec, build_head
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
    steps,
)
from headstart.train import loop as loop_module
from headstart.train.figures import count_right
from headstart.train.linear import LinearGradients, covers

# The two sum the same numbers in another order: float32 has 1.2e-7, and 90 steps pass it on.
RTOL, ATOL = 1e-4, 2e-6

MEMBERS = [
    Hyperparameters(rate, momentum=momentum, weight_decay=decay)
    for rate, momentum, decay in ((0.1, 0.0, 0.0), (0.02, 0.9, 0.01), (0.001, 0.5, 0.1))
]
OPTIMIZERS = {
    "sgd": ("sgd", False, False),
    "momentum": ("sgd", False, True),
    "nesterov": ("sgd", True, True),
    "adam": ("adam", False, True),
    "adamw": ("adamw", False, True),
    "rmsprop": ("rmsprop", False, True),
}


def train(monkeypatch, seeds, optimizer="nesterov", *, closed=True, memory=None, **options):
    kind, nesterov, all_settings = OPTIMIZERS[optimizer]
    features, labels = data()
    source = CachedSource(
        ArrayFeatures(features), labels, splits(101, 29), seeds=seeds, batch_size=7, device=CPU
    )
    head = build_head(HeadSpec(), WIDTH, CLASSES, seeds)
    members = MEMBERS[: len(seeds)]
    if not all_settings:
        members = [replace(m, momentum=0.0, weight_decay=0.0) for m in members]
    made = build_optimizer(kind, list(head.parameters()), members, nesterov=nesterov)
    plan = TrainPlan(
        **{
            "epochs": 6,
            "schedule": ScheduleSpec("cosine"),
            "learning_rates": tuple(m.learning_rate for m in members),
            **options,
        }
    )
    used = []

    class Spy(LinearGradients):
        def __call__(self, z, y):
            used.append(tuple(z.shape))
            return super().__call__(z, y)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "LinearGradients", Spy)
        patch.setattr(loop_module, "epochs_at_once", lambda *_: None)
        if not closed:
            patch.setattr(steps, "covers", lambda *_: False)
        records, outcomes = drain(fit(head, made, source, plan, memory))
    assert bool(used) == closed
    return head, records, outcomes


def assert_equal_trainings(monkeypatch, seeds, optimizer="nesterov", **options) -> None:
    head, records, outcomes = train(monkeypatch, seeds, optimizer, **options)
    other, expected, ends = train(monkeypatch, seeds, optimizer, closed=False, **options)
    for name, value in head.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=RTOL, atol=ATOL)
    assert outcomes == ends
    assert len(records) == len(expected)
    for one, two in zip(records, expected, strict=True):
        assert (one.member, one.epoch, one.split, one.step) == (
            two.member,
            two.epoch,
            two.split,
            two.step,
        )
        assert one.accuracy == pytest.approx(two.accuracy, abs=0, nan_ok=True)
        assert one.loss == pytest.approx(two.loss, rel=1e-4)


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("seeds", [[3], [3, 3, 3], [0, 1, 2]], ids=str)
def test_a_training_ends_with_the_weights_of_autograd(monkeypatch, optimizer, seeds) -> None:
    assert_equal_trainings(monkeypatch, seeds, optimizer)


@pytest.mark.parametrize("seeds", [[3, 3, 3], [0, 1, 2]], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.1},
        {"class_weights": (1.0, 2.0, 0.5, 1.5)},
        {"label_smoothing": 0.2, "class_weights": (1.0, 2.0, 0.5, 1.5)},
        {"clip_norm": 0.05},
        {"ema": 0.9},
        {"record_steps": 4},
        {"keep": "last", "early_stopping": EarlyStopping(1, "accuracy"), "epochs": 9},
    ],
    ids=str,
)
def test_what_a_plan_can_ask_is_what_autograd_does(monkeypatch, seeds, options) -> None:
    assert_equal_trainings(monkeypatch, seeds, **options)


@pytest.mark.parametrize("seeds", [[3, 3, 3], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 1.5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_one_batch_has_the_gradients_of_autograd(seeds, weights, smoothing) -> None:
    draw = torch.Generator().manual_seed(0)
    apart = len(set(seeds)) > 1
    shape = (3, 9) if apart else (9,)
    z = torch.randn(*shape, WIDTH, generator=draw)
    y = torch.randint(0, CLASSES, shape, generator=draw)
    plan = TrainPlan(
        1, ScheduleSpec(), (0.1,) * 3, label_smoothing=smoothing, class_weights=weights
    )
    head = build_head(HeadSpec(), WIDTH, CLASSES, seeds)
    LinearGradients(head, plan)(z, y)
    closed = [p.grad.clone() for p in head.parameters()]
    head.zero_grad()
    loss_of = torch.nn.CrossEntropyLoss(
        weight=None if weights is None else torch.tensor(weights), label_smoothing=smoothing
    )
    logits = head(z)
    sum(loss_of(logits[m], y[m] if apart else y) for m in range(3)).backward()
    for got, p in zip(closed, head.parameters(), strict=True):
        torch.testing.assert_close(got, p.grad, rtol=1e-5, atol=1e-7)


def test_of_equal_logits_the_first_is_the_answer_as_elsewhere() -> None:
    head = build_head(HeadSpec(), WIDTH, CLASSES, [0, 0], zero_init=True)
    z, y = torch.randn(8, WIDTH), torch.tensor([0, 1, 2, 3, 0, 0, 1, 0])
    _, right = LinearGradients(head, TrainPlan(1, ScheduleSpec(), (0.1,) * 2))(z, y)
    assert right.tolist() == count_right(head(z), y).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (HeadSpec(hidden=(4,)), {}),
        (HeadSpec(dropout=0.5), {}),
        (HeadSpec(normalization="layer"), {}),
        (HeadSpec(), {"precision": "bfloat16"}),
        (HeadSpec(), {"micro_batch_size": 4}),
        (HeadSpec(), {"goal": "regression"}),
    ],
    ids=str,
)
def test_everything_else_takes_autograd(spec, options) -> None:
    plan = TrainPlan(1, ScheduleSpec(), (0.1,))
    head = build_head(spec, WIDTH, CLASSES, [0])
    assert not covers(head, replace(plan, **options))
    assert covers(build_head(HeadSpec(), WIDTH, CLASSES, [0]), plan)
    assert not covers(torch.nn.Linear(WIDTH, CLASSES), plan)


@pytest.mark.parametrize("seeds", [[3, 3, 3], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("stop_after", [1, 15, 20])
def test_it_resumes_bit_for_bit(monkeypatch, seeds, stop_after) -> None:
    del monkeypatch

    def make(memory: Memory | None):
        features, labels = data()
        source = CachedSource(
            ArrayFeatures(features), labels, splits(101, 29), seeds=seeds, batch_size=7, device=CPU
        )
        head = build_head(HeadSpec(), WIDTH, CLASSES, seeds)
        optimizer = build_optimizer("sgd", list(head.parameters()), MEMBERS, nesterov=True)
        plan = TrainPlan(3, ScheduleSpec(), tuple(m.learning_rate for m in MEMBERS))
        return head, fit(head, optimizer, source, plan, memory)

    _, whole, records, _ = stop_and_go(make, None, None)
    saved, *_ = stop_and_go(make, None, stop_after)
    assert saved is not None
    _, resumed, again, outcomes = stop_and_go(make, saved, None)
    assert outcomes is not None
    assert_same(whole.state_dict(), resumed.state_dict())
    assert [(r.loss, r.accuracy) for r in again] == [(r.loss, r.accuracy) for r in records]


def test_a_large_split_is_looked_at_in_parts_with_the_same_figures(monkeypatch) -> None:
    def figures() -> list[float]:
        _, records, _ = train(monkeypatch, [3, 3, 3], epochs=2)
        return [r.loss for r in records if r.split == "val"]

    whole = figures()
    monkeypatch.setattr("headstart.train.figures._NUMBERS", 5 * 3 * CLASSES)
    seen: list[int] = []
    forward = torch.nn.functional.linear

    def spy(x, *rest):
        seen.append(len(x))
        return forward(x, *rest)

    monkeypatch.setattr(torch.nn.functional, "linear", spy)
    np.testing.assert_allclose(figures(), whole, rtol=1e-6)
    assert max(seen) == 5

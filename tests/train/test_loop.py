"""The loop: a batched sweep equals its members alone, and both equal a plain PyTorch loop."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from train_tools import CLASSES, CPU, WIDTH, data

from headstart.heads import BatchedHead, HeadSpec, build_head, take_member
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
    predict_probabilities,
)
from headstart.train.order import epoch_order

SPLITS = {"train": np.arange(101), "val": np.arange(101, 130), "test": np.arange(130, 160)}


def train(spec, members, seeds, *, kind="sgd", resident=True, monkeypatch=None, **plan):
    features, labels = data()
    if not resident:
        monkeypatch.setattr("headstart.train.source.RESIDENT_BYTES", 0)
    source = CachedSource(
        ArrayFeatures(features), labels, SPLITS, seeds=seeds, batch_size=20, device=CPU
    )
    head = build_head(spec, WIDTH, CLASSES, seeds)
    optimizer = build_optimizer(kind, list(head.parameters()), members)
    options = {"epochs": 6, "schedule": ScheduleSpec(), "keep": "last", **plan}
    rates = tuple(m.learning_rate for m in members)
    steps = fit(head, optimizer, source, TrainPlan(learning_rates=rates, **options))
    records, outcomes = drain(steps)
    return head, source, records, outcomes


def close(a: BatchedHead, b: BatchedHead) -> None:
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize(
    "spec", [HeadSpec(), HeadSpec(hidden=(6,), dropout=0.2, normalization="batch")], ids=str
)
@pytest.mark.parametrize("seeds", [[0, 0, 0], [0, 1, 2]])
def test_a_sweep_as_one_batch_equals_its_members_alone(kind, spec, seeds) -> None:
    members = [
        Hyperparameters(learning_rate=rate, momentum=momentum, weight_decay=0.01)
        for rate, momentum in ((0.1, 0.0), (0.02, 0.9), (0.001, 0.5))
    ]
    together, _, records, _ = train(spec, members, seeds, kind=kind, keep="best")
    for index, (member, seed) in enumerate(zip(members, seeds, strict=True)):
        alone, _, own, _ = train(spec, [member], [seed], kind=kind, keep="best")
        close(take_member(together, index, WIDTH, CLASSES), alone)
        mine = [r for r in records if r.member == index]
        assert [r.loss for r in mine] == pytest.approx([r.loss for r in own], rel=1e-4)
        assert [r.accuracy for r in mine] == pytest.approx([r.accuracy for r in own])


def test_it_equals_a_plain_pytorch_loop() -> None:
    features, labels = data()
    member = Hyperparameters(learning_rate=0.05, momentum=0.9)
    weights = (1.0, 2.0, 0.5, 1.5)
    head, _, records, _ = train(
        HeadSpec(), [member], [7], label_smoothing=0.1, class_weights=weights
    )
    start = build_head(HeadSpec(), WIDTH, CLASSES, [7]).state_dict()
    linear = nn.Linear(WIDTH, CLASSES)
    linear.load_state_dict(
        {"weight": start["layers.0.weight"][0], "bias": start["layers.0.bias"][0]}
    )
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.05, momentum=0.9)
    loss_of = nn.CrossEntropyLoss(weight=torch.tensor(weights), label_smoothing=0.1)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    for epoch in range(1, 7):
        order = SPLITS["train"][epoch_order(101, 7, epoch)]
        for at in range(0, 101, 20):
            rows = torch.from_numpy(order[at : at + 20])
            optimizer.zero_grad()
            loss_of(linear(x[rows]), y[rows]).backward()
            optimizer.step()
    torch.testing.assert_close(head.layers[0].weight[0], linear.weight, rtol=1e-4, atol=1e-5)
    val = torch.from_numpy(SPLITS["val"])
    expected = nn.functional.cross_entropy(linear(x[val]), y[val])
    assert records[-1].split == "val"
    assert records[-1].loss == pytest.approx(expected.item(), rel=1e-4)


def test_features_that_do_not_fit_into_memory_train_the_same(monkeypatch) -> None:
    members = [Hyperparameters(learning_rate=0.05)] * 2
    inside, *_ = train(HeadSpec(), members, [0, 1])
    outside, *_ = train(HeadSpec(), members, [0, 1], resident=False, monkeypatch=monkeypatch)
    close(inside, outside)


def test_a_member_that_diverges_is_reported_and_harms_nobody() -> None:
    good = Hyperparameters(learning_rate=0.05)
    wild = Hyperparameters(learning_rate=1e38)
    together, _, records, outcomes = train(HeadSpec(), [wild, good], [0, 0], keep="best")
    alone, *_ = train(HeadSpec(), [good], [0], keep="best")
    assert outcomes[0].state == "diverged"
    assert "lower learning rate" in (outcomes[0].message or "")
    assert outcomes[1].state == "complete"
    close(take_member(together, 1, WIDTH, CLASSES), alone)
    assert all(math.isfinite(r.loss) for r in records if r.member == 1)


def test_best_keeps_the_epoch_with_the_lowest_validation_loss() -> None:
    member = [Hyperparameters(learning_rate=3.0)]  # too high: validation gets worse again
    head, source, records, outcomes = train(HeadSpec(), member, [0], epochs=15, keep="best")
    losses = {r.epoch: r.loss for r in records if r.split == "val"}
    best = min(losses, key=losses.__getitem__)
    assert outcomes[0].best_epoch == best < 15
    probabilities = predict_probabilities(head, source.split("val"))[0]
    labels = torch.cat([y for _, y in source.split("val")]).numpy()
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(losses[best], rel=1e-4)


def test_early_stopping_ends_each_member_in_its_own_time() -> None:
    members = [Hyperparameters(learning_rate=3.0), Hyperparameters(learning_rate=0.001)]
    stopping = EarlyStopping(patience=2, metric="loss")
    _, _, records, outcomes = train(
        HeadSpec(), members, [0, 0], epochs=30, keep="best", early_stopping=stopping
    )
    assert outcomes[0].epochs < 30
    assert outcomes[0].epochs == outcomes[0].best_epoch + 2
    assert outcomes[1].epochs == 30
    last = {m: max(r.epoch for r in records if r.member == m) for m in (0, 1)}
    assert last == {0: outcomes[0].epochs, 1: 30}


def test_the_same_seed_gives_the_same_order_and_another_another() -> None:
    assert np.array_equal(epoch_order(50, 1, 3), epoch_order(50, 1, 3))
    assert not np.array_equal(epoch_order(50, 1, 3), epoch_order(50, 1, 4))
    assert not np.array_equal(epoch_order(50, 1, 3), epoch_order(50, 2, 3))
    assert sorted(epoch_order(50, 1, 3)) == list(range(50))

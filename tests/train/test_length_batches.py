"""Batches of sequences: of about one length, each sample once, the same again after a stop."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tools import (
    CPU,
    Memory,
    Training,
    assert_same,
    stop_and_go,
    timeless,
    weights_of,
)

from headstart.backbones.base import SeriesOptions
from headstart.backbones.registry import load_backbone
from headstart.heads import HeadSpec, Tail, build_head
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    Hyperparameters,
    ParameterGroup,
    ScheduleSpec,
    StandardSource,
    TrainPlan,
    build_grouped_optimizer,
    drain,
    fit,
    predict_split,
)
from headstart.train.order import epoch_order, evaluation_order


class Series:
    """Random numbers, of 1 to 40 steps."""

    def __init__(self, count: int, longest: int = 40, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.lengths = random.integers(1, longest + 1, count)
        self.values = [random.normal(size=n).astype("<f4") for n in self.lengths]
        self.targets = np.array([v.sum() for v in self.values], dtype=np.float32)

    @property
    def names(self) -> Sequence[str]:
        return [f"series-{i}" for i in range(len(self.values))]

    @property
    def digests(self) -> Sequence[str]:
        return [hashlib.sha256(v.tobytes()).hexdigest() for v in self.values]

    def __len__(self) -> int:
        return len(self.values)

    def read(self, index: int) -> bytes:
        return self.values[index].tobytes()


SERIES = Series(90)
SPLITS = {"train": np.arange(5, 68), "val": np.arange(68, 90)}


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 400),
    batch=st.integers(1, 40),
    seed=st.integers(0, 5),
    epoch=st.integers(1, 4),
)
def test_an_epoch_visits_each_sample_once(count: int, batch: int, seed: int, epoch: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 300, count)
    order = epoch_order(count, seed, epoch, lengths, batch)
    assert sorted(order.tolist()) == list(range(count))
    np.testing.assert_array_equal(order, epoch_order(count, seed, epoch, lengths, batch))


def test_batches_hold_samples_of_about_one_length() -> None:
    count, batch = 5000, 32
    lengths = np.minimum(np.random.default_rng(0).geometric(1 / 230, count), 512)

    def padding(order: np.ndarray) -> float:
        parts = [lengths[order[i : i + batch]] for i in range(0, count, batch)]
        return sum(p.max() * len(p) for p in parts) / lengths.sum() - 1

    assert padding(epoch_order(count, 0, 1)) > 0.8
    assert padding(epoch_order(count, 0, 1, lengths, batch)) < 0.05


def test_orders_differ_by_epoch_and_seed_and_long_ones_do_not_come_first() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 1000)
    one, two = (epoch_order(1000, 0, epoch, lengths, 10) for epoch in (1, 2))
    other = epoch_order(1000, 1, 1, lengths, 10)
    assert (one != two).mean() > 0.9
    assert (one != other).mean() > 0.9
    # Partners change too: a batch is no fixed set.
    together = [{frozenset(o[i : i + 10].tolist()) for i in range(0, 1000, 10)} for o in (one, two)]
    assert len(together[0] & together[1]) < 5
    means = lengths[one].reshape(-1, 10).mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(100))[0, 1]) < 0.4


def test_equal_lengths_change_nothing_about_which_samples_there_are() -> None:
    order = epoch_order(50, 0, 1, np.full(50, 7), 8)
    assert sorted(order.tolist()) == list(range(50))
    assert evaluation_order(np.arange(4), None) is None
    np.testing.assert_array_equal(
        evaluation_order(np.array([3, 0, 2]), np.array([9, 0, 5, 1])), [0, 2, 1]
    )


def standard(batch_size: int = 8, seed: int = 3) -> StandardSource:
    backbone = load_backbone(
        "headstart/gru", weights="random", series=SeriesOptions(1, 40, hidden=6)
    )
    return StandardSource(
        SERIES,
        SERIES.targets,
        SPLITS,
        prefix=backbone.prefix("layer.0"),
        spec=backbone.input_spec,
        width=40 * 7,
        seed=seed,
        batch_size=batch_size,
        workers=0,
        device=CPU,
        flat=False,
        lengths=SERIES.lengths,
    )


def test_skipping_leaves_out_the_first_batches_and_nothing_else() -> None:
    source = standard()
    whole = list(source.train(2))
    assert len(whole) == source.steps_per_epoch == 8
    for skip in (1, 5, 8):
        rest = list(source.train(2, skip))
        assert len(rest) == 8 - skip
        for (z, y), (a, b) in zip(whole[skip:], rest, strict=True):
            assert torch.equal(z, a)
            assert torch.equal(y, b)
    seen = torch.cat([y for _, y in whole]).sort().values
    assert torch.equal(seen, torch.from_numpy(SERIES.targets[5:68]).sort().values)


def test_an_evaluation_by_length_comes_back_in_the_order_of_the_split() -> None:
    source = standard()
    order = source.order("val")
    assert order is not None
    answers = torch.cat([y for _, y in source.split("val")]).numpy()
    np.testing.assert_array_equal(answers, SERIES.targets[68:][order])
    lengths = [int((z[..., -1] > 0).sum(dim=1).max()) for z, _ in source.split("val")]
    assert lengths == sorted(lengths)

    class Length(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return (z[..., -1] > 0).sum(dim=1).float()[None, :, None]

    found = predict_split(Length(), source, "val", "regression")[0]
    np.testing.assert_array_equal(found, SERIES.lengths[68:])


def test_stored_and_recomputed_samples_come_in_the_same_batches() -> None:
    plain = standard()
    backbone = load_backbone(
        "headstart/gru", weights="random", series=SeriesOptions(1, 40, hidden=6)
    )
    rows = np.zeros((90, 40, 7), dtype=np.float32)
    with torch.no_grad():
        for i, values in enumerate(SERIES.values):
            x = torch.ones(1, len(values), 2)
            x[0, :, 0] = torch.from_numpy(values)
            rows[i, : len(values)] = backbone.prefix("layer.0")(x)[0].numpy()
    cached = CachedSource(
        ArrayFeatures(rows),
        SERIES.targets,
        SPLITS,
        seeds=[3],
        batch_size=8,
        device=CPU,
        flat=False,
        lengths=SERIES.lengths,
        ragged=True,
    )
    for epoch in (1, 2):
        for (z, y), (a, b) in zip(plain.train(epoch), cached.train(epoch), strict=True):
            assert torch.equal(y, b)
            torch.testing.assert_close(z, a[:, : z.shape[1]], rtol=0, atol=1e-6)
            assert not a[:, z.shape[1] :].any()
    np.testing.assert_array_equal(plain.order("val"), cached.order("val"))


def trainings(memory: Memory | None):
    """Make trainings of a recurrent tail on batches by length: 8 steps in each epoch."""
    backbone = load_backbone(
        "headstart/gru", weights="random", series=SeriesOptions(1, 40, hidden=6)
    )
    head = build_head(HeadSpec(dropout=0.2), 6, 1, [0])
    tail = Tail(backbone, "input", "pooled", head, trained=["layer.0", "pooled"])
    groups = [ParameterGroup(name, p, 0.05) for name, p in tail.groups().items() if p]
    optimizer = build_grouped_optimizer("adam", groups, Hyperparameters(0.05))
    source = StandardSource(
        SERIES,
        SERIES.targets,
        SPLITS,
        prefix=backbone.prefix("input"),
        spec=backbone.input_spec,
        width=80,
        seed=3,
        batch_size=8,
        workers=0,
        device=CPU,
        flat=False,
        lengths=SERIES.lengths,
    )
    plan = TrainPlan(
        epochs=2,
        schedule=ScheduleSpec(),
        learning_rates=(0.05,),
        goal="regression",
        seed=4,
        record_steps=3,
    )
    return tail, fit(tail, optimizer, source, plan, memory)


@pytest.mark.parametrize("stop_after", [1, 7, 8, 9, 15])
def test_a_stopped_training_on_sequences_ends_the_same(stop_after: int) -> None:
    make: Training = trainings
    model, steps = make(None)
    records, outcomes = drain(steps)
    saved, *_ = stop_and_go(make, None, stop_after)
    assert saved is not None
    _, again, resumed, ended = stop_and_go(make, saved, None)
    assert ended == outcomes
    assert str(timeless(resumed)) == str(timeless(records))  # accuracies are not numbers
    assert_same(weights_of(model), weights_of(again))
    assert [r.step for r in records if r.split == "steps"] == [3, 6, 9, 12, 15]

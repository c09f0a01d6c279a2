"""A training that was stopped and goes on in new objects ends as one that never was stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from train_tools import (
    CLASSES,
    CPU,
    SPEC,
    WIDTH,
    Memory,
    Pictures,
    Training,
    assert_same,
    data,
    splits,
    stop_and_go,
    timeless,
    tiny_network,
    weights_of,
)

from headstart.errors import StoppedError
from headstart.heads import HeadSpec, Tail, build_head
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    CheckpointFolder,
    EarlyStopping,
    Hyperparameters,
    Mixing,
    ParameterGroup,
    ScheduleSpec,
    StandardSource,
    TrainPlan,
    build_grouped_optimizer,
    build_optimizer,
    drain,
    fit,
)
from headstart.types import Augmentation

RATE = 0.05


def plan(rates: tuple[float, ...] = (RATE,), **options) -> TrainPlan:
    return TrainPlan(
        **{"epochs": 2, "schedule": ScheduleSpec(), "learning_rates": rates, "seed": 4, **options}
    )


def heads(
    spec: HeadSpec, kind: str, rates: tuple[float, ...], seeds, scale: float = 1.0, **options
) -> Training:
    """Make trainings of heads on features: 4 steps in each epoch."""

    def make(memory: Memory | None):
        features, labels = data(100)
        source = CachedSource(
            ArrayFeatures(features * np.float32(scale)),
            labels,
            splits(70, 30),
            seeds=seeds,
            batch_size=20,
            device=CPU,
        )
        head = build_head(spec, WIDTH, CLASSES, seeds)
        members = [Hyperparameters(rate, momentum=0.9, weight_decay=0.01) for rate in rates]
        optimizer = build_optimizer(kind, list(head.parameters()), members)
        return head, fit(head, optimizer, source, plan(rates, **options), memory)

    return make


def tail_of(kind: str, norm=nn.BatchNorm2d) -> tuple[Tail, object]:
    backbone = tiny_network(norm=norm)
    head = build_head(HeadSpec(dropout=0.2, normalization="batch"), 6, CLASSES, [0])
    tail = Tail(backbone, "stem", "pooled", head, trained=["block.0", "block.1"])
    groups = [
        ParameterGroup(name, p, RATE / (3 if name == "block.0" else 1))
        for name, p in tail.groups().items()
    ]
    return tail, build_grouped_optimizer(kind, groups, Hyperparameters(RATE, momentum=0.9))


def cached_tail(kind: str, **options) -> Training:
    """Make trainings of a tail on stored activations: 3 steps in each epoch."""

    def make(memory: Memory | None):
        features, labels = data(40, (4, 4, 4))
        source = CachedSource(
            ArrayFeatures(features),
            labels,
            splits(26, 14),
            seeds=[0],
            batch_size=10,
            device=CPU,
            flat=False,
            views=[ArrayFeatures(features[:26] * scale) for scale in (1.1, 0.9)],
        )
        tail, optimizer = tail_of(kind)
        return tail, fit(tail, optimizer, source, plan(**options), memory)

    return make


def standard_tail(kind: str, **options) -> Training:
    """Make trainings of a tail behind a frozen stem, on blended random views of pictures."""

    def make(memory: Memory | None):
        tail, optimizer = tail_of(kind)
        source = StandardSource(
            Pictures(34),
            data(34)[1],
            splits(24, 10),
            prefix=tiny_network().prefix("stem"),
            spec=SPEC,
            width=4 * 4 * 4,
            seed=0,
            batch_size=10,
            workers=0,
            device=CPU,
            flat=False,
            augmentation=Augmentation(flip=True, rotate=20, brightness=0.2),
            mixing=Mixing(0.4, 1.0, CLASSES),
        )
        return tail, fit(tail, optimizer, source, plan(**options), memory)

    return make


COSINE = ScheduleSpec("cosine", warmup_epochs=0.5)
STOPPING = EarlyStopping(patience=1, metric="accuracy")
MLP = HeadSpec(hidden=(7,), dropout=0.3, normalization="batch")
TRAININGS: dict[str, Training] = {
    "one head, dropout": heads(MLP, "adam", (RATE,), [0], schedule=COSINE),
    "three heads of one seed": heads(
        HeadSpec(dropout=0.2),
        "rmsprop",
        (0.5, 0.05, 0.001),
        [1, 1, 1],
        early_stopping=STOPPING,
        epochs=4,
    ),
    "three heads of three seeds": heads(
        MLP, "sgd", (3.0, 0.1, 0.01), [0, 1, 2], early_stopping=EarlyStopping(2), epochs=6
    ),
    "two heads, one of them lost": heads(
        HeadSpec(), "adamw", (1e38, 0.05), [0, 0], class_weights=(1.0, 2.0, 1.0, 0.5), ema=0.9
    ),
    # Its first steps are left out: the gradients are too large for the first loss scale.
    "a head in float16": heads(
        HeadSpec(), "adam", (1e-4,), [0], scale=20, precision="float16", ema=0.9
    ),
    "a tail with momentum": cached_tail(
        "sgd", ema=0.9, schedule=COSINE, micro_batch_size=4, label_smoothing=0.1
    ),
    "a tail with adam": cached_tail("adam", keep="last", clip_norm=0.5),
    "a tail in bfloat16": cached_tail("adamw", precision="bfloat16", ema=0.9),
    "a tail on mixed pictures": standard_tail(
        "rmsprop", schedule=ScheduleSpec("inverse_time", decay=0.1), best_by="accuracy"
    ),
}


class Straight:
    """A training in one go: what one that is stopped and resumed must equal."""

    def __init__(self, make: Training) -> None:
        memory = Memory()
        model, steps = make(memory)
        records, self.outcomes = drain(steps)
        self.weights = weights_of(model)
        self.history = repr(timeless(records))  # in words, because NaN does not equal itself
        self.steps = memory.steps

    def check(self, model: nn.Module, records, outcomes) -> None:
        assert_same(weights_of(model), self.weights)
        assert repr(timeless(records)) == self.history
        assert outcomes == self.outcomes


@pytest.mark.parametrize("name", TRAININGS)
def test_stopped_after_any_step_it_ends_the_same(name: str) -> None:
    make = TRAININGS[name]
    straight = Straight(make)
    assert straight.steps >= 6
    for stop_after in range(1, straight.steps + 1):
        saved, _, _, outcomes = stop_and_go(make, None, stop_after)
        assert outcomes is None
        assert saved is not None
        straight.check(*stop_and_go(make, saved, None)[1:])


@pytest.mark.parametrize("name", TRAININGS)
def test_stopped_after_every_step_it_ends_the_same(name: str) -> None:
    make = TRAININGS[name]
    straight = Straight(make)
    saved, outcomes, stops = None, None, -1
    while outcomes is None:
        saved, model, records, outcomes = stop_and_go(make, saved, 1)
        stops += 1
    assert stops == straight.steps
    straight.check(model, records, outcomes)


@pytest.mark.parametrize("name", ["three heads of three seeds", "a tail with momentum"])
def test_what_is_done_is_not_done_again(name: str) -> None:
    make = TRAININGS[name]
    memory = Memory()
    model, steps = make(memory)
    expected, ends = drain(steps)
    assert memory.saved is not None
    assert not memory.saved.under("optimizer")  # of no use any more
    again = Memory(memory.saved)
    other, steps = make(again)
    records, outcomes = drain(steps)
    assert again.steps == 0
    assert not again.all
    assert records == expected  # their seconds too
    assert outcomes == ends
    assert not other.training
    assert_same(weights_of(other), weights_of(model))


def test_the_next_stage_goes_on_with_the_heads_dropout_where_the_first_left_it() -> None:
    features, labels = data(100)

    def stages(memories: tuple[Memory, Memory]) -> nn.Module:
        head = build_head(HeadSpec(dropout=0.4), WIDTH, CLASSES, [0])
        for stage, memory in enumerate(memories):
            source = CachedSource(
                ArrayFeatures(features),
                labels,
                splits(70, 30),
                seeds=[0],
                batch_size=20,
                device=CPU,
            )
            optimizer = build_optimizer("sgd", list(head.parameters()), [Hyperparameters(RATE)])
            drain(fit(head, optimizer, source, plan(stage=stage), memory))
        return head

    first = Memory()
    straight = stages((first, Memory()))
    # Killed in the second stage, before its first checkpoint.
    resumed = stages((Memory(first.saved), Memory()))
    assert_same(weights_of(resumed), weights_of(straight))


def test_the_records_time_goes_on_too() -> None:
    make = TRAININGS["one head, dropout"]
    saved, *_ = stop_and_go(make, None, 3)
    assert saved is not None
    assert saved.record["elapsed"] > 0
    later = replace(saved, record={**saved.record, "seconds": 100.0, "elapsed": 200.0})
    end, _, records, _ = stop_and_go(make, later, None)
    seconds = {(r.epoch, r.split): r.seconds for r in records}
    assert 100 < seconds[1, "train"] < 150
    assert seconds[2, "train"] < 50
    assert end is not None
    assert 200 < end.record["elapsed"] < 250


@pytest.mark.parametrize("stop_after", [1, 4])
def test_through_files_it_ends_the_same(tmp_path: Path, stop_after: int) -> None:
    make = TRAININGS["a tail with momentum"]

    def folder(stop: Callable[[], bool]) -> CheckpointFolder:
        return CheckpointFolder(tmp_path, every_seconds=None, every_steps=2, stop=stop)

    looks = iter(range(1, 100))
    asked: list[bool] = []

    def stop() -> bool:
        if not asked and next(looks) == stop_after:
            asked.append(True)
        return bool(asked)

    with pytest.raises(StoppedError):
        drain(make(folder(stop))[1])
    model, steps = make(folder(lambda: False))
    Straight(make).check(model, *drain(steps))
    assert folder(lambda: False).elapsed() > 0


def test_torchs_own_random_stream_does_not_matter() -> None:
    make = TRAININGS["a tail with adam"]
    straight = Straight(make)
    torch.manual_seed(1)
    saved, *_ = stop_and_go(make, None, 4)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    straight.check(*stop_and_go(make, saved, None)[1:])
    assert torch.equal(torch.get_rng_state(), before)

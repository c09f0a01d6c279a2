"""Studies of sequences of numbers: squared errors, a baseline, gains, saved models, stops."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error
from text_studies import go, model_of, stop_and_resume, what_lasts

from headstart import RunResult
from headstart.config import load_experiment
from headstart.data.sequence import make_sequences
from headstart.errors import ConfigError
from headstart.predict import Predictor
from headstart.runs.bench import Bench

pytestmark = pytest.mark.usefixtures("one_thread")

STUDY = """
name: numbers
title: Numbers
data: {kind: sequence, target: sum, train: 160, val: 40, test: 60}
backbones:
  gru: {name: headstart/gru, weights: random, hidden: 8}
  two: {name: headstart/lstm, weights: random, hidden: 6, layers: 2, pooling: mean}
checkpoints: {steps: 1}
timing: {measure: false}
parts:
  mean: {kind: baseline}
  whole:
    kind: model
    from_scratch: true
    epochs: 6
    batch_size: 8
    record_steps: 15
    optimizer: {kind: adam, learning_rate: 0.02, weight_decay_on: weights}
  seeds:
    kind: sweep
    backbone: two
    head: {kind: mlp, hidden: [5], dropout: 0.1}
    epochs: 2
    batch_size: 16
    optimizer: {kind: adam, learning_rate: 0.01}
    grid: {seed: [0, 1]}
  stages:
    kind: model
    backbone: two
    epochs: 1
    batch_size: 16
    optimizer: {kind: adam, learning_rate: 0.01}
    stages:
      - {trainable: head}
      - {trainable: [layer.1], features: stored}
comparisons: [{a: whole, b: mean}]
targets:
  - {part: whole, metric: test.mse, op: "<=", value: 1.0}
  - {part: whole, metric: gain, against: mean, value: 0.5}
  - {part: mean, metric: gain, against: whole, value: 0.0}
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return go(tmp_path_factory.mktemp("numbers"), STUDY)


def told(result: RunResult, name: str, split: str = "test"):
    path = result.folder / "models" / name / f"predictions-{split}.parquet"
    return pq.read_table(path).to_pandas()


def test_errors_are_those_of_scikit_learn(result: RunResult) -> None:
    for name in ("mean", "whole", "seeds", "stages"):
        metrics = model_of(result, name)["metrics"]
        assert set(metrics) == {"train", "val", "test"}
        for split, scores in metrics.items():
            table = told(result, name, split)
            truth, values = table.target.to_numpy(), table.predicted.to_numpy()
            assert set(scores) == {"mse", "mae"}
            assert scores["mse"]["value"] == pytest.approx(
                mean_squared_error(truth, values), rel=1e-5
            )
            assert scores["mae"]["value"] == pytest.approx(
                mean_absolute_error(truth, values), rel=1e-5
            )
            assert scores["mse"]["low"] < scores["mse"]["value"] < scores["mse"]["high"]


def test_the_baseline_says_the_training_mean(result: RunResult) -> None:
    train = told(result, "mean", "train")
    for split in ("train", "val", "test"):
        values = told(result, "mean", split).predicted
        np.testing.assert_allclose(values, train.target.mean(), rtol=1e-5)
    assert not (result.folder / "models" / "mean" / "history.parquet").exists()
    assert model_of(result, "mean")["parameters_total"] == 0


def test_gains_and_differences_have_the_right_sign(result: RunResult) -> None:
    whole, mean = (
        model_of(result, name)["metrics"]["test"]["mse"]["value"] for name in ("whole", "mean")
    )
    assert whole < mean / 2  # it has learnt to add
    (first, *_) = result.results["comparisons"]
    assert (first["a"], first["b"]) == ("whole", "mean")
    assert first["mse_difference"]["value"] == pytest.approx(whole - mean, rel=1e-5)
    assert first["mse_difference"]["high"] < 0
    assert first["accuracy_difference"] is None
    assert first["agreement"] is None
    got = [(t["got"], t["met"]) for t in result.results["targets"]]
    assert got[0] == (pytest.approx(whole), True)
    assert got[1] == (pytest.approx(mean - whole, rel=1e-5), True)
    assert got[2] == (pytest.approx(whole - mean, rel=1e-5), False)
    assert result.results["recommendation"]["model"] == "whole"


def test_there_is_no_accuracy_anywhere(result: RunResult) -> None:
    history = pq.read_table(result.folder / "models/whole/history.parquet").to_pandas()
    assert history.accuracy.isna().all()
    assert np.isfinite(history.loss).all()
    part = json.loads((result.folder / "models/whole/part.json").read_text())
    assert {r["accuracy"] for m in part["members"] for r in m["records"]} == {None}
    for sweep in result.results["sweeps"]:
        for member in sweep["members"]:
            assert set(member["metrics"]["val"]) == {"loss"}
    best = [m["best"] for m in result.results["sweeps"][0]["members"]]
    losses = [m["metrics"]["val"]["loss"]["value"] for m in result.results["sweeps"][0]["members"]]
    assert best.index(True) == int(np.argmin(losses))
    page = result.report_html.read_text()
    assert "MSE" in page
    assert "ccuracy" not in page.replace("accuracy_difference", "")


def test_the_trace_is_of_every_so_many_steps(result: RunResult) -> None:
    trace = pq.read_table(result.folder / "models/whole/trace.parquet").to_pandas()
    assert trace.step.tolist() == list(range(15, 121, 15))
    assert trace.loss.iloc[-1] < trace.loss.iloc[0]
    assert model_of(result, "whole")["trace"] == "models/whole/trace.parquet"
    assert model_of(result, "stages")["trace"] is None


def test_saved_models_tell_the_same_numbers(result: RunResult) -> None:
    data = load_experiment(result.folder / "experiment.yaml").data
    made = make_sequences("sum", 260, 2, 10, (160, 40, 60), data.seed)
    order = np.random.default_rng(0).permutation(60)
    rows = made.splits["test"][order]
    for name in ("whole", "seeds", "stages"):
        predictor = Predictor.load(result.folder / "models" / name, device=torch.device("cpu"))
        values = predictor.predict([made.read(int(i)) for i in rows])
        assert values.shape == (60,)
        expected = told(result, name).predicted.to_numpy()[order]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("looks", [10, 200, 270, 292])
def test_a_stopped_study_of_sequences_ends_as_one_that_never_was(
    result: RunResult, tmp_path: Path, looks: int
) -> None:
    folder, stopped = stop_and_resume(tmp_path, STUDY, looks)
    assert stopped
    expected, found = what_lasts(result.folder), what_lasts(folder)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


TWO_MODES = """
parts:
  standard:
    kind: model
    mode: standard
    epochs: 3
    batch_size: 16
    optimizer: {kind: sgd, learning_rate: 0.02, momentum: 0.9}
  cached: {kind: model, extends: standard, mode: cached}
comparisons: [{a: cached, b: standard}]
"""


def test_standard_and_cached_regressions_are_the_same_mathematics(tmp_path: Path) -> None:
    result = go(tmp_path, STUDY.partition("parts:")[0] + TWO_MODES)
    (pair,) = result.results["comparisons"]
    assert pair["weights_relative_difference"] < 1e-4
    assert abs(pair["mse_difference"]["value"]) < 1e-4
    assert pair["speedup"] is not None


PARTS_OF_SIZES = """
parts:
  small: {kind: model, from_scratch: true, epochs: 1}
  again: {kind: model, from_scratch: true, epochs: 1, seed: 1}
  large: {kind: model, from_scratch: true, epochs: 1, backbone: large}
  deep: {kind: model, from_scratch: true, epochs: 1, backbone: deep}
"""


def test_networks_of_other_sizes_are_timed_each_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = itertools.count(1)

    def time(bench: Bench, network: object, rows: object) -> dict[str, float]:
        del network, rows
        return {"seconds": next(timed), "samples": 4, "images_per_second": bench.config.hidden}

    monkeypatch.setattr(Bench, "_time", time)
    study = f"""
name: sizes
title: Sizes
data: {{kind: sequence, target: sum, train: 16, val: 4, test: 4}}
backbones:
  small: {{name: headstart/gru, weights: random, hidden: 4}}
  large: {{name: headstart/gru, weights: random, hidden: 9}}
  deep: {{name: headstart/gru, weights: random, hidden: 4, layers: 2}}
{PARTS_OF_SIZES}"""
    result = go(tmp_path, study)
    found = {m["name"]: m["prediction"]["seconds"] for m in result.results["models"]}
    assert found == {"small": 1, "again": 1, "large": 2, "deep": 3}


def test_a_regression_that_diverges_is_told_and_another_recommended(tmp_path: Path) -> None:
    result = go(
        tmp_path,
        STUDY,
        overrides=[
            "parts.whole.optimizer={kind: sgd, learning_rate: 1e+30}",
            "parts.whole.epochs=1",
        ],
    )
    whole = model_of(result, "whole")
    assert whole["state"] == "diverged"
    assert whole["metrics"] == {}
    assert result.results["recommendation"]["model"] != "whole"
    assert [t["met"] for t in result.results["targets"]] == [False] * 3
    assert not math.isnan(model_of(result, "mean")["metrics"]["test"]["mse"]["value"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbones.gru.max_length=5", "backbones.gru.max_length: expected nothing"),
        ("backbones.gru.strip_markup=true", "backbones.gru.strip_markup: expected nothing"),
        ("backbones.gru.image_size=5", "backbones.gru.image_size: expected nothing"),
        ("backbones.gru.pooling=pooler", "backbones.gru.pooling"),
        ("backbones.gru.name=packaged/efficientnet-lite0", "does not read sequences"),
        ("backbones.two.weights=pretrained", "no published weights"),
        ("examples=[a text]", "examples.0: expected nothing"),
    ],
)
def test_what_means_nothing_to_numbers_is_refused(
    tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(Exception, match=message) as caught:
        go(tmp_path, STUDY, overrides=[override])
    assert type(caught.value).__name__ in ("ConfigError", "WeightsError")
    assert isinstance(caught.value, ConfigError) or "weights" in override

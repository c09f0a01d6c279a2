"""What a run adds once its models are there: tests, calibration, seeds, analysis, looks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart import RunResult, resume, run
from headstart._util.progress import SilentProgress
from headstart.config import load_experiment
from headstart.errors import ConfigError
from headstart.predict import Predictor, load_model
from headstart.runs.result import read_predictions

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
STUDY = """
name: colours
title: Colours
data: {kind: auto, path: DATA, split: {train: 0.5, val: 0.25, test: 0.25}}
backbones: {net: {name: headstart/resnet20, weights: random}}
timing: {measure: false}
"""
PARTS = """
parts:
  probe:
    kind: model
    head: {kind: linear}
    optimizer: {kind: sgd, learning_rate: 0.002}
    epochs: 5
    seeds: 4
    calibrate: true
  plain: {kind: model, extends: probe, seeds: 1, calibrate: false}
analysis: {learning_curve: true, mistakes: 3}
"""


def blurred(folder: Path) -> Path:
    """Pictures whose colours overlap: nobody gets all of them right."""
    random = np.random.default_rng(0)
    for kind, colour in KINDS.items():
        (folder / kind).mkdir(parents=True)
        for number in range(24):
            moved = np.array(colour) + random.normal(0, 70, 3)
            pixels = np.clip(moved + random.normal(0, 20, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Path]:
    root = tmp_path_factory.mktemp("evidence")
    data = blurred(root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(root / "cache"))
        return study(root, data, PARTS), root


def study(root: Path, data: Path, parts: str, name: str = "colours") -> RunResult:
    path = root / f"{name}.yaml"
    path.write_text(STUDY.replace("DATA", str(data)).replace("colours", name, 1) + parts)
    return run(path, out=root / "runs", show=SilentProgress())


def model(result: RunResult, name: str) -> dict:
    (found,) = [m for m in result.results["models"] if m["name"] == name]
    return found


def test_seeds_are_the_trainings_that_each_seed_would_be(
    finished: tuple[RunResult, Path], tmp_path: Path
) -> None:
    result, root = finished
    seeds = model(result, "probe")["seeds"]
    assert seeds["seeds"] == [0, 1, 2, 3]
    values = seeds["test"]["loss"]["values"]
    assert seeds["test"]["loss"]["mean"] == pytest.approx(np.mean(values))
    assert seeds["test"]["loss"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert len(set(values)) == 4
    alone = study(tmp_path, root / "data", PARTS.replace("seeds: 4", "seed: 2"), "alone")
    loss = model(alone, "probe")["metrics"]["test"]["loss"]["value"]
    assert values[2] == pytest.approx(loss, rel=1e-4)
    # The first seed stands for the part, whichever is the luckiest.
    assert (
        model(result, "probe")["metrics"]["test"]["accuracy"]
        == (model(result, "plain")["metrics"]["test"]["accuracy"])
    )
    assert model(result, "plain")["seeds"] is None


def test_calibrated_predictions_are_those_of_the_saved_model(
    finished: tuple[RunResult, Path],
) -> None:
    result, root = finished
    calibration = model(result, "probe")["calibration"]
    assert calibration["applied"]
    assert calibration["temperature"] != 1
    saved = result.folder / "models" / "probe"
    assert load_model(saved).model.temperature == pytest.approx(calibration["temperature"])
    classes = tuple(sorted(KINDS))
    told = read_predictions(saved, "test", classes)
    predictor = Predictor.load(saved, device=torch.device("cpu"))
    again = predictor.predict_proba([root / "data" / name for name in told.names])
    np.testing.assert_allclose(again, told.probabilities, atol=2e-5)
    plain = read_predictions(result.folder / "models" / "plain", "test", classes)
    np.testing.assert_array_equal(plain.predicted, told.predicted)
    assert np.abs(plain.probabilities - told.probabilities).max() > 1e-3


def test_calibration_before_is_that_of_the_model_without(
    finished: tuple[RunResult, Path],
) -> None:
    result, _ = finished
    applied, plain = (model(result, n)["calibration"] for n in ("probe", "plain"))
    assert not plain["applied"]
    assert plain["temperature"] == pytest.approx(applied["temperature"], rel=1e-3)
    for when in ("before", "after"):
        for figure in ("ece", "loss"):
            one, other = (c["test"][when][figure]["value"] for c in (applied, plain))
            assert one == pytest.approx(other, abs=1e-3)
    assert sum(b["n"] for b in plain["test"]["before"]["bins"]) == 18


def test_the_models_are_tested_against_each_other(finished: tuple[RunResult, Path]) -> None:
    result, _ = finished
    (pair,) = result.results["tests"]["pairs"]
    # The same answers: nothing could be less apart.
    assert (pair["a"], pair["b"], pair["a_only"], pair["b_only"]) == ("probe", "plain", 0, 0)
    assert pair["p"] == pair["p_holm"] == 1
    assert not pair["distinguishable"]


def test_mistakes_are_shown_the_most_confident_first(finished: tuple[RunResult, Path]) -> None:
    result, _ = finished
    analysis = result.results["analysis"]
    folder = result.folder / "models" / analysis["model"]
    told = read_predictions(folder, "test", tuple(sorted(KINDS)))
    wrong = told.predicted != told.labels
    confident = told.probabilities.max(axis=1)
    expected = sorted(confident[wrong], reverse=True)[:3]
    assert wrong.sum() >= 3
    found = analysis["mistakes"]
    np.testing.assert_allclose([m["confidence"] for m in found], expected, atol=1e-6)
    for mistake in found:
        assert mistake["name"].startswith(mistake["label"])
        with Image.open(result.folder / mistake["image"]) as picture:
            assert picture.format == "JPEG"


def test_the_analysis_leaves_the_test_split_out_of_labels_and_learning_curve(
    finished: tuple[RunResult, Path],
) -> None:
    result, _ = finished
    analysis = result.results["analysis"]
    labels, (curve,) = analysis["suspicious_labels"], analysis["learning_curves"]
    assert labels["checked"] == 54  # 72 without the 18 of the test split
    assert {one["split"] for one in labels["list"]} <= {"train", "val"}
    # With 5% of the labels there would be less than one of each class.
    assert [p["share"] for p in curve["points"]] == [0.1, 0.25, 0.5, 1.0]
    assert curve["points"][-1]["n"] == round(0.8 * 54)
    assert curve["labels"] == 54
    assert [one["n"] for one in curve["forecast"]] == [54, 108, 216]
    accuracy = [p["accuracy"]["mean"] for p in curve["points"]]
    assert accuracy[-1] > accuracy[0]
    assert curve["points"][-1]["accuracy"]["mean"] == pytest.approx(
        labels["probe_accuracy"]["value"], abs=0.12
    )


def test_what_was_removed_since_does_not_cost_the_report(
    finished: tuple[RunResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.runs import excerpts

    def gone(*_: object) -> object:
        raise FileNotFoundError("removed")

    _, root = finished
    monkeypatch.setattr(excerpts, "decode", gone)
    result = study(tmp_path, root / "data", PARTS, "removed")
    assert result.report_html.exists()
    assert result.results["analysis"]["mistakes"][0]["image"] is None


def test_a_cache_that_cannot_be_written_costs_the_look_alone(
    finished: tuple[RunResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.runs import looks

    def denied(*_: object) -> object:
        raise PermissionError("read-only")

    result, root = finished
    monkeypatch.setenv("HEADSTART_CACHE", str(root / "cache"))
    monkeypatch.setattr(looks, "_written_down", denied)
    again = resume(result.folder, show=SilentProgress())
    assert again.results["test_looks"]["earlier"] == []


def test_an_emptied_store_is_not_filled_for_the_analysis(
    finished: tuple[RunResult, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(result.folder, copy)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "empty"))
    again = resume(copy, show=SilentProgress())
    assert again.results["analysis"]["suspicious_labels"] is None
    assert again.results["analysis"]["mistakes"]
    assert not list((tmp_path / "empty").rglob("*.npy"))


def test_going_on_with_a_finished_run_changes_no_figure(
    finished: tuple[RunResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, root = finished
    monkeypatch.setenv("HEADSTART_CACHE", str(root / "cache"))
    again = resume(result.folder, show=SilentProgress())
    left = {k: v for k, v in again.results.items() if k != "wall_seconds"}
    assert left == {k: v for k, v in result.results.items() if k != "wall_seconds"}


def test_another_experiment_on_the_same_test_split_is_written_down(
    finished: tuple[RunResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, root = finished
    monkeypatch.setenv("HEADSTART_CACHE", str(root / "cache"))
    assert result.results["test_looks"]["earlier"] == []
    again = study(root, root / "data", PARTS)
    assert again.results["test_looks"]["earlier"] == []
    other = study(root, root / "data", PARTS.replace("0.002}", "0.003}"), "other")
    (before,) = other.results["test_looks"]["earlier"]
    assert (before["study"], before["when"]) == ("colours", result.results["created"])
    # Who came first stays first.
    assert study(root, root / "data", PARTS).results["test_looks"]["earlier"] == []


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("{kind: sweep, seeds: 3, grid: {optimizer.learning_rate: [0.1]}}", "1 in a sweep"),
        ("{kind: model, head: {kind: logistic}, seeds: 2}", "1 for a logistic head"),
    ],
)
def test_repeats_that_mean_nothing_are_refused(tmp_path: Path, part: str, expected: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY + f"parts: {{a: {part}}}\n")
    with pytest.raises(ConfigError, match=rf"parts\.a\.seeds.*{expected}"):
        load_experiment(path)

"""`headstart fit` from a folder of photos to a model, once; and what it leaves."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from colour_photos import COLOURS, write_photos
from text_studies import tiny_network, write_texts

from headstart import run
from headstart._util.progress import SilentProgress
from headstart.config import load_experiment
from headstart.errors import ConfigError, DataError, WeightsError
from headstart.predict import Predictor, load_model
from headstart.runs import fit_plan
from headstart.runs.fit import FitResult, fit_data
from headstart.runs.pace import Pace

pytestmark = pytest.mark.usefixtures("one_thread")

OTHER = "# somebody's own study\n"


def slow(backbone: Any, head_cut: str, trainable: int | str, *_: object) -> Pace:
    """Say that training steps take too long for any budget."""
    return Pace(trainable, backbone.stages[-2], "float32", 1e6, 1.0, 0.0)


def fit(place: Path, out: Path) -> FitResult:
    return fit_data(
        str(place),
        budget_seconds=60,
        backbones=["packaged/efficientnet-lite0"],
        out=out,
        show=SilentProgress(),
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fit")


@pytest.fixture(scope="module")
def fitted(root: Path) -> FitResult:
    place = write_photos(root / "photos", each=16, spread=70)
    (root / "runs").mkdir()
    (root / "runs" / "fit-photos.yaml").write_text(OTHER)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(root / "cache"))
        patch.setattr(fit_plan, "measure_pace", slow)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket, "create_connection", refuse)
        return fit(place, root / "runs")


def figures(results: dict[str, Any]) -> dict[str, Any]:
    """Return everything that a repetition has to repeat."""
    models = {m["name"]: (m["metrics"], m["calibration"]) for m in results["models"]}
    return {
        "models": models,
        "labels": results["analysis"]["suspicious_labels"],
        "curve": results["analysis"]["learning_curves"],
        "recommended": results["recommendation"]["model"],
    }


def test_the_model_that_is_recommended_can_be_used_at_once(
    fitted: FitResult, tmp_path: Path
) -> None:
    assert fitted.model is not None
    assert fitted.model.name == fitted.run.results["recommendation"]["model"] == "probe"
    predictor = Predictor.load(fitted.model, device=torch.device("cpu"))
    new = list(write_photos(tmp_path / "new", each=3).rglob("*.png"))
    probabilities = predictor.predict_proba(new)
    classes = sorted(COLOURS)
    assert [classes[i] for i in probabilities.argmax(axis=1)] == [p.parent.name for p in new]
    assert fitted.run.report_html.exists()
    assert fitted.run.report_pdf.exists()


def test_the_model_is_calibrated(fitted: FitResult) -> None:
    assert fitted.model is not None
    (model,) = fitted.run.results["models"]
    assert model["calibration"]["applied"]
    temperature = load_model(fitted.model).model.temperature
    assert temperature == pytest.approx(model["calibration"]["temperature"])
    assert temperature != 1


def test_running_the_file_repeats_the_result(
    fitted: FitResult, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(root / "cache"))
    again = run(fitted.file, out=root / "again", show=SilentProgress())
    assert figures(again.results) == figures(fitted.run.results)
    # It is no further look at the test split.
    assert again.results["test_looks"] == fitted.run.results["test_looks"]
    assert again.results["test_looks"]["earlier"] == []


def test_the_file_and_the_report_say_why(fitted: FitResult) -> None:
    study = load_experiment(fitted.file)
    assert study.notes == fitted.reasons
    assert any("cross-validated accuracy" in reason for reason in fitted.reasons)
    (reason,) = [r for r in fitted.reasons if "no time for fine-tuning" in r]
    assert reason in fitted.run.report_html.read_text()
    (tried,) = fitted.tried
    assert tried.accuracy is not None
    counts = {k: sum(c.values()) for k, c in fitted.run.results["data"]["counts"].items()}
    assert tried.accuracy.n == counts["train"] + counts["val"] == 48 - counts["test"]


def test_a_file_of_somebody_else_is_left_alone(fitted: FitResult, root: Path) -> None:
    assert fitted.file.name == "fit-photos-2.yaml"
    assert (root / "runs" / "fit-photos.yaml").read_text() == OTHER


def test_it_took_no_longer_than_was_allowed(fitted: FitResult) -> None:
    # The budget holds a fine-tuning for which there was no time.
    assert fitted.run.results["wall_seconds"] < fitted.wall_seconds < 60


def test_texts_are_fine_tuned_where_there_is_time(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.csv", {"train": 120, "val": 40, "test": 40})
    network = tiny_network(tmp_path / "bert", max_position_embeddings=256)
    done = fit_data(
        str(texts),
        budget_seconds=120,
        backbones=[f"transformers/{network}"],
        out=tmp_path / "runs",
        show=SilentProgress(),
    )
    study = load_experiment(done.file)
    assert list(study.parts) == ["probe", "tuned"]
    assert study.parts["tuned"].stages[1].trainable == "all"
    assert 0 < 60 * study.parts["tuned"].max_minutes < 120
    assert [m["state"] for m in done.run.results["models"]] == ["complete", "complete"]
    tuned = Predictor.load(done.run.folder / "models" / "tuned", device=torch.device("cpu"))
    assert tuned.predict_proba(["w5 w6 w7", "w15 w16 w17"]).shape == (2, 2)
    (pair,) = done.run.results["comparisons"]
    assert (pair["a"], pair["b"]) == ("tuned", "probe")


def test_a_budget_that_is_too_small_is_refused_before_the_data_are_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 30 seconds, got 29"):
        fit_data(str(tmp_path / "none"), budget_seconds=29, out=tmp_path, show=SilentProgress())
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_here_are_not_fetched_unasked(
    root: Path, fitted: FitResult, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=r"(?s)timm/resnet18.*allow the network"):
        fit_data(
            str(root / "photos"),
            backbones=["timm/resnet18.a1_in1k"],
            out=tmp_path,
            show=SilentProgress(),
        )
    assert list(tmp_path.iterdir()) == []


def test_what_holds_neither_pictures_nor_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("height,width\n1,2\n3,4\n")
    with pytest.raises(DataError, match="neither pictures nor texts"):
        fit_data(str(tmp_path / "numbers.csv"), out=tmp_path / "runs", show=SilentProgress())
    assert not (tmp_path / "runs").exists()

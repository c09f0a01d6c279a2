"""Staged studies end to end: stored and recomputed, replayed, from scratch, voting, interrupted."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from headstart import resume, run
from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop
from headstart.backbones.registry import load_backbone
from headstart.errors import ConfigError, RunError, StoppedError
from headstart.predict import Predictor, load_model

HEADER = """
name: staged
title: Staged
data: {{kind: auto, path: {photos}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones:
  small: {{name: headstart/resnet20, weights: random}}
cache: {{engine: torch}}
"""


class Heard(SilentProgress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def go(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run a study of some parts with an empty cache; return the result and what was said."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))

    def start(parts: str, **options: object) -> tuple:
        path = tmp_path / "staged.yaml"
        path.write_text(HEADER.format(photos=photos) + parts)
        heard = Heard()
        return run(path, out=tmp_path / "runs", show=heard, **options), heard.lines

    return start


TWO_WAYS = """
parts:
  stored:
    kind: model
    batch_size: 4
    optimizer: {kind: sgd, learning_rate: 0.05, momentum: 0.9}
    epochs: 2
    stages:
      - {trainable: head, features: stored}
      - {trainable: [layer3], features: stored}
      - {trainable: {last: 1}, features: stored, augmentation: {flip: true, rotate: 9, views: 2}}
  recomputed:
    kind: model
    extends: stored
    stages:
      - {trainable: head, features: recomputed}
      - {trainable: [layer3], features: recomputed}
      - trainable: {last: 1}
        features: recomputed
        augmentation: {flip: true, rotate: 9, views: 2}
comparisons: [{a: stored, b: recomputed}]
"""


def test_stored_and_recomputed_stages_are_the_same_mathematics(go: Callable) -> None:
    result, said = go(TWO_WAYS)
    (pair,) = result.results["comparisons"]
    assert pair["agreement"] == 1
    assert pair["weights_relative_difference"] < 1e-4
    assert pair["speedup"] is not None
    stored, recomputed = result.results["models"]
    assert [s["features"] for s in stored["stages"]] == ["stored"] * 3
    assert [s["features"] for s in recomputed["stages"]] == ["recomputed"] * 3
    # Pictures go through the network once: the cut that a later stage needs comes first.
    assert [s["cut"] for s in stored["stages"]] == ["pooled", "layer2.2", "layer3.1"]
    assert [s["replayed_from"] for s in stored["stages"]] == ["layer2.2", None, "layer2.2"]
    trained = [s["parameters_trainable"] for s in stored["stages"]]
    head = 64 * 3 + 3
    stage = 2 * 64 * 64 * 9 + 2 * 2 * 64
    first = (32 * 64 + 64 * 64) * 9 + 2 * 2 * 64
    assert trained == [head, head + first + 2 * stage, head + stage]
    for model in (stored, recomputed):
        for s in model["stages"]:
            assert s["parameters_trainable"] + s["parameters_frozen"] == model["parameters_total"]
    assert any("trains layer3: 203,715 parameters" in line for line in said)
    history = pq.read_table(result.folder / stored["history"]).to_pandas()
    assert history.groupby("stage").epoch.max().to_dict() == {0: 2, 1: 2, 2: 2}


def test_what_is_frozen_stays_and_what_is_trained_is_saved(go: Callable, photos: Path) -> None:
    result, _ = go(TWO_WAYS)
    name = result.results["models"][0]["name"]
    folder = result.folder / "models" / name
    trained = load_model(folder)
    assert trained.model.cut == "layer2.2"
    assert {k.split(".")[1] for k in trained.tensors if k.startswith("backbone")} == {"layer3"}
    original = load_backbone("headstart/resnet20", weights="random")
    before = dict(original.modules("layer2.2", "pooled")[0][1].state_dict())
    key = "conv1.weight"
    assert not torch.equal(trained.tensors[f"backbone.layer3.0.{key}"], before[key])
    # A prediction from files alone says what the run said.
    table = pq.read_table(folder / "predictions-test.parquet").to_pandas()
    pictures = [(photos / name).read_bytes() for name in table.name]
    predictor = Predictor.load(folder, device=torch.device("cpu"))
    shares = table[[c for c in table if c.startswith("p_")]].to_numpy()
    assert np.allclose(predictor.predict(pictures), shares, atol=1e-4)
    # The same as scikit-learn would ask it, from paths.
    paths = [photos / name for name in table.name]
    assert np.allclose(predictor.predict_proba(paths), shares, atol=1e-4)
    assert predictor.classes_.tolist() == ["blue", "green", "red"]


def test_from_scratch_trains_everything_under_the_same_budget(go: Callable) -> None:
    result, said = go(
        """
parts:
  tuned:
    kind: model
    batch_size: 4
    epochs: 2
    stages: [{trainable: head}, {trainable: {last: 1}, epochs: 3}]
  scratch: {kind: model, extends: tuned, from_scratch: true, seed: 5}
"""
    )
    tuned, scratch = result.results["models"]
    assert scratch["from_scratch"]
    assert [s["epochs"] for s in scratch["stages"]] == [s["epochs"] for s in tuned["stages"]]
    assert [s["trainable"] for s in scratch["stages"]] == ["all", "all"]
    assert [s["parameters_frozen"] for s in scratch["stages"]] == [0, 0]
    assert any("recomputed: nothing is frozen" in line for line in said)
    # The file holds every weight: no other file is needed to predict.
    trained = load_model(result.folder / "models" / "scratch")
    assert trained.model.cut == "input"
    assert trained.model.backbone_seed == 5
    Predictor.load(result.folder / "models" / "scratch", device=torch.device("cpu"))


def test_an_ensemble_votes_over_stored_predictions(go: Callable) -> None:
    result, _ = go(
        """
timing: {repeats: 2}
parts:
  a: {kind: model, epochs: 2, batch_size: 4}
  b: {kind: model, head: {kind: logistic}, seed: 1}
  both: {kind: ensemble, members: [a, b]}
comparisons: [{a: both, b: b}]
targets: [{part: both, metric: gain, against: b, op: ">=", value: -1}]
"""
    )
    a, b, both = result.results["models"]

    def shares(model: dict, split: str) -> np.ndarray:
        table = pq.read_table(result.folder / model["predictions"][split]).to_pandas()
        return table.sort_values("name")[["p_0", "p_1", "p_2"]].to_numpy()

    for split in ("val", "test"):
        mean = (shares(a, split) + shares(b, split)) / 2
        assert np.allclose(shares(both, split), mean, atol=1e-6)
    assert both["kind"] == "ensemble"
    assert both["ensemble"]["weights"] == [0.5, 0.5]
    times = [m["prediction"]["seconds"] for m in (a, b)]
    assert both["ensemble"]["prediction_seconds"] == pytest.approx(sum(times))
    assert both["parameters_total"] == a["parameters_total"] + b["parameters_total"]
    (target,) = result.results["targets"]
    assert target["got"] == result.results["comparisons"][0]["accuracy_difference"]["value"]


STOPPED = """
checkpoints: {steps: 1}
parts:
  first: {kind: model, epochs: 2, batch_size: 4}
  second:
    kind: model
    batch_size: 4
    optimizer: {kind: adam, learning_rate: 0.01}
    stages: [{trainable: {last: 1}, epochs: 3}]
"""


class StopsIn(SilentProgress):
    """Asks to stop when a line is said."""

    def __init__(self, stop: Stop, words: str) -> None:
        self._stop, self._words = stop, words

    def say(self, message: str) -> None:
        if self._words in message:
            self._stop.request()


def test_stopped_and_resumed_says_how_and_ends_the_same(
    go: Callable, tmp_path: Path, photos: Path
) -> None:
    whole, _ = go(STOPPED)
    stop = Stop()
    with pytest.raises(StoppedError, match=r"go on with: headstart resume .*staged-") as caught:
        run(
            tmp_path / "staged.yaml",
            out=tmp_path / "again",
            show=StopsIn(stop, "second, stage 1 of 1: trains"),
            stop=stop,
        )
    folder = Path(str(caught.value).rpartition(" ")[2])
    assert json.loads((folder / "results.json").read_text())["state"] == "partial"
    heard = Heard()
    result = resume(folder, show=heard)
    assert "first: done before" in heard.lines
    assert result.results["state"] == "complete"
    for part in ("first", "second"):
        ours, theirs = (load_model(r.folder / "models" / part) for r in (result, whole))
        assert ours.tensors.keys() == theirs.tensors.keys()
        assert all(torch.equal(ours.tensors[k], theirs.tensors[k]) for k in ours.tensors)
    # Once more: everything is done, and the results are the same.
    assert resume(folder, show=SilentProgress()).results["models"] == result.results["models"]


def test_other_data_are_refused(go: Callable, photos: Path) -> None:
    result, _ = go("parts: {one: {kind: model, epochs: 1}}")
    (photos / "red" / "0.png").unlink()
    with pytest.raises(RunError, match="samples or labels have changed"):
        resume(result.folder, show=SilentProgress())
    with pytest.raises(RunError, match=r"expected the folder of a run"):
        resume(photos, show=SilentProgress())


def test_half_a_run_of_a_version_that_resized_otherwise_is_refused(go: Callable) -> None:
    result, _ = go("parts: {one: {kind: model, epochs: 1}}")
    path = result.folder / "run.json"
    about = json.loads(path.read_text())
    assert about.pop("resampling") == "torch"
    path.write_text(json.dumps(about))
    resume(result.folder, show=SilentProgress())  # it was complete: nothing is trained any more
    path.write_text(json.dumps({**about, "state": "stopped"}))
    with pytest.raises(RunError, match="resized by torch, but an earlier version began it"):
        resume(result.folder, show=SilentProgress())


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("{trainable: [layer9]}", r"parts.one.stages: .*'layer9'.*did you mean"),
        ("{trainable: {last: 99}}", r"parts.one.stages: .*at most the 10 stages"),
        ("{trainable: head, learning_rates: {layer3: 0.1}}", r"got 'layer3'"),
    ],
)
def test_stages_that_cannot_be_are_told_before_any_work(
    go: Callable, tmp_path: Path, stage: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        go(f"parts: {{one: {{kind: model, stages: [{stage}]}}}}")
    assert not (tmp_path / "runs").exists()


def test_a_diverging_stage_ends_its_model_and_no_other(go: Callable) -> None:
    result, _ = go(
        """
parts:
  lost:
    kind: model
    batch_size: 4
    optimizer: {kind: sgd, learning_rate: 1e+30}
    stages: [{trainable: {last: 1}, epochs: 4}, {trainable: head, epochs: 2}]
  well: {kind: model, epochs: 2}
"""
    )
    lost, well = result.results["models"]
    assert lost["state"] == "diverged"
    assert "try a lower learning rate" in lost["message"]
    assert len(lost["stages"]) == 1
    assert well["state"] == "complete"
    assert resume(result.folder, show=SilentProgress()).results["models"][0]["state"] == "diverged"


def test_networks_that_differ_are_not_one_training_done_two_ways(go: Callable) -> None:
    result, _ = go(
        """
parts:
  first: {kind: model, epochs: 1, stages: [{trainable: head}]}
  fewer: {kind: model, extends: first, labels_per_class: 2}
  vote: {kind: ensemble, members: [first, fewer]}
comparisons: [{a: first, b: fewer}, {a: first, b: vote}]
targets: [{part: recommended, metric: test.accuracy, value: 0}]
"""
    )
    for pair in result.results["comparisons"]:
        assert pair["speedup"] is None
        assert pair["weights_relative_difference"] is None
        assert pair["text"].startswith("test accuracy of")
    (target,) = result.results["targets"]
    by_name = {m["name"]: m for m in result.results["models"]}
    chosen = by_name[result.results["recommendation"]["model"]]
    assert target["got"] == chosen["metrics"]["test"]["accuracy"]["value"]


def test_an_ensemble_that_lost_its_members_is_left_out(go: Callable) -> None:
    result, said = go(
        """
parts:
  lost:
    kind: model
    batch_size: 4
    optimizer: {kind: sgd, learning_rate: 1e+30}
    stages: [{trainable: {last: 1}, epochs: 3}]
  well: {kind: model, epochs: 1}
  vote: {kind: ensemble, members: [lost, well]}
  after: {kind: model, epochs: 1}
"""
    )
    assert any("vote: left out" in line for line in said)
    assert [m["name"] for m in result.results["models"]] == ["lost", "well", "after"]
    assert result.results["state"] == "partial"


def test_a_resumed_stage_keeps_its_features_as_they_were_chosen(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    (tmp_path / "staged.yaml").write_text(HEADER.format(photos=photos) + STOPPED)
    stop = Stop()
    show = StopsIn(stop, "second, stage 1 of 1: trains")
    with monkeypatch.context() as patch:
        patch.setattr(
            "headstart.runs.stage_features.choose_storage",
            lambda *_: ("recomputed", "it was a slow day"),
        )
        with pytest.raises(StoppedError) as caught:
            run(tmp_path / "staged.yaml", out=tmp_path / "again", show=show, stop=stop)
    heard = Heard()
    result = resume(str(caught.value).rpartition(" ")[2], show=heard)
    assert any("recomputed: it was a slow day" in line for line in heard.lines)
    second = result.results["models"][1]
    assert [s["features"] for s in second["stages"]] == ["recomputed"]


def test_a_relative_path_counts_from_where_the_run_began(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(photos.parent)
    text = HEADER.format(photos=photos.name) + "parts: {one: {kind: model, epochs: 1}}"
    (tmp_path / "here.yaml").write_text(text)
    result = run(tmp_path / "here.yaml", out=tmp_path / "runs", show=SilentProgress())
    monkeypatch.chdir("/")
    again = resume(result.folder, show=SilentProgress())
    assert again.results["models"] == result.results["models"]

"""Studies of texts: the ways of training are one, whatever is stored, stopped or beside it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from text_studies import (
    go,
    model_of,
    stop_and_resume,
    what_lasts,
    write_place,
    write_texts,
)

from headstart import RunResult
from headstart.errors import ConfigError
from headstart.predict import load_model

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = {"train": 60, "val": 20, "test": 24, "test-other": 16}
HEADER = """
name: texts
title: Texts
data: {{kind: text, path: {data}}}
backbones:
  small: {{name: transformers/{network}, max_length: 20}}
timing: {{measure: false}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of texts, one of pairs, and a BERT and an ALBERT of a few thousand numbers."""
    return write_place(tmp_path_factory.mktemp("place"), COUNTS)


@pytest.fixture
def study(place: Path, tmp_path: Path) -> Callable[..., RunResult]:
    def start(parts: str, data: str = "texts.csv", network: str = "bert", **options) -> RunResult:
        header = HEADER.format(data=place / data, network=place / network)
        return go(tmp_path, header + parts, **options)

    return start


def weights(result: RunResult, name: str) -> dict[str, torch.Tensor]:
    return dict(load_model(result.folder / "models" / name).tensors)


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    off = sum(float((a[k] - b[k]).square().sum()) for k in a)
    return (off / sum(float(a[k].square().sum()) for k in a)) ** 0.5


def shares(result: RunResult, name: str, split: str = "test") -> np.ndarray:
    path = result.folder / "models" / name / f"predictions-{split}.parquet"
    return pq.read_table(path).to_pandas()[["p_0", "p_1"]].to_numpy()


TWO_MODES = """
parts:
  standard:
    kind: sweep
    mode: standard
    head: {kind: mlp, hidden: [6], dropout: 0.2}
    optimizer: {kind: adam, learning_rate: 0.01}
    epochs: 3
    batch_size: 8
    grid: {optimizer.learning_rate: [0.01, 0.03]}
  cached: {kind: sweep, extends: standard, mode: cached}
comparisons: [{a: cached, b: standard}]
"""


def test_standard_and_cached_training_of_texts_are_the_same_mathematics(
    study: Callable[..., RunResult],
) -> None:
    result = study(TWO_MODES)
    assert apart(weights(result, "standard"), weights(result, "cached")) < 1e-4
    (pair,) = result.results["comparisons"]
    assert pair["agreement"] == 1
    assert pair["weights_relative_difference"] < 1e-4
    for split in ("train", "val", "test", "test-other"):
        np.testing.assert_allclose(
            shares(result, "standard", split), shares(result, "cached", split), atol=1e-4
        )
    losses = pq.read_table(result.folder / "models/cached/history.parquet").to_pandas()
    train = losses[losses.split == "train"].loss.tolist()
    assert len(train) == 3
    assert train[-1] < train[0]


TWO_WAYS = """
parts:
  stored:
    kind: model
    batch_size: 8
    optimizer: {{kind: adamw, learning_rate: 0.003, weight_decay_on: weights}}
    schedule: {{kind: linear, warmup_epochs: 0.5}}
    epochs: 2
    stages:
      - {{trainable: head, features: stored}}
      - {{trainable: {{last: {last}}}, features: stored, layer_decay: 0.8}}
      - {{trainable: all, epochs: 1}}
  recomputed:
    kind: model
    extends: stored
    stages:
      - {{trainable: head, features: recomputed}}
      - {{trainable: {{last: {last}}}, features: recomputed, layer_decay: 0.8}}
      - {{trainable: all, epochs: 1}}
comparisons: [{{a: stored, b: recomputed}}]
"""


def test_stages_with_stored_and_recomputed_texts_are_the_same_mathematics(
    study: Callable[..., RunResult],
) -> None:
    # Dropout works in what is trained: its draws have to fall on the same places of both.
    result = study(TWO_WAYS.format(last=1))
    stored, recomputed = (model_of(result, name) for name in ("stored", "recomputed"))
    assert [s["features"] for s in stored["stages"]] == ["stored", "stored", "recomputed"]
    assert [s["cut"] for s in stored["stages"]] == ["pooled", "layer.1", "input"]
    assert {s["features"] for s in recomputed["stages"]} == {"recomputed"}
    assert apart(weights(result, "stored"), weights(result, "recomputed")) < 1e-3
    (pair,) = result.results["comparisons"]
    assert pair["agreement"] == 1
    # The head's features went on from those that the next stage needs anyway.
    assert stored["stages"][0]["replayed_from"] == "layer.1"


def test_half_of_an_albert_cannot_learn_and_the_message_says_what_can(
    study: Callable[..., RunResult],
) -> None:
    with pytest.raises(ConfigError) as caught:
        study(TWO_WAYS.format(last=2), network="albert")
    message = str(caught.value)
    assert "parts.stored.stages: trainable" in message
    assert "one set of weights for its stages layer.0 … layer.2" in message
    assert "use all, or [layer]" in message


ALBERT = """
parts:
  layers:
    kind: model
    batch_size: 8
    epochs: 1
    optimizer: {kind: adamw, learning_rate: 0.003, weight_decay_on: weights}
    stages: [{trainable: [layer]}]
  everything: {kind: model, extends: layers, stages: [{trainable: all, layer_decay: 0.9}]}
  scratch: {kind: model, extends: layers, stages: null, from_scratch: true}
"""


def test_an_albert_learns_as_a_whole_and_is_saved_once(study: Callable[..., RunResult]) -> None:
    result = study(ALBERT, network="albert")
    for name in ("layers", "everything", "scratch"):
        assert model_of(result, name)["state"] == "complete"
        saved = {key for key in weights(result, name) if ".layer." in key}
        assert saved
        assert all(key.startswith("backbone.layer.0.") for key in saved)
    assert any("embeddings" in key for key in weights(result, "everything"))


RESUMED = """
examples: ["w5 w6 w7", "w15 w16 w17 w18 w19 w20"]
checkpoints: {steps: 1}
parts:
  rates:
    kind: sweep
    head: {kind: linear, dropout: 0.2}
    optimizer: {kind: sgd, learning_rate: 0.1, momentum: 0.9}
    epochs: 3
    batch_size: 16
    grid: {optimizer.learning_rate: [0.1, 0.01]}
  stages:
    kind: model
    batch_size: 16
    epochs: 2
    optimizer: {kind: adamw, learning_rate: 0.003, weight_decay_on: weights}
    record_steps: 3
    stages:
      - {trainable: head}
      - {trainable: {last: 1}, features: stored}
      - {trainable: all, epochs: 1, clip_norm: 1.0}
  together: {kind: ensemble, members: [rates, stages], voting: weighted}
"""


@pytest.mark.parametrize("looks", [3, 24, 45, 60])
def test_a_stopped_study_of_texts_ends_as_one_that_never_was(
    place: Path, tmp_path: Path, looks: int, whole: dict[str, object]
) -> None:
    header = HEADER.format(data=place / "texts.csv", network=place / "bert")
    folder, stopped = stop_and_resume(tmp_path, header + RESUMED, looks)
    assert stopped
    found = what_lasts(folder)
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache")))
        header = HEADER.format(data=place / "texts.csv", network=place / "bert")
        result = go(tmp_path_factory.mktemp("whole"), header + RESUMED)
    found = what_lasts(result.folder)
    assert "models/stages/trace.parquet" in found
    assert "models/together/predictions-test-other.parquet" in found
    return found


def test_further_test_sets_are_measured_beside_the_first(study: Callable[..., RunResult]) -> None:
    result = study(
        """
examples: ["w5 w6 w7 w8"]
parts:
  chance: {kind: baseline}
  probe: {kind: model, head: {kind: logistic, c: [0.1, 1.0]}}
targets:
  - {part: probe, metric: test-other.accuracy, value: 0.5}
  - {part: recommended, metric: test.accuracy, value: 0.5}
"""
    )
    assert result.results["data"]["counts"].keys() == COUNTS.keys()
    probe, chance = (model_of(result, name) for name in ("probe", "chance"))
    assert probe["metrics"]["test-other"]["accuracy"]["n"] == 16
    assert chance["metrics"]["test"]["accuracy"]["value"] == 0.5
    # The classes are even: whoever knows their shares alone is off by ln 2.
    assert chance["metrics"]["test"]["loss"]["value"] == pytest.approx(np.log(2))
    np.testing.assert_allclose(shares(result, "chance"), 0.5)
    assert [t["met"] for t in result.results["targets"]] == [True, True]
    assert result.results["recommendation"]["model"] == "probe"
    (example,) = probe["examples"]
    assert example["predicted"] == max(example["probabilities"], key=example["probabilities"].get)
    assert sum(example["probabilities"].values()) == pytest.approx(1)
    assert chance["examples"] == []
    text = result.report_html.read_text()
    assert "w5 w6 w7 w8" in text


def test_a_report_says_how_much_a_limit_cut_off(study: Callable[..., RunResult]) -> None:
    result = study(
        "parts: {probe: {kind: model, head: {kind: logistic, c: [1.0]}}}",
        overrides=["backbones.small.max_length=10"],
    )
    (backbone,) = result.results["backbones"]
    cut = backbone["truncation"]
    assert (cut["max_length"], cut["texts"]) == (10, sum(COUNTS.values()))
    assert 0.3 * cut["texts"] < cut["truncated"] < cut["texts"]
    assert 0 < cut["tokens_lost"] < cut["tokens"]
    assert backbone["input"]["max_length"] == 10


@pytest.mark.parametrize(
    ("parts", "overrides", "message"),
    [
        ("parts: {a: {kind: zero_shot}}", [], "zero_shot|classifier"),
        ("parts: {a: {kind: model}}", ["backbones.small.image_size=32"], "image_size"),
        ("parts: {a: {kind: model}}", ["backbones.small.fit=pad"], "fit"),
        ("parts: {a: {kind: model}}", ["backbones.small.pairs=together"], "pairs"),
        ("parts: {a: {kind: model}}", ["backbones.small.hidden=8"], "hidden"),
        ("parts: {a: {kind: model}}", ["backbones.small.cut=layer.1"], "cut: expected pooled"),
        ("parts: {a: {kind: model}}", ["examples=[[a, b]]"], "examples.0: expected one text"),
        (
            "parts: {a: {kind: model, stages: [{trainable: all, mixup: 0.2}]}}",
            [],
            "parts.a.stages.0.mixup.*pictures",
        ),
        (
            "parts: {a: {kind: model, stages: [{trainable: all, cutmix: 0.2}]}}",
            [],
            "parts.a.stages.0.cutmix.*pictures",
        ),
        (
            "parts: {a: {kind: model, stages: [{trainable: head, augmentation: {flip: true}}]}}",
            [],
            "parts.a.stages.0.augmentation.*pictures",
        ),
    ],
)
def test_what_means_nothing_to_texts_is_refused(
    study: Callable[..., RunResult], parts: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        study(parts, overrides=overrides)


def test_pairs_are_read_together_and_separately(study: Callable[..., RunResult]) -> None:
    parts = """
examples: [["w5 w6", "w5"]]
parts:
  probe: {kind: model, head: {kind: logistic, c: [0.1, 1.0, 10.0]}}
"""
    together = study(parts, data="pairs.csv")
    separately = study(parts, data="pairs.csv", overrides=["backbones.small.pairs=separately"])
    assert together.results["backbones"][0]["feature_shape"] == [16]
    assert separately.results["backbones"][0]["feature_shape"] == [64]
    for result in (together, separately):
        assert model_of(result, "probe")["metrics"]["test-other"]["accuracy"]["n"] == 16
        (example,) = model_of(result, "probe")["examples"]
        assert (example["text"], example["second"]) == ("w5 w6", "w5")
    with pytest.raises(ConfigError, match=r"examples.0: expected \[first text, second text\]"):
        study("examples: [w5]\n" + parts.partition("\n")[2].partition("\n")[2], data="pairs.csv")


def test_validation_is_carved_out_of_training_to_the_sample(place: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "two.csv", {"train": 60, "test": 20})
    header = HEADER.format(data=tmp_path / "two.csv", network=place / "bert")
    parts = "parts: {chance: {kind: baseline}}"
    result = go(tmp_path, header + parts, overrides=["data.val_samples=14"])
    counts = {s: sum(n.values()) for s, n in result.results["data"]["counts"].items()}
    assert counts == {"train": 46, "val": 14, "test": 20}
    assert sorted(result.results["data"]["counts"]["val"].values()) == [7, 7]


def test_results_are_json_that_everybody_reads(study: Callable[..., RunResult]) -> None:
    result = study("parts: {probe: {kind: model, epochs: 1}, chance: {kind: baseline}}")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = (result.folder / "results.json").read_text()
    assert json.loads(text, parse_constant=refuse)["data"]["noun"] == "text"

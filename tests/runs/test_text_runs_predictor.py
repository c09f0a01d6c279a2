"""Saved models of texts say what their run said, in any order and company."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from text_studies import go, tiny_network, write_place

from headstart import RunResult
from headstart.backbones.registry import load_backbone
from headstart.data.text import pair_bytes
from headstart.errors import DataError, WeightsError
from headstart.heads import HeadSpec, build_head
from headstart.predict import (
    Predictor,
    SavedModel,
    TrainedModel,
    load_model,
    save_model,
    trained_tensors,
)
from headstart.runs.result import read_predictions

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
COUNTS = {"train": 32, "val": 12, "test": 40}
STUDY = """
name: texts
title: Texts
data: {{kind: text, path: {place}/{data}.csv}}
backbones:
  bert: {{name: transformers/{place}/bert, max_length: 20{more}}}
  albert: {{name: transformers/{place}/albert, max_length: 30, pooling: pooler{more}}}
  attending: {{name: transformers/{place}/bert, pooling: attention, strip_markup: true{more}}}
timing: {{measure: false}}
parts:
  probe: {{kind: model, head: {{kind: logistic, c: [1.0]}}}}
  tuned:
    kind: model
    epochs: 1
    batch_size: 8
    optimizer: {{kind: adamw, learning_rate: 0.003}}
    stages: [{{trainable: {{last: 1}}}}]
  albert: {{kind: model, extends: tuned, backbone: albert, stages: [{{trainable: [layer]}}]}}
  scratch: {{kind: model, extends: tuned, backbone: albert, stages: null, from_scratch: true}}
  attending:
    kind: model
    extends: tuned
    backbone: attending
    stages: [{{trainable: [pooled]}}, {{trainable: all}}]
"""
PARTS = ("probe", "tuned", "albert", "scratch", "attending")
WAYS = {"single": ("texts", ""), "together": ("pairs", ""), "separately": ("pairs", "separately")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("place"), COUNTS)


@pytest.fixture(scope="module")
def results(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache")))
        for way, (data, pairs) in WAYS.items():
            more = f", pairs: {pairs}" if pairs else ""
            study = STUDY.format(place=place, data=data, more=more)
            found[way] = go(tmp_path_factory.mktemp(way), study)
    return found


def samples_of(place: Path, way: str) -> list[str] | list[tuple[str, str]]:
    with (place / f"{WAYS[way][0]}.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    if way == "single":
        return [row["text"] for row in rows]
    return [(row["premise"], row["hypothesis"]) for row in rows]


def said(folder: Path) -> np.ndarray:
    classes = load_model(folder).model.classes
    return read_predictions(folder, "test", classes).probabilities


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_saved_model_says_what_its_run_said(
    results: dict[str, RunResult], place: Path, way: str, part: str, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(results[way].folder / "models" / part, folder)
    assert (folder / "tokenizer.json").is_file()
    samples, expected = samples_of(place, way), said(folder)
    predictor = Predictor.load(folder, device=CPU)
    assert predictor.classes_.tolist() == (
        ["bad", "good"] if way == "single" else ["agrees", "differs"]
    )
    order = np.random.default_rng(0).permutation(len(samples))
    found = predictor.predict_proba([samples[i] for i in order])
    np.testing.assert_allclose(found, expected[order], rtol=0, atol=1e-5)
    few = predictor.predict_proba([samples[7], samples[3]])
    np.testing.assert_allclose(few, expected[[7, 3]], rtol=0, atol=1e-5)
    record = json.loads((folder / "model.json").read_text())
    assert "tokenizer" not in record["input_spec"]
    assert record["input_spec"]["pairs"] == way
    again = load_model(folder).model
    assert again.input_spec == predictor.model.input_spec


def test_no_text_is_a_file_name_and_the_wrong_number_of_texts_is_told(
    results: dict[str, RunResult], tmp_path: Path
) -> None:
    single, pair = (
        Predictor.load(results[way].folder / "models" / "probe", device=CPU)
        for way in ("single", "together")
    )
    path = tmp_path / "text.txt"
    path.write_text("w5 w6")
    np.testing.assert_array_equal(single.predict_proba([path]), single.predict_proba(["w5 w6"]))
    np.testing.assert_array_equal(
        pair.predict([pair_bytes("w5", "w6")]), pair.predict_proba([("w5", "w6")])
    )
    with pytest.raises(DataError, match=r"sample 1: .*pair"):
        pair.predict_proba([("w5", "w6"), "w5"])
    with pytest.raises(DataError, match="sample 0: expected one text, got 2"):
        single.predict_proba([("w5", "w6")])
    assert single.predict([]).shape == (0, 2)


def test_layers_that_share_weights_are_saved_once_and_all_come_back(
    results: dict[str, RunResult], place: Path
) -> None:
    folder = results["single"].folder / "models" / "albert"
    trained = load_model(folder)
    layers = {k.split(".")[1] + "." + k.split(".")[2] for k in trained.tensors if "layer." in k}
    assert layers == {"layer.0"}
    backbone = load_backbone(f"transformers/{place}/albert")
    before = [p.detach().clone() for p in backbone.suffix("embeddings").parameters()]
    trained.load_into(backbone)
    after = list(backbone.suffix("embeddings").parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for name, module in backbone.modules("embeddings", "layer.2"):
        for key, value in module.state_dict().items():
            saved = trained.tensors[f"backbone.layer.0.{key}"]
            assert torch.equal(value, saved), (name, key)


def test_other_weights_under_the_same_name_are_noticed(
    results: dict[str, RunResult], place: Path
) -> None:
    folder = results["single"].folder / "models" / "tuned"
    weights = place / "bert" / "model.safetensors"
    kept = weights.read_bytes()
    tiny_network(place / "bert", intermediate_size=24, hidden_act="relu")
    try:
        with pytest.raises(WeightsError, match="expected the weights that this model was trained"):
            Predictor.load(folder, device=CPU)
    finally:
        tiny_network(place / "bert")
        assert weights.read_bytes() == kept


def test_a_tokenizer_that_is_gone_is_one_clear_error(
    results: dict[str, RunResult], tmp_path: Path
) -> None:
    shutil.copytree(results["single"].folder / "models" / "probe", tmp_path / "moved")
    (tmp_path / "moved" / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        Predictor.load(tmp_path / "moved", device=CPU)


def test_models_of_pictures_of_the_format_before_are_read(tmp_path: Path) -> None:
    backbone = load_backbone("headstart/resnet20", weights="random", seed=3)
    head = build_head(HeadSpec(hidden=(4,)), 64, 3, [0])
    model = SavedModel(
        backbone="headstart/resnet20",
        backbone_weights="random",
        backbone_seed=3,
        backbone_digest=backbone.digest("layer2"),
        cut="layer2",
        head_cut="pooled",
        input_spec=backbone.input_spec,
        classes=("a", "b", "c"),
        head=HeadSpec(hidden=(4,)),
        width=64,
    )
    tensors = trained_tensors(backbone, "layer2", "pooled", head)
    save_model(tmp_path, TrainedModel(model, tensors))
    assert not (tmp_path / "tokenizer.json").exists()
    record = json.loads((tmp_path / "model.json").read_text())
    assert record["format_version"] == 5
    del record["input_spec"]["resampling"]
    (tmp_path / "model.json").write_text(json.dumps({**record, "format_version": 4}))
    by_pillow = replace(backbone.input_spec, resampling="pillow")
    assert load_model(tmp_path).model == replace(model, input_spec=by_pillow)
    del record["temperature"]
    (tmp_path / "model.json").write_text(json.dumps({**record, "format_version": 3}))
    assert Predictor.load(tmp_path, device=CPU).model.temperature == 1
    for key in ("options", "goal"):
        del record[key]
    (tmp_path / "model.json").write_text(json.dumps({**record, "format_version": 2}))
    loaded = load_model(tmp_path)
    assert loaded.model == replace(model, input_spec=by_pillow)
    assert loaded.tensors.keys() == tensors.keys()
    assert len(Predictor.load(tmp_path, device=CPU).classes_) == 3
    (tmp_path / "model.json").write_text(json.dumps({**record, "format_version": 1}))
    with pytest.raises(WeightsError, match="expected format version 5, got 1"):
        load_model(tmp_path)

"""Studies of running text: perplexities, samples, a backbone for later studies, stops."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from text_studies import (
    go,
    model_of,
    stop_and_resume,
    what_lasts,
    write_corpus,
    write_pairs,
    write_texts,
)

from headstart import RunResult
from headstart.backbones.recurrent import LanguageNetwork
from headstart.backbones.recurrent_saved import load_language_model
from headstart.config import load_experiment
from headstart.data.language import open_corpus
from headstart.errors import ConfigError
from headstart.evaluate import perplexity
from headstart.predict import Predictor
from headstart.runs.inputs import resolved
from headstart.train import (
    LanguageSource,
    Optimizer,
    ParameterGroup,
    build_grouped_optimizer,
    token_nll,
)
from headstart.train.optim import OptimizerKind

pytestmark = pytest.mark.usefixtures("one_thread")

STUDY = """
name: words
title: Words
data: {{kind: language, path: {corpus}, min_count: 1}}
checkpoints: {{steps: 1}}
parts:
  plain:
    kind: language_model
    embedding: 8
    hidden: 12
    layers: 1
    epochs: 3
    batch_size: 8
    bptt: 10
    optimizer: {{kind: adam, learning_rate: 0.02}}
    record_steps: 2
    samples: 1
    sample_words: 12
    references: [{{name: Published, perplexity: 65.8, source: "A paper"}}]
  awd:
    kind: language_model
    embedding: 8
    hidden: 12
    layers: 2
    tied: true
    epochs: 6
    batch_size: 8
    bptt: 10
    dropout_input: 0.1
    dropout_hidden: 0.2
    dropout_output: 0.1
    dropout_words: 0.05
    dropout_weight: 0.2
    alpha: 2
    beta: 1
    random_bptt: true
    average_after: 1
    keep: last
    samples: 0
    optimizer: {{kind: sgd, learning_rate: 60.0, weight_decay: 1.0e-6, weight_decay_on: weights}}
    clip_norm: 3.0
targets:
  - {{part: plain, metric: test.perplexity, op: "<=", value: 20}}
  - {{part: recommended, metric: test.loss, op: "<=", value: 3}}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def result(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return go(tmp_path_factory.mktemp("words"), STUDY.format(corpus=corpus))


def test_perplexities_are_those_of_the_saved_network(result: RunResult, corpus: Path) -> None:
    text = open_corpus(str(corpus), files=None, min_count=1)
    for name in ("plain", "awd"):
        saved = load_language_model(result.folder / "models" / name)
        network = LanguageNetwork(saved.spec)
        network.load_state_dict(dict(saved.tensors), strict=not saved.spec.tied)
        source = LanguageSource(network, text.splits, batch_size=8, bptt=25, seed=9)
        for split in ("val", "test"):
            scores = model_of(result, name)["metrics"][split]
            nll = token_nll(network, source, split)
            assert scores["loss"]["value"] == pytest.approx(float(nll.mean()), rel=1e-4)
            assert scores["perplexity"]["value"] == pytest.approx(
                math.exp(scores["loss"]["value"]), rel=1e-6
            )
            assert scores["perplexity"]["n"] == len(text.splits[split]) - 1
            assert scores["perplexity"]["low"] < scores["perplexity"]["value"]
            assert scores["perplexity"]["high"] > scores["perplexity"]["value"]
    # It has learnt which word follows: far below the size of the vocabulary.
    assert model_of(result, "plain")["metrics"]["test"]["perplexity"]["value"] < 20


def test_histories_traces_and_records_are_whole(result: RunResult) -> None:
    plain, awd = (model_of(result, name) for name in ("plain", "awd"))
    history = pq.read_table(result.folder / plain["history"]).to_pandas()
    assert history[history.split == "val"].epoch.tolist() == [1, 2, 3]
    trace = pq.read_table(result.folder / plain["trace"]).to_pandas()
    assert trace.step.tolist() == list(range(2, 2 * len(trace) + 1, 2))
    assert trace.loss.iloc[-1] < trace.loss.iloc[0]
    assert awd["trace"] is None
    assert awd["language"]["tied"] is True
    (sample,) = plain["language"]["samples"]
    assert len(sample["text"].split()) > 3
    assert plain["language"]["references"][0]["perplexity"] == 65.8
    assert (plain["state"], plain["mode"]) == ("complete", "language_model")
    assert [t["met"] for t in result.results["targets"]] == [True, True]
    data = result.results["data"]
    assert (data["noun"], data["goal"]) == ("token", "language")
    page = result.report_html.read_text()
    assert "erplexity" in page
    assert "65.8" in page


@pytest.mark.parametrize("looks", [5, 60, 140])
def test_a_stopped_study_of_language_ends_as_one_that_never_was(
    result: RunResult, corpus: Path, tmp_path: Path, looks: int
) -> None:
    folder, stopped = stop_and_resume(tmp_path, STUDY.format(corpus=corpus), looks)
    assert stopped
    expected, found = what_lasts(result.folder), what_lasts(folder)
    assert found.keys() == expected.keys()
    assert "models/awd/language.safetensors" in found
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("asked", ["weights", "all"])
def test_biases_do_not_decay_where_weights_alone_shall(
    corpus: Path, tmp_path: Path, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ParameterGroup] = []

    def build(kind: OptimizerKind, groups: Sequence[ParameterGroup], *args, **options) -> Optimizer:
        seen.extend(groups)
        return build_grouped_optimizer(kind, groups, *args, **options)

    monkeypatch.setattr("headstart.runs.language.build_grouped_optimizer", build)
    go(
        tmp_path,
        STUDY.format(corpus=corpus),
        only=["awd"],
        overrides=["parts.awd.epochs=1", f"parts.awd.optimizer.weight_decay_on={asked}"],
    )
    free = [p for group in seen if not group.decays for p in group.parameters]
    assert len(free) == (5 if asked == "weights" else 0)  # two of each layer, the decoder's
    assert all(p.dim() == 1 for p in free)
    assert sum(len(group.parameters) for group in seen) == 10


TEXTS = """
name: reviews
title: Reviews
data: {{kind: text, path: {data}}}
backbones:
  own: {{name: "{name}", max_length: 20}}
timing: {{measure: false}}
parts:
  probe: {{kind: model, head: {{kind: logistic, c: [1.0]}}}}
  tuned:
    kind: model
    epochs: 1
    batch_size: 8
    optimizer: {{kind: adam, learning_rate: 0.01}}
    stages: [{{trainable: {{last: 1}}}}, {{trainable: all}}]
  scratch: {{kind: model, extends: tuned, stages: null, from_scratch: true}}
"""
COUNTS = {"train": 24, "val": 12, "test": 12}


@pytest.mark.parametrize("pairs", [False, True])
def test_a_language_model_reads_texts_and_pairs_of_a_later_study(
    result: RunResult, tmp_path: Path, pairs: bool
) -> None:
    write = write_pairs if pairs else write_texts
    data = write(tmp_path / "data.csv", COUNTS)
    study = TEXTS.format(data=data, name="run:words/plain")
    later = go(tmp_path, study, out=result.folder.parent)
    (backbone,) = later.results["backbones"]
    assert backbone["name"] == f"run:{result.folder}/plain"
    assert backbone["feature_shape"] == [48 if pairs else 12]
    for name in ("probe", "tuned", "scratch"):
        assert model_of(later, name)["state"] == "complete"
        same_predictions(later, name, data, pairs=pairs)


def same_predictions(later: RunResult, name: str, data: Path, *, pairs: bool) -> None:
    """Predict from the saved folder alone, in another order, and compare with the run's."""
    table = pd.read_csv(data)
    rows = table[table.split == "test"]
    pairwise = zip(rows.premise, rows.hypothesis, strict=True) if pairs else []
    samples = list(pairwise) if pairs else rows.text.tolist()
    folder = later.folder / "models" / name
    predictor = Predictor.load(folder, device=torch.device("cpu"))
    order = np.random.default_rng(0).permutation(len(samples))
    found = predictor.predict_proba([samples[i] for i in order])
    told = pq.read_table(folder / "predictions-test.parquet").to_pandas()
    np.testing.assert_allclose(found, told[["p_0", "p_1"]].to_numpy()[order], atol=1e-5)


def test_the_latest_run_with_that_part_is_taken(tmp_path: Path) -> None:
    def run_of(folder: str, *parts: str, name: str = "lm") -> Path:
        for part in parts:
            (tmp_path / folder / "models" / part).mkdir(parents=True)
            (tmp_path / folder / "models" / part / "part.json").write_text("{}")
        (tmp_path / folder / "experiment.yaml").write_text(f"name: {name}\n")
        return tmp_path / folder

    run_of("lm-20260101-000000", "a", "b")
    latest = run_of("lm-full-20260301-000000", "a")
    run_of("lm-20260201-000000", "b")
    other = run_of("lm-other-20260601-000000", "a", "b", name="lm-other")

    def found(name: str) -> str:
        path = tmp_path / "study.yaml"
        path.write_text(
            "name: x\ntitle: X\ndata: {kind: text, path: d}\n"
            f'backbones: {{own: {{name: "{name}"}}}}\nparts: {{a: {{kind: model}}}}\n'
        )
        return resolved(load_experiment(path), tmp_path).backbones["own"].name

    assert found("run:lm/a") == f"run:{latest}/a"
    assert found("run:lm/b") == f"run:{tmp_path / 'lm-20260201-000000'}/b"
    assert found("run:lm-other/a") == f"run:{other}/a"
    assert found(f"run:{tmp_path / 'lm-20260101-000000'}/a").endswith("lm-20260101-000000/a")
    assert found("packaged/minilm-l6") == "packaged/minilm-l6"
    with pytest.raises(ConfigError, match=r"with the part 'c'.*Train it first: headstart run lm"):
        found("run:lm/c")
    with pytest.raises(ConfigError, match="Train it first: headstart run nothing"):
        found("run:nothing/a")
    for wrong in ("run:lm", "run:/a", "run:lm/"):
        with pytest.raises(ConfigError, match="expected run:RUN/PART"):
            found(wrong)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parts.plain.batch_size=4000", r"parts.plain.batch_size: expected at most \d+"),
        ("data.path=null", "data.path"),
    ],
)
def test_what_cannot_be_trained_on_the_text_is_told_before_any_work(
    corpus: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        go(tmp_path, STUDY.format(corpus=corpus), overrides=[override])
    assert not list((tmp_path / "runs").glob("*"))


def test_a_language_model_that_diverges_leaves_a_report_and_no_backbone(
    corpus: Path, tmp_path: Path
) -> None:
    result = go(
        tmp_path,
        STUDY.format(corpus=corpus),
        overrides=[
            "parts.plain.optimizer={kind: sgd, learning_rate: 1e+38}",
            "parts.plain.clip_norm=null",
            "parts.awd.epochs=1",
        ],
    )
    plain = model_of(result, "plain")
    assert plain["state"] == "diverged"
    assert re.search("lower learning rate", plain["message"])
    assert plain["metrics"] == {}
    assert not (result.folder / "models" / "plain" / "language.json").exists()
    assert result.results["targets"][0]["met"] is False
    json.loads((result.folder / "results.json").read_text())


def test_a_perplexity_that_no_number_holds_is_told_as_the_largest() -> None:
    found = perplexity(np.full(900, 5000.0, dtype=np.float32))
    assert found["loss"].value == 5000
    assert found["perplexity"].value == pytest.approx(math.exp(700))

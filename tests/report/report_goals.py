"""Studies of texts, regressions and language models, as run folders in the making."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from report_runs import Folder, add_model, compare, start
from report_stages import describe, stage
from report_worlds import Trained, World, around, fit, make_world, metrics

from headstart._util.seeding import generator
from headstart.types import StepRecord

PAIRS = ("contradiction", "entailment", "neutral")
BERT = "transformers/bert-base-uncased"
RNN = "run:wikitext2/model"


def history(train: Sequence[float], val: Sequence[float]) -> list[StepRecord]:
    """Curves of losses alone: the accuracy is not a number."""
    return [
        StepRecord(0, 0, epoch, split, loss, math.nan, 0.001, 0.01, 100 * epoch)
        for split, losses in (("train", train), ("val", val))
        for epoch, loss in enumerate(losses, start=1)
    ]


def backbone(key: str, name: str, kind: str, parameters: int, **more: Any) -> dict[str, Any]:
    return {
        "key": key,
        "name": name,
        "weights": {"kind": kind, "origin": f"{name} as it was found", "license": "Apache-2.0"},
        "cut": "layer.11",
        "input": {
            "tokenizer": "cd34" * 16,
            "max_length": 128,
            "pairs": "together",
            "strip_markup": True,
        },
        "feature_shape": [768],
        "parameters_total": parameters,
        "size_bytes": 4 * parameters,
        "digest": "ef56" * 16,
        **more,
    }


def _inference(
    folder: Folder, world: World, trained: Trained, name: str, title: str, **given: Any
) -> None:
    """Add a model of sentence pairs: matched is its test split, mismatched a further one."""
    model = add_model(folder, world, trained, name, title, settings={})
    describe(folder, model, **given)
    late = np.arange(0, len(world.labels["test"]), 2)
    model["metrics"]["test-mismatched"] = metrics(
        trained.probabilities["test"][late], world.labels["test"][late], world.classes
    )


def pairs() -> Folder:
    """Sentence pairs: BERT frozen and fine-tuned, and an RNN with and without its pretraining."""
    world = make_world(PAIRS, (80, 40, 40), noise=2.2)
    folder = start(
        world,
        "mnli",
        "Inference from pairs of sentences",
        description="Does the pretrained network help?",
        notes=[],
    )
    data = folder.results["data"]
    data.update(noun="pair", goal="classification", modes={})
    data["sizes"] = {"min": 4, "median": 28, "max": 412}
    data["counts"]["test-mismatched"] = dict.fromkeys(PAIRS, 20)
    apart = {"tokenizer": "cd34" * 16, "max_length": 64, "pairs": "separately"}
    folder.results["backbones"] = [
        backbone(
            "bert",
            BERT,
            "pretrained",
            109_482_240,
            truncation={
                "max_length": 128,
                "texts": 600,
                "truncated": 48,
                "tokens": 21_000,
                "tokens_lost": 840,
            },
        ),
        backbone("rnn", RNN, "pretrained", 7_654_321, input=apart, cut="pooled"),
        backbone("rnn-random", RNN, "random", 7_654_321, input=apart, cut="pooled"),
    ]
    quick, long = fit(world, 0.05, epochs=3), fit(world, 0.3, epochs=10)
    frozen = [stage("head", 10, 0.001, 2307, 109_482_240)]
    tuned = [stage("all", 10, 0.00002, 109_484_547, 0)]
    scratch = [stage("all", 3, 0.001, 7_660_000, 0)]
    bert = {"key": "bert", "milliseconds": 31.5, "parameters": 109_484_547}
    rnn = {"stages": scratch, "milliseconds": 2.5, "parameters": 7_660_000}
    _inference(folder, world, quick, "frozen", "BERT, frozen", stages=frozen, **bert)
    _inference(folder, world, long, "tuned", "BERT, fine-tuned", stages=tuned, **bert)
    _inference(folder, world, quick, "transfer", "RNN, pretrained", key="rnn", **rnn)
    again = fit(world, 0.04, epochs=3)
    random = {"key": "rnn-random", "from_scratch": True}
    _inference(folder, world, again, "scratch", "RNN, random weights", **random, **rnn)
    losses = [0.9, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05]
    risen = [0.8, 0.62, 0.55, 0.57, 0.6, 0.66, 0.71, 0.75, 0.8, 0.88]
    folder.histories["tuned"] = [
        *(StepRecord(0, 0, i, "train", v, 0.9, 0.1, 0.01) for i, v in enumerate(losses, start=1)),
        *(StepRecord(0, 0, i, "val", v, 0.8, 0.1, 0.01) for i, v in enumerate(risen, start=1)),
    ]
    folder.results["models"][1]["examples"] = [
        {
            "text": "A man plays a <b>guitar</b>.",
            "second": "Nobody makes music.",
            "predicted": "contradiction",
            "probabilities": dict(zip(PAIRS, (0.913, 0.021, 0.066), strict=True)),
        }
    ]
    compare(folder, "transfer", "scratch", None)
    folder.results["comparisons"][0]["accuracy_difference"] = {
        "value": 0.025,
        "low": -0.0125,
        "high": 0.0625,
        "n": 120,
    }
    return folder


def _regression(
    folder: Folder, name: str, title: str, mse: float, mae: float, seconds: float, **more: Any
) -> None:
    """Add a regression whose predictions lie about the truth as its squared error says."""
    sizes = {"train": 6400, "val": 1600, "test": 2000}
    random = generator("report-test-estimates", 7)
    truth = random.uniform(0, 10, size=sizes["test"])
    folder.predictions[f"models/{name}/predictions-test.parquet"] = {
        "name": [f"sequence-{i:04d}" for i in range(len(truth))],
        "target": truth,
        "predicted": truth + math.sqrt(mse) * random.normal(size=len(truth)),
    }
    folder.results["models"].append(
        {
            "name": name,
            "title": title,
            "part": name,
            "mode": "staged",
            "kind": "model",
            "from_scratch": True,
            "backbone": name,
            "head": {"kind": "linear"},
            "hyperparameters": {"batch_size": 1, "optimizer.kind": "adam"},
            "seed": 0,
            "state": "complete",
            "message": None,
            "metrics": {
                s: {"mse": around(mse, n, 0.05 * mse), "mae": around(mae, n, 0.05 * mae)}
                for s, n in sizes.items()
            },
            "stages": [
                {
                    "name": "all",
                    "trainable": "all",
                    "cut": "input",
                    "epochs": 8,
                    "best_epoch": 8,
                    "optimizer": "adam",
                    "learning_rate": 0.001,
                    "wall_seconds": seconds,
                    "extraction_seconds": 0.0,
                }
            ],
            "parameters_total": 4321,
            "parameters_trainable": 4321,
            "size_bytes": 4 * 4321,
            "history": f"models/{name}/history.parquet",
            "trace": f"models/{name}/trace.parquet",
            "predictions": {"test": f"models/{name}/predictions-test.parquet"},
            **more,
        }
    )
    folder.histories[name] = history(
        [3 * mse * 0.97**i for i in range(8)], [2 * mse * 0.98**i for i in range(8)]
    )
    folder.predictions[f"models/{name}/trace.parquet"] = {
        "step": [500 * i for i in range(1, 41)],
        "loss": [mse * (1 + 200 * 0.7**i) for i in range(1, 41)],
    }


def regression() -> Folder:
    """Three cells that learn a sum, and the mean of the training targets."""
    world = make_world(("value",), (64, 16, 20))
    folder = start(
        world,
        "sequence-regression",
        "Sums of sequences",
        description="Which cell learns the sum best?",
        notes=[],
    )
    data = folder.results["data"]
    data.update(noun="sequence", goal="regression", modes={})
    data["sizes"] = {"min": 2, "median": 6, "max": 10}
    data["counts"] = {"train": {"value": 6400}, "val": {"value": 1600}, "test": {"value": 2000}}
    series = {"channels": 1, "max_length": 10}
    folder.results["backbones"] = [
        backbone(k, f"headstart/{k}", "random", 4288, input=series, cut="pooled")
        for k in ("elman", "gru", "lstm")
    ]
    _regression(folder, "elman", "Elman", 0.0421, 0.1632, 151.5)
    _regression(folder, "gru", "GRU", 0.00213, 0.0351, 312.5)
    _regression(folder, "lstm", "LSTM", 0.00219, 0.0362, 402.5)
    _regression(folder, "mean", "Mean of the training targets", 1.234, 0.9012, 0.1)
    mean = folder.results["models"][-1]
    mean.update(kind="baseline", stages=[], parameters_total=1, backbone=None, mode="baseline")
    mean.update(trace=None, history=None, head=None, hyperparameters={}, from_scratch=False)
    for files in (folder.histories, folder.predictions):
        for name in [n for n in files if n in ("mean", "models/mean/trace.parquet")]:
            del files[name]
    folder.results["comparisons"] = [
        {
            "a": "gru",
            "b": "elman",
            "split": "test",
            "mse_difference": {"value": -0.0399, "low": -0.0421, "high": -0.0377, "n": 2000},
        }
    ]
    return folder


def language() -> Folder:
    """One regularised LSTM and one that is not."""
    world = make_world(("value",), (64, 16, 20))
    folder = start(
        world,
        "wikitext2-rnn",
        "A recurrent language model",
        description="How well does it predict WikiText-2?",
        notes=[],
    )
    data = folder.results["data"]
    del data["counts"], data["sizes"], data["modes"]
    data.update(
        noun="token",
        goal="language",
        classes=[],
        tokens={"train": 2_088_628, "val": 217_646, "test": 245_569},
        vocabulary=33_278,
        unknown={"train": 0.0261, "val": 0.0254, "test": 0.0278},
    )
    folder.results["backbones"] = []
    for name, title, val, test in (
        ("plain", "LSTM", 118.4, 112.3),
        ("awd", "Regularised LSTM", 83.21, 79.65),
    ):
        folder.results["models"].append(_language_model(name, title, val, test))
        end = math.log(val)
        folder.histories[name] = history(
            [end + 0.5 * 0.6**i for i in range(10)], [end + 0.4 * 0.5**i for i in range(10)]
        )
    return folder


def _language_model(name: str, title: str, val: float, test: float) -> dict[str, Any]:
    tokens = {"val": 217_646, "test": 245_569}
    return {
        "name": name,
        "title": title,
        "part": name,
        "mode": "staged",
        "kind": "language_model",
        "from_scratch": True,
        "hyperparameters": {"batch_size": 20, "bptt": 35},
        "state": "complete",
        "metrics": {
            s: {
                "loss": around(math.log(p), tokens[s], 0.02),
                "perplexity": {"value": p, "low": 0.98 * p, "high": 1.02 * p, "n": tokens[s]},
            }
            for s, p in (("val", val), ("test", test))
        },
        "stages": [
            {"name": "all", "trainable": "all", "cut": "input", "epochs": 10, "best_epoch": 10}
            | {"optimizer": "sgd", "learning_rate": 20.0, "wall_seconds": 4320.5}
        ],
        "parameters_total": 13_456_789,
        "parameters_trainable": 13_456_789,
        "size_bytes": 53_827_156,
        "history": f"models/{name}/history.parquet",
        "language": {
            "samples": [
                {
                    "start": "The river",
                    "text": f"The river of {name} & co. runs <unk>",
                    "temperature": 0.8,
                }
            ],
            "references": [
                {"name": "AWD-LSTM", "perplexity": 65.6, "source": "Merity et al. 2017, table 3"}
            ],
            "cell": "lstm",
            "embedding": 200,
            "hidden": 250,
            "layers": 2,
            "tied": True,
        },
    }


STUDIES = {"pairs": pairs, "regression": regression, "language": language}

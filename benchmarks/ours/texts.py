"""Headstart: features of texts by length, and fine-tuning, each from an empty feature store."""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from benchmarks.contender import Answer, Job, answer, corner
from benchmarks.ours import floors
from benchmarks.ours.libraries import import_texts
from benchmarks.ours.study import clocked
from benchmarks.reviews import Texts
from headstart._util.progress import SilentProgress
from headstart.backbones.base import TextOptions
from headstart.backbones.registry import load_backbone
from headstart.config import schema
from headstart.features.extract import extract
from headstart.features.store import FeatureStore
from headstart.runs import runner, staged
from headstart.train import loop
from headstart.types import TextSpec

NETWORK = "packaged/minilm-l6"


def features(job: Job, folder: Path) -> Answer:
    """Compute features of all texts and store them."""
    lines = Path(job["texts"]).read_text().splitlines()
    texts = Texts([json.loads(line)["text"] for line in lines])
    start = time.perf_counter()
    backbone = load_backbone(NETWORK, text=TextOptions(max_length=job["max_length"]))
    found = extract(
        texts,
        range(len(texts)),
        backbone,
        "pooled",
        store=FeatureStore(folder),
        device=torch.device("cpu"),
        progress=SilentProgress(),
    ).features.load()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "samples": len(found),
        "sample": corner(found, 50, 20),
        **least(texts.texts, job["max_length"]),
    }


def least(texts: Sequence[str], longest: int) -> Answer:
    """Return what bounds a forward pass over these texts."""
    backbone = load_backbone(NETWORK, text=TextOptions(max_length=longest))
    spec = backbone.input_spec
    assert isinstance(spec, TextSpec)
    tokenizer = Tokenizer.from_str(spec.tokenizer)
    lengths = [len(one.ids) for one in tokenizer.encode_batch(list(texts))]
    return floors.texts(lengths, backbone, "pooled", longest)


def share_out(job: Job, folder: Path) -> None:
    """Write the tables of a study: what nobody trains on is its validation and its test split."""
    folder.mkdir()
    (folder / "train.jsonl").symlink_to(Path(job["texts"]).resolve())
    held_out = Path(job["validation"]).read_text().splitlines(keepends=True)
    half = len(held_out) // 2
    (folder / "val.jsonl").write_text("".join(held_out[:half]))
    (folder / "test.jsonl").write_text("".join(held_out[half:]))


def study(job: Job, data: Path) -> schema.Experiment:
    """Return a study that trains as the library's Trainer does by default."""
    return schema.Experiment.model_validate(
        {
            "name": "texts",
            "title": "Fine-tuning",
            "data": {"kind": "text", "path": str(data)},
            "backbones": {
                "minilm": {"name": NETWORK, "max_length": job["max_length"], "pooling": "pooler"}
            },
            "parts": {
                "tuned": {
                    "kind": "model",
                    "head": {"kind": "linear", "dropout": 0.1},
                    "epochs": job["epochs"],
                    "batch_size": job["batch_size"],
                    "seed": job["seed"],
                    "optimizer": {
                        "kind": "adamw",
                        "learning_rate": job["learning_rate"],
                        "weight_decay": 0.0,
                    },
                    "schedule": {"kind": "linear"},
                    "stages": ({"trainable": "all", "clip_norm": 1.0},),
                }
            },
            "timing": {"measure": False},
            "device": "cpu",
        }
    )


def fine_tuning(job: Job, folder: Path) -> Answer:
    """Run a study; neither evaluation nor what it does after its training is timed."""
    share_out(job, folder / "data")
    evaluations = clocked(loop, "evaluate")
    ended: list[float] = []
    train = staged.train

    def noted(*given: Any, **named: Any) -> Any:
        found = train(*given, **named)
        ended.append(time.perf_counter())
        return found

    staged.train = noted
    start = time.perf_counter()
    show = SilentProgress()
    results = runner.run(study(job, folder / "data"), out=folder / "runs", show=show).results
    (model,) = results["models"]
    scores = [model["metrics"][split]["accuracy"] for split in ("val", "test")]
    samples = sum(score["n"] for score in scores)
    right = sum(score["value"] * score["n"] for score in scores)
    texts = [json.loads(line)["text"] for line in Path(job["texts"]).read_text().splitlines()]
    return {
        "seconds": ended[-1] - start - sum(evaluations),
        "accuracy": right / samples,
        "samples": samples,
        **least(texts, job["max_length"]),
    }


def work(job: Job) -> Answer:
    """Do what is asked: ``features`` or ``fine-tuning``."""
    torch.set_num_threads(job["threads"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HEADSTART_CACHE"] = job.get("cache", f"{folder}/cache")
        found = {"features": features, "fine-tuning": fine_tuning}[job["work"]]
        return found(job, Path(folder))


if __name__ == "__main__":
    import_texts()
    answer(work, ("headstart", "torch", "transformers", "tokenizers"))

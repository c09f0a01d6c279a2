"""Made-up features, softmax layers really trained on them, and the scores of what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from headstart._util.seeding import generator
from headstart.types import StepRecord

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class World:
    """Made-up features of a data set, [n, d] per split."""

    classes: tuple[str, ...]
    features: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


@dataclass
class Trained:
    """One softmax layer after training: its curves and what it says of every split."""

    steps: list[StepRecord]
    probabilities: dict[str, np.ndarray]
    diverged: bool
    best_epoch: int


def make_world(
    classes: Sequence[str], per_class: tuple[int, int, int], noise: float = 1.9, width: int = 24
) -> World:
    random = generator("report-test-world", len(classes), width)
    centres = random.normal(size=(len(classes), width))
    features, labels = {}, {}
    for split, count in zip(SPLITS, per_class, strict=True):
        y = np.repeat(np.arange(len(classes)), count)
        features[split] = 0.3 * (centres[y] + noise * random.normal(size=(len(y), width)))
        labels[split] = y
    return World(tuple(classes), features, labels)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def fit(
    world: World,
    rate: float,
    momentum: float = 0.0,
    *,
    epochs: int = 20,
    per_class: int | None = None,
    member: int = 0,
) -> Trained:
    x, y = world.features["train"], world.labels["train"]
    if per_class is not None:
        keep = np.concatenate(
            [np.flatnonzero(y == c)[:per_class] for c in range(len(world.classes))]
        )
        x, y = x[keep], y[keep]
    random = generator("report-test-batches", 0)
    weights = np.zeros((x.shape[1], len(world.classes)))
    velocity = np.zeros_like(weights)
    steps: list[StepRecord] = []
    best, best_epoch, best_weights, diverged = -1.0, 1, weights.copy(), False

    def say(epoch: int, split: str, features: np.ndarray, labels: np.ndarray) -> float:
        p = softmax(features @ weights)
        loss = float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-12)).mean())
        accuracy = float((p.argmax(1) == labels).mean())
        if diverged:
            loss = float("nan")
        steps.append(StepRecord(member, 0, epoch, split, loss, accuracy, rate, 0.01))
        return accuracy

    for epoch in range(1, epochs + 1):
        order = random.permutation(len(y))
        for batch in np.array_split(order, max(1, len(y) // 32)):
            p = softmax(x[batch] @ weights)
            p[np.arange(len(batch)), y[batch]] -= 1
            velocity = momentum * velocity - rate * x[batch].T @ p / len(batch)
            weights = weights + velocity
        diverged = diverged or not np.isfinite(weights).all() or np.abs(weights).max() > 100
        say(epoch, "train", x, y)
        accuracy = say(epoch, "val", world.features["val"], world.labels["val"])
        if diverged:
            break
        if accuracy > best:
            best, best_epoch, best_weights = accuracy, epoch, weights.copy()
    weights = best_weights
    probabilities = {s: softmax(world.features[s] @ weights).astype(np.float32) for s in SPLITS}
    return Trained(steps, probabilities, diverged, best_epoch)


def wilson(right: int, n: int) -> dict[str, Any]:
    if n == 0:
        return {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}
    z = float(stats.norm.ppf(0.975))
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {
        "value": p,
        "low": max(0.0, float(min(centre - half, p))),
        "high": min(1.0, float(max(centre + half, p))),
        "n": n,
    }


def around(value: float, n: int, half: float) -> dict[str, Any]:
    return {
        "value": value,
        "low": max(0.0, value - half),
        "high": value + half,
        "n": n,
    }


def confusion(p: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (y, p.argmax(1)), 1)
    return matrix


def per_class(matrix: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    out = []
    for c, name in enumerate(classes):
        right, said, there = int(matrix[c, c]), int(matrix[:, c].sum()), int(matrix[c].sum())
        precision, recall = wilson(right, said), wilson(right, there)
        total = precision["value"] + recall["value"]
        f1 = 2 * precision["value"] * recall["value"] / total if total else 0.0
        out.append(
            {
                "class": name,
                "precision": precision,
                "recall": recall,
                "f1": around(f1, there, 0.05),
                "support": there,
            }
        )
    return out


def metrics(p: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    matrix = confusion(p, y, len(classes))
    table = per_class(matrix, classes)
    loss = float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())
    return {
        "accuracy": wilson(int(np.trace(matrix)), len(y)),
        "loss": around(loss, len(y), 1.0 / np.sqrt(len(y))),
        **{
            f"{name}_macro": around(
                min(1.0, float(np.mean([row[name]["value"] for row in table]))), len(y), 0.03
            )
            for name in ("precision", "recall", "f1")
        },
    }

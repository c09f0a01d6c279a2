"""A run that says how far its figures can be believed: calibration, tests, seeds and mistakes."""

import io
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import report_analyses
from PIL import Image
from report_runs import Folder, add_model, finish, hyperparameters, start
from report_worlds import Trained, World, around, fit, make_world, softmax, wilson
from scipy import optimize, stats

from headstart._util.seeding import generator

BINS = 15
CLASSES = ("daisy", "dandelion", "rose", "sunflower", "tulip")


def jpeg(seed: int, size: tuple[int, int] = (96, 72)) -> bytes:
    """A small picture that no other seed gives."""
    random = generator("report-test-pictures", seed)
    coarse = random.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def reliability(p: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Bins of equal width, and the error over them."""
    confidence, right = p.max(1).astype(float), (p.argmax(1) == y).astype(float)
    where = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for i in range(BINS):
        rows = where == i
        if rows.any():
            n, conf, acc = int(rows.sum()), confidence[rows].mean(), right[rows].mean()
            error += n / len(y) * abs(conf - acc)
            bins.append(
                {
                    "low": i / BINS,
                    "high": (i + 1) / BINS,
                    "n": n,
                    "confidence": float(conf),
                    "accuracy": float(acc),
                }
            )
    loss = float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())
    return {
        "ece": around(float(error), len(y), 0.012),
        "loss": around(loss, len(y), 0.05),
        "bins": bins,
    }


def calibration(trained: Trained, world: World) -> dict[str, Any]:
    """Temperature fitted on validation, calibration before and after on test."""

    def cooled(split: str, temperature: float) -> np.ndarray:
        p = np.maximum(trained.probabilities[split], 1e-12)
        return softmax(np.log(p) / temperature)

    def loss(temperature: float) -> float:
        own = cooled("val", temperature)[np.arange(len(world.labels["val"])), world.labels["val"]]
        return float(-np.log(own).mean())

    temperature = float(optimize.minimize_scalar(loss, bounds=(0.3, 4.0), method="bounded").x)
    p, y = trained.probabilities["test"], world.labels["test"]
    after = cooled("test", temperature)
    own = [np.maximum(q[np.arange(len(y)), y], 1e-12) for q in (p, after)]
    apart = np.log(own[1]) - np.log(own[0])
    value, half = float(apart.mean()), 1.96 * float(apart.std()) / np.sqrt(len(y))
    gain = {"value": value, "low": value - half, "high": value + half, "n": len(y)}
    return {
        "temperature": temperature,
        "applied": False,
        "bins": BINS,
        "test": {
            "before": reliability(p, y),
            "after": reliability(after, y),
            "gain": {"loss": gain},
        },
    }


def pair_tests(said: dict[str, np.ndarray], y: np.ndarray) -> dict[str, Any]:
    """McNemar's exact test between all, corrected by Holm."""
    pairs = []
    for a, b in combinations(said, 2):
        first, second = (said[x].argmax(1) == y for x in (a, b))
        gap = first.astype(float) - second
        half = 1.96 * float(gap.std()) / np.sqrt(len(gap))
        alone = int((first & ~second).sum()), int((second & ~first).sum())
        p = stats.binomtest(alone[0], sum(alone)).pvalue if sum(alone) else 1.0
        difference = {
            "value": float(gap.mean()),
            "low": float(gap.mean() - half),
            "high": float(gap.mean() + half),
            "n": len(gap),
        }
        pairs.append(
            {"a": a, "b": b, "difference": difference, "a_only": alone[0], "b_only": alone[1]}
            | {"p": float(p)}
        )
    order = sorted(range(len(pairs)), key=lambda i: pairs[i]["p"])
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(pairs) - rank) * pairs[i]["p"]))
        pairs[i] |= {"p_holm": least, "distinguishable": least < 0.05}
    return {
        "split": "test",
        "metric": "accuracy",
        "method": "mcnemar-exact",
        "correction": "holm",
        "pairs": pairs,
    }


def seeds(values: Sequence[float], val: Sequence[float]) -> dict[str, Any]:
    def spread(of: Sequence[float]) -> dict[str, Any]:
        sd = float(np.std(of, ddof=1))
        return {"values": list(of), "mean": float(np.mean(of)), "sd": sd}

    return {
        "asked": len(values),
        "seeds": list(range(len(values))),
        "val": {"accuracy": spread(val)},
        "test": {"accuracy": spread(values)},
    }


def looks(number: int = 2) -> dict[str, Any]:
    return {
        "digest": "ab" * 32,
        "earlier": [
            {
                "study": f"flowers-before-{'abcdefgh'[i]}",
                "profile": None if i % 2 else "full",
                "when": f"2026-11-{11 + i}T08:15:00+00:00",
                "command": "headstart run flowers-before",
            }
            for i in range(number)
        ],
    }


def mistakes(trained: Trained, world: World, most: int = 30) -> list[dict[str, Any]]:
    p, y = trained.probabilities["test"], world.labels["test"]
    wrong = np.flatnonzero(p.argmax(1) != y)
    order = wrong[np.argsort(-p.max(1)[wrong])][:most]
    return [
        {
            "name": f"test/{row:05d}.jpg",
            "label": world.classes[y[row]],
            "predicted": world.classes[p[row].argmax()],
            "confidence": round(float(p[row].max()), 6),
            "text": None,
            "second": None,
            "image": f"analysis/mistake-{i + 1:02d}.jpg",
        }
        for i, row in enumerate(order)
    ]


def evidence() -> Folder:
    """Four models of which two cannot be told apart, and all that there is to say of them."""
    world = make_world(CLASSES, (60, 40, 80), noise=2.6)
    folder = start(world, "flowers-evidence", "Which layer suits flowers?", notes=[])
    settings = {"a": (0.3, 0.9, 30), "b": (0.3, 0.0, 30), "c": (0.01, 0.0, 3), "d": (1.0, 0.9, 40)}
    trained = {}
    for i, (name, (rate, momentum, epochs)) in enumerate(settings.items()):
        trained[name] = fit(world, rate, momentum, epochs=epochs)
        model = add_model(
            folder,
            world,
            trained[name],
            name,
            f"Layer {name.upper()}",
            settings=hyperparameters(rate, momentum, epochs),
        )
        y = world.labels["test"]
        model["calibration"] = calibration(trained[name], world)
        model["kind"] = "model"
        model["prediction"] = {
            "seconds": 0.61 + 0.37 * i,
            "samples": len(y),
            "repeats": 3,
            "batch_size": 32,
            "device": "cpu",
        }
        model["metrics"]["test"]["auc_macro"] = around(0.93 + 0.011 * i, len(y), 0.013)
    said = {name: t.probabilities["test"] for name, t in trained.items()}
    results = folder.results
    results["tests"] = pair_tests(said, world.labels["test"])
    for model in results["models"][:2]:
        own = [model["metrics"][s]["accuracy"]["value"] for s in ("test", "val")]
        steps = (0.0, 0.0125, -0.0075, 0.0025, -0.0175)
        model["seeds"] = seeds([own[0] + s for s in steps], [own[1] - s for s in steps])
    results["test_looks"] = looks()
    best = max(results["models"], key=lambda m: m["metrics"]["val"]["accuracy"]["value"])["name"]
    results["analysis"] = {
        "model": best,
        "mistakes": mistakes(trained[best], world),
        "near_duplicates": report_analyses.near_duplicates(),
        "suspicious_labels": report_analyses.suspicious_labels(),
        "learning_curves": [report_analyses.learning_curve()],
    }
    results["analysis"]["near_duplicates"]["models"] = [
        {"name": best, "accuracy": wilson(301, 400), "without": wilson(283, 380)}
    ]
    return folder


def write_pictures(path: Path, results: dict[str, Any]) -> None:
    """Put the small pictures that the analysis names into a run folder."""
    analysis = results.get("analysis") or {}
    listed = [*(analysis.get("mistakes") or ())]
    listed += (analysis.get("suspicious_labels") or {}).get("list") or ()
    for i, entry in enumerate(listed):
        if entry.get("image"):
            file = path / entry["image"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg(i))


def finished(path: Path) -> Path:
    """Write the run with its pictures."""
    folder = evidence()
    write_pictures(path, folder.results)
    return finish(folder, path)


STUDIES = {"evidence": evidence}

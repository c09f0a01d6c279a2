"""Simulated worlds whose truth is known: 95% intervals hold it 95% of the time, within 1.5%.

Of 2,000 worlds the share has a standard error of 0.5%. Run with ``-s`` to see the shares.
"""

import numpy as np
import pytest

from headstart.compare import accuracy_difference, paired, squared_error_difference
from headstart.evaluate import bca_mean, regression, wilson
from headstart.evaluate.auc import auc_macro
from headstart.evaluate.resampling import class_f1, macro_scores, resample
from headstart.types import Estimates, Score

WORLDS = 2000


class Coverage:
    """Counts how often an interval holds the truth."""

    def __init__(self, name: str, truth: float) -> None:
        self.name, self.truth = name, truth
        self.below = self.above = self.all = 0

    def see(self, score: Score) -> None:
        self.all += 1
        self.below += score.high < self.truth
        self.above += score.low > self.truth

    def check(self) -> None:
        held = 1 - (self.below + self.above) / self.all
        print(f"{self.name}: {held:.2%} (too low {self.below}, too high {self.above})")
        assert held == pytest.approx(0.95, abs=0.015)


def test_accuracy() -> None:
    rng, coverage = np.random.default_rng(0), Coverage("accuracy", 0.87)
    for _ in range(WORLDS):
        coverage.see(wilson(int(rng.binomial(500, 0.87)), 500))
    coverage.check()


def test_mean_loss() -> None:
    """Losses as a classifier's: most near 0, a few large (standard deviation 1.4 means)."""
    rng, coverage = np.random.default_rng(1), Coverage("mean loss", 0.5)
    for world in range(WORLDS):
        coverage.see(bca_mean(rng.gamma(0.5, size=200), world, resamples=500))
    coverage.check()


def test_errors_of_regressions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models with errors of uniform sizes, in part the same ones, the second's larger.

    Squares of normal errors are as skewed as the losses of `test_mean_loss`, and cover like them.
    """
    few = 400
    monkeypatch.setattr(
        regression, "bca_mean", lambda values, seed: bca_mean(values, seed, resamples=few)
    )
    monkeypatch.setattr(paired, "resamples_for", lambda _: few)
    rng, n = np.random.default_rng(5), 120
    coverages = [
        Coverage("MSE", 4 / 3),
        Coverage("MAE", 1.0),
        Coverage("paired difference of MSE", 4 / 3 * (1 - 1.25**2)),
    ]
    names = tuple(map(str, range(n)))
    for world in range(WORLDS):
        targets = rng.normal(size=n).astype(np.float32)
        first, other = rng.uniform(-2, 2, size=(2, n))
        second = 1.25 * np.where(np.arange(n) % 2, first, other)
        values = [(targets + error).astype(np.float32) for error in (first, second)]
        scores = regression.evaluate_regression(targets, values[0], world)
        models = [Estimates(names, targets, v) for v in values]
        found = (scores["mse"], scores["mae"], squared_error_difference(*models, seed=world))
        for coverage, score in zip(coverages, found, strict=True):
            coverage.see(score)
    for coverage in coverages:
        coverage.check()


def test_macro_averages_and_f1_of_a_class() -> None:
    """Four classes of 60, with recalls of 91, 82, 72 and 62%."""
    rng = np.random.default_rng(2)
    shares = np.array(
        [
            [0.91, 0.05, 0.03, 0.01],
            [0.08, 0.82, 0.05, 0.05],
            [0.1, 0.1, 0.72, 0.08],
            [0.2, 0.1, 0.08, 0.62],
        ]
    )
    hits, called = np.diag(shares), shares.sum(axis=0)
    truths = {
        "macro precision": (hits / called).mean(),
        "macro recall": hits.mean(),
        "macro F1": (2 * hits / (called + 1)).mean(),
    }
    for c, f1 in enumerate(2 * hits / (called + 1)):
        truths[f"F1 of class {c}"] = f1
    coverages = [Coverage(name, float(truth)) for name, truth in truths.items()]
    for world in range(WORLDS):
        confusion = np.stack([rng.multinomial(60, row) for row in shares])
        resampled = resample(confusion, world, 500)
        scores = [*macro_scores(confusion, resampled), *class_f1(confusion, resampled)]
        for coverage, score in zip(coverages, scores, strict=True):
            coverage.see(score)
    for coverage in coverages:
        coverage.check()


def test_paired_difference() -> None:
    """One model right on 90%, the other on 87%, mostly on the same samples."""
    rng, coverage = np.random.default_rng(3), Coverage("paired difference", 0.03)
    for world in range(WORLDS):
        kind = rng.choice(4, size=500, p=[0.85, 0.05, 0.02, 0.08])  # both, a, b, neither
        coverage.see(accuracy_difference(kind < 2, (kind == 0) | (kind == 2), world))
    coverage.check()


@pytest.mark.parametrize(("classes", "gain"), [(2, 1.0), (4, 2.0)])
def test_auc(classes: int, gain: float) -> None:
    rng = np.random.default_rng(4)

    def world(n: int) -> Score:
        labels = rng.integers(0, classes, n)
        logits = rng.normal(size=(n, classes)) + gain * np.eye(classes)[labels]
        score = auc_macro(labels, logits.astype(np.float32))
        assert score is not None
        return score

    truth = float(np.mean([world(100_000).value for _ in range(4)]))
    coverage = Coverage(f"AUC of {classes} classes", truth)
    for _ in range(WORLDS):
        coverage.see(world(400))
    coverage.check()

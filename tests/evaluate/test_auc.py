"""The area under the curve against scikit-learn, and its interval against DeLong and resampling."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from headstart.evaluate import evaluate_classification
from headstart.evaluate.auc import auc_macro
from headstart.evaluate.intervals import Z95


def sample(n: int, classes: int, gain: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + gain * np.eye(classes)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, p.astype(np.float32)


@pytest.mark.parametrize(("classes", "decimals"), [(2, 7), (5, 7), (5, 1)])
def test_the_average_is_scikit_learns(classes: int, decimals: int) -> None:
    labels, p = sample(300, classes, 1.0, 0)
    p = p.round(decimals)  # one decimal: nearly all are tied
    score = auc_macro(labels, p)
    assert score is not None
    expected = np.mean([roc_auc_score(labels == c, p[:, c]) for c in range(classes)])
    assert score.value == pytest.approx(expected)
    if classes > 2 and decimals == 7:
        rows = (p / p.sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float64)
        whole = roc_auc_score(labels, rows, multi_class="ovr", average="macro")
        assert score.value == pytest.approx(whole, abs=1e-6)
    assert 0 < score.low < score.value < score.high < 1


def test_two_classes_have_delongs_variance() -> None:
    """By the definition: each positive against each negative, the two variances added."""
    labels, p = sample(80, 2, 1.0, 1)
    score = auc_macro(labels, p)
    assert score is not None
    x, y = p[labels == 1, 1], p[labels == 0, 1]
    wins = (x[:, None] > y).astype(float) + 0.5 * (x[:, None] == y)
    variance = wins.mean(axis=1).var(ddof=1) / len(x) + wins.mean(axis=0).var(ddof=1) / len(y)
    value = wins.mean()
    half = Z95 * np.sqrt(variance) / (value * (1 - value))
    ends = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + np.array([-half, half]))))
    assert (score.low, score.high) == pytest.approx(tuple(ends), abs=1e-6)


def test_the_width_is_what_resampling_gives() -> None:
    labels, p = sample(400, 4, 1.0, 2)
    score = auc_macro(labels, p)
    assert score is not None
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(600):
        rows = rng.integers(0, 400, 400)
        found = auc_macro(labels[rows], p[rows])
        assert found is not None
        drawn.append(found.value)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert score.high - score.low == pytest.approx(high - low, rel=0.12)


def test_classes_of_one_kind_are_left_out_and_no_class_gives_no_average() -> None:
    labels, p = sample(60, 3, 1.0, 3)
    keep = labels < 2
    score = auc_macro(labels[keep], p[keep])
    assert score is not None
    expected = [roc_auc_score(labels[keep] == c, p[keep, c]) for c in (0, 1)]
    assert score.value == pytest.approx(np.mean(expected))
    alike = labels == 1
    assert auc_macro(labels[alike], p[alike]) is None
    scores = evaluate_classification(labels[alike], p[alike], ("a", "b", "c")).scores
    assert "auc_macro" not in scores


def test_a_perfect_order_is_not_certain() -> None:
    labels = np.repeat([0, 1], 10)
    p = np.eye(2, dtype=np.float32)[labels]
    best, worst = auc_macro(labels, p), auc_macro(labels, 1 - p)
    assert best is not None
    assert worst is not None
    # Ten positives, ten negatives: as sure as ten of ten.
    assert (best.low, best.value, best.high) == (pytest.approx(0.7225, abs=1e-4), 1, 1)
    assert (worst.low, worst.value) == (0, 0)
    assert worst.high == pytest.approx(1 - 0.7225, abs=1e-4)


def test_no_information_is_one_half() -> None:
    labels = np.repeat([0, 1, 2], 20)
    score = auc_macro(labels, np.full((60, 3), 1 / 3, np.float32))
    assert score is not None
    assert score.value == 0.5
    assert score.low < 0.45
    assert score.high > 0.55

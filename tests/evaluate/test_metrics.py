import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from headstart.evaluate import evaluate_classification, wilson
from headstart.evaluate.intervals import bca_mean

NAMES = ("a", "b", "c", "d")


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, p.astype(np.float32)


def test_every_figure_is_scikit_learns() -> None:
    labels, p = sample(400, 0)
    found = evaluate_classification(labels, p, NAMES)
    predicted = p.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted)
    assert found.scores["accuracy"].value == metrics.accuracy_score(labels, predicted)
    assert found.scores["loss"].value == pytest.approx(metrics.log_loss(labels, p), rel=1e-5)
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        rows = [getattr(row, name).value for row in found.per_class]
        assert rows == pytest.approx(expected)
        assert found.scores[f"{name}_macro"].value == pytest.approx(expected.mean())
    assert [row.support for row in found.per_class] == list(support)
    assert np.array_equal(found.confusion, metrics.confusion_matrix(labels, predicted))


def test_macro_averages_leave_out_classes_that_do_not_occur_as_scikit_learn_does() -> None:
    labels, p = sample(60, 1)
    keep = labels < 2
    labels, p = labels[keep], p[keep]
    p[:, 3] = 0
    found = evaluate_classification(labels, p, NAMES)
    expected = metrics.f1_score(labels, p.argmax(axis=1), average="macro", zero_division=0)
    assert found.scores["f1_macro"].value == pytest.approx(expected)


def test_every_interval_holds_its_estimate() -> None:
    labels, p = sample(80, 2)
    found = evaluate_classification(labels, p, NAMES)
    for score in found.scores.values():
        assert score.low <= score.value <= score.high
        assert score.n == 80
    for row in found.per_class:
        for score in (row.precision, row.recall, row.f1):
            assert 0 <= score.low <= score.value <= score.high <= 1


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (10, 10), (870, 1000)])
def test_wilson_follows_its_formula(hits: int, n: int) -> None:
    z = stats.norm.ppf(0.975)
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    score = wilson(hits, n)
    assert (score.low, score.high) == pytest.approx((centre - half, centre + half), abs=1e-9)


def test_a_larger_split_gives_a_narrower_interval() -> None:
    wide, narrow = wilson(45, 50), wilson(900, 1000)
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3


def test_a_mean_in_slices_is_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=30_000)
    score = bca_mean(values, 0)
    half = 1.96 * values.std() / np.sqrt(30_000)
    assert score.low == pytest.approx(values.mean() - half, abs=half / 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_are_refused(bad: float) -> None:
    labels, p = sample(5, 0)
    p[2, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        evaluate_classification(labels, p, NAMES)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        evaluate_classification(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), NAMES)

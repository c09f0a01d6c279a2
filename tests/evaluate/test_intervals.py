"""Intervals against statsmodels, SciPy and what must hold at the edges."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from headstart.evaluate import bca_mean, clopper_pearson, evaluate_classification, wilson
from headstart.evaluate.intervals import bca_ends, bca_means, bca_p, wilson_ends
from headstart.evaluate.resampling import (
    class_acceleration,
    class_f1,
    count,
    macro_acceleration,
    macro_scores,
    resample,
)
from headstart.types import Score


@pytest.mark.parametrize(("function", "method"), [(wilson, "wilson"), (clopper_pearson, "beta")])
@pytest.mark.parametrize(
    ("hits", "n"), [(0, 10), (10, 10), (7, 10), (1, 1), (870, 1000), (9999, 10_000)]
)
def test_intervals_of_shares_are_statsmodels(
    function: Callable[[int, int], Score], method: str, hits: int, n: int
) -> None:
    score = function(hits, n)
    expected = proportion_confint(hits, n, alpha=0.05, method=method)
    assert (score.low, score.high) == pytest.approx(expected, abs=1e-12)
    assert (score.value, score.n) == (hits / n, n)
    with pytest.raises(ValueError, match="successes"):
        function(n + 1, n)


def test_wilson_for_an_effective_number_of_samples_need_not_be_whole() -> None:
    for share, n in ((0.0, 7.5), (0.4, 7.5), (1.0, 7.5), (0.999, 1000.25)):
        expected = proportion_confint(share * n, n, alpha=0.05, method="wilson")
        assert wilson_ends(share, n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["exponential", "lognormal", "shares"])
def test_the_interval_of_a_mean_is_scipys_bca(kind: str) -> None:
    rng = np.random.default_rng(0)
    values = {
        "exponential": rng.exponential(size=40),
        "lognormal": rng.lognormal(size=60),
        "shares": (rng.random(50) < 0.9).astype(float),
    }[kind]
    score = bca_mean(values, 0, resamples=20_000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    close = 0.06 * (score.high - score.low)  # three times the noise of an end at 20,000 resamples
    assert score.low == pytest.approx(expected.low, abs=close)
    assert score.high == pytest.approx(expected.high, abs=close)


def test_columns_share_their_resamples() -> None:
    columns = np.random.default_rng(0).normal(size=(70, 3))
    for column, score in zip(columns.T, bca_means(columns, 4), strict=True):
        alone = bca_mean(column, 4)
        assert (score.low, score.high) == pytest.approx((alone.low, alone.high))


def strata(confusion: np.ndarray) -> list[np.ndarray]:
    """Return the predictions of each true class's samples."""
    return [np.repeat(np.arange(len(confusion)), row) for row in confusion]


def macro(*predicted: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return macro precision, recall and F1 of predictions per true class."""
    classes = range(len(predicted))
    table = np.stack([np.stack([(p == c).sum(axis=axis) for c in classes]) for p in predicted])
    hits = np.stack([table[c, c] for c in classes])
    called, support = table.sum(axis=0), table.sum(axis=1)
    figures = (hits / np.maximum(called, 1), hits / support, 2 * hits / (called + support))
    return np.stack([figure.mean(axis=0) for figure in figures])


def test_macro_averages_have_scipys_stratified_bca() -> None:
    confusion = np.array([[30, 3, 1], [4, 14, 5], [0, 1, 9]])
    scores = macro_scores(confusion, resample(confusion, 0, 20_000))
    expected = stats.bootstrap(
        strata(confusion), macro, n_resamples=9999, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    for k, score in enumerate(scores):
        close = 0.06 * (score.high - score.low)
        assert score.value == pytest.approx(macro(*strata(confusion))[k])
        assert score.low == pytest.approx(expected.low[k], abs=close)
        assert score.high == pytest.approx(expected.high[k], abs=close)


def test_a_class_has_scipys_stratified_bca_for_its_f1() -> None:
    confusion = np.array([[30, 3, 1], [4, 14, 5], [2, 1, 9]])

    def f1(*predicted: np.ndarray, axis: int = -1) -> np.ndarray:
        table = np.stack([np.stack([(p == c).sum(axis=axis) for c in range(3)]) for p in predicted])
        hits = np.stack([table[c, c] for c in range(3)])
        return 2 * hits / (table.sum(axis=0) + table.sum(axis=1))

    scores = class_f1(confusion, resample(confusion, 0, 20_000))
    expected = stats.bootstrap(
        strata(confusion), f1, n_resamples=9999, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    for c, score in enumerate(scores):
        close = 0.08 * (score.high - score.low)
        assert score.low == pytest.approx(expected.low[c], abs=close)
        assert score.high == pytest.approx(expected.high[c], abs=close)


def test_accelerations_are_those_of_leaving_out_each_sample() -> None:
    """The definition: one sample after the other, in each class (Davison, Hinkley 1997)."""
    # A class of one sample, one that is never called, and one that occurs in the predictions only.
    confusion = np.array([[9, 3, 1, 1], [4, 6, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])

    def figures(matrix: np.ndarray) -> np.ndarray:
        hits, called, support = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
        here = called + support > 0
        f1 = 2 * hits / np.maximum(called + support, 1)
        shares = (hits / np.maximum(called, 1), hits / np.maximum(support, 1), f1)
        return np.array([*(share[here].mean() for share in shares), *f1])

    cubes, squares = np.zeros(7), np.zeros(7)
    for c, row in enumerate(confusion):
        without = []
        for predicted in np.repeat(np.arange(4), row):
            one = np.zeros((4, 4), np.int64)
            one[c, predicted] = 1
            without.append(figures(confusion - one))
        if without:
            n = len(without)
            moved = (n - 1) * (np.mean(without, axis=0) - np.array(without)) / n
            cubes, squares = cubes + (moved**3).sum(axis=0), squares + (moved**2).sum(axis=0)
    expected = np.divide(cubes, 6 * squares**1.5, out=np.zeros(7), where=squares > 1e-12)
    found = np.concatenate([macro_acceleration(confusion), class_acceleration(confusion)])
    assert found == pytest.approx(expected, abs=1e-9)
    assert (np.abs(expected[:5]) > 1e-3).all()


def test_resampling_a_confusion_matrix_keeps_each_class_and_only_its_own_cells() -> None:
    confusion = np.array([[5, 0, 3], [0, 0, 0], [0, 4, 0]])
    drawn = resample(confusion, 0)
    assert (drawn.support == [8, 0, 4]).all()
    assert (drawn.called.sum(axis=1) == 12).all()
    assert (drawn.called[:, 1] == 4).all()
    assert (drawn.hits[:, 1:] == 0).all()
    assert drawn.hits[:, 0].mean() == pytest.approx(5, abs=0.2)
    assert (drawn.hits[:, 0] == drawn.called[:, 0]).all()
    assert (count(confusion).hits == [5, 0, 0]).all()


def scored(labels: list[int], predicted: list[int], classes: int) -> dict[str, Score]:
    table = np.full((len(labels), classes), 0.1 / classes, np.float32)
    table[np.arange(len(labels)), predicted] += 0.9
    names = tuple(str(c) for c in range(classes))
    found = evaluate_classification(np.array(labels), table, names)
    rows = {f"f1 of {row.name}": row.f1 for row in found.per_class}
    return {**found.scores, **rows}


EDGES = {
    "all right": ([0, 1, 2] * 20, [0, 1, 2] * 20),
    "all wrong": ([0, 1, 2] * 20, [1, 2, 0] * 20),
    "one class is always the answer": ([0, 1, 2] * 20, [1, 1, 1] * 20),
    "one sample, right": ([1], [1]),
    "one sample, wrong": ([1], [2]),
    "one sample of a class": ([0] * 30 + [1], [0] * 30 + [1]),
    "one class": ([0] * 9, [0] * 9),
}


@pytest.mark.parametrize("name", EDGES)
def test_no_share_is_certain_from_a_few_samples(name: str) -> None:
    labels, predicted = EDGES[name]
    for key, score in scored(labels, predicted, 3).items():
        assert np.isfinite([score.value, score.low, score.high]).all(), key
        assert score.low <= score.value <= score.high, key
        if key != "loss":
            assert 0 <= score.low < score.high <= 1, key
            # About what Wilson's interval is where all of as many trials were alike; half of it for
            # F1, which near 1 moves half as fast as the share of samples that are hits.
            least = wilson(0, len(labels)).high
            assert score.high - score.low >= (0.5 if "f1 of" in key else 0.99) * least, key


def test_all_right_of_many_is_as_sure_as_the_accuracy() -> None:
    labels = [0, 1, 2, 3] * 500
    scores = scored(labels, labels, 4)
    for name in ("precision_macro", "recall_macro", "f1_macro"):
        assert scores[name].low == pytest.approx(scores["accuracy"].low)
    assert scores["auc_macro"].low > 0.99


def test_a_mean_of_what_never_varies_is_a_point() -> None:
    for values in (np.full(1000, 0.1), np.array([2.5])):
        score = bca_mean(values, 0)
        assert score.low == score.value == score.high == pytest.approx(values[0])
    with pytest.raises(ValueError, match="finite"):
        bca_mean([1.0, np.nan], 0)
    with pytest.raises(ValueError, match="at least one"):
        bca_mean([], 0)


def test_a_strongly_biased_statistic_gets_an_interval_on_the_other_side() -> None:
    """Resamples of mean 2 below a value that is itself 2 low: the truth lies about 2 above."""
    drawn = np.random.default_rng(0).normal(-2.5, 1, size=(2000, 1))
    low, high = bca_ends(np.zeros(1), drawn, np.zeros(1))
    assert low[0] == 0  # the interval 0.5 to 4.5, extended to the estimate
    assert high[0] == pytest.approx(2.5 + 1.96, abs=0.5)


def test_a_p_value_is_the_level_whose_interval_ends_at_nothing() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.gamma(4, size=(20_000, 1)) - 1.0
    value, skew = np.array([3.0]), np.array([0.05])
    low, _ = bca_ends(value, drawn, skew)
    assert bca_p(3.0 - low[0], drawn[:, 0] - low[0], 0.05) == pytest.approx(0.05, abs=0.002)
    assert bca_p(5.0, drawn[:, 0] + 2, 0.05) == pytest.approx(1 / 20_000)
    assert bca_p(0.0, np.zeros(50), 0.0) == 1

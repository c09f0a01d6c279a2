"""Tests between models against statsmodels and SciPy, and which models are indistinguishable."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from headstart import compare
from headstart.report.text import p_value, probability, quantity
from headstart.types import Estimates, Predictions


def answers(right: np.ndarray) -> Predictions:
    n = len(right)
    table = np.where(right[:, None], [[0.8, 0.2]], [[0.2, 0.8]]).astype(np.float32)
    names = tuple(f"s{i}" for i in range(n))
    return Predictions(names, np.zeros(n, np.int64), table, ("a", "b"))


def estimates(errors: np.ndarray) -> Estimates:
    names = tuple(f"s{i}" for i in range(len(errors)))
    zeros = np.zeros(len(errors), np.float32)
    return Estimates(names, zeros, errors.astype(np.float32))


@pytest.mark.parametrize(("a_only", "b_only"), [(0, 0), (1, 0), (7, 7), (3, 12), (250, 180)])
def test_mcnemars_test_is_statsmodels(a_only: int, b_only: int) -> None:
    p = compare.mcnemar_exact(a_only, b_only)
    if a_only + b_only:
        expected = mcnemar([[40, a_only], [b_only, 9]], exact=True).pvalue
        assert p == pytest.approx(min(1.0, expected))
    else:
        assert p == 1
    assert p == compare.mcnemar_exact(b_only, a_only)
    with pytest.raises(ValueError, match="numbers of samples"):
        compare.mcnemar_exact(-1, 2)


def test_no_p_value_is_zero() -> None:
    for a_only, b_only in ((0, 1200), (5, 4000)):
        p = compare.mcnemar_exact(a_only, b_only)
        assert 0 < p < 1e-300
        assert compare.holm([p, 0.5])[0] > 0
        assert probability(p) == "<\u00a010⁻³⁰⁰"
        assert p_value(p) == "p\u00a0<\u00a010⁻³⁰⁰"
        assert quantity(p, 2) == "4.9\u00a0×\u00a010⁻³²⁴"
    assert p_value(compare.mcnemar_exact(0, 990)) == "p\u00a0=\u00a01.9\u00a0×\u00a010⁻²⁹⁸"
    assert p_value(0.031) == "p\u00a0=\u00a00.031"


@pytest.mark.parametrize(
    "ps", [[0.01], [0.04, 0.01, 0.03], [0.001, 0.9, 0.02, 0.02, 0.5], [1.0, 1.0]]
)
def test_holms_correction_is_statsmodels(ps: list[float]) -> None:
    assert compare.holm(ps) == pytest.approx(multipletests(ps, method="holm")[1])
    assert compare.holm([]) == []


def test_the_difference_of_accuracies_is_scipys_paired_bca() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(120) < 0.9, rng.random(120) < 0.75
    score = compare.accuracy_difference(a, b)

    def difference(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.mean(axis=axis) - y.mean(axis=axis)

    expected = stats.bootstrap(
        (a.astype(float), b.astype(float)),
        difference,
        paired=True,
        n_resamples=9999,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    close = 0.08 * (score.high - score.low)  # also: the ends are whole samples
    assert score.value == pytest.approx(a.mean() - b.mean())
    assert score.low == pytest.approx(expected.low, abs=close)
    assert score.high == pytest.approx(expected.high, abs=close)
    back = compare.accuracy_difference(b, a)
    assert (back.low, back.high) == pytest.approx((-score.high, -score.low), abs=close)


def test_models_that_never_differ_could_still_differ_a_little() -> None:
    """Of 100 samples none told them apart: the rule of three, about 3.7 in 100, both ways."""
    right = np.ones(100, bool)
    same = compare.accuracy_difference(right, right)
    assert (same.low, same.value, same.high) == (-same.high, 0, pytest.approx(0.037, abs=1e-3))
    always, never = (compare.accuracy_difference(a, ~a) for a in (right, ~right))
    assert (always.value, always.high) == (1, 1)
    assert always.low == pytest.approx(1 - 2 * 0.037, abs=2e-3)
    assert (never.low, never.value, never.high) == (-1, -1, -always.low)


def test_a_clear_pair_is_told_apart_and_a_close_one_is_not() -> None:
    rng = np.random.default_rng(0)
    good = rng.random(400) < 0.9
    close = good.copy()
    close[:40] = good[:40][::-1]  # about as many right, on other samples
    poor = rng.random(400) < 0.6
    predictions = {"good": answers(good), "close": answers(close), "poor": answers(poor)}
    pairs = [("good", "close"), ("poor", "good"), ("close", "poor")]
    found = compare.test_pairs(predictions, pairs)
    assert [(test.a, test.b) for test in found] == pairs
    assert [test.distinguishable for test in found] == [False, True, True]
    assert found[1].difference.high < 0 < found[2].difference.low
    assert found[0].a_only == int((good & ~close).sum())
    assert found[0].b_only == int((close & ~good).sum())
    assert found[0].p == compare.mcnemar_exact(found[0].a_only, found[0].b_only)
    assert [t.p_holm for t in found] == compare.holm([t.p for t in found])
    assert compare.test_pairs(predictions, []) == ()
    assert compare.test_pairs(predictions, pairs) == found


def test_a_difference_that_one_test_finds_may_not_survive_many() -> None:
    base = np.ones(200, bool)
    other = base.copy()
    other[:7] = False  # McNemar: p = 2 / 2^7 = 0.016
    predictions = {"base": answers(base), **{f"m{i}": answers(other) for i in range(5)}}
    (alone,) = compare.test_pairs(predictions, [("base", "m0")])
    assert alone.distinguishable
    assert alone.p == alone.p_holm == pytest.approx(2 / 2**7)
    many = compare.test_pairs(predictions, [("base", f"m{i}") for i in range(5)])
    assert not any(test.distinguishable for test in many)
    assert many[0].difference.low > 0  # the interval is the pair's own, without the correction


def test_regressions_are_compared_by_squared_error() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(300, 2))
    worlds = {
        "sharp": estimates(noise[:, 0]),
        "same": estimates(-noise[:, 0]),
        "equal": estimates(noise[:, 1]),
        "blunt": estimates(2 * noise[:, 1]),
    }
    pairs = [("sharp", "blunt"), ("sharp", "equal"), ("sharp", "same")]
    clear, close, none = compare.test_estimate_pairs(worlds, pairs)
    assert clear.distinguishable
    assert clear.a_only is None
    assert clear.b_only is None
    own = np.square(noise[:, 0]) - np.square(2 * noise[:, 1])
    assert clear.difference.value == pytest.approx(own.mean(), rel=1e-5)
    expected = stats.bootstrap(
        (own,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    margin = 0.06 * (expected.high - expected.low)
    assert clear.difference.low == pytest.approx(expected.low, abs=margin)
    assert clear.difference.high == pytest.approx(expected.high, abs=margin)
    assert not close.distinguishable
    # A large sample and no skewness to speak of: the p-value is that of the t-test.
    plain = stats.ttest_1samp(np.square(noise[:, 0]) - np.square(noise[:, 1]), 0).pvalue
    assert close.p == pytest.approx(plain, abs=0.03)
    assert (none.p, none.difference.low, none.difference.high) == (1, 0, 0)
    assert compare.test_estimate_pairs(worlds, []) == ()


def test_a_pair_alone_is_below_five_percent_where_its_interval_leaves_zero_out() -> None:
    outside = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        worlds = {"a": estimates(rng.normal(size=60)), "b": estimates(1.25 * rng.normal(size=60))}
        (test,) = compare.test_estimate_pairs(worlds, [("a", "b")])
        without = not test.difference.low <= 0 <= test.difference.high
        assert without == (test.p < 0.05) or abs(test.p - 0.05) < 0.003
        outside += without
    assert 3 < outside < 27  # both answers occurred


def test_few_samples_cannot_tell_regressions_apart() -> None:
    worlds = {"a": estimates(np.full(4, 0.1)), "b": estimates(np.array([3.0, 4.0, 5.0, 6.0]))}
    (test,) = compare.test_estimate_pairs(worlds, [("a", "b")])
    assert test.difference.high < 0
    assert test.p >= 1 / 8
    assert not test.distinguishable


def test_other_samples_are_refused() -> None:
    right = np.ones(4, bool)
    with pytest.raises(ValueError, match="same samples"):
        compare.test_pairs({"a": answers(right), "b": answers(right[:3])}, [("a", "b")])
    worlds = {"a": estimates(np.ones(4)), "b": estimates(np.ones(3))}
    with pytest.raises(ValueError, match="same samples"):
        compare.test_estimate_pairs(worlds, [("a", "b")])
    with pytest.raises(ValueError, match="at least one"):
        compare.test_pairs({"a": answers(right[:0]), "b": answers(right[:0])}, [("a", "b")])


def test_regressions_of_several_data_sets_are_tested_together() -> None:
    """Each pair on its own samples; only the correction knows of the others."""
    rng = np.random.default_rng(4)

    def on(prefix: str, n: int, spread: float) -> Estimates:
        zeros = np.zeros(n, np.float32)
        noise = (spread * rng.normal(size=n)).astype(np.float32)
        return Estimates(tuple(f"{prefix}{i}" for i in range(n)), zeros, noise)

    first = {"a": on("x", 90, 1.0), "b": on("x", 90, 1.6)}
    second = {"c": on("y", 140, 1.0), "d": on("y", 140, 1.1)}
    both = compare.test_estimate_pairs({**first, **second}, [("c", "d"), ("a", "b")])
    alone = [
        *compare.test_estimate_pairs(second, [("c", "d")]),
        *compare.test_estimate_pairs(first, [("a", "b")]),
    ]
    assert [(t.difference, t.p) for t in both] == [(t.difference, t.p) for t in alone]
    assert [t.p_holm for t in both] == compare.holm([t.p for t in alone])
    with pytest.raises(ValueError, match="expected b and c to estimate the same samples"):
        compare.test_estimate_pairs({**first, **second}, [("a", "b"), ("b", "c")])


def test_a_comparison_and_a_test_of_the_same_pair_give_the_same_interval() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 400).astype(np.int64)

    def said(accuracy: float) -> Predictions:
        right = random.random(400) < accuracy
        shown = np.where(right, labels, (labels + 1) % 3)
        names = tuple(map(str, range(400)))
        return Predictions(names, labels, np.eye(3, dtype=np.float32)[shown], ("a", "b", "c"))

    models = {"x": said(0.7), "y": said(0.8)}
    (one,) = compare.test_pairs(models, [("x", "y")])
    (other,) = compare.test_pairs(models, [("y", "x")])
    pair = compare.compare_pair(models["x"], models["y"]).accuracy_difference
    assert one.difference == pair
    turned = other.difference
    assert (-turned.value, -turned.high, -turned.low) == (pair.value, pair.low, pair.high)

    truth = random.normal(size=300).astype(np.float32)
    numbers = {
        name: Estimates(tuple(map(str, range(300))), truth, truth + spread * noise)
        for name, spread, noise in (
            ("x", 0.5, random.normal(size=300).astype(np.float32)),
            ("y", 0.6, random.normal(size=300).astype(np.float32)),
        )
    }
    (test,) = compare.test_estimate_pairs(numbers, [("x", "y")])
    alone = compare.squared_error_difference(numbers["x"], numbers["y"])
    for end in ("value", "low", "high"):
        assert getattr(test.difference, end) == pytest.approx(getattr(alone, end), rel=1e-6)

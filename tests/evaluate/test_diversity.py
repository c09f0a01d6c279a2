"""Diversity as Kuncheva and Whitaker define it, against tables counted by hand."""

import numpy as np
import pytest

from headstart.evaluate import measure_diversity

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def with_mistakes(*wrong: int) -> np.ndarray:
    predicted = LABELS.copy()
    for index in wrong:
        predicted[index] = (predicted[index] + 1) % 3
    return predicted


def test_a_table_counted_by_hand() -> None:
    # a errs on 0, 1, 2; b on 1, 2, 3, 4: both right 5, both wrong 2, only a right 2, only b 1.
    result = measure_diversity(
        np.stack([with_mistakes(0, 1, 2), with_mistakes(1, 2, 3, 4)]), LABELS
    )
    (pair,) = result.pairs
    assert (pair.a, pair.b) == (0, 1)
    assert pair.disagreement == pytest.approx(0.3)
    assert pair.double_fault == pytest.approx(0.2)
    assert pair.q_statistic == pytest.approx((5 * 2 - 2 * 1) / (5 * 2 + 2 * 1))
    assert result.disagreement == pytest.approx(0.3)


def test_two_wrong_answers_agree_that_they_are_wrong_even_where_they_differ() -> None:
    a, b = with_mistakes(0), with_mistakes(0)
    b[0] = (b[0] + 1) % 3
    (pair,) = measure_diversity(np.stack([a, b]), LABELS).pairs
    assert (pair.disagreement, pair.double_fault, pair.q_statistic) == (0, 0.1, 1)


def test_independent_mistakes_have_q_zero_and_opposite_ones_minus_one() -> None:
    labels = np.zeros(4, dtype=np.int64)
    independent = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    assert measure_diversity(independent, labels).pairs[0].q_statistic == 0
    opposite = np.array([[0, 0, 1, 1], [1, 1, 0, 0]])
    assert measure_diversity(opposite, labels).pairs[0].q_statistic == -1


def test_q_is_not_defined_beside_a_classifier_that_is_always_right() -> None:
    (pair,) = measure_diversity(np.stack([with_mistakes(), with_mistakes(1)]), LABELS).pairs
    assert pair.q_statistic is None
    assert (pair.disagreement, pair.double_fault) == (0.1, 0)


def test_all_pairs_and_their_mean() -> None:
    stack = np.stack([with_mistakes(), with_mistakes(0), with_mistakes(0, 1, 2)])
    result = measure_diversity(stack, LABELS)
    assert [(p.a, p.b) for p in result.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert [p.disagreement for p in result.pairs] == pytest.approx([0.1, 0.3, 0.2])
    assert result.disagreement == pytest.approx(0.2)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two classifiers"):
        measure_diversity(LABELS[None], LABELS)
    with pytest.raises(ValueError, match="at least two classifiers and one sample"):
        measure_diversity(np.zeros((2, 0), dtype=np.int64), np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match=r"got \(2, 10\), \(9,\)"):
        measure_diversity(np.stack([LABELS, LABELS]), LABELS[:9])

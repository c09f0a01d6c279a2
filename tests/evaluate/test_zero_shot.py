from dataclasses import asdict, dataclass

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from headstart.evaluate import evaluate_zero_shot, restrict, top_table, wilson

CLASSES = 1000


@dataclass(frozen=True)
class Named:
    wnid: str
    name: str


NAMED = [Named(f"n{index:08d}", f"class {index}") for index in range(CLASSES)]


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities over 1,000 classes, labels among 50 of them, and those 50."""
    rng = np.random.default_rng(seed)
    columns = rng.permutation(CLASSES)[:50]
    labels = columns[rng.integers(0, 50, n)]
    logits = rng.normal(size=(n, CLASSES))
    logits[np.arange(n), labels] += rng.uniform(0, 6, n)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p.astype(np.float32), labels, columns


def test_top_1_and_top_5_are_scikit_learns() -> None:
    p, labels, columns = sample(300, 0)
    found = evaluate_zero_shot(p, labels, columns)
    for score, k in ((found.top1, 1), (found.top5, 5)):
        expected = top_k_accuracy_score(labels, p, k=k, labels=np.arange(CLASSES))
        assert 0.2 < expected < 0.95
        assert score.value == pytest.approx(expected, abs=1e-12)
        assert score == wilson(round(expected * 300), 300)
    assert found.top1.value < found.top5.value
    assert found.mapped == 50


def test_logits_rank_as_their_probabilities_do() -> None:
    p, labels, columns = sample(200, 1)
    logits = np.log(p)
    assert evaluate_zero_shot(logits, labels, columns) == evaluate_zero_shot(p, labels, columns)


def test_of_equal_classes_the_lower_index_comes_first_as_argmax_has_it() -> None:
    # Seven classes share everything: five of them are in the top five, one is the first.
    p = np.zeros((1, CLASSES), dtype=np.float32)
    tied = [3, 10, 20, 30, 40, 50, 60]
    p[0, tied] = 1 / 7
    right = [
        [getattr(evaluate_zero_shot(p, np.array([label]), tied), k).value for k in ("top1", "top5")]
        for label in tied
    ]
    assert right == [[1, 1], *[[0, 1]] * 4, *[[0, 0]] * 2]
    assert [row.index for row in top_table(p[0], NAMED, k=8)] == [*tied, 0]


def test_a_classifier_that_says_nothing_is_not_always_right() -> None:
    p = np.full((10, CLASSES), 1 / CLASSES, dtype=np.float32)
    found = evaluate_zero_shot(p, np.arange(0, 100, 10), np.arange(0, 100, 10))
    assert (found.top1.value, found.top5.value) == (0.1, 0.1)


def test_restricting_is_bayes_rule_given_that_it_is_one_of_them() -> None:
    p, _, columns = sample(40, 2)
    kept = restrict(p, columns)
    assert kept.shape == (40, 50)
    assert kept.dtype == np.float32
    assert kept.sum(axis=1) == pytest.approx(np.ones(40), abs=1e-6)
    # Ratios within a row stay, in the order of the columns that was asked for.
    ratios = p[:, columns[1:]].astype(np.float64) / p[:, columns[:1]]
    assert kept[:, 1:] / kept[:, :1] == pytest.approx(ratios, rel=1e-5)


def test_restricting_to_the_data_sets_classes_can_only_help() -> None:
    p, labels, columns = sample(300, 3)
    among = columns[restrict(p, columns).argmax(axis=1)]
    assert accuracy_score(labels, among) > evaluate_zero_shot(p, labels, columns).top1.value


def test_probabilities_that_vanish_become_uniform_and_tiny_ones_do_not() -> None:
    p = np.zeros((2, CLASSES), dtype=np.float32)
    p[:, 999] = 1
    p[1, [4, 5]] = np.float32(1e-45), np.float32(3e-45)  # as small as float32 goes
    kept = restrict(p, [4, 5, 6, 7])
    assert kept[0].tolist() == [0.25] * 4
    assert kept[1] == pytest.approx([1 / 3, 2 / 3, 0, 0])


def test_a_table_names_the_most_probable_classes() -> None:
    p, _, _ = sample(1, 4)
    rows = top_table(p[0], NAMED)
    assert [row.index for row in rows] == list(np.argsort(p[0])[::-1][:10])
    assert [row.rank for row in rows] == list(range(1, 11))
    best = rows[0]
    assert asdict(best) == {
        "rank": 1,
        "index": int(p[0].argmax()),
        "id": NAMED[best.index].wnid,
        "name": f"class {best.index}",
        "probability": float(p[0].max()),
    }
    assert len(top_table(p[0], NAMED, k=3)) == 3


@pytest.mark.parametrize("columns", [[], [-1], [1000], [[1, 2]], [5, 5]])
def test_columns_that_are_not_places_are_refused(columns: list[int]) -> None:
    p, labels, _ = sample(3, 5)
    with pytest.raises(ValueError, match="column"):
        restrict(p, columns)
    with pytest.raises(ValueError, match="column"):
        evaluate_zero_shot(p, labels, columns)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    p, labels, columns = sample(3, 6)
    p[1, 7] = bad
    for attempt in (
        lambda: evaluate_zero_shot(p, labels, columns),
        lambda: restrict(p, columns),
        lambda: top_table(p[1], NAMED),
    ):
        with pytest.raises(ValueError, match="finite"):
            attempt()


def test_shapes_that_do_not_fit_are_refused() -> None:
    p, labels, columns = sample(3, 7)
    with pytest.raises(ValueError, match="at least one"):
        evaluate_zero_shot(p[:0], labels[:0], columns)
    with pytest.raises(ValueError, match=r"expected probabilities \[2, classes\]"):
        evaluate_zero_shot(p, labels[:2], columns)
    with pytest.raises(ValueError, match="labels among the 50 columns"):
        evaluate_zero_shot(p, np.setdiff1d(np.arange(CLASSES), columns)[:3], columns)
    with pytest.raises(ValueError, match="below 0"):
        restrict(-p, columns)
    with pytest.raises(ValueError, match=r"expected probabilities \[999\]"):
        top_table(p[0], NAMED[:999])
    with pytest.raises(ValueError, match="at least 1 row"):
        top_table(p[0], NAMED, k=0)

import numpy as np
import pytest

from headstart.compare import compare_pair, relative_difference
from headstart.types import Predictions


def predictions(predicted: list[int], labels: list[int]) -> Predictions:
    table = np.full((len(predicted), 3), 0.1, np.float32)
    table[np.arange(len(predicted)), predicted] = 0.8
    names = tuple(f"p{i}" for i in range(len(predicted)))
    return Predictions(names, np.array(labels), table, ("a", "b", "c"))


def test_agreement_and_difference_are_counted() -> None:
    truth = [0, 1, 2, 0, 1]
    found = compare_pair(predictions([0, 1, 2, 0, 0], truth), predictions([0, 1, 1, 1, 1], truth))
    assert found.agreement == pytest.approx(2 / 5)
    assert found.accuracy_difference.value == pytest.approx(4 / 5 - 3 / 5)
    assert found.n == 5


def test_equal_models_differ_by_nothing_and_the_more_samples_the_surer() -> None:
    same = predictions([0, 1, 2, 1], [0, 1, 1, 1])
    many = predictions([0, 1, 2, 1] * 500, [0, 1, 1, 1] * 500)
    found, surer = compare_pair(same, same), compare_pair(many, many)
    assert found.agreement == surer.agreement == 1
    assert found.accuracy_difference.value == surer.accuracy_difference.value == 0
    assert found.accuracy_difference.high > 0.4
    assert surer.accuracy_difference.high == -surer.accuracy_difference.low < 0.002


def test_a_difference_on_every_sample_is_told_from_noise() -> None:
    truth = [0] * 100
    found = compare_pair(predictions([0] * 100, truth), predictions([0] * 80 + [1] * 20, truth))
    assert found.accuracy_difference.low > 0.1


def test_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="same samples"):
        compare_pair(predictions([0], [0]), predictions([0], [1]))


def test_relative_difference() -> None:
    a = {"w": np.array([3.0, 4.0], np.float32)}
    b = {"w": np.array([3.0, 4.5], np.float32)}
    assert relative_difference(a, a) == 0
    assert relative_difference(b, a) == pytest.approx(0.1)
    assert relative_difference(a, {"v": a["w"]}) is None
    assert relative_difference(a, {"w": np.zeros(3, np.float32)}) is None

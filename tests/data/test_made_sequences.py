"""Made-up sequences: what is in them, what is to be predicted, and that they are a data set."""

import json
import time

import numpy as np
import pytest

from headstart.data.sequence import make_sequences
from headstart.errors import DataError

SMALL = {"count": 300, "counts": (200, 50, 50)}


def steps(dataset, index, channels=1):
    return np.frombuffer(dataset.read(index), "<f4").reshape(-1, channels)


@pytest.mark.parametrize(
    ("target", "function"), [("sum", np.sum), ("mean", np.mean), ("product", np.prod)]
)
def test_targets_are_what_their_names_say(target, function):
    dataset = make_sequences(target, **SMALL)
    for index in range(len(dataset)):
        values = steps(dataset, index).astype(np.float64)
        assert dataset.targets[index] == pytest.approx(function(values), rel=1e-6)


def test_the_adding_problem_marks_two_places_and_asks_for_their_sum():
    dataset = make_sequences("adding", **SMALL)
    firsts = []
    for index in range(len(dataset)):
        values, markers = steps(dataset, index, 2).T
        assert sorted(markers)[-2:] == [1, 1]
        assert markers.sum() == 2
        assert dataset.targets[index] == pytest.approx((values * markers).sum(), rel=1e-6)
        firsts.append(markers[0])
    assert 0 < np.mean(firsts) < 1


def test_lengths_and_values_are_uniform():
    dataset = make_sequences("sum")
    lengths = np.array([len(steps(dataset, index)) for index in range(10_000)])
    found = np.bincount(lengths, minlength=11)[2:]
    assert len(found) == 9
    assert abs(found - 10_000 / 9).max() < 5 * np.sqrt(10_000 / 9)
    values = np.concatenate([steps(dataset, index) for index in range(10_000)])
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.01
    assert dataset.describe()["sizes"] == {"min": 2, "median": 6, "max": 10}


def test_it_is_a_data_set_for_a_regression():
    dataset = make_sequences("mean")
    assert (dataset.noun, dataset.goal, dataset.classes) == ("sequence", "regression", ("value",))
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 6400, "val": 1600, "test": 2000
    }  # fmt: skip
    assert np.array_equal(np.concatenate(list(dataset.splits.values())), np.arange(10_000))
    assert dataset.targets.dtype == np.float32
    assert not dataset.labels.any()
    assert dataset.names[0] == "sequence-00001"
    assert len(set(dataset.digests)) == 10_000
    described = dataset.describe()
    json.dumps(described, allow_nan=False)
    assert described["problems"] == []
    assert (described["noun"], described["goal"]) == ("sequence", "regression")


def test_the_seed_decides_everything_and_targets_share_their_sequences():
    one = make_sequences("sum", **SMALL, seed=3)
    assert make_sequences("sum", **SMALL, seed=3).fingerprint == one.fingerprint
    assert make_sequences("sum", **SMALL, seed=4).fingerprint != one.fingerprint
    mean = make_sequences("mean", **SMALL, seed=3)
    assert mean.digests == one.digests
    assert mean.fingerprint != one.fingerprint


def test_ten_thousand_take_no_time():
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        make_sequences("adding")
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "summ"}, "did you mean 'sum'"),
        ({"target": "adding", "min_length": 1}, "expected 2 <= min_length"),
        ({"min_length": 5, "max_length": 4}, "got 5 and 4"),
        ({"count": 10}, "6400 \\+ 1600 \\+ 2000 = 10,000"),
        ({"count": 10, "counts": (10, 0, 0)}, "at least 1 of each"),
    ],
)
def test_impossible_numbers_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        make_sequences(**{"target": "sum", **options})

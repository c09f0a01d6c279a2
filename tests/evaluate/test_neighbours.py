import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from headstart.evaluate import neighbours
from headstart.evaluate.neighbours import nearest


def _random(seed: int, m: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (
        random.standard_normal((m, d)).astype(np.float32),
        random.standard_normal((n, d)).astype(np.float32),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(1, 40), st.integers(2, 60), st.integers(2, 9), st.data())
def test_the_same_as_scikit_learn_whatever_the_block_size(seed, m, n, d, data):
    queries, keys = _random(seed, m, n, d)
    k = data.draw(st.integers(1, n))
    reference = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(keys)
    distances, indices = reference.kneighbors(queries)
    with pytest.MonkeyPatch.context() as patch:
        # Blocks of a few rows and a few keys, so that results are put together of many.
        patch.setattr(neighbours, "_MOST_QUERIES", data.draw(st.integers(1, 50)))
        patch.setattr(neighbours, "_BLOCK_BYTES", data.draw(st.integers(4, 5000)))
        counted: list[int] = []
        found, cosines = nearest(queries, keys, k, counted.append)
    assert counted == sorted(set(counted))
    assert counted[-1] == m
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-5)
    # In ties of rounding the order may differ; the similarity may not.
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    own = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    np.testing.assert_allclose(np.take_along_axis(own @ unit.T, found, 1), cosines, atol=1e-5)
    assert all(len(set(row)) == k for row in found)
    assert (found == indices).mean() > 0.99


def test_length_does_not_matter_and_equals_come_in_order():
    keys = np.array([[2, 0], [5, 0], [0, 1], [-1, 0]], dtype=np.float32)
    found, cosines = nearest(np.array([[0.1, 0]], dtype=np.float32), keys, 4)
    assert found.tolist() == [[0, 1, 2, 3]]
    assert cosines.tolist() == [[1.0, 1.0, 0.0, -1.0]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 40), st.data())
def test_of_equals_the_lower_index_comes_first_wherever_blocks_end(seed, n, data):
    # Unit vectors along axes: every cosine is exactly 0 or 1, so most are equal.
    random = np.random.default_rng(seed)
    keys, queries = (np.eye(3, dtype=np.float32)[random.integers(0, 3, m)] for m in (n, 5))
    k = data.draw(st.integers(1, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_BLOCK_BYTES", data.draw(st.integers(4, 400)))
        found, cosines = nearest(queries, keys, k)
    exact = queries @ keys.T
    assert found.tolist() == np.argsort(-exact, axis=1, kind="stable")[:, :k].tolist()
    assert (cosines == np.take_along_axis(exact, found, axis=1)).all()


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize(("m", "n", "d"), [(50, 8_192, 4_096), (1_100, 20_000, 16)])
def test_it_takes_less_than_100_mb_besides_the_arguments(m, n, d, same):
    queries, keys = _random(0, m, n, d)
    keys[:] = keys[0] if same else keys
    tracemalloc.start()
    try:
        nearest(queries, keys, 20)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_what_is_asked_after_a_block_may_end_the_search(monkeypatch):
    class StoppedError(Exception):
        pass

    def stop(count: int) -> None:
        assert count == 2
        raise StoppedError

    monkeypatch.setattr(neighbours, "_MOST_QUERIES", 2)
    with pytest.raises(StoppedError):
        nearest(*_random(0, 6, 3, 4), 1, stop)


def test_vectors_that_are_not_finite_are_similar_to_nothing():
    keys = np.array([[1, 0], [np.nan, 1], [np.inf, 0], [-1, 0]], dtype=np.float32)
    found, cosines = nearest(np.array([[2, 0], [np.nan, 0]], np.float32), keys, 4)
    assert found.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert cosines.tolist() == [[1, 0, 0, -1], [0, 0, 0, 0]]


def test_zeros_are_similar_to_nothing():
    found, cosines = nearest(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32), 3)
    assert found.tolist() == [[0, 1, 2]]
    assert cosines.tolist() == [[0.0, 0.0, 0.0]]


def test_more_neighbours_than_keys_are_refused():
    queries, keys = _random(0, 2, 3, 4)
    with pytest.raises(ValueError, match="expected 1 to 3"):
        nearest(queries, keys, 4)
    with pytest.raises(ValueError, match="expected queries"):
        nearest(queries[:, :2], keys, 1)

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
        patch.setattr(neighbours, "_KEYS_AT_ONCE", data.draw(st.integers(1, 70)))
        patch.setattr(neighbours, "_BLOCK_NUMBERS", data.draw(st.integers(1, 500)))
        found, cosines = nearest(queries, keys, k)
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

"""Nearest neighbours by cosine similarity, exactly, in blocks that fit into memory."""

import numpy as np
import numpy.typing as npt

from headstart.types import FloatArray, IntArray

_BLOCK_NUMBERS = 8_000_000  # similarities in memory at once: 32 MB
_KEYS_AT_ONCE = 16_384


def nearest(queries: FloatArray, keys: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return the k keys that are most similar to each query.

    The similarity is the cosine of the angle, ⟨q, x⟩ / (‖q‖ ‖x‖); that of a vector of zeros is 0.
    All pairs are compared, in blocks: besides the arguments it takes about 100 MB, however many
    there are.

    Args:
        queries: float32, shape [m, d].
        keys: float32, shape [n, d].
        k: How many of the keys, from 1 to n.

    Returns:
        Indices into the keys, int64 [m, k], the most similar first (of equals the lower index), and
        their cosines, float32 [m, k], in [-1, 1].

    Raises:
        ValueError: The shapes do not fit, or k is below 1 or above n.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise ValueError(
            f"expected queries [m, d] and keys [n, d], got {queries.shape} and {keys.shape}"
        )
    if not 1 <= k <= len(keys):
        raise ValueError(f"k: expected 1 to {len(keys)}, the number of keys, got {k}")
    indices = np.zeros((len(queries), k), dtype=np.int64)
    cosines = np.zeros((len(queries), k), dtype=np.float32)
    rows = max(1, _BLOCK_NUMBERS // min(len(keys), _KEYS_AT_ONCE))
    for start in range(0, len(queries), rows):
        block = _unit(queries[start : start + rows])
        best = np.empty((len(block), 0), dtype=np.float32)
        places = np.empty((len(block), 0), dtype=np.int64)
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            some = _unit(keys[first : first + _KEYS_AT_ONCE])
            found, where = _top(block @ some.T, k)
            best = np.concatenate([best, found], axis=1)
            places = np.concatenate([places, where + first], axis=1)
            # Of equal ones the lower index comes first: they are sorted by both.
            order = np.lexsort((places, -best), axis=1)[:, :k]
            best = np.take_along_axis(best, order, axis=1)
            places = np.take_along_axis(places, order, axis=1)
        indices[start : start + rows] = places
        cosines[start : start + rows] = np.clip(best, -1.0, 1.0)
    return indices, cosines


def _unit(rows: FloatArray) -> FloatArray:
    """Return rows of length 1, and rows of zeros where they were."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def _top(similarities: FloatArray, k: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the k largest of each row, or all where there are fewer, in any order."""
    if similarities.shape[1] <= k:
        places = np.broadcast_to(np.arange(similarities.shape[1]), similarities.shape)
        return similarities, places.astype(np.int64)
    places = np.argpartition(-similarities, k - 1, axis=1)[:, :k].astype(np.int64)
    return np.take_along_axis(similarities, places, axis=1), places

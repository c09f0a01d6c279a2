"""Nearest neighbours by cosine similarity, exactly, in blocks that fit into memory."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from headstart.types import FloatArray, IntArray

_BLOCK_BYTES = 16_000_000  # of float32: a block of queries, or of similarities; six at once at most
_MOST_QUERIES = 1_024  # in a block: so that `done` is called often enough


def _ignored(_: int) -> None:
    """Do nothing."""


def nearest(
    queries: FloatArray, keys: FloatArray, k: int, done: Callable[[int], None] = _ignored
) -> tuple[IntArray, FloatArray]:
    """Return the k keys that are most similar to each query.

    The similarity is the cosine of the angle, ⟨q, x⟩ / (‖q‖ ‖x‖); that of a vector of zeros, or of
    one with a number that is not finite, is 0. All pairs are compared, in blocks: besides the
    arguments and the answer it takes less than 100 MB, however many there are and however wide they
    are (unless one vector alone takes more than 10 MB).

    Args:
        queries: float32, shape [m, d].
        keys: float32, shape [n, d].
        k: How many of the keys, from 1 to n.
        done: Called after each block of queries with the number of queries that are done by then;
            what it raises ends the search.

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
    lengths = _lengths(keys)
    numbers = _BLOCK_BYTES // 4
    # What is sorted for a query takes about 16 numbers for each of its k.
    rows = max(1, min(numbers // max(keys.shape[1], 16 * k), _MOST_QUERIES))
    at_once = max(1, numbers // rows)
    for start in range(0, len(queries), rows):
        some = queries[start : start + rows]
        block = some / _divisor(_lengths(some))[:, None]
        block[~np.isfinite(block).all(axis=1)] = 0.0
        best = np.empty((len(block), 0), dtype=np.float32)
        places = np.empty((len(block), 0), dtype=np.int64)
        for first in range(0, len(keys), at_once):
            similar = _cosines(block, keys[first : first + at_once], lengths[first:])
            found, where = _top(similar, k)
            best = np.concatenate([best, found], axis=1)
            places = np.concatenate([places, where + first], axis=1)
            # Of equal ones the lower index comes first: they are sorted by both.
            order = np.lexsort((places, -best), axis=1)[:, :k]
            best = np.take_along_axis(best, order, axis=1)
            places = np.take_along_axis(places, order, axis=1)
        indices[start : start + rows] = places
        cosines[start : start + rows] = best
        done(start + len(block))
    return indices, cosines


def _lengths(vectors: FloatArray) -> FloatArray:
    """Return ‖x‖ of each row, summed in float64: float32, shape [n]."""
    lengths = np.zeros(len(vectors), dtype=np.float32)
    rows = max(1, _BLOCK_BYTES // 8 // max(vectors.shape[1], 1))
    with np.errstate(over="ignore"):  # to infinity: such a vector has no direction
        for start in range(0, len(vectors), rows):
            some = vectors[start : start + rows].astype(np.float64)
            lengths[start : start + rows] = np.sqrt(np.einsum("ij,ij->i", some, some))
    return lengths


def _divisor(lengths: FloatArray) -> FloatArray:
    """Return lengths with 1 in place of 0."""
    return np.where(lengths > 0, lengths, np.float32(1.0))


def _cosines(block: FloatArray, keys: FloatArray, lengths: FloatArray) -> FloatArray:
    """Return the cosines of queries of length 1 with keys; `lengths` begins with those of these."""
    own = lengths[: len(keys)]
    with np.errstate(invalid="ignore", over="ignore"):
        similar = np.asarray(block @ keys.T, dtype=np.float32)
        similar /= _divisor(own)
    similar[:, ~np.isfinite(own)] = 0.0
    # Rounding takes some above 1: equals, which the lower index decides.
    return np.clip(similar, -1.0, 1.0, out=similar)


def _top(similarities: FloatArray, k: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the k largest of each row, of equals those that come first, in any order; or all."""
    rows, columns = similarities.shape
    if columns <= k:
        places = np.broadcast_to(np.arange(columns), similarities.shape)
        return similarities, places.astype(np.int64)
    least = np.partition(similarities, columns - k, axis=1)[:, columns - k, None]
    chosen = similarities >= least
    for row in np.flatnonzero(np.count_nonzero(chosen, axis=1) > k):
        equal = np.flatnonzero(similarities[row] == least[row])
        above = np.count_nonzero(chosen[row]) - len(equal)
        chosen[row, equal[k - above :]] = False
    places = np.nonzero(chosen)[1].reshape(rows, k)
    return np.take_along_axis(similarities, places, axis=1), places

"""The order of classes in which a large confusion matrix can be read: the confused side by side."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MANY_CLASSES = 15  # with more, the order of the data hides what is confused with what
_MOST_ORDERED_LEAVES = 600  # ordering the leaves takes the cube of their number


def order(matrix: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the classes so that those that are taken for each other stand side by side.

    Average-linkage clustering on 1 - s, where s_ij is the mean of the share of i taken for j and
    the share of j taken for i, divided by the largest such mean; the leaves are then turned so
    that neighbours are as alike as the tree allows.

    Args:
        matrix: Counts, [n, n]: true classes down, predicted classes across.

    Returns:
        Positions of the classes, each once; the order of the data where nothing is confused. The
        first position is less than the last: of an order and its reverse one is always taken.

    Source:
        Bar-Joseph et al. 2001, Fast optimal leaf ordering for hierarchical clustering.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    n = len(counts)
    alike = _alike(counts)
    if n < 3 or not alike.any():
        return tuple(range(n))
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    distances = 1.0 - alike / alike.max()
    np.fill_diagonal(distances, 0.0)
    flat = squareform(distances, checks=False)
    tree = hierarchy.linkage(flat, "average", optimal_ordering=n <= _MOST_ORDERED_LEAVES)
    leaves = [int(leaf) for leaf in hierarchy.leaves_list(tree)]
    return tuple(leaves if leaves[0] < leaves[-1] else leaves[::-1])


def _alike(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how often two classes are taken for each other, [n, n], symmetric, 0 with itself."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    np.fill_diagonal(shares, 0.0)
    alike: NDArray[np.float64] = (shares + shares.T) / 2.0
    return alike

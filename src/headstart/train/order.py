"""In which order samples are visited: the same from stored features as through the network."""

import numpy as np

from headstart._util.seeding import generator
from headstart.types import IntArray

_POOL = 64  # batches that are sorted by length together


def epoch_order(
    count: int, seed: int, epoch: int, lengths: IntArray | None = None, batch_size: int = 1
) -> IntArray:
    """Return the order in which an epoch visits `count` training samples: int64, shape [count].

    Args:
        count: Number of samples.
        seed: Of the training.
        epoch: From 1.
        lengths: Length of each sample, [count], where samples of about one length shall come
            together: then the samples are shuffled, shared out in pools of 64 batches, sorted by
            length in each, cut into batches, and the batches are shuffled.
        batch_size: Samples per batch.

    Returns:
        Positions from 0 to `count` - 1; where there is a short batch it is the last.
    """
    random = generator("order", seed, epoch)
    order = random.permutation(count).astype(np.int64)
    if lengths is None:
        return order
    pool = _POOL * batch_size
    pools = [order[start : start + pool] for start in range(0, count, pool)]
    ordered = np.concatenate([some[np.argsort(lengths[some], kind="stable")] for some in pools])
    whole = count // batch_size
    batches = ordered[: whole * batch_size].reshape(whole, batch_size)[random.permutation(whole)]
    return np.concatenate([batches.reshape(-1), ordered[whole * batch_size :]])


def evaluation_order(rows: IntArray, lengths: IntArray | None) -> IntArray | None:
    """Return in which order a split is evaluated: positions in it, by length; None: as it is."""
    return None if lengths is None else np.argsort(lengths[rows], kind="stable")

"""How well a language model predicts a text: loss and perplexity, with their intervals."""

import numpy as np

from headstart.evaluate.intervals import acceleration, bca_ends, resampled_means
from headstart.types import FloatArray, Score

_FEWEST_BLOCKS = 20
_LARGEST = 700.0  # nats: the exponential of more is no number


def perplexity(nll: FloatArray, block: int = 512, seed: int = 0) -> dict[str, Score]:
    """Return the mean loss of a text's tokens, and its exponential.

    Tokens next to each other depend on each other: a rare name that comes up comes up again. A
    bootstrap over single tokens would take them for independent and give too narrow an interval, so
    whole blocks of neighbouring tokens are drawn. A resample's loss is the sum over its blocks
    divided by their tokens, since the last block may be shorter. The interval is BCa's with
    the blocks as its samples: the acceleration is the skewness of what each block adds to the loss.
    Such an interval moves with the exponential, so the ends of the perplexity are the loss's.

    Args:
        nll: Negative log-likelihood of each token in nats, in the order of the text, shape [n].
        block: Tokens in a block; fewer where the text has less than 20 blocks of them.
        seed: Decides the resamples.

    Returns:
        ``loss`` (nats per token) and ``perplexity``, with 95% intervals; no perplexity is told as
        more than e^700.

    Raises:
        ValueError: There is no token, or a figure is not a finite number.

    Source: Künsch, The Jackknife and the Bootstrap for General Stationary Observations (1989); for
    blocks that do not overlap: Carlstein (1986); BCa: Efron (1987).
    """
    n = len(nll)
    if n == 0 or block < 1:
        raise ValueError(f"expected at least one token and block >= 1, got {n} and {block}")
    if not np.isfinite(nll).all():
        raise ValueError("expected finite losses, got NaN or infinity")
    size = max(1, min(block, n // _FEWEST_BLOCKS))
    starts = np.arange(0, n, size)
    sums = np.add.reduceat(nll.astype(np.float64), starts)
    counts = np.diff([*starts, n])
    value = float(sums.sum() / n)
    # A mean of blocks and the mean of their tokens, from the same blocks: their ratio is the loss.
    drawn = resampled_means(np.stack([sums, counts], axis=1).astype(np.float64), seed)
    # The influence of a block on a ratio of sums is what it lies above the ratio.
    apart = sums - value * counts
    skew = acceleration((apart**3).sum(keepdims=True), (apart**2).sum(keepdims=True))
    ends = bca_ends(np.array([value]), drawn[:, :1] / drawn[:, 1:], skew)
    low, high = (float(end[0]) for end in ends)
    shown, lowest, highest = (float(np.exp(min(end, _LARGEST))) for end in (value, low, high))
    return {
        "loss": Score(value, low, high, n),
        "perplexity": Score(shown, lowest, highest, n),
    }

"""Perplexity and its interval, for words that depend on their neighbours."""

import numpy as np
import pytest
from scipy import stats

from headstart.evaluate.language import perplexity


def chained(n: int, seed: int, memory: float = 0.95) -> np.ndarray:
    """Make losses whose neighbours are alike: an autoregression of order one around 5."""
    noise = np.random.default_rng(seed).normal(size=n)
    out = np.empty(n)
    value = noise[0] / np.sqrt(1 - memory**2)
    for i in range(n):
        value = memory * value + noise[i]
        out[i] = value
    return (out + 5).astype(np.float32)


def test_perplexity_is_the_exponential_of_the_mean_loss() -> None:
    nll = np.random.default_rng(0).gamma(2.0, 2.0, 5000).astype(np.float32)
    scores = perplexity(nll)
    loss, shown = scores["loss"], scores["perplexity"]
    assert loss.value == pytest.approx(nll.mean(), rel=1e-6)
    for end in ("value", "low", "high"):
        assert getattr(shown, end) == pytest.approx(np.exp(getattr(loss, end)))
    assert loss.low < loss.value < loss.high
    assert shown.n == 5000
    assert scores == perplexity(nll)
    assert scores["loss"].low != perplexity(nll, seed=1)["loss"].low


def test_independent_tokens_give_the_textbook_interval() -> None:
    nll = np.random.default_rng(0).normal(4, 2, 40_000).astype(np.float32)
    loss = perplexity(nll)["loss"]
    assert loss.high - loss.low == pytest.approx(2 * 1.96 * 2 / np.sqrt(40_000), rel=0.2)


def test_the_interval_is_scipys_bca_over_blocks() -> None:
    nll = chained(990, 3).clip(0) ** 2
    nll[200:240] *= 30  # one hard passage: the blocks are skewed
    score = perplexity(nll, block=40, seed=0)["loss"]
    parts = [nll[i : i + 40].astype(np.float64) for i in range(0, 990, 40)]

    def ratio(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
        return sums.sum(axis=axis) / counts.sum(axis=axis)

    expected = stats.bootstrap(
        (np.array([p.sum() for p in parts]), np.array([float(len(p)) for p in parts])),
        ratio,
        paired=True,
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    close = 0.08 * (score.high - score.low)
    assert score.low == pytest.approx(expected.low, abs=close)
    assert score.high == pytest.approx(expected.high, abs=close)


def test_blocks_cover_where_single_tokens_do_not() -> None:
    """Of 50 texts with the true mean 5, about 95% of the intervals shall hold it."""
    blocks = tokens = 0
    for seed in range(50):
        nll = chained(3000, seed, memory=0.9)
        loss, narrow = perplexity(nll, block=100)["loss"], perplexity(nll, block=1)["loss"]
        blocks += loss.low <= 5 <= loss.high
        tokens += narrow.low <= 5 <= narrow.high
    assert blocks >= 43
    assert tokens < 35


def test_short_texts_and_a_last_short_block_are_fine() -> None:
    one = perplexity(np.array([2.0], dtype=np.float32))["loss"]
    assert (one.low, one.value, one.high) == (2.0, 2.0, 2.0)
    equal = perplexity(np.full(1037, 1.5, dtype=np.float32))["loss"]
    assert equal.low == pytest.approx(1.5)
    assert equal.high == pytest.approx(1.5)


def test_what_is_no_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        perplexity(np.empty(0, dtype=np.float32))
    with pytest.raises(ValueError, match="finite"):
        perplexity(np.array([1.0, np.nan], dtype=np.float32))

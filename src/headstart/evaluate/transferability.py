"""How well a frozen backbone suits some labels, without training: LogME, LEEP, neighbours."""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize

from headstart.evaluate.neighbours import nearest
from headstart.types import FloatArray, IntArray

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 20
_TEMPERATURE = 0.07
_FEW = 7  # of so many all 5,040 orders are looked at
_GRID = np.linspace(-30.0, 30.0, 121)  # log of α / (β · largest eigenvalue)


def logme(features: FloatArray, labels: IntArray, classes: int) -> float:
    """Return the logarithm of maximum evidence (LogME): larger is better.

    For each class k, its indicator y ∈ {0, 1}ⁿ is seen as a linear function of the features
    F [n, d] with Gaussian weights, w ~ N(0, α⁻¹I), and Gaussian noise, y ~ N(Fw, β⁻¹I). The score
    is log p(y | F, α, β) / n at the α and β that make it largest, mean over the classes.

    With the eigenvalues σᵢ of FᵀF, the squared projections xᵢ² of y on the left singular vectors
    and t = α/β, the best β for a given t is n / Q(t), Q(t) = Σ xᵢ² t / (t + σᵢ) + ‖y‖² − Σ xᵢ²,
    and there

        log p = ½ [n log(n / Q(t)) − n − Σ log(1 + σᵢ / t) − n log 2π],

    so one number t is searched: on a grid, and then to the optimum. (The paper's fixed point stops
    at a stationary point of the same function; its implementation leaves d − n terms of log |A|
    away where n < d, which cancel here.)

    Args:
        features: float32 or float64, shape [n, d].
        labels: Class indices, int64, shape [n].
        classes: Number of classes; those that no sample has are left out of the mean.

    Returns:
        The score, in nats per sample; not bounded.

    Raises:
        ValueError: The shapes do not fit, a number is not finite, or fewer than two classes are
            there.

    Source: You, Liu, Wang, Long 2021, LogME, ICML, arXiv:2102.11005, equations 1 to 3.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"expected features [n, d] and labels [n], got {features.shape} and {labels.shape}"
        )
    there = np.flatnonzero(np.bincount(labels, minlength=classes))
    if len(there) < 2:
        raise ValueError(f"expected samples of at least two classes, got {len(there)}")
    f = features.astype(np.float64)
    if not np.isfinite(f).all():
        raise ValueError("features: expected finite numbers")
    n = len(f)
    indicators = (labels[:, None] == there).astype(np.float64)  # [n, k]
    eigenvalues, squares = _projected(f, indicators)
    if not len(eigenvalues):  # features of zeros explain nothing, and need no weights
        eigenvalues, squares = np.zeros(1), np.zeros((1, len(there)))
    total = indicators.sum(axis=0)  # ‖y‖²
    rest = total - squares.sum(axis=0)
    # Where the features can give y exactly nothing is left but rounding, which would be all of Q.
    rest[rest < 10 * max(f.shape) * np.finfo(np.float64).eps * total] = 0.0
    scale = float(eigenvalues[-1]) if eigenvalues[-1] > 0 else 1.0
    scores = [
        _largest_evidence(eigenvalues / scale, squares[:, k], float(rest[k]), n)
        for k in range(len(there))
    ]
    return float(np.mean(scores))


def _projected(f: Floats, indicators: Floats) -> tuple[Floats, Floats]:
    """Return the eigenvalues of FᵀF that are not 0, ascending, and squared projections [r, k]."""
    n, d = f.shape
    values, vectors = np.linalg.eigh(f.T @ f if d <= n else f @ f.T)
    # Rounding leaves eigenvalues of about this size where they are 0.
    keep = values > max(values[-1], 0.0) * max(n, d) * np.finfo(np.float64).eps
    values, vectors = values[keep], vectors[:, keep]
    if d > n:
        return values, (vectors.T @ indicators) ** 2
    return values, (vectors.T @ (f.T @ indicators)) ** 2 / values[:, None]


def _largest_evidence(sigma: Floats, squares: Floats, rest: float, n: int) -> float:
    """Return the largest log evidence per sample over t = α/β."""

    def evidence(log_t: Floats) -> Floats:
        t = np.exp(log_t)[:, None]
        q = (squares * (t / (t + sigma))).sum(axis=1) + rest
        q = np.maximum(q, 1e-300)
        found: Floats = 0.5 * (
            n * np.log(n / q) - n - np.log1p(sigma / t).sum(axis=1) - n * np.log(2 * np.pi)
        )
        return found / n

    at = int(evidence(_GRID).argmax())
    bounds = (_GRID[max(at - 1, 0)], _GRID[min(at + 1, len(_GRID) - 1)])
    found = optimize.minimize_scalar(
        lambda log_t: -float(evidence(np.array([log_t]))[0]),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-9},
    )
    return max(-float(found.fun), float(evidence(_GRID[at : at + 1])[0]))


def leep(source_probabilities: FloatArray, labels: IntArray, classes: int) -> float:
    """Return the log expected empirical prediction (LEEP): larger is better, 0 is the best.

    The network's own classifier says θ(x)_z for each of its s classes z. With the empirical
    P(y | z) = Σ_{i: yᵢ = y} θ(xᵢ)_z / Σᵢ θ(xᵢ)_z, the score is the mean over the samples of
    log Σ_z P(yᵢ | z) θ(xᵢ)_z.

    Args:
        source_probabilities: θ, shape [n, s]; rows sum to 1.
        labels: Class indices, int64, shape [n].
        classes: Number of classes.

    Returns:
        The score, in nats per sample, at most 0.

    Raises:
        ValueError: The shapes do not fit, or there is no sample.

    Source: Nguyen, Hassner, Seeger, Archambeau 2020, LEEP, ICML, arXiv:2002.12462, equation 2.
    """
    if source_probabilities.ndim != 2 or labels.shape != source_probabilities.shape[:1]:
        raise ValueError(
            "expected probabilities [n, s] and labels [n], got "
            f"{source_probabilities.shape} and {labels.shape}"
        )
    if not len(labels):
        raise ValueError("expected at least one sample, got none")
    theta = source_probabilities.astype(np.float64)
    joint = np.zeros((classes, theta.shape[1]))
    np.add.at(joint, labels, theta)
    marginal = joint.sum(axis=0)
    conditional = joint / np.where(marginal > 0, marginal, 1.0)  # P(y | z), [classes, s]
    expected = (conditional[labels] * theta).sum(axis=1)
    return float(np.log(np.maximum(expected, 1e-300)).mean())


def knn_votes(
    train: FloatArray,
    train_labels: IntArray,
    val: FloatArray,
    classes: int,
    k: int = NEIGHBOURS,
) -> Floats:
    """Return the shares of the classes among each sample's nearest neighbours.

    The k most similar training samples vote, each with weight exp(cosine / 0.07).

    Args:
        train: Features, float32, shape [n, d].
        train_labels: Class indices, int64, shape [n].
        val: Features of the samples to classify, float32, shape [m, d].
        classes: Number of classes.
        k: Neighbours that vote; all where there are fewer.

    Returns:
        Shares of the votes, float64, shape [m, classes]; rows sum to 1.

    Source: Wu, Xiong, Yu, Lin 2018, arXiv:1805.01978, section 3.4; with k = 20 as by Caron et al.
        2021, arXiv:2104.14294.
    """
    indices, cosines = nearest(val, train, min(k, len(train)))
    # Relative to the nearest one: only ratios matter.
    weights = np.exp((cosines - cosines[:, :1]).astype(np.float64) / _TEMPERATURE)
    votes = np.zeros((len(val), classes))
    rows = np.broadcast_to(np.arange(len(val))[:, None], indices.shape)
    np.add.at(votes, (rows, train_labels[indices]), weights)
    shares: Floats = votes / votes.sum(axis=1, keepdims=True)
    return shares


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """How well one order agrees with another.

    Attributes:
        value: From −1 (reversed) to 1 (the same); None where one of the orders is all ties.
        p: Two-sided p-value of no association: over all orders up to seven things, and then as
            SciPy has it; or None.
        n: How many were ordered.
    """

    value: float | None
    p: float | None
    n: int


def rank_correlation(
    a: Floats, b: Floats, method: Literal["spearman", "kendall"]
) -> RankCorrelation:
    """Return how well the order of some scores agrees with that of others.

    Args:
        a: Scores, shape [n].
        b: Scores of the same things, shape [n].
        method: ``spearman`` (ρ) or ``kendall`` (τ-b).

    Returns:
        The correlation, its p-value and n. Fewer than two, or ties alone, have none.

    Raises:
        ValueError: The shapes differ.
    """
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"expected two vectors of one length, got {a.shape} and {b.shape}")
    n = len(a)
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return RankCorrelation(None, None, n)
    from scipy import stats  # takes 0.4 s to import: not for whoever compares no ranks

    test = stats.kendalltau if method == "kendall" else stats.spearmanr
    found = test(a, b)
    p = float(found.pvalue) if n > _FEW else _exact_p(a, b, method)
    return RankCorrelation(float(found.statistic), p, n)


def spearman(a: Floats, b: Floats) -> RankCorrelation:
    """Return Spearman's rank correlation of two lists of scores (see `rank_correlation`)."""
    return rank_correlation(a, b, "spearman")


def kendall(a: Floats, b: Floats) -> RankCorrelation:
    """Return Kendall's τ-b of two lists of scores (see `rank_correlation`)."""
    return rank_correlation(a, b, "kendall")


def _exact_p(a: Floats, b: Floats, method: Literal["spearman", "kendall"]) -> float:
    """Return the share of all orders of b that agree or disagree with a as much, ties and all."""
    from scipy import stats

    orders = np.array(list(itertools.permutations(range(len(a)))))
    x, y = stats.rankdata(a), stats.rankdata(b)
    # Both coefficients are, up to a factor that the order does not change, sums of products.
    if method == "spearman":
        every = (y - y.mean())[orders] @ (x - x.mean())
    else:
        signs = np.sign(x[:, None] - x)
        every = (signs * np.sign(y[orders][:, :, None] - y[orders][:, None, :])).sum(axis=(1, 2))
    # The first of the orders is the one that was seen.
    return float((np.abs(every) >= abs(every[0]) - 1e-9).mean())

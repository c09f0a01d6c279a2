"""LogME against the evidence written out plainly: its matrices, its inverse, its determinant."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from sklearn.neighbors import KNeighborsClassifier

from headstart.evaluate.transferability import kendall, knn_votes, leep, logme, spearman


def _log_evidence(f: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    """Equation 2 of You et al. 2021, with A = αI + βFᵀF and m = βA⁻¹Fᵀy."""
    n, d = f.shape
    a = alpha * np.eye(d) + beta * f.T @ f
    m = beta * np.linalg.solve(a, f.T @ y)
    _, log_determinant = np.linalg.slogdet(a)
    return (
        n / 2 * math.log(beta)
        + d / 2 * math.log(alpha)
        - n / 2 * math.log(2 * math.pi)
        - beta / 2 * ((f @ m - y) ** 2).sum()
        - alpha / 2 * (m**2).sum()
        - log_determinant / 2
    )


def _fixed_point(f: np.ndarray, y: np.ndarray) -> float:
    """Algorithm 1 of the paper, run until it stands still."""
    n, d = f.shape
    sigma = np.clip(np.linalg.eigvalsh(f.T @ f), 0, None)
    alpha = beta = 1.0
    for _ in range(20_000):
        m = beta * np.linalg.solve(alpha * np.eye(d) + beta * f.T @ f, f.T @ y)
        gamma = (beta * sigma / (alpha + beta * sigma)).sum()
        new = gamma / (m**2).sum(), (n - gamma) / ((f @ m - y) ** 2).sum()
        still = abs(math.log(new[0] / alpha)) + abs(math.log(new[1] / beta)) < 1e-12
        alpha, beta = new
        if still:
            break
    return _log_evidence(f, y, alpha, beta) / n


def _marginal(f: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    """The same with the weights integrated out: y ~ N(0, β⁻¹I + α⁻¹FFᵀ); sound where β ≫ α."""
    covariance = np.eye(len(f)) / beta + f @ f.T / alpha
    _, log_determinant = np.linalg.slogdet(covariance)
    return -0.5 * (
        y @ np.linalg.solve(covariance, y) + log_determinant + len(f) * math.log(2 * math.pi)
    )


def _climbed(f: np.ndarray, y: np.ndarray) -> float:
    """The largest evidence over log α and log β, from several starts."""
    best = -math.inf
    for start in ([0.0, 0.0], [3.0, 3.0], [-3.0, 2.0]):
        found = minimize(
            lambda p: -_marginal(f, y, math.exp(p[0]), math.exp(p[1])),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000},
        )
        best = max(best, -found.fun)
    return best / len(f)


def _problem(seed: int, n: int, d: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    f = random.standard_normal((n, d)) * np.geomspace(1, 0.1, d) + 0.3
    scores = f @ random.standard_normal((d, classes)) + random.standard_normal((n, classes))
    labels = scores.argmax(axis=1)
    labels[:classes] = np.arange(classes)  # all classes are there
    return f, labels.astype(np.int64)


@pytest.mark.parametrize("shape", [(30, 6), (12, 20)])
def test_both_ways_to_write_the_evidence_are_the_same(shape):
    f, labels = _problem(0, *shape, 2)
    y = (labels == 1).astype(np.float64)
    for alpha, beta in ((1.0, 1.0), (0.3, 20.0), (50.0, 2.0)):
        assert _log_evidence(f, y, alpha, beta) == pytest.approx(_marginal(f, y, alpha, beta))


@pytest.mark.parametrize(
    ("n", "d", "classes"), [(60, 5, 2), (80, 12, 4), (30, 30, 3), (25, 40, 3), (20, 90, 2)]
)
@pytest.mark.parametrize("seed", range(3))
def test_logme_is_the_largest_evidence(seed, n, d, classes):
    f, labels = _problem(seed, n, d, classes)
    indicators = [(labels == k).astype(np.float64) for k in range(classes)]
    ours = logme(f, labels, classes)
    assert ours == pytest.approx(np.mean([_climbed(f, y) for y in indicators]), abs=2e-9)
    if d < n:
        assert ours == pytest.approx(np.mean([_fixed_point(f, y) for y in indicators]), abs=1e-8)


def test_logme_does_not_change_with_the_scale_the_order_or_a_rotation_of_the_features():
    f, labels = _problem(0, 70, 9, 3)
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((9, 9)))
    order = np.random.default_rng(2).permutation(70)
    ours = logme(f, labels, 3)
    assert logme(1e4 * f, labels, 3) == pytest.approx(ours, abs=1e-9)
    assert logme(f @ q, labels, 3) == pytest.approx(ours, abs=1e-9)
    assert logme(f[order], labels[order], 3) == pytest.approx(ours, abs=1e-9)
    # A class that no sample has says nothing.
    assert logme(f, labels, 5) == ours


def test_logme_prefers_features_that_know_the_labels():
    f, labels = _problem(0, 200, 16, 4)
    noise = np.random.default_rng(5).standard_normal(f.shape)
    assert logme(f, labels, 4) > logme(f + noise, labels, 4) > logme(noise, labels, 4)


def test_logme_of_features_that_say_nothing_is_finite():
    labels = np.arange(20) % 2
    assert math.isfinite(logme(np.zeros((20, 4)), labels, 2))
    assert math.isfinite(logme(np.ones((20, 4)), labels, 2))


def test_logme_refuses_what_it_cannot_score():
    f, labels = _problem(0, 30, 4, 2)
    with pytest.raises(ValueError, match="two classes"):
        logme(f, np.zeros(30, np.int64), 2)
    with pytest.raises(ValueError, match="finite"):
        logme(np.where(f > 1, np.nan, f), labels, 2)
    with pytest.raises(ValueError, match="expected features"):
        logme(f, labels[:-1], 2)


def test_leep_is_the_sum_over_the_source_classes_written_out():
    random = np.random.default_rng(0)
    theta = random.dirichlet(np.ones(6), size=40)
    labels = random.integers(0, 3, 40)
    joint = {
        (y, z): sum(theta[i, z] for i in range(40) if labels[i] == y) / 40
        for y in range(3)
        for z in range(6)
    }
    marginal = {z: sum(joint[y, z] for y in range(3)) for z in range(6)}
    expected = [
        math.log(sum(joint[labels[i], z] / marginal[z] * theta[i, z] for z in range(6)))
        for i in range(40)
    ]
    assert leep(theta, labels, 3) == pytest.approx(np.mean(expected), abs=1e-12)


def test_leep_is_0_where_source_classes_tell_all_and_the_entropy_where_they_tell_nothing():
    labels = np.arange(30) % 3
    assert leep(np.eye(5)[labels + 1], labels, 3) == pytest.approx(0.0, abs=1e-12)
    assert leep(np.full((30, 5), 0.2), labels, 3) == pytest.approx(math.log(1 / 3), abs=1e-12)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_neighbours_vote_like_scikit_learns_with_the_same_weights(k):
    random = np.random.default_rng(3)
    x = random.standard_normal((150, 6)).astype(np.float32) + 0.5
    y = (x[:, 0] + 0.5 * random.standard_normal(150) > 0.5).astype(np.int64)
    reference = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(x[:100], y[:100])
    votes = knn_votes(x[:100], y[:100], x[100:], 2, k)
    assert votes == pytest.approx(reference.predict_proba(x[100:]), abs=1e-4)


def test_rank_correlations_of_few_say_how_little_they_mean():
    a = np.array([1.0, 2.0, 3.0])
    assert spearman(a, 2 * a).value == pytest.approx(1.0)
    # Of the six orders of three things two agree or disagree wholly.
    assert spearman(a, 2 * a).p == pytest.approx(1 / 3)
    assert kendall(a, -a).value == pytest.approx(-1.0)
    assert kendall(a, -a).p == pytest.approx(1 / 3)
    assert spearman(a, np.ones(3)).value is None
    assert spearman(a[:1], a[:1]).n == 1
    assert kendall(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])).value == pytest.approx(2 / 3)


@pytest.mark.parametrize("n", [4, 6, 7])
def test_the_p_values_of_few_are_scipys_exact_ones_and_hold_with_ties_too(n):
    random = np.random.default_rng(n)
    a, b = random.permutation(n).astype(float), random.permutation(n).astype(float)
    assert kendall(a, b).p == pytest.approx(stats.kendalltau(a, b, method="exact").pvalue)
    for ours, reference in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        tied = np.floor(b / 2)
        exact = stats.permutation_test(
            (a,),
            lambda x, reference=reference, tied=tied: reference(x, tied).statistic,
            permutation_type="pairings",
            n_resamples=np.inf,
        )
        found = ours(a, tied)
        assert found.value == pytest.approx(exact.statistic)
        both = (np.abs(exact.null_distribution) >= abs(exact.statistic) - 1e-9).mean()
        assert found.p == pytest.approx(both)

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from headstart.heads import fit_logistic

CPU = torch.device("cpu")


def problem(n: int, width: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width))
    y = rng.integers(0, classes, n)
    return (centres[y] + 1.5 * rng.normal(size=(n, width))).astype(np.float32), y


@pytest.mark.parametrize(("n", "width", "classes"), [(200, 10, 3), (60, 100, 5), (300, 20, 10)])
def test_it_finds_scikit_learns_optimum(n: int, width: int, classes: int) -> None:
    z, y = problem(n, width, classes, seed=n)
    for fit in fit_logistic(z, y, classes, [0.01, 1.0, 10.0], device=CPU, tolerance=1e-5):
        other = LogisticRegression(C=fit.c, solver="newton-cholesky", tol=1e-12)
        other.fit(z.astype(np.float64), y)
        np.testing.assert_allclose(fit.weight, other.coef_, atol=2e-4 * np.abs(other.coef_).max())
        centred = fit.bias - fit.bias.mean()  # only differences of biases matter
        np.testing.assert_allclose(centred, other.intercept_ - other.intercept_.mean(), atol=2e-3)
        assert fit.converged


def test_the_objective_is_no_higher_than_scikit_learns() -> None:
    z, y = problem(150, 30, 4, seed=1)
    (fit,) = fit_logistic(z, y, 4, [0.5], device=CPU, tolerance=1e-5)
    other = LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-12).fit(
        z.astype(np.float64), y
    )
    log_p = other.predict_log_proba(z.astype(np.float64))[np.arange(150), y]
    reached = -0.5 * log_p.sum() + 0.5 * np.square(other.coef_).sum()
    assert fit.objective <= reached * (1 + 1e-6)


def test_two_classes_and_a_class_without_samples_work() -> None:
    z, y = problem(80, 6, 2, seed=3)
    (fit,) = fit_logistic(z, y, 3, [1.0], device=CPU, tolerance=1e-5)
    scores = z @ fit.weight.T + fit.bias
    assert set(scores.argmax(axis=1)) <= {0, 1}


def test_the_default_tolerance_gives_the_same_probabilities_for_practical_purposes() -> None:
    z, y = problem(300, 60, 5, seed=6)
    loose = fit_logistic(z, y, 5, [1.0], device=CPU)[0]
    tight = fit_logistic(z, y, 5, [1.0], device=CPU, tolerance=1e-6)[0]

    def probabilities(fit):
        scores = z @ fit.weight.T + fit.bias
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    assert np.abs(probabilities(loose) - probabilities(tight)).max() < 1e-2


def test_the_order_of_c_does_not_matter() -> None:
    z, y = problem(100, 8, 3, seed=4)
    up = fit_logistic(z, y, 3, [0.1, 1.0], device=CPU, tolerance=1e-5)
    down = fit_logistic(z, y, 3, [1.0, 0.1], device=CPU, tolerance=1e-5)
    np.testing.assert_allclose(up[0].weight, down[1].weight, atol=1e-6)


def test_a_c_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        fit_logistic(
            np.zeros((2, 2), np.float32), np.array([0, 1]), 2, [0.0], device=CPU, tolerance=1e-5
        )

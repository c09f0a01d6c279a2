"""Cross-validated probes: nobody predicts what it was trained on, and folds are fair."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from headstart.heads import cross_validate, stratified_folds
from headstart.heads.cross_validation import inverse_penalties, leading

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def made(n: int = 300, classes: int = 3, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, n).astype(np.int64)
    centres = random.normal(size=(classes, width)) * 0.7
    return (centres[labels] + random.normal(size=(n, width))).astype(np.float32), labels


def test_folds_are_equal_in_size_and_in_their_classes() -> None:
    labels = np.repeat([0, 1, 2], [50, 33, 7]).astype(np.int64)
    folds = stratified_folds(labels, 5, seed=3)
    assert np.ptp(np.bincount(folds)) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(folds[labels == label], minlength=5)) <= 1
    assert not np.array_equal(folds, stratified_folds(labels, 5, seed=4))


def test_each_sample_is_predicted_by_a_probe_of_the_other_folds() -> None:
    features, labels = made()
    found = cross_validate(features, labels, 3, cs=[0.3], seed=1, device=CPU)
    for fold in range(5):
        held = found.folds == fold
        reference = LogisticRegression(C=0.3, max_iter=5000, tol=1e-8)
        reference.fit(features[~held], labels[~held])
        expected = reference.predict_proba(features[held])
        assert np.abs(found.probabilities[held] - expected).max() < 0.02


@pytest.mark.parametrize("shape", [(200, 60), (60, 200)])
def test_leading_directions_are_those_of_pca(shape: tuple[int, int]) -> None:
    features = np.random.default_rng(0).normal(size=shape) * np.linspace(1, 8, shape[1])
    features = (features + 3).astype(np.float32)
    expected = PCA(7, svd_solver="full").fit_transform(features)
    found = leading(features, 7)
    # Directions have no sign and no order here: products of samples have neither.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=1e-2, atol=0.3)


def test_labels_that_mean_nothing_are_not_learnt_by_heart() -> None:
    features, _ = made(width=200)
    labels = np.random.default_rng(5).integers(0, 3, len(features)).astype(np.int64)
    found = cross_validate(features, labels, 3, device=CPU)
    accuracy = (found.probabilities.argmax(axis=1) == labels).mean()
    assert abs(accuracy - 1 / 3) < 0.09  # 3 standard errors; a leak would give nearly 1


def test_the_unit_of_the_features_does_not_matter() -> None:
    features, labels = made()
    one = cross_validate(features, labels, 3, device=CPU)
    other = cross_validate(features * 1000 + 7, labels, 3, device=CPU)
    assert np.abs(one.probabilities - other.probabilities).max() < 2e-2
    ratio = np.array(inverse_penalties(features)) / np.array(inverse_penalties(features * 10))
    np.testing.assert_allclose(ratio, 100, rtol=1e-3)


def test_a_share_trains_on_that_share_and_keeps_every_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from headstart.heads import cross_validation

    features, _ = made(400)
    labels = np.repeat([0, 1, 2], [300, 96, 4]).astype(np.int64)
    seen = []
    real = cross_validation.fit_logistic

    def spy(z: np.ndarray, y: np.ndarray, *args: object, **options: object) -> object:
        seen.append(np.bincount(y, minlength=3))
        return real(z, y, *args, **options)

    monkeypatch.setattr(cross_validation, "fit_logistic", spy)
    cross_validate(features, labels, 3, cs=[0.1], share=0.25, device=CPU)
    assert len(seen) == 5
    for counts in seen:
        assert counts.min() >= 1
        assert abs(counts.sum() - 80) <= 3

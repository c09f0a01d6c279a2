import warnings

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint, estimate_joint
from cleanlab.filter import find_label_issues

from headstart.evaluate.labels import suspicious_labels


def _noisy(
    seed: int, n: int, classes: int, flipped: float, sharpness: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true labels, labels of which some are flipped, and probabilities that know better."""
    random = np.random.default_rng(seed)
    true = random.integers(0, classes, n)
    given = true.copy()
    wrong = random.random(n) < flipped
    given[wrong] = (true[wrong] + random.integers(1, classes, wrong.sum())) % classes
    logits = random.standard_normal((n, classes))
    logits[np.arange(n), true] += sharpness
    p = np.exp(logits)
    return true, given, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_same_samples_in_the_same_order_as_cleanlab(seed, classes):
    _, given, p = _noisy(seed, 400, classes, 0.03 * (seed % 5), 0.4 * (seed % 6))
    found = suspicious_labels(given, p)
    reference = find_label_issues(
        given,
        p,
        filter_by="prune_by_noise_rate",
        return_indices_ranked_by="normalized_margin",
        min_examples_per_class=0,
        n_jobs=1,
    )
    assert found.order.tolist() == reference.tolist()
    # Where two counts end in .5 alike, either may be rounded up.
    joint = compute_confident_joint(given, p)
    assert np.abs(found.joint - joint).max() <= 1
    assert (found.joint != joint).sum() <= 2
    assert (found.joint.sum(axis=1) == np.bincount(given, minlength=classes)).all()
    # cleanlab rounds the counts before it makes shares of them.
    share = 1 - np.trace(estimate_joint(given, p))
    assert found.share == pytest.approx(share, abs=classes**2 / 2 / len(given))


def test_a_class_that_no_sample_has_does_not_disturb():
    _, given, p = _noisy(3, 300, 4, 0.1, 2.0)
    p = np.insert(p, 2, 1e-4, axis=1)
    p /= p.sum(axis=1, keepdims=True)
    given = given + (given >= 2)
    found = suspicious_labels(given, p)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues in class: 2")
        reference = find_label_issues(
            given,
            p,
            return_indices_ranked_by="normalized_margin",
            min_examples_per_class=0,
            n_jobs=1,
        )
    assert found.order.tolist() == reference.tolist()
    assert found.joint[2].sum() == 0
    assert 2 not in found.suggested


def test_flipped_labels_are_found_and_their_true_class_is_suggested():
    true, given, p = _noisy(0, 2000, 5, 0.05, 4.0)
    found = suspicious_labels(given, p)
    wrong = given != true
    assert wrong[found.order].mean() > 0.8
    assert wrong[found.order].sum() / wrong.sum() > 0.8
    assert found.share == pytest.approx(wrong.mean(), abs=0.03)
    hit = found.order[wrong[found.order]]
    assert (found.suggested[wrong[found.order]] == true[hit]).mean() > 0.9


def test_a_model_that_agrees_with_every_label_suspects_none():
    given = np.arange(60) % 3
    p = np.full((60, 3), 0.05)
    p[np.arange(60), given] = 0.9
    found = suspicious_labels(given, p)
    assert len(found.order) == 0
    assert found.share == 0


def test_empty_or_misshapen_input_is_refused():
    with pytest.raises(ValueError, match="expected labels"):
        suspicious_labels(np.zeros(3, np.int64), np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="expected labels"):
        suspicious_labels(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))

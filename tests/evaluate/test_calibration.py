"""Calibration against torchmetrics and a direct fit, and what its interval is worth."""

import numpy as np
import pytest
import torch
from scipy import optimize, special
from torchmetrics.classification import MulticlassCalibrationError

from headstart.evaluate import (
    evaluate_classification,
    fit_temperature,
    reliability,
    with_temperature,
)
from headstart.evaluate.calibration import paired_gain


def world(n: int, temperature: float, seed: int, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Make logits whose softmax is the truth at temperature 1, divided by another temperature."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = 2 * (rng.normal(size=(n, classes)) + 2 * np.eye(classes)[labels])
    return labels, logits / temperature


def softmax(logits: np.ndarray) -> np.ndarray:
    return special.softmax(logits, axis=1).astype(np.float32)


@pytest.mark.parametrize("bins", [15, 7])
def test_the_error_is_torchmetrics(bins: int) -> None:
    labels, logits = world(700, 0.5, 0)
    p = softmax(logits)
    # An exact 1 has a bin of its own there; by the source's (low, high] it belongs to the last.
    p = p[p.max(axis=1) < 1]
    labels = labels[softmax(logits).max(axis=1) < 1]
    theirs = MulticlassCalibrationError(num_classes=5, n_bins=bins, norm="l1")
    expected = float(theirs(torch.from_numpy(p), torch.from_numpy(labels)))
    assert reliability(labels, p, bins).ece.value == pytest.approx(expected, abs=1e-6)


def test_the_bins_add_up_to_the_error_and_the_accuracy() -> None:
    labels, logits = world(500, 0.5, 1)
    p = softmax(logits)
    found = reliability(labels, p)
    scores = evaluate_classification(labels, p, tuple("abcde")).scores
    assert sum(row.n for row in found.bins) == 500
    gap = sum(row.n * abs(row.accuracy - row.confidence) for row in found.bins) / 500
    right = sum(row.n * row.accuracy for row in found.bins) / 500
    assert found.ece.value == pytest.approx(gap)
    assert scores["accuracy"].value == pytest.approx(right)
    assert found.loss == scores["loss"]
    for row in found.bins:
        assert row.low < row.confidence <= row.high
        assert row.high - row.low == pytest.approx(1 / 15)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    p = np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)
    found = reliability(np.array([0, 0]), p, bins=4)
    assert [(row.low, row.high, row.n) for row in found.bins] == [(0.25, 0.5, 1), (0.75, 1.0, 1)]


@pytest.mark.parametrize("temperature", [1.0, 0.8, 0.5])
def test_the_interval_of_the_error_holds_the_truth(temperature: float) -> None:
    """Also that of a calibrated classifier, whose measured error is far above the true one."""
    labels, logits = world(400_000, temperature, 0)
    truth = reliability_value(labels, softmax(logits))
    held = 0
    for seed in range(100):
        labels, logits = world(300, temperature, seed + 1)
        found = reliability(labels, softmax(logits), seed=seed).ece
        assert 0 <= found.low <= found.value <= found.high <= 1
        held += found.low <= truth + 1e-3 and truth <= found.high
    assert held >= 89


def reliability_value(labels: np.ndarray, p: np.ndarray) -> float:
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    places = np.ceil(confidence * 15)
    return float(np.abs(np.bincount(places.astype(int), confidence - right)).sum() / len(labels))


def test_few_right_answers_do_not_prove_calibration() -> None:
    p = np.tile(np.array([[1.0, 0.0]], np.float32), (10, 1))
    found = reliability(np.zeros(10, np.int64), p).ece
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.7225, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_that_of_the_true_logits(temperature: float) -> None:
    labels, logits = world(800, temperature, 5)

    def loss(t: float) -> float:
        return -special.log_softmax(logits / t, axis=1)[np.arange(800), labels].mean()

    expected = optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded").x
    found = fit_temperature(labels, softmax(logits))
    assert found == pytest.approx(expected, rel=2e-3)
    assert found == pytest.approx(1 / temperature, rel=0.2)


def test_probabilities_with_a_temperature_are_those_of_the_logits_divided_by_it() -> None:
    _, logits = world(50, 1.0, 6)
    p = softmax(logits)
    for temperature in (0.3, 2.5):
        scaled = with_temperature(p, temperature)
        assert scaled.dtype == np.float32
        assert scaled == pytest.approx(softmax(logits / temperature), abs=2e-6)
        assert (scaled.argmax(axis=1) == p.argmax(axis=1)).all()
    assert np.array_equal(with_temperature(p, 1.0), p)
    with pytest.raises(ValueError, match="above 0"):
        with_temperature(p, 0.0)


def test_probabilities_that_were_rounded_to_nothing_stay_finite() -> None:
    p = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], np.float32)
    labels = np.array([0, 1, 1])
    temperature = fit_temperature(labels, p)
    assert 1 < temperature <= 20
    scaled = with_temperature(p, temperature)
    assert scaled.sum(axis=1) == pytest.approx(1)
    assert reliability(labels, scaled).loss.value < reliability(labels, p).loss.value


def test_where_nothing_can_be_fitted_the_temperature_is_one() -> None:
    p = softmax(np.eye(3))
    assert fit_temperature(np.arange(3), p) == 1  # all right: colder would always be better
    assert fit_temperature(np.zeros(0, np.int64), p[:0]) == 1
    assert fit_temperature(np.zeros(3, np.int64), np.ones((3, 1), np.float32)) == 1
    wrong = np.tile(np.array([[0.9, 0.1]], np.float32), (5, 1))
    assert fit_temperature(np.ones(5, np.int64), wrong) == pytest.approx(20, rel=1e-3)


def test_what_cannot_be_measured_is_refused() -> None:
    p = softmax(np.eye(3))
    with pytest.raises(ValueError, match="at least one sample"):
        reliability(np.zeros(0, np.int64), p[:0])
    with pytest.raises(ValueError, match="labels"):
        reliability(np.zeros(2, np.int64), p)
    p[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.arange(3), p)


def test_the_gain_is_the_difference_of_the_losses_and_turns_round() -> None:
    labels, logits = world(400, 0.5, 7)
    before, after = softmax(logits), softmax(logits / 2)
    gain = paired_gain(labels, before, after)
    losses = [reliability(labels, p).loss for p in (before, after)]
    assert gain.value == pytest.approx(losses[0].value - losses[1].value)
    assert gain.n == 400
    assert gain.low > 0  # the world was made too sure by this very temperature
    back = paired_gain(labels, after, before)
    width = gain.high - gain.low
    assert (back.low, back.high) == pytest.approx((-gain.high, -gain.low), abs=0.03 * width)
    same = paired_gain(labels, before, before)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="labels"):
        paired_gain(labels[:3], before, after)
    with pytest.raises(ValueError, match="at least one"):
        paired_gain(labels[:0], before[:0], after[:0])


def test_pairing_finds_a_gain_that_intervals_side_by_side_hide() -> None:
    labels, logits = world(400, 0.8, 8)
    before, after = softmax(logits), softmax(logits / 1.25)
    losses = [reliability(labels, p).loss for p in (before, after)]
    assert losses[0].low < losses[1].high
    assert paired_gain(labels, before, after).low > 0

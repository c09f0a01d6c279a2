"""Whether a classifier is as often right as it says: reliability, ECE, temperature scaling."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from headstart.evaluate.intervals import bca_mean, resampled_means, wilson_ends
from headstart.types import FloatArray, IntArray, Score

_COLDEST, _HOTTEST = 0.05, 20.0
_FLOOR = float(np.finfo(np.float32).tiny)  # 1e-38: a probability that was rounded to 0

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """The samples whose confidence lies in (low, high].

    Attributes:
        low: Lower edge, not included (0 is, in the first bin).
        high: Upper edge, included.
        n: How many samples, at least 1.
        confidence: The mean of their highest probability.
        accuracy: The share of them whose most probable class is the true one.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well a classifier's confidence fits its accuracy on one split.

    Attributes:
        ece: Expected calibration error: Σ n_b/n · abs(accuracy_b − confidence_b).
        loss: Mean negative log-likelihood in nats.
        bins: The reliability diagram; bins without a sample are left out.
    """

    ece: Score
    loss: Score
    bins: tuple[Bin, ...]


def reliability(
    labels: IntArray, probabilities: FloatArray, bins: int = 15, seed: int = 0
) -> Reliability:
    """Measure how well the confidence fits the accuracy.

    Args:
        labels: True class indices, int64, shape [n], n >= 1.
        probabilities: float32, shape [n, classes].
        bins: How many bins of equal width.
        seed: Decides the bootstrap's resamples.

    Returns:
        ECE, log loss and the reliability diagram.

    Raises:
        ValueError: There is no sample or no bin, the shapes do not fit, or a probability is not a
            finite number.

    Source: Naeini, Cooper, Hauskrecht 2015; Guo, Pleiss, Sun, Weinberger 2017. That chance lifts
    the ECE: Bröcker, Smith 2007; Roelofs, Cain, Shlens, Mozer 2022.
    """
    n = len(labels)
    if n == 0 or bins < 1:
        raise ValueError(f"expected at least one sample and one bin, got {n} and {bins}")
    _check(labels, probabilities)
    own = _own(labels, probabilities)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges[1:-1], confidence, side="left")
    rows = tuple(
        Bin(
            low=float(edges[b]),
            high=float(edges[b + 1]),
            n=int((places == b).sum()),
            confidence=float(confidence[places == b].mean()),
            accuracy=float(right[places == b].mean()),
        )
        for b in np.unique(places)
    )
    ece = _ece(confidence, right, places, seed)
    return Reliability(ece, bca_mean(-np.log(own), seed), rows)


def _ece(confidence: _Floats, right: _Floats, places: npt.NDArray[np.int64], seed: int) -> Score:
    """Return the ECE with its interval: confidence, right, bins, each [n].

    With g_b = n_b/n · (confidence_b − accuracy_b) the ECE is Σ abs(g_b). It cannot fall below 0, so
    chance alone lifts it: that of a perfect classifier is above 0, and that of a resample above
    that of its sample. Percentiles of resamples therefore lie too high, and BCa cannot mend it. So
    the interval is a test turned round. With e_b = g_b* − g_b the noise that the resamples show, a
    truth of gaps c · g_b would be measured as Σ abs(c · g_b + e_b): it is held for possible while
    the ECE lies between the 2.5% and 97.5% quantiles of that. c = 0, a perfect classifier, is
    among them. The ends are the ECE times the smallest and largest possible c.
    """
    n, used = len(right), np.unique(places)
    columns = np.where(places[:, None] == used, (confidence - right)[:, None], 0.0)
    gaps = columns.mean(axis=0)
    value = float(np.abs(gaps).sum())
    noise = resampled_means(columns, seed) - gaps
    low = value * _possible_scale(gaps, noise, value, 97.5)
    high = max(value, value * _possible_scale(gaps, noise, value, 2.5))
    if right.min() == right.max():
        # No resample can be wrong (or right): how often it could yet be is Wilson's to say.
        ends = np.array(wilson_ends(float(right[0]), n))
        high = max(high, float(np.abs(confidence.mean() - ends).max()))
    return Score(value, min(low, value), min(1.0, high), n)


def _possible_scale(gaps: _Floats, noise: _Floats, value: float, level: float) -> float:
    """Return c in [0, 4] for which `value` is the quantile `level` of Σ abs(c · gaps + noise)."""

    def apart(scale: float) -> float:
        return float(np.percentile(np.abs(scale * gaps + noise).sum(axis=1), level)) - value

    if apart(0.0) >= 0:
        return 0.0
    if apart(4.0) <= 0:
        return 4.0
    return float(optimize.brentq(apart, 0.0, 4.0, xtol=1e-4))


def fit_temperature(labels: IntArray, probabilities: FloatArray) -> float:
    """Return the temperature that makes probabilities fit the truth best.

    The logarithms of probabilities are logits up to a constant per sample, which the softmax takes
    out again. The negative log-likelihood is convex in 1/T, so its minimum is the only one.

    Args:
        labels: True class indices of the validation split, int64, shape [n].
        probabilities: float32, shape [n, classes].

    Returns:
        T in [0.05, 20]: above 1 where the model is surer than it should be. 1 where it cannot be
        fitted: without samples, with one class, or where each sample's own class is its most
        probable one, so that a colder temperature is always better.

    Raises:
        ValueError: The shapes do not fit, or a probability is not a finite number.

    Source: Guo, Pleiss, Sun, Weinberger 2017, section 4.2.
    """
    _check(labels, probabilities)
    if not len(labels) or probabilities.shape[1] < 2:
        return 1.0
    logits = np.log(np.maximum(probabilities.astype(np.float64), _FLOOR))
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(labels)), labels]
    if not (own < 0).any():
        return 1.0

    def loss(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        return float(np.log(np.exp(logits * inverse).sum(axis=1)).mean() - own.mean() * inverse)

    bounds = (-np.log(_HOTTEST), -np.log(_COLDEST))
    best = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.clip(np.exp(-best.x), _COLDEST, _HOTTEST))


def paired_gain(labels: IntArray, before: FloatArray, after: FloatArray, seed: int = 0) -> Score:
    """Return by how much a change of the probabilities lowers the log loss, on the same samples.

    Args:
        labels: True class indices, int64, shape [n], n >= 1.
        before: Probabilities before the change, float32, shape [n, classes].
        after: Those of the same samples after it, float32, shape [n, classes].
        seed: Decides the bootstrap's resamples.

    Returns:
        The mean log loss before minus that after, in nats: positive where the change helps. The
        interval is the BCa bootstrap's of the mean of paired differences; 0 to 0 where nothing
        changes.

    Raises:
        ValueError: There is no sample, the shapes do not fit, or a probability is not a finite
            number.
    """
    _check(labels, before)
    _check(labels, after)
    losses = [-np.log(_own(labels, p)) for p in (before, after)]
    return bca_mean(losses[0] - losses[1], seed)


def with_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Return the probabilities that logits divided by a temperature give: softmax(log p / T).

    Args:
        probabilities: float32, shape [n, classes]; rows sum to 1.
        temperature: T, above 0; 1 changes nothing.

    Returns:
        float32, shape [n, classes]; the order of the classes is the same.

    Raises:
        ValueError: The temperature is not a finite number above 0.
    """
    if not np.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")
    if temperature == 1:
        return probabilities.astype(np.float32)
    logits = np.log(np.maximum(probabilities.astype(np.float64), _FLOOR))
    scaled: FloatArray = special.softmax(logits / temperature, axis=1).astype(np.float32)
    return scaled


def _own(labels: IntArray, probabilities: FloatArray) -> _Floats:
    """Return the probability of each sample's true class, [n], kept away from 0."""
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.clip(own, 1e-12, 1.0)


def _check(labels: IntArray, probabilities: FloatArray) -> None:
    if probabilities.ndim != 2 or probabilities.shape[:1] != labels.shape:
        raise ValueError(
            f"expected labels [n] and probabilities [n, classes], got {labels.shape} and "
            f"{probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("expected finite probabilities, got NaN or infinity")

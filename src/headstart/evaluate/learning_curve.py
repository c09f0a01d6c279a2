"""Learning curves: error = a + b·n^−c, how far it can be trusted, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from headstart._util.seeding import generator

Verdict = Literal["labels", "backbone", "unclear"]
Floats = npt.NDArray[np.float64]

LEAST_POINTS = 4
_RESAMPLES = 1000
_EXPONENTS = np.geomspace(0.02, 4.0, 600)  # published curves lie between about 0.1 and 1.5
_STEP = float(_EXPONENTS[1] / _EXPONENTS[0])
_LABELS_GAIN = 0.10
_BACKBONE_GAIN = 0.03
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a learning curve expects at a number of labels.

    Attributes:
        n: The number of labels.
        value: The expected figure.
        low: Lower end of its 95% interval.
        high: Upper end of its 95% interval.
    """

    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class PowerLaw:
    """A fitted learning curve, error = a + b·n^−c.

    Attributes:
        a: The error that is left with any number of labels, in [0, 1).
        b: Its scale, at least 0; 0 where the curve does not fall.
        c: Its exponent, at least 0; 0 where b is 0.
        n: The largest number of labels that it rests on.
        replicates: a, b and c of each bootstrap resample, shape [resamples, 3].
    """

    a: Estimate
    b: Estimate
    c: Estimate
    n: int
    replicates: Floats

    def predict(self, n: int) -> Forecast:
        """Return the error that is expected of n labels.

        A curve that was measured up to N labels says little beyond some multiples of N: nothing in
        the data tells a floor that begins there.

        Args:
            n: The number of labels, at least 1.

        Returns:
            The error with its interval, in [0, 1].

        Raises:
            ValueError: n is below 1.
        """
        if n < 1:
            raise ValueError(f"n: expected at least 1, got {n}")
        here = np.array([[self.a.value, self.b.value, self.c.value]])
        value = _errors(here, n)[0]
        found = _around(value, _errors(self.replicates, n))
        return Forecast(n, found.value, found.low, found.high)

    def accuracy(self, n: int) -> Forecast:
        """Return the accuracy that is expected of n labels: 1 minus `predict`."""
        error = self.predict(n)
        return Forecast(n, 1 - error.value, 1 - error.high, 1 - error.low)

    def doubling(self) -> Estimate:
        """Return the share of the error that twice as many labels as `n` are expected to remove."""
        here = np.array([[self.a.value, self.b.value, self.c.value]])
        return _around(_gain(here, self.n)[0], _gain(self.replicates, self.n))


def fit_power_law(
    n: Sequence[int],
    errors: Sequence[Sequence[float]],
    seed: int = 0,
    right: Sequence[npt.NDArray[np.bool_]] | None = None,
) -> PowerLaw | None:
    """Fit error = a + b·n^−c to a learning curve by weighted least squares.

    0 <= a < 1, b >= 0 and c > 0. For each c of a fine grid the best a and b have a closed form
    (variable projection), so that the optimum found is the global one. The variance of the error
    rate of a draw is taken to be proportional to e(1 − e), as that of every share is, so the mean
    of k draws has the weight k / (e(1 − e)).

    Intervals are percentiles over bootstrap resamples of the draws at each n, each resample fitted
    anew. Where there is one draw (all labels can be drawn in one way only), it is moved by normal
    noise of the variance that the draws at the other points show; with one draw everywhere, of the
    variance of the residuals.

    Args:
        n: Numbers of labels, distinct, in any order.
        errors: Error rates in [0, 1] at each n, one for each draw of that many labels.
        seed: Decides the resamples.
        right: Whether each sample was told right, bool, shape [draws, samples] at each n, where all
            errors are of the same samples: then these are resampled too, the same for every n, for
            the luck of which samples there are moves all points together. None where the errors
            are of samples of their own.

    Returns:
        The curve, or None where it cannot be fitted: fewer than four points, or no error at all.

    Raises:
        ValueError: Numbers of labels are below 1 or not distinct, or errors are missing or no
            shares.

    Source: form: Hestness et al. 2017, arXiv:1712.00409; fitting by variable projection: Golub,
        Pereyra 1973.
    """
    draws = [_distinct(values) for values in errors]
    if len(n) != len(draws) or len(set(n)) != len(n) or min(n, default=1) < 1:
        raise ValueError(f"expected distinct numbers of labels >= 1, each with errors, got {n}")
    if any(not len(d) or not np.isfinite(d).all() or d.min() < 0 or d.max() > 1 for d in draws):
        raise ValueError("errors: expected at least one share in [0, 1] for each number of labels")
    means = np.array([d.mean() for d in draws])
    if len(n) < LEAST_POINTS or means.max() == 0:
        return None
    sizes = np.array(n, dtype=np.float64)
    most = float(sizes.max())
    shape = _binomial(means)
    weights = np.array([len(d) for d in draws]) / shape
    best = _fit(sizes / most, means[None], weights, _EXPONENTS)
    if best[0, 2] > 0:  # once more, finer, around the best of the grid
        near = np.geomspace(best[0, 2] / _STEP, best[0, 2] * _STEP, 201)
        best = _fit(sizes / most, means[None], weights, near.clip(_EXPONENTS[0], _EXPONENTS[-1]))
    fitted = best[:, 0] + best[:, 1] * (sizes / most) ** -best[:, 2]
    resampled = _resampled(draws, shape, means - fitted, seed)
    if right is not None:
        resampled = np.clip(resampled + _moved(right, seed), 0.0, 1.0)
    replicates = _fit(sizes / most, resampled, weights, _EXPONENTS)
    for found in (best, replicates):
        found[:, 1] *= most ** found[:, 2]  # of n itself, not of its share of the largest
    values = [_around(float(best[0, i]), replicates[:, i]) for i in range(3)]
    return PowerLaw(values[0], values[1], values[2], int(most), replicates)


def verdict(law: PowerLaw) -> Verdict:
    """Say what would help more: labels or another backbone.

    ``labels``: twice as many labels are expected to remove more than 10% of the error, and the 95%
    interval of that share lies above 0. ``backbone``: the error that no number of labels removes
    (a) is more than half of the error now, and twice as many labels are expected to remove less
    than 3% of it. ``unclear``: neither.

    Args:
        law: The fitted curve.

    Returns:
        One of the three words.
    """
    gain = law.doubling()
    if gain.value > _LABELS_GAIN and gain.low > 0:
        return "labels"
    now = law.predict(law.n).value
    if gain.value < _BACKBONE_GAIN and law.a.value > _MOST * now:
        return "backbone"
    return "unclear"


def _distinct(values: Sequence[float]) -> Floats:
    """Return the draws; one where all are equal: then they are one and the same draw."""
    found = np.asarray(values, dtype=np.float64)
    return found[:1] if len(found) > 1 and (found == found[0]).all() else found


def _binomial(errors: Floats) -> Floats:
    """Return e(1 − e), kept away from 0, where a single mistake more would change everything."""
    return np.maximum(errors * (1 - errors), 1e-3)


def _fit(sizes: Floats, y: Floats, weights: Floats, exponents: Floats) -> Floats:
    """Return a, b and c of each row of errors.

    Args:
        sizes: Numbers of labels as shares of the largest, shape [points].
        y: Errors, shape [rows, points].
        weights: Of the points.
        exponents: The values of c that are tried.

    Returns:
        Shape [rows, 3].
    """
    # Weighted straight lines y = a + b·x, for all rows and exponents at once.
    x = sizes[:, None] ** -exponents  # [points, exponents]
    w = weights / weights.sum()
    mean_x, mean_y = w @ x, y @ w  # [exponents], [rows]
    var_x = w @ (x - mean_x) ** 2
    covariance = (y * w) @ x - mean_y[:, None] * mean_x  # [rows, exponents]
    b = np.maximum(covariance / np.maximum(var_x, 1e-30), 0.0)
    a = mean_y[:, None] - b * mean_x
    # At the border a = 0 the line goes through the origin.
    b = np.where(a < 0, (y * w) @ x / (w @ x**2), b)
    a = np.maximum(a, 0.0)
    moments = (y**2 @ w)[:, None], (y * w) @ x, w @ x**2
    squares = (
        moments[0]
        + a**2
        + b**2 * moments[2]
        - 2 * a * mean_y[:, None]
        - 2 * b * moments[1]
        + 2 * a * b * mean_x
    )
    at = squares.argmin(axis=1)
    rows = np.arange(len(y))
    out = np.stack([a[rows, at], b[rows, at], exponents[at]], axis=1)
    out[out[:, 1] == 0, 2] = 0.0
    out[:, 0] = np.minimum(out[:, 0], 1 - 1e-9)
    return out


def _resampled(draws: Sequence[Floats], shape: Floats, residuals: Floats, seed: int) -> Floats:
    """Return mean errors of resampled draws, shape [resamples, points]."""
    spreads = [d.var(ddof=1) / s for d, s in zip(draws, shape, strict=True) if len(d) > 1]
    if spreads:
        freedom = [len(d) - 1 for d in draws if len(d) > 1]
        spread = float(np.average(spreads, weights=freedom))
    else:
        # Three of the points' degrees of freedom went into the curve.
        spread = float((residuals**2 / shape).sum() / max(1, len(draws) - 3))
    random = generator("learning-curve", seed)
    columns = []
    for values, variance in zip(draws, spread * shape, strict=True):
        k = len(values)
        if k == 1:
            moved = values[0] + np.sqrt(variance) * random.standard_normal(_RESAMPLES)
        else:
            # k draws vary less around their own mean than around the true one.
            wider = values.mean() + (values - values.mean()) * np.sqrt(k / (k - 1))
            moved = wider[random.integers(0, k, size=(_RESAMPLES, k))].mean(axis=1)
        columns.append(np.clip(moved, 0.0, 1.0))
    return np.stack(columns, axis=1)


def _moved(right: Sequence[npt.NDArray[np.bool_]], seed: int) -> Floats:
    """Return by how much mean errors move with the samples, shape [resamples, points]."""
    wrong = np.stack([1.0 - r.mean(axis=0) for r in right], axis=1)  # [samples, points]
    samples = len(wrong)
    random = generator("learning-curve samples", seed)
    moved = np.empty((_RESAMPLES, wrong.shape[1]))
    for row in range(_RESAMPLES):
        counts = np.bincount(random.integers(0, samples, samples), minlength=samples)
        moved[row] = counts @ wrong / samples
    moved -= wrong.mean(axis=0)
    return moved


def _errors(parameters: Floats, n: int) -> Floats:
    a, b, c = parameters.T
    found: Floats = np.clip(a + b * float(n) ** -c, 0.0, 1.0)
    return found


def _gain(parameters: Floats, n: int) -> Floats:
    now = _errors(parameters, n)
    found: Floats = (now - _errors(parameters, 2 * n)) / np.maximum(now, 1e-12)
    return found


def _around(value: float, replicates: Floats) -> Estimate:
    low, high = np.percentile(replicates, [2.5, 97.5])
    return Estimate(float(value), min(float(low), float(value)), max(float(high), float(value)))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from headstart.evaluate.learning_curve import fit_power_law, verdict

NS = [40, 80, 200, 400, 800]


def _draws(a: float, b: float, c: float, *, ns=NS, noise=0.0, draws=5, seed=0):
    random = np.random.default_rng(seed)
    errors = []
    for n in ns:
        e = a + b * n**-c
        spread = noise * np.sqrt(e * (1 - e))
        # All labels can be drawn in one way only.
        k = draws if n < max(ns) else 1
        errors.append(np.clip(e + spread * random.standard_normal(k), 0, 1).tolist())
    return errors


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 0.3), st.floats(0.3, 2.0), st.floats(0.15, 1.5))
def test_a_curve_without_noise_is_found_again(a, b, c):
    errors = _draws(a, min(b, (0.9 - a) * NS[0] ** c), c)
    law = fit_power_law(NS, errors)
    assert law is not None
    for n, values in zip(NS, errors, strict=True):
        assert law.predict(n).value == pytest.approx(values[0], abs=2e-4)


@pytest.mark.parametrize("seed", range(6))
def test_no_other_curve_fits_better(seed):
    errors = _draws(0.05, 1.2, 0.5, noise=0.05, seed=seed)
    law = fit_power_law(NS, errors)
    assert law is not None
    means = np.array([np.mean(e) for e in errors])
    weights = np.array([len(e) for e in errors]) / (means * (1 - means))

    def residuals(p):
        return np.sqrt(weights) * (p[0] + p[1] * np.array(NS, float) ** -p[2] - means)

    ours = (residuals([law.a.value, law.b.value, law.c.value]) ** 2).sum()
    for start in ([0.0, 1.0, 0.5], [0.1, 3.0, 1.0], [0.02, 0.5, 0.2]):
        other = least_squares(residuals, start, bounds=([0, 0, 0.02], [1, np.inf, 4]))
        assert ours <= 2 * other.cost * (1 + 1e-3) + 1e-9


def test_intervals_hold_what_is_true_about_as_often_as_they_say():
    inside = []
    for seed in range(60):
        law = fit_power_law(NS, _draws(0.04, 1.0, 0.45, noise=0.04, seed=seed), seed)
        assert law is not None
        found = law.predict(1600)
        inside.append(found.low <= 0.04 + 1600**-0.45 <= found.high)
    assert np.mean(inside) >= 0.85


def test_the_same_seed_gives_the_same_intervals_and_points_may_come_in_any_order():
    errors = _draws(0.05, 1.2, 0.5, noise=0.05)
    one, two = fit_power_law(NS, errors, 3), fit_power_law(NS, errors, 3)
    other = fit_power_law(NS[::-1], errors[::-1], 3)
    assert one is not None
    assert two is not None
    assert other is not None
    assert one.predict(1600) == two.predict(1600)
    assert one.predict(1600).value == pytest.approx(other.predict(1600).value, abs=1e-12)
    accuracy = one.accuracy(1600)
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert accuracy.value == 1 - one.predict(1600).value


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        (0.0, 2.0, 0.5, "labels"),  # twice as many labels remove 29% of the error
        (0.10, 0.5, 0.9, "backbone"),  # nearly all of the error is the floor
        (0.06, 0.4, 0.35, "unclear"),  # 9%
    ],
)
def test_what_would_help_more(a, b, c, expected):
    law = fit_power_law(NS, _draws(a, b, c, noise=0.002))
    assert law is not None
    assert verdict(law) == expected


def test_a_curve_that_does_not_fall_asks_for_another_backbone():
    law = fit_power_law(NS, [[0.2, 0.21], [0.2, 0.22], [0.21, 0.2], [0.22, 0.21], [0.22]])
    assert law is not None
    assert (law.b.value, law.c.value) == (0.0, 0.0)
    assert verdict(law) == "backbone"


def test_noise_that_hides_the_slope_is_not_called_a_need_for_labels():
    found = []
    for seed in range(20):
        law = fit_power_law(NS, _draws(0.2, 0.0, 1.0, noise=0.2, seed=seed), seed)
        assert law is not None
        found.append(verdict(law))
    assert found.count("labels") <= 4


def test_too_few_points_or_no_errors_give_no_curve():
    assert fit_power_law(NS[:3], _draws(0.1, 1, 0.5)[:3]) is None
    assert fit_power_law(NS, [[0.0]] * 5) is None


@pytest.mark.parametrize(
    ("n", "errors", "message"),
    [
        ([1, 1, 2, 3], [[0.1]] * 4, "distinct"),
        ([0, 1, 2, 3], [[0.1]] * 4, "distinct"),
        ([1, 2, 3], [[0.1]] * 4, "distinct"),
        ([1, 2, 3, 4], [[0.1], [], [0.1], [0.1]], "at least one share"),
        ([1, 2, 3, 4], [[0.1], [1.2], [0.1], [0.1]], "at least one share"),
    ],
)
def test_what_is_no_learning_curve_is_refused(n, errors, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(n, errors)


def test_the_luck_of_which_samples_there_are_widens_the_forecast() -> None:
    """All points are judged on the same samples: what these are moves the whole curve."""
    random = np.random.default_rng(11)
    sizes, samples, worlds = (30, 60, 150, 300, 600), 400, 60
    true = 0.05 + 1.2 * np.array([*sizes, 1200.0]) ** -0.5
    held = {True: 0, False: 0}
    for world in range(worlds):
        # A sample's own difficulty decides from how many labels on it is told right.
        difficulty = random.random(samples)
        right = [
            np.stack([difficulty + 0.02 * random.normal(size=samples) > e for _ in range(4)])
            for e in true[:-1]
        ]
        errors = [(1 - r.mean(axis=1)).tolist() for r in right]
        for shared in (True, False):
            law = fit_power_law(sizes, errors, world, right if shared else None)
            assert law is not None
            said = law.predict(1200)
            held[shared] += said.low <= true[-1] <= said.high
    assert held[True] / worlds >= 0.85
    assert held[False] / worlds < 0.75

import math

import pytest

from benchmarks.table import Accuracy, Row, Target, agree, shown, span


def row(*values: float, target: Target | None = None, **more: str) -> Row:
    return Row("key", "work", target or Target(60), tuple(values), **more)


def test_the_median_of_the_repeats_decides() -> None:
    assert not row(10, 61, 62).missed
    assert row(59, 100, 10).missed
    assert row(59, 100, 10).verdict == "missed"


def test_a_row_that_was_not_measured_misses_its_target() -> None:
    unmeasured = row(error="no such package")

    assert unmeasured.missed
    assert unmeasured.verdict == "not measured"
    assert math.isnan(unmeasured.value)
    assert span(unmeasured) == "–"


def test_a_target_may_be_the_most_that_is_allowed() -> None:
    target = Target(3, "s", most=True)

    assert not row(2.9, 3.0, 4, target=target).missed
    assert row(2.9, 3.1, 4, target=target).missed
    assert str(target) == "≤ 3 s"


def test_a_row_without_a_target_is_reported() -> None:
    reported = Row("key", "work", None, (1.0,))

    assert not reported.missed
    assert reported.verdict == "reported"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (60, "x", "60×"),
        (120, "x", "120×"),
        (3.456, "x", "3.46×"),
        (61.23, "x", "61.2×"),
        (0.8512, "%", "85.1%"),
        (0.0213, "s", "0.021 s"),
        (213.4, "s", "213 s"),
        (100.0, "s", "100 s"),
    ],
)
def test_figures_are_shown_with_three_digits_or_so(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text  # type: ignore[arg-type]


def test_accuracies_agree_where_chance_explains_their_difference() -> None:
    ours = Accuracy("work", "ours", 4, 0.50, 200)

    assert agree(ours, Accuracy("work", "near", 4, 0.55, 200))
    assert not agree(ours, Accuracy("work", "far", 4, 0.65, 200))
    assert not agree(Accuracy("work", "far", 4, 0.65, 200), ours)

"""Learning curves say what more labels would bring, with the interval, and call it a forecast."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from report_analyses import analysis, counted_curve, learning_curve
from report_makers import results

from headstart.report import error_advice, figures, learning_curve_tables
from headstart.report.plots import LearningCurvesPlot
from headstart.report.records import Figure, Table
from headstart.types import JsonDict


def run(*curves: JsonDict) -> JsonDict:
    found = analysis(near_duplicates=None, suspicious_labels=None, learning_curves=[*curves])
    networks = [{"key": "lite0", "name": "efficientnet"}, {"key": "big", "name": "resnet50"}]
    return results(analysis=found, backbones=networks)


def plot_of(*curves: JsonDict) -> LearningCurvesPlot:
    chart = learning_curve_tables.blocks(run(*curves))[0]
    assert isinstance(chart, Figure)
    assert isinstance(chart.plot, LearningCurvesPlot)
    return chart.plot


def said(curve: JsonDict) -> str:
    (sentence,) = error_advice.learning_curves(run(curve))
    return str(sentence["text"])


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("labels", "More labels still pay: the fitted power law expects 92.6% (91.4–93.5%) of"),
        ("backbone", "More labels will hardly help: the fitted power law expects 69.0%"),
        ("unclear", "Whether more labels or another backbone would help more is open: the"),
    ],
)
def test_the_verdict_is_told_with_forecast_and_interval(verdict: str, words: str) -> None:
    text = said(learning_curve(verdict))
    assert text.startswith("From 28 to 560 training labels the accuracy of a probe on the features")
    assert words in text
    assert "of twice as many and" in text
    assert "of 4 times as many" in text
    assert "This extrapolates: it holds only if" in text
    assert ("A bigger backbone" in text) == (verdict == "backbone")
    assert ("leaves an error of 31.0% (25.1–39.4%)" in text) == (verdict == "backbone")


@pytest.mark.parametrize("verdict", ["labels", "backbone", "unclear"])
def test_multiples_are_those_of_the_labels_that_there_are(verdict: str) -> None:
    """700 labels are the user's; that folds of 560 were trained on is the method's business."""
    text = said(counted_curve(verdict))
    now = "68.9% (68.3–69.4%)" if verdict == "backbone" else "91.3% (90.7–91.8%)"
    assert text.startswith(
        "From 28 training labels to all 700 that there are the accuracy of a probe on the features "
    )
    assert f"to an expected {now}. " in text
    assert "of twice as many (1,400) and" in text
    assert "of 4 times as many (2,800)" in text
    assert "560" not in text
    assert "1 times" not in text


def test_without_a_law_the_rest_is_said_to_be_held_out() -> None:
    text = said(counted_curve(fit=None, forecast=[]))
    assert text.startswith(
        "From 28 to 560 training labels of all 700 that there are, the rest held out to be tested "
        "on, the accuracy of a probe"
    )


def test_table_and_chart_show_all_labels_as_a_forecast() -> None:
    figure, table = learning_curve_tables.blocks(run(counted_curve()))
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    cells = [row.cells for row in table.rows]
    assert [c[1] for c in cells[4:]] == ["560", "700", "1,400", "2,800"]
    assert [c[0] for c in cells[5:]] == [
        *("all (forecast)", "2 × all (forecast)", "4 × all (forecast)")
    ]
    assert table.columns[0].title == "Share drawn"
    assert table.note.startswith("There are 700 labels in all; each time some are held out")
    assert "There are 700 labels in all" in figure.caption
    assert isinstance(figure.plot, LearningCurvesPlot)
    (line,) = figure.plot.curves
    assert [n for n, _ in line.expected] == [700, 1400, 2800]
    assert line.points[-1][0] == 560


def test_without_a_fit_nothing_is_forecast() -> None:
    text = said(learning_curve(fit=None))
    assert "No power law could be fitted" in text
    assert "expects" not in text
    assert said(learning_curve(fit=None, forecast=[])) == text
    (table,) = [b for b in learning_curve_tables.blocks(run(learning_curve(fit=None, forecast=[])))
                if isinstance(b, Table)]  # fmt: skip
    assert table.note == "No power law could be fitted."


def test_one_point_is_no_curve() -> None:
    curve = learning_curve()
    curve["points"] = curve["points"][:1]
    assert error_advice.learning_curves(run(curve)) == []
    assert not any(isinstance(b, Figure) for b in learning_curve_tables.blocks(run(curve)))
    assert learning_curve_tables.blocks(run()) == []


def test_each_curve_has_a_table_that_its_sentence_cites() -> None:
    found = run(learning_curve(), learning_curve("backbone", backbone="big"))
    _, first, second = learning_curve_tables.blocks(found)
    assert isinstance(first, Table)
    assert isinstance(second, Table)
    assert "efficientnet" in first.caption
    assert "resnet50" in second.caption
    cited = [s["rows"] for s in error_advice.learning_curves(found)]
    assert cited == [list(first.refs), list(second.refs)]
    assert [s["topic"] for s in error_advice.learning_curves(found)] == ["labels", "labels"]


def test_the_table_tells_what_was_measured_from_what_is_forecast() -> None:
    curve = learning_curve()
    curve["points"] = curve["points"][::-1]  # in whatever order the run wrote them
    now = {"factor": 1, "n": 560, "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}}
    curve["forecast"].append(now)  # of what was measured nothing is forecast
    _, table = learning_curve_tables.blocks(run(curve))
    assert isinstance(table, Table)
    cells = [row.cells for row in table.rows]
    assert [c[1] for c in cells] == ["28", "56", "140", "280", "560", "1,120", "2,240"]
    assert cells[0] == ("5%", "28", "68.0", "1.74", "–", "4")
    assert cells[5] == ("2 × all (forecast)", "1,120", "92.6", "–", "91.4–93.5", "–")
    assert "a = 0.0210 (0.0170 to 0.0267)" in table.note


def test_the_chart_keeps_measured_and_extrapolated_apart() -> None:
    (line,) = plot_of(learning_curve()).curves
    assert [n for n, _, _ in line.points] == [28, 56, 140, 280, 560]
    assert line.fitted[0][0] == 28
    assert line.fitted[-1][0] == pytest.approx(560)
    assert line.beyond[0][0] == 560
    assert line.beyond[-1][0] == pytest.approx(2240)
    # The points were made by this law: the drawn curve passes through them.
    for n, mean, _ in (line.points[0], line.points[-1]):
        drawn = min(line.fitted, key=lambda p: abs(p[0] - n))[1]
        assert drawn == pytest.approx(mean, abs=1e-9)
    assert [n for n, _ in line.expected] == [1120, 2240]
    assert [b[0] for b in line.band] == [560.0, 1120.0, 2240.0]
    assert line.band[0][1] == line.band[0][2]  # nothing is claimed about the fit's own band


def test_a_band_that_the_run_gives_is_drawn_whole() -> None:
    curve = learning_curve()
    curve["fit"]["band"] = [
        {"n": n, "accuracy": {"value": 0.8, "low": 0.7, "high": 0.85}} for n in (560, 28, 2240)
    ]
    (line,) = plot_of(curve).curves
    assert line.band == ((28.0, 0.7, 0.85), (560.0, 0.7, 0.85), (2240.0, 0.7, 0.85))


@pytest.mark.parametrize(
    "changes",
    [{}, {"fit": None}, {"fit": None, "forecast": []}, {"forecast": []}, {"verdict": None}],
)
@pytest.mark.parametrize("medium", ["print", "screen", "phone"])
def test_charts_are_valid_with_any_part_missing(
    changes: dict[str, Any], medium: figures.Medium
) -> None:
    plot = plot_of(learning_curve(**changes), learning_curve("backbone", backbone="big"))
    svg = figures.draw(plot, medium, "k", "alt")
    words = ["".join(e.itertext()) for e in ET.fromstring(svg).iter()]
    assert {"efficientnet", "resnet50", "training labels", "accuracy, %"} <= {*words}
    assert "nan" not in svg


def test_a_measured_line_is_solid_and_an_extrapolated_one_dashed() -> None:
    whole = figures.draw(plot_of(learning_curve()), "print", "k")
    measured = figures.draw(plot_of(learning_curve(forecast=[])), "print", "k")
    # The extrapolated line, and the upright where the measured span ends.
    assert whole.count("stroke-dasharray") == measured.count("stroke-dasharray") + 2

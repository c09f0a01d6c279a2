"""Charts are valid SVG that stands alone, prints in black and white, and follows dark mode."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
import report_studies
from report_worlds import make_world

from headstart.report import build_view, figures
from headstart.report.plots import (
    ConfusionPlot,
    CostPlot,
    CostPoint,
    Curve,
    CurvePanel,
    CurvesPlot,
    LabelsPlot,
    LabelsSeries,
    Plot,
    RankPlot,
    SweepPanel,
    SweepPlot,
    SweepPoint,
)
from headstart.report.records import Figure
from headstart.report.style import CSS_NAMES
from headstart.report.text import Measured

Make = Callable[[str], Path]


def charts(folder: Path) -> list[Figure]:
    view = build_view(folder)
    return [b for s in view.sections for b in s.blocks if isinstance(b, Figure)]


def check(svg: str, key: str) -> ET.Element:
    root = ET.fromstring(svg)
    names = {e.get("id") for e in root.iter() if e.get("id")}
    assert all(name.startswith(f"{key}-") for name in names)
    for element in root.iter():
        assert element.tag.startswith("{http://www.w3.org/2000/svg}")
        for name, value in element.attrib.items():
            assert not re.search(r"\bnan\b|\binf\b", value)
            for reference in re.findall(r"url\(#([^)]*)\)", value):
                assert reference in names
            if name == "href":
                assert value.removeprefix("#") in names or value.startswith("data:image/png")
            assert "http" not in value
    return root


@pytest.mark.parametrize("name", [n for n in report_studies.STUDIES if n != "flowers"])
def test_every_chart_is_valid_and_stands_alone(run_folder: Make, name: str) -> None:
    media: tuple[figures.Medium, ...] = ("print", "screen", "phone")
    for chart in charts(run_folder(name)):
        for medium in media if name != "many-classes" else media[:1]:  # the slowest to draw
            root = check(figures.draw(chart.plot, medium, "k", chart.alt), "k")
            assert root.get("role") == "img"
            assert root.get("aria-label") == chart.alt


def draw_words(plot: Plot, medium: figures.Medium = "print") -> list[str]:
    root = check(figures.draw(plot, medium, "k"), "k")
    return ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_study_of_flowers_has_every_chart_that_it_needs(run_folder: Make) -> None:
    keys = [chart.key for chart in charts(run_folder("flowers"))]
    assert keys == ["curves", "sweeps", "curves-b", "curves-c", "curves-d", "confusion", "times"]
    assert charts(run_folder("few-labels"))[0].key == "labels"
    assert charts(run_folder("bare")) == []


def test_names_are_shown_literally(run_folder: Make) -> None:
    # Matplotlib takes $ for mathematics, and hides legends that begin with an underscore.
    title = "_odd $x_1$ <b>&amp; 花"
    values = Curve((1, 2), (1.0, 0.5))
    panels = (CurvePanel(title, (("train", values),), (("train", values),)),) * 2
    assert title in draw_words(CurvesPlot(panels))
    plot = ConfusionPlot(("$a$", "_b"), ((3, 1), (0, 4)))
    words = draw_words(plot)
    assert {"$a$", "_b", "3", "1", "4"} <= set(words)


def test_screens_take_colours_and_face_from_the_page_and_print_has_its_own() -> None:
    plot = ConfusionPlot(("a", "b"), ((3, 1), (0, 4)))
    screen = figures.draw(plot, "screen", "k")
    assert not any(colour in screen for colour in CSS_NAMES)
    assert "currentColor" in screen
    assert "font-family: inherit" in screen
    printed = figures.draw(plot, "print", "k")
    assert "var(" not in printed
    assert "Libertinus Serif" in printed


def test_drawing_is_repeatable_and_changes_nothing_global() -> None:
    before = dict(matplotlib.rcParams)
    plot = SweepPlot((SweepPanel("t", "rate", (SweepPoint(0.1, Measured(0.5), True),)),), "y")
    first = figures._sketch.__wrapped__(plot, False)
    assert figures._sketch.__wrapped__(plot, False) == first
    assert dict(matplotlib.rcParams) == before


def test_training_and_validation_differ_in_more_than_colour() -> None:
    values = Curve((1, 2, 3), (1.0, 0.5, 0.2))
    panel = CurvePanel("t", (("train", values), ("val", values)), (("train", values),))
    svg = figures.draw(CurvesPlot((panel,)), "print", "k")
    assert "stroke-dasharray" in svg
    assert {"training", "validation", "loss", "accuracy, %", "epoch"} <= set(
        draw_words(CurvesPlot((panel,)))
    )


@pytest.mark.parametrize("classes", [1, 2, 5, 20, 21, 200])
def test_confusion_matrices_are_readable_at_any_size(classes: int) -> None:
    names = make_world([f"class {i}" for i in range(classes)], (1, 1, 1)).classes
    matrix = tuple(tuple(7 if i == j else 0 for j in range(classes)) for i in range(classes))
    words = draw_words(ConfusionPlot(names, matrix))
    assert "class 0" in words
    assert words.count("7") == (classes if classes <= 20 else 0)


def test_odd_plots_are_drawn_too() -> None:
    nothing = Curve((1, 2), (None, None))
    lone = Curve((1,), (0.5,))
    huge = Curve((1, 2, 3), (1e6, 1.0, 1e-3))
    odd: list[Plot] = [
        CurvesPlot((CurvePanel("a", (("val", nothing),), (), diverged=True),)),
        CurvesPlot((CurvePanel("a", (("train", lone),), (("train", lone),), (1,), (1,)),)),
        CurvesPlot((CurvePanel("a", (("train", huge),), (), (1, 2)),) * 5),
        CurvesPlot(
            (CurvePanel("a", (("train", huge),), (), (1, 2), (1, 3), False, ("b" * 90, "c", "")),)
        ),
        CostPlot((CostPoint("a" * 90, 1e-9, Measured(0.0), True),), "x", "y"),
        CostPlot(
            tuple(CostPoint("a", 10.0**k, Measured(1.0, 1.0, 1.0), k == 0, True) for k in range(9)),
            "x",
            "y",
        ),
        SweepPlot((SweepPanel("s", "x", (SweepPoint(0.0, None, False),)),), "y"),
        SweepPlot(
            (SweepPanel("s", "x", tuple(SweepPoint(v, Measured(0.5), False) for v in (0, 0, 5))),),
            "y",
        ),
        RankPlot((), (), "y"),
        RankPlot(("a" * 90,), (Measured(0.5, 0.4, 0.6, 9),), "y"),
        LabelsPlot((LabelsSeries("val", ((10, Measured(0.5)), (10, Measured(0.6)))),), "y"),
    ]
    for i, plot in enumerate(odd):
        check(figures.draw(plot, "phone" if i % 2 else "print", "k"), "k")

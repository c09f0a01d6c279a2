"""A confusion matrix can be read with 5 classes as with 131 and 200; its worst pairs are told."""

import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from report_makers import model, plots, results, tables

from headstart._util.seeding import generator
from headstart.report import build_view, clusters, figures, large_confusion
from headstart.report.class_tables import worst_pairs
from headstart.report.plots import ConfusionPlot
from headstart.report.plotting import confusion
from headstart.types import JsonDict


def blocks(classes: int, group: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix in which only classes of one group are confused, and each class's group."""
    random = generator("report-test-confusion", classes)
    groups = random.permutation(classes) // group
    same = groups[:, None] == groups[None, :]
    matrix = np.where(same, random.integers(1, 6, (classes, classes)), 0)
    np.fill_diagonal(matrix, random.integers(30, 50, classes))
    return matrix, groups


def run(matrix: np.ndarray) -> tuple[JsonDict, JsonDict]:
    entry = {"name": "m", "title": "M", "confusion": {"test": matrix.tolist()}}
    names = [f"class {i}" for i in range(len(matrix))]
    return {"data": {"classes": names}, "models": [entry]}, entry


@pytest.mark.parametrize("classes", [16, 73, 131, 200])
def test_classes_that_are_confused_stand_side_by_side(classes: int) -> None:
    matrix, groups = blocks(classes)
    order = clusters.order(matrix.tolist())
    assert sorted(order) == list(range(classes))
    steps = sum(groups[a] != groups[b] for a, b in pairwise(order))
    assert steps == len(set(groups)) - 1  # each group is one run of neighbours


def test_the_order_depends_on_the_matrix_alone() -> None:
    matrix, groups = blocks(60)
    order = clusters.order(matrix.tolist())
    assert clusters.order(matrix.tolist()) == order
    assert order[0] < order[-1]
    # The same classes in another order of the data: the groups stay together.
    turned = np.random.default_rng(3).permutation(60)
    again = clusters.order(matrix[np.ix_(turned, turned)].tolist())
    assert sum(groups[turned[a]] != groups[turned[b]] for a, b in pairwise(again)) == 14


def test_of_an_order_and_its_reverse_one_is_always_taken() -> None:
    for classes in range(16, 60, 4):
        order = clusters.order(blocks(classes)[0].tolist())
        assert order[0] < order[-1]


def test_a_rare_class_counts_as_much_as_a_frequent_one() -> None:
    # Classes 0 and 3 are taken for 1 in 10 of 1,000 cases each, class 2 in 3 of its 4.
    matrix = np.diag([990, 1000, 1, 990])
    matrix[0, 1], matrix[3, 1], matrix[2, 1] = 10, 10, 3
    order = clusters.order(matrix.tolist())
    assert abs(order.index(1) - order.index(2)) == 1


@pytest.mark.parametrize(("true", "predicted"), [(3, 17), (17, 3)])
def test_a_mistake_in_one_direction_is_enough(true: int, predicted: int) -> None:
    matrix = np.diag([50] * 20)
    matrix[true, predicted] = 9
    order = clusters.order(matrix.tolist())
    assert abs(order.index(3) - order.index(17)) == 1


def test_a_rare_mistake_does_not_mix_two_groups() -> None:
    # Two tight groups of three, and one rare mistake from the first to the second.
    matrix = np.diag([50] * 6)
    for group in ((0, 2, 4), (1, 3, 5)):
        for a in group:
            for b in group:
                matrix[a, b] += 8
    matrix[4, 1] = 2
    order = clusters.order(matrix.tolist())
    assert {*order[:3]} in ({0, 2, 4}, {1, 3, 5})


@pytest.mark.parametrize("classes", [1, 2, 40])
def test_without_confusion_the_order_is_that_of_the_data(classes: int) -> None:
    assert clusters.order(np.diag([7] * classes).tolist()) == tuple(range(classes))
    assert clusters.order(np.zeros((classes, classes), int).tolist()) == tuple(range(classes))


@pytest.mark.parametrize("classes", [5, 15, 16, 131])
def test_a_figure_moves_names_and_counts_together(classes: int) -> None:
    matrix, _ = blocks(classes)
    figure = confusion(*run(matrix))
    assert figure is not None
    plot = figure.plot
    assert isinstance(plot, ConfusionPlot)
    places = [int(name.removeprefix("class ")) for name in plot.classes]
    assert np.array_equal(np.array(plot.matrix), matrix[np.ix_(places, places)])
    assert (places == list(range(classes))) == (classes <= clusters.MANY_CLASSES)
    assert ("side by side" in figure.caption) == (classes > clusters.MANY_CLASSES)


def lines_of(plot: ConfusionPlot, medium: figures.Medium) -> dict[str, float]:
    """Return the height in points at which each class's name is set beside the rows."""
    root = ET.fromstring(figures.draw(plot, medium, "k"))
    found = {}
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        text = "".join(element.itertext())
        place = re.search(r"translate\([\d.-]+ ([\d.-]+)\)", element.get("transform", ""))
        place = place or re.search(r"^([\d.-]+)$", element.get("y", ""))
        if text.startswith("class ") and place:
            found[text] = float(place.group(1))
    return found


@pytest.mark.parametrize("medium", ["print", "phone"])
@pytest.mark.parametrize("classes", [21, 73, 131, 200])
def test_names_of_many_classes_do_not_overlap(classes: int, medium: figures.Medium) -> None:
    matrix, _ = blocks(classes)
    figure = confusion(*run(matrix))
    assert figure is not None
    assert isinstance(figure.plot, ConfusionPlot)
    heights = lines_of(figure.plot, medium)
    assert len(heights) > 15
    ordered = sorted(heights.values())
    # Type of five points needs about as much from line to line.
    assert min(b - a for a, b in pairwise(ordered)) > 4.6
    if classes == 21:
        assert len(heights) == classes


def test_where_there_is_no_room_the_most_mistaken_are_named() -> None:
    errors = [0] * 200
    errors[17], errors[18], errors[101] = 5, 9, 7
    named = large_confusion.chosen_names(errors, 50)
    assert {18, 101} <= {*named}
    assert 17 not in named  # its neighbour has more
    assert min(b - a for a, b in pairwise(named)) >= 4
    assert large_confusion.chosen_names(errors, 500) == list(range(200))
    assert large_confusion.errors_of([[5, 2], [3, 9]]) == [5, 5]


def test_one_mistake_in_two_hundred_can_be_seen_and_mistakes_have_their_own_hue() -> None:
    shares = np.array([[0.995, 0.005, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    picture = large_confusion.picture(shares)
    opacity = picture[..., 3]
    assert opacity[0, 1] > 0.2
    assert opacity[0, 2] == 0
    assert opacity[0, 1] < opacity[2, 1] < opacity[1, 1] == 1
    hues = picture[..., :3]
    assert (hues[0, 0] == hues[1, 1]).all()
    assert (hues[0, 1] == hues[2, 1]).all()
    assert not np.allclose(hues[0, 0], hues[0, 1])


def test_the_worst_pairs_say_both_ways_and_their_part_of_all_mistakes() -> None:
    matrix = np.diag([50] * 16)
    matrix[3, 8], matrix[8, 3] = 9, 6
    matrix[1, 2], matrix[2, 1] = 3, 7
    matrix[4, 5] = 5
    table = worst_pairs(*run(matrix))
    assert table is not None
    assert [row.cells for row in table.rows] == [
        ("class 3", "class 8", "9", "59", "6", "50.0"),
        ("class 2", "class 1", "7", "57", "3", "33.3"),
        ("class 4", "class 5", "5", "55", "0", "16.7"),
    ]
    assert "30 of 30 mistakes (100%" in table.note.replace("100.0", "100")
    assert worst_pairs(*run(np.diag([50] * 16))) is None
    assert worst_pairs(*run(matrix[:15, :15])) is None  # few classes: the matrix says it


def test_only_the_ten_worst_pairs_are_listed_and_the_rest_is_counted() -> None:
    matrix, _ = blocks(131)
    table = worst_pairs(*run(matrix))
    assert table is not None
    assert len(table.rows) == 10
    off = matrix - np.diag(np.diag(matrix))
    both = np.triu(off + off.T)
    assert f"of {off.sum():,} mistakes" in table.note
    assert f"{np.count_nonzero(both)} pairs" in table.note
    taken = [int(row.cells[2]) for row in table.rows]
    assert taken == sorted(np.maximum(np.triu(off), np.triu(off.T)).ravel())[::-1][:10]


def test_a_report_of_many_classes_shows_the_clustered_matrix(tmp_path: Path) -> None:
    matrix = np.diag([6] * 200)
    matrix[3, 170] = matrix[170, 3] = 3
    found, entry = run(matrix)
    whole = results(models=[{**model("m", 0.9), **entry}], data=found["data"])
    (tmp_path / "results.json").write_text(json.dumps(whole))
    view = build_view(tmp_path)
    names = plots(view)["confusion"].classes
    assert len(names) == 200
    assert abs(names.index("class 3") - names.index("class 170")) == 1
    assert tables(view)["worst-pairs"].rows[0].cells[-1] == "100.0"

"""Builds the data of the charts of sweeps, labels, classes and times, with caption and alt."""

from collections.abc import Sequence
from typing import Any

from headstart.report import clusters, kinds, lookup, maps, measures
from headstart.report.measures import Measure
from headstart.report.plots import (
    ConfusionPlot,
    HeatPlot,
    LabelsPlot,
    LabelsSeries,
    RankPlot,
    SweepPanel,
    SweepPlot,
    SweepPoint,
    TimeBar,
    TimePlot,
)
from headstart.report.records import Figure
from headstart.report.text import Measured, setting
from headstart.types import JsonDict

_MOST_RANKED = 25
_MOST_LINES = 4


def sweep_charts(results: JsonDict) -> tuple[Figure, ...]:
    """Return charts of the sweeps: one setting as points, two as a heat map, more as a ranking."""
    panels: list[SweepPanel] = []
    figures: list[Figure] = []
    split = "val"
    measure = measures.chosen_by(results)
    for sweep in results.get("sweeps") or ():
        if not any(lookup.complete(m) for m in sweep.get("members") or ()):
            continue
        keys = list(lookup.axes(sweep))
        split = (sweep.get("select") or {}).get("split") or "val"
        numeric = all(_is_number(m["values"].get(k)) for m in sweep["members"] for k in keys)
        if len(keys) == 1 and numeric:
            panels.append(_sweep_panel(measure, sweep, keys[0], split))
        elif len(keys) == 2:
            figures.append(_heat(measure, sweep, keys, split))
        else:
            figures.append(_ranking(measure, sweep, split))
    if panels:
        word = lookup.split_word(split)
        lines = Figure(
            key="sweeps",
            caption=f"{word.capitalize()} {measure.words} over each sweep, with 95% intervals. The "
            "filled square is the best value; a cross at the foot marks training that diverged.",
            alt=f"Charts of {word} {measure.words} against "
            + ", ".join(f"{p.axis} ({p.title})" for p in panels)
            + "; the sweep tables give the figures.",
            plot=SweepPlot(tuple(panels), f"{word} {measure.head}", _scale(measure)),
            priority=2,
        )
        figures.insert(0, lines)
    return tuple(figures)


def _scale(measure: Measure) -> float:
    """Return what a score is multiplied by on an axis."""
    return 100.0 if measure.digits is None else 1.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sweep_panel(measure: Measure, sweep: JsonDict, key: str, split: str) -> SweepPanel:
    points = sorted(
        (
            SweepPoint(
                float(m["values"][key]),
                lookup.metric(m, split, measure.key) if lookup.complete(m) else None,
                bool(m.get("best")),
            )
            for m in sweep["members"]
        ),
        key=lambda p: p.value,
    )
    name = lookup.setting_names([key])[key]
    return SweepPanel(str(sweep.get("title") or sweep["name"]), name, tuple(points))


def _heat(measure: Measure, sweep: JsonDict, keys: Sequence[str], split: str) -> Figure:
    y_key, x_key = keys
    names = lookup.setting_names(keys)
    xs, ys = (
        [*dict.fromkeys(m["values"].get(k) for m in sweep["members"])] for k in (x_key, y_key)
    )
    found = {(m["values"].get(y_key), m["values"].get(x_key)): m for m in sweep["members"]}
    cells, best = [], None
    for i, y in enumerate(ys):
        line = []
        for j, x in enumerate(xs):
            member = found.get((y, x), {})
            score = lookup.metric(member, split, measure.key) if lookup.complete(member) else None
            line.append(None if score is None else score.value)
            if member.get("best"):
                best = (i, j)
        cells.append(tuple(line))
    word = lookup.split_word(split)
    title = str(sweep.get("title") or sweep["name"])
    in_words = "accuracy in per cent" if measure.digits is None else measure.words
    return Figure(
        key=f"sweep-map-{sweep['name']}",
        caption=f"{word.capitalize()} {in_words} over the sweep “{title}”. The framed "
        "cell is the best; a cross marks training that diverged.",
        alt=f"Heat map of {word} {measure.words} over {names[x_key]} and {names[y_key]}; the "
        "sweep's table gives the figures.",
        plot=HeatPlot(
            title,
            names[x_key],
            names[y_key],
            tuple(setting(x) for x in xs),
            tuple(setting(y) for y in ys),
            tuple(cells),
            best,
            f"{word} {measure.words}",
            measure.digits is None,
        ),
        priority=2,
    )


def _ranking(measure: Measure, sweep: JsonDict, split: str) -> Figure:
    scored = [
        (lookup.values_text(sweep, m), score)
        for m in sweep["members"]
        if lookup.complete(m) and (score := lookup.metric(m, split, measure.key)) is not None
    ]
    scored.sort(key=lambda pair: measure.rank(pair[1]))
    scored = scored[:_MOST_RANKED]
    word = lookup.split_word(split)
    title = sweep.get("title") or sweep["name"]
    return Figure(
        key=f"sweep-rank-{sweep['name']}",
        caption=f"{word.capitalize()} {measure.words} of the best members of the sweep “{title}”, "
        "with 95% intervals.",
        alt=f"Members of {title} in order of {word} {measure.words}; the sweep's table gives the "
        "figures.",
        plot=RankPlot(
            tuple(text for text, _ in scored),
            tuple(s for _, s in scored),
            f"{word} {measure.head}",
            _scale(measure),
        ),
        priority=2,
    )


def labels_chart(results: JsonDict) -> Figure | None:
    """Return the learning curve over labels per class, on validation and on test.

    Where models differ in what was trained, each way is a line of its own, on test alone.
    """
    entries = [m for m in kinds.trained(results) if m.get("labels_per_class")]
    recipes = list(dict.fromkeys(kinds.recipe(m) for m in entries))
    lines = [(s, r) for s in ("val", "test") for r in recipes]
    if len(recipes) > 1:
        lines = [("test", r) for r in recipes[:_MOST_LINES]]
    series = []
    for split, recipe in lines:
        points: list[tuple[int, Measured]] = []
        for model in entries:
            score = lookup.metric(model, split, "accuracy")
            if kinds.recipe(model) == recipe and score is not None and lookup.complete(model):
                points.append((int(model["labels_per_class"]), score))
        if len({n for n, _ in points}) >= 2:
            title = lookup.split_word(split) if len(recipes) == 1 else f"trained: {recipe or '–'}"
            series.append(LabelsSeries(title, tuple(sorted(points, key=lambda p: p[0]))))
    if not series:
        return None
    return Figure(
        key="labels",
        caption="Learning curve: accuracy against the number of labels per class, with 95% "
        "intervals. The axis of labels is logarithmic.",
        alt="Line chart of accuracy against labels per class; the table of scores has the figures.",
        plot=LabelsPlot(tuple(series), "accuracy, %" if len(recipes) == 1 else "test accuracy, %"),
        priority=1,
    )


def confusion(results: JsonDict, model: JsonDict) -> Figure | None:
    """Return the confusion matrix of a model on test, classes that are confused side by side."""
    matrix = (model.get("confusion") or {}).get("test") or ()
    words = lookup.class_words(results)
    classes = list(words.values())
    if not matrix or len(classes) != len(matrix):
        return None
    clustered = len(matrix) > clusters.MANY_CLASSES
    order = clusters.order(matrix) if clustered else tuple(range(len(matrix)))
    title = model.get("title") or model["name"]
    caption = (
        f"Confusion matrix of “{title}” on test: true classes down, predicted classes across, "
        "shaded by the share of the true class; the shade grows with the root of the share, so "
        "that rare confusions can be seen."
    )
    if clustered:
        caption += " Classes that are often taken for each other stand side by side."
    if len(matrix) > maps.READABLE_CLASSES:
        caption += " Where there is no room for all names, classes with most mistakes are named."
    return Figure(
        key="confusion",
        caption=caption,
        alt=f"Confusion matrix of {title}; precision and recall per class are in a table.",
        plot=ConfusionPlot(
            tuple(classes[i] for i in order),
            tuple(tuple(int(matrix[i][j]) for j in order) for i in order),
        ),
        priority=2,
    )


def time_chart(results: JsonDict) -> Figure | None:
    """Return the times of the models whose speed was compared."""
    bars: dict[str, TimeBar] = {}
    for pair in results.get("comparisons") or ():
        if pair.get("speedup") is None:
            continue
        for side in ("b", "a"):
            seconds = pair.get(f"seconds_{side}")
            if seconds is not None and pair[side] not in bars:
                extraction = min(seconds, _extraction(results, pair[side], seconds))
                title = lookup.title(results, pair[side])
                bars[pair[side]] = TimeBar(title, extraction, seconds - extraction)
    if not bars:
        return None
    return Figure(
        key="times",
        caption="Wall time of the same training with the frozen part run at every step, and with "
        "its features stored. Hatched: the one extraction of the features.",
        alt="Bar chart of wall times; the table of comparisons gives the figures.",
        plot=TimePlot(tuple(bars.values())),
        priority=2,
    )


def _extraction(results: JsonDict, name: str, seconds: float) -> float:
    """Return the extraction's share of a time: of the sweep or the stages, whichever it is."""
    model = lookup.model_named(results, name) or {}
    stages = model.get("stages") or ()
    candidates = [
        (lookup.training_seconds(model), sum(s.get("extraction_seconds") or 0.0 for s in stages))
    ]
    for sweep in results.get("sweeps") or ():
        if sweep.get("best_model") == name:
            candidates.append((sweep.get("wall_seconds"), sweep.get("extraction_seconds") or 0.0))
    known = [(abs(wall - seconds), part) for wall, part in candidates if wall is not None]
    return min(known)[1] if known else 0.0

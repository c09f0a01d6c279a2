"""Builds the data of each chart, with caption and alternative text, from a run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import lookup
from headstart.report.load import Run
from headstart.report.plots import (
    ConfusionPlot,
    Curve,
    CurvePanel,
    CurvesPlot,
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
from headstart.types import JsonDict, StepRecord

_MOST_PANELS = 8
_MOST_RANKED = 25


def model_curves(run: Run) -> Figure | None:
    """Return the curves of the models, the best ones where there are too many."""
    ranked = [m["name"] for m in lookup.by_preference(run.results)]
    entries = [m for m in lookup.models(run.results) if m["name"] in run.histories]
    chosen = entries
    if len(entries) > _MOST_PANELS:
        kept = [n for n in ranked if n in run.histories][:_MOST_PANELS]
        chosen = [m for m in entries if m["name"] in kept]
    panels = tuple(
        _panel(
            run.histories[m["name"]],
            str(m.get("title") or m["name"]),
            not lookup.complete(m),
            _best_epoch(m),
        )
        for m in chosen
    )
    panels = tuple(p for p in panels if _drawable(p))
    if not panels:
        return None
    upright = "The dotted upright marks the epoch that was kept."
    return Figure(
        key="curves",
        caption=f"Loss and accuracy of {_which(panels, chosen, entries)} by epoch: training as a "
        "solid line, validation dashed with open circles. "
        + (upright if any(p.best_epoch is not None for p in panels) else ""),
        alt="Line charts of training and validation loss and accuracy by epoch: "
        + "; ".join(p.title for p in panels)
        + ". The tables give the final scores.",
        plot=CurvesPlot(panels),
        priority=2,
    )


def _which(
    panels: Sequence[CurvePanel], chosen: Sequence[JsonDict], entries: Sequence[JsonDict]
) -> str:
    """Say in words which models' curves are drawn."""
    if len(panels) == 1:
        return f"“{panels[0].title}”"
    if len(chosen) < len(entries):
        return "the best models"
    return "every model" + (" that did not diverge at once" if len(panels) < len(chosen) else "")


def sweep_curves(run: Run, sweep: JsonDict) -> Figure | None:
    """Return the curves of a sweep's members: of many, the best, the worst and some between."""
    steps = run.histories.get(f"sweeps/{sweep['name']}")
    if not steps:
        return None
    everyone = list(enumerate(sweep.get("members") or ()))
    split = (sweep.get("select") or {}).get("split") or "val"
    by_member = {i: [s for s in steps if s.member == i] for i, _ in everyone}
    members = [(i, m) for i, m in everyone if _drawable(_panel(by_member[i], "", False, None))]
    left_out = ", without those that diverged at once" if len(members) < len(everyone) else ""
    if len(members) > _MOST_PANELS:
        members = _spread(members, split)
        left_out = ": best, worst and some between" + left_out
    panels = tuple(
        _panel(
            by_member[i],
            lookup.values_text(sweep, m),
            not lookup.complete(m),
            None,
        )
        for i, m in members
    )
    if not panels:
        return None
    title = sweep.get("title") or sweep["name"]
    return Figure(
        key=f"curves-{sweep['name']}",
        caption=f"Loss and accuracy by epoch in the sweep “{title}”{left_out}. "
        "Training as a solid line, validation dashed with open circles.",
        alt=f"Line charts of training and validation loss and accuracy by epoch in {title}: "
        + "; ".join(p.title for p in panels)
        + ".",
        plot=CurvesPlot(panels),
        priority=4,
    )


def _spread(
    members: Sequence[tuple[int, Mapping[str, Any]]], split: str
) -> list[tuple[int, Mapping[str, Any]]]:
    """Return as many members as there is room for, evenly spaced from best to worst."""

    def value(member: Mapping[str, Any]) -> float:
        score = lookup.metric(member, split, "accuracy")
        return -1.0 if score is None else score.value

    ordered = sorted(members, key=lambda im: -value(im[1]))
    last = len(ordered) - 1
    places = [round(k * last / (_MOST_PANELS - 1)) for k in range(_MOST_PANELS)]
    return [ordered[place] for place in places]


def _panel(
    steps: Sequence[StepRecord], title: str, diverged: bool, best_epoch: int | None
) -> CurvePanel:
    """Return one panel; the epochs of all stages are counted on."""
    lengths: dict[int, int] = {}
    for step in steps:
        lengths[step.stage] = max(lengths.get(step.stage, 0), step.epoch)
    starts, boundaries, total = {}, [], 0
    for stage in sorted(lengths):
        starts[stage] = total
        total += lengths[stage]
        boundaries.append(total)
    loss, accuracy = [], []
    for split in ("train", "val"):
        of = sorted((s for s in steps if s.split == split), key=lambda s: (s.stage, s.epoch))
        if of:
            epochs = tuple(starts[s.stage] + s.epoch for s in of)
            loss.append((split, Curve(epochs, tuple(_finite(s.loss) for s in of))))
            accuracy.append((split, Curve(epochs, tuple(_finite(s.accuracy) for s in of))))
    return CurvePanel(
        title, tuple(loss), tuple(accuracy), tuple(boundaries[:-1]), best_epoch, diverged
    )


def _drawable(panel: CurvePanel) -> bool:
    """Return whether there is a line to draw: training that broke down at once has none."""
    return any(sum(v is not None for v in c.values) > 1 for _, c in panel.loss)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _best_epoch(model: Mapping[str, Any]) -> int | None:
    """Return the kept epoch of a model with one stage."""
    stages = list(model.get("stages") or ())
    return stages[0].get("best_epoch") if len(stages) == 1 else None


def sweep_charts(results: JsonDict) -> tuple[Figure, ...]:
    """Return charts of the sweeps: one setting as points, two as a heat map, more as a ranking."""
    panels: list[SweepPanel] = []
    figures: list[Figure] = []
    split = "val"
    for sweep in results.get("sweeps") or ():
        if not any(lookup.complete(m) for m in sweep.get("members") or ()):
            continue
        keys = list(lookup.axes(sweep))
        split = (sweep.get("select") or {}).get("split") or "val"
        numeric = all(_is_number(m["values"].get(k)) for m in sweep["members"] for k in keys)
        if len(keys) == 1 and numeric:
            panels.append(_sweep_panel(sweep, keys[0], split))
        elif len(keys) == 2:
            figures.append(_heat(sweep, keys, split))
        else:
            figures.append(_ranking(sweep, split))
    if panels:
        word = lookup.split_word(split)
        lines = Figure(
            key="sweeps",
            caption=f"{word.capitalize()} accuracy over each sweep, with 95% intervals. The filled "
            "square is the best value; a cross at the foot marks training that diverged.",
            alt=f"Charts of {word} accuracy against "
            + ", ".join(f"{p.axis} ({p.title})" for p in panels)
            + "; the sweep tables give the figures.",
            plot=SweepPlot(tuple(panels), f"{word} accuracy, %"),
            priority=2,
        )
        figures.insert(0, lines)
    return tuple(figures)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sweep_panel(sweep: JsonDict, key: str, split: str) -> SweepPanel:
    points = sorted(
        (
            SweepPoint(
                float(m["values"][key]),
                lookup.metric(m, split, "accuracy") if lookup.complete(m) else None,
                bool(m.get("best")),
            )
            for m in sweep["members"]
        ),
        key=lambda p: p.value,
    )
    name = lookup.setting_names([key])[key]
    return SweepPanel(str(sweep.get("title") or sweep["name"]), name, tuple(points))


def _heat(sweep: JsonDict, keys: Sequence[str], split: str) -> Figure:
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
            score = lookup.metric(member, split, "accuracy") if lookup.complete(member) else None
            line.append(None if score is None else score.value)
            if member.get("best"):
                best = (i, j)
        cells.append(tuple(line))
    word = lookup.split_word(split)
    title = str(sweep.get("title") or sweep["name"])
    return Figure(
        key=f"sweep-map-{sweep['name']}",
        caption=f"{word.capitalize()} accuracy in per cent over the sweep “{title}”. The framed "
        "cell is the best; a cross marks training that diverged.",
        alt=f"Heat map of {word} accuracy over {names[x_key]} and {names[y_key]}; the "
        "sweep's table gives the figures.",
        plot=HeatPlot(
            title,
            names[x_key],
            names[y_key],
            tuple(setting(x) for x in xs),
            tuple(setting(y) for y in ys),
            tuple(cells),
            best,
            f"{word} accuracy",
        ),
        priority=2,
    )


def _ranking(sweep: JsonDict, split: str) -> Figure:
    scored = [
        (lookup.values_text(sweep, m), score)
        for m in sweep["members"]
        if lookup.complete(m) and (score := lookup.metric(m, split, "accuracy")) is not None
    ]
    scored.sort(key=lambda pair: -pair[1].value)
    scored = scored[:_MOST_RANKED]
    word = lookup.split_word(split)
    title = sweep.get("title") or sweep["name"]
    return Figure(
        key=f"sweep-rank-{sweep['name']}",
        caption=f"{word.capitalize()} accuracy of the best members of the sweep “{title}”, with "
        "95% intervals.",
        alt=f"Members of {title} in order of {word} accuracy; the sweep's table gives the figures.",
        plot=RankPlot(
            tuple(text for text, _ in scored), tuple(s for _, s in scored), f"{word} accuracy, %"
        ),
        priority=2,
    )


def labels_chart(results: JsonDict) -> Figure | None:
    """Return the learning curve over labels per class, on validation and on test."""
    series = []
    for split in ("val", "test"):
        points: list[tuple[int, Measured]] = []
        for model in lookup.models(results):
            score = lookup.metric(model, split, "accuracy")
            if model.get("labels_per_class") and score is not None and lookup.complete(model):
                points.append((int(model["labels_per_class"]), score))
        if len({n for n, _ in points}) >= 2:
            ordered = tuple(sorted(points, key=lambda p: p[0]))
            series.append(LabelsSeries(lookup.split_word(split), ordered))
    if not series:
        return None
    return Figure(
        key="labels",
        caption="Learning curve: accuracy against the number of labels per class, with 95% "
        "intervals. The axis of labels is logarithmic.",
        alt="Line chart of accuracy against labels per class; the table of scores has the figures.",
        plot=LabelsPlot(tuple(series), "accuracy, %"),
        priority=1,
    )


def confusion(results: JsonDict, model: JsonDict) -> Figure | None:
    """Return the confusion matrix of a model on test."""
    matrix = (model.get("confusion") or {}).get("test") or ()
    classes = [str(c) for c in (results.get("data") or {}).get("classes") or ()]
    if not matrix or len(classes) != len(matrix):
        return None
    title = model.get("title") or model["name"]
    return Figure(
        key="confusion",
        caption=f"Confusion matrix of “{title}” on test: true classes down, predicted classes "
        "across, shaded by the share of the true class.",
        alt=f"Confusion matrix of {title}; precision and recall per class are in a table.",
        plot=ConfusionPlot(tuple(classes), tuple(tuple(int(n) for n in line) for line in matrix)),
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

"""Builds the learning curves of models and of sweeps, with caption and alternative text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import kinds, lookup
from headstart.report.load import Run
from headstart.report.plots import Curve, CurvePanel, CurvesPlot
from headstart.report.records import Figure
from headstart.types import JsonDict, StepRecord

_MOST_PANELS = 8


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
            kinds.stages(m),
        )
        for m in chosen
    )
    panels = tuple(p for p in panels if _drawable(p))
    if not panels:
        return None
    reading = ""
    if _kept(panels):
        reading = "The dotted upright marks the epoch that was kept."
    if any(p.boundaries for p in panels):
        reading = "A thin upright marks where a stage of the training starts"
        reading += ", a dotted one the epoch that it kept." if _kept(panels) else "."
    return Figure(
        key="curves",
        caption=f"Loss and accuracy of {_which(panels, chosen, entries)} by epoch: training as a "
        "solid line, validation dashed with open circles. " + reading,
        alt="Line charts of training and validation loss and accuracy by epoch: "
        + "; ".join(p.title for p in panels)
        + ". The tables give the final scores.",
        plot=CurvesPlot(panels),
        # Where layers are released, the curves are what a study of it is about.
        priority=1 if any(p.boundaries for p in panels) else 2,
    )


def _kept(panels: Sequence[CurvePanel]) -> bool:
    return any(p.kept_epochs for p in panels)


def _which(
    panels: Sequence[CurvePanel], chosen: Sequence[JsonDict], entries: Sequence[JsonDict]
) -> str:
    """Say in words which models' curves are drawn."""
    if len(panels) == 1:
        return f"“{panels[0].title}”"
    if len(chosen) < len(entries):
        return "the best models"
    if len(panels) == len(chosen):
        return "every model"
    if all(lookup.complete(m) for m in chosen):
        return "every model with several epochs"
    return "every model that did not diverge at once"


def sweep_curves(run: Run, sweep: JsonDict) -> Figure | None:
    """Return the curves of a sweep's members: of many, the best, the worst and some between."""
    steps = run.histories.get(f"sweeps/{sweep['name']}")
    if not steps:
        return None
    everyone = list(enumerate(sweep.get("members") or ()))
    split = (sweep.get("select") or {}).get("split") or "val"
    by_member = {i: [s for s in steps if s.member == i] for i, _ in everyone}
    members = [(i, m) for i, m in everyone if _drawable(_panel(by_member[i], "", False, ()))]
    left_out = ", without those that diverged at once" if len(members) < len(everyone) else ""
    if len(members) > _MOST_PANELS:
        members = _spread(members, split)
        left_out = ": best, worst and some between" + left_out
    panels = tuple(
        _panel(
            by_member[i],
            lookup.values_text(sweep, m),
            not lookup.complete(m),
            (),
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
    steps: Sequence[StepRecord], title: str, diverged: bool, stages: Sequence[Mapping[str, Any]]
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
    known = {i: stage for i, stage in enumerate(stages) if i in starts}
    kept = tuple(
        starts[i] + int(stage["best_epoch"])
        for i, stage in known.items()
        if stage.get("best_epoch") is not None
    )
    names = tuple(
        str(known[i].get("name") or known[i].get("trainable") or i + 1) if i in known else ""
        for i in starts
    )
    return CurvePanel(
        title,
        tuple(loss),
        tuple(accuracy),
        tuple(boundaries[:-1]),
        kept,
        diverged,
        names if len(names) > 1 else (),
    )


def _drawable(panel: CurvePanel) -> bool:
    """Return whether there is a line to draw: training that broke down at once has none."""
    return any(sum(v is not None for v in c.values) > 1 for _, c in panel.loss)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

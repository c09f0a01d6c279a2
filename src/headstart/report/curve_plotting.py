"""Builds the learning curves of models and of sweeps, with caption and alternative text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import kinds, lookup, measures, score_tables
from headstart.report.load import Run
from headstart.report.measures import ACCURACY, PERPLEXITY, Measure
from headstart.report.plots import Curve, CurvePanel, CurvesPlot
from headstart.report.records import Figure
from headstart.report.text import capital
from headstart.types import JsonDict, StepRecord

_MOST_PANELS = 8
_LARGEST_LOSS = 100.0  # in nats; the perplexity of more cannot be drawn


def model_curves(run: Run) -> Figure | None:
    """Return the curves of the models, the best ones where there are too many."""
    ranked = [m["name"] for m in lookup.by_preference(run.results)]
    entries = [m for m in lookup.models(run.results) if m["name"] in run.histories]
    chosen = entries
    measure = measures.chosen_by(run.results)
    if len(entries) > _MOST_PANELS:
        kept = [n for n in ranked if n in run.histories][:_MOST_PANELS]
        chosen = [m for m in entries if m["name"] in kept]
    panels = tuple(
        _panel(
            run.histories[m["name"]],
            str(m.get("title") or m["name"]),
            not lookup.complete(m),
            kinds.stages(m),
            measure,
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
        caption=f"{capital(_drawn(measure))} of {_which(panels, chosen, entries)} by epoch: "
        "training as a solid line, validation dashed with open circles. " + reading,
        alt=f"Line charts of training and validation {_drawn(measure)} by epoch: "
        + "; ".join(p.title for p in panels)
        + ". The tables give the final scores.",
        plot=CurvesPlot(panels, _loss_word(measure)),
        # Where layers are released, the curves are what a study of it is about.
        priority=1 if any(p.boundaries for p in panels) or measure is not ACCURACY else 2,
    )


def _loss_word(measure: Measure) -> str:
    return "perplexity" if measure is PERPLEXITY else "loss"


def _drawn(measure: Measure) -> str:
    """Say what the curves are of."""
    return "loss and accuracy" if measure is ACCURACY else _loss_word(measure)


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
    measure = measures.chosen_by(run.results)
    by_member = {i: [s for s in steps if s.member == i] for i, _ in everyone}
    members = [
        (i, m) for i, m in everyone if _drawable(_panel(by_member[i], "", False, (), measure))
    ]
    left_out = ", without those that diverged at once" if len(members) < len(everyone) else ""
    if len(members) > _MOST_PANELS:
        members = _spread(measure, members, split)
        left_out = ": best, worst and some between" + left_out
    panels = tuple(
        _panel(
            by_member[i],
            lookup.values_text(sweep, m),
            not lookup.complete(m),
            (),
            measure,
        )
        for i, m in members
    )
    if not panels:
        return None
    title = sweep.get("title") or sweep["name"]
    return Figure(
        key=f"curves-{sweep['name']}",
        caption=f"{capital(_drawn(measure))} by epoch in the sweep “{title}”{left_out}. "
        "Training as a solid line, validation dashed with open circles.",
        alt=f"Line charts of training and validation {_drawn(measure)} by epoch in {title}: "
        + "; ".join(p.title for p in panels)
        + ".",
        plot=CurvesPlot(panels, _loss_word(measure)),
        priority=4,
    )


def _spread(
    measure: Measure, members: Sequence[tuple[int, Mapping[str, Any]]], split: str
) -> list[tuple[int, Mapping[str, Any]]]:
    """Return as many members as there is room for, evenly spaced from best to worst."""
    ordered = sorted(members, key=lambda im: score_tables.rank(measure, im[1], split))
    last = len(ordered) - 1
    places = [round(k * last / (_MOST_PANELS - 1)) for k in range(_MOST_PANELS)]
    return [ordered[place] for place in places]


def _panel(
    steps: Sequence[StepRecord],
    title: str,
    diverged: bool,
    stages: Sequence[Mapping[str, Any]],
    measure: Measure,
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
            loss.append((split, Curve(epochs, tuple(_shown(s.loss, measure) for s in of))))
            if measure is ACCURACY:
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


def _shown(loss: float, measure: Measure) -> float | None:
    """Return what is drawn of a loss: of a language model, its perplexity."""
    if measure is PERPLEXITY:
        return math.exp(loss) if loss < _LARGEST_LOSS else None
    return _finite(loss)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""Turns a run folder into a report's content: records whose every number has its text."""

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headstart.report import (
    conclusion_tables,
    data_tables,
    lookup,
    numbering,
    plotting,
    result_tables,
)
from headstart.report.load import Run, load_run
from headstart.report.records import (
    Advice,
    Block,
    Command,
    Facts,
    KeyFigure,
    Paragraph,
    ReportView,
    Section,
    Sentence,
)
from headstart.report.text import (
    count,
    duration,
    listing,
    percent,
    percent_interval,
    setting,
    times,
)
from headstart.types import JsonDict

_TOPICS = {
    "learning-rate": "Learning rate",
    "momentum": "Momentum",
    "model": "Model",
    "labels": "Labels",
    "fit": "Fit",
    "acceleration": "Acceleration",
    "data": "Data",
}
_ABSTRACT_TOPICS = ("data", "model", "labels", "acceleration")


def build_view(run_folder: Path) -> ReportView:
    """Read a finished run and return everything that its report shows.

    Args:
        run_folder: The folder that a run has written.

    Returns:
        The full report; `shortened` makes it fit fewer pages.

    Raises:
        RunError: The folder holds no results.json, or one that cannot be read.
    """
    run = load_run(run_folder)
    results = run.results
    experiment = results.get("experiment") or {}
    name = str(experiment.get("name") or run_folder.name)
    profile = f", profile {experiment['profile']}" if experiment.get("profile") else ""
    date = _date(results.get("created"))
    view = ReportView(
        title=str(experiment.get("title") or name),
        subtitle=f"Experiment {name}{profile}" + (f" · {date}" if date else ""),
        created=str(results.get("created") or ""),
        abstract=_abstract(results),
        key_figures=_key_figures(results),
        sections=tuple(
            section
            for section in (
                _question(results),
                _method(results),
                _results(run),
                _acceleration(results),
                _conclusions(results),
                _targets(results),
                _repeating(results),
            )
            if section.blocks
        ),
    )
    return numbering.number(view)


def _section(key: str, title: str, blocks: Iterable[Block | None]) -> Section:
    """Return a section of the blocks that there are; an empty list of facts is none."""
    present = (b for b in blocks if b is not None and not (isinstance(b, Facts) and not b.items))
    return Section(key, title, tuple(present))


def _date(created: Any) -> str:
    try:
        moment = datetime.datetime.fromisoformat(str(created))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y}"


def _recommended(results: JsonDict) -> JsonDict | None:
    return lookup.model_named(results, (results.get("recommendation") or {}).get("model"))


def _shown_in_detail(results: JsonDict) -> JsonDict | None:
    """Return the recommended model, or the best there is where none was recommended."""
    ranked = lookup.by_preference(results)
    return _recommended(results) or (ranked[0] if ranked else None)


def _sentences(results: JsonDict) -> tuple[Sentence, ...]:
    return tuple(
        Sentence(
            _TOPICS.get(str(s.get("topic")), str(s.get("topic"))),
            str(s.get("text")),
            tuple(str(row) for row in s.get("rows") or ()),
        )
        for s in (results.get("recommendation") or {}).get("sentences") or ()
    )


def _abstract(results: JsonDict) -> tuple[str, ...]:
    """Return the key results: the first sentence on each of the topics that matter most."""
    said = []
    sentences = _sentences(results)
    for topic in _ABSTRACT_TOPICS:
        said += [s.text for s in sentences if s.topic == _TOPICS[topic]][:1]
    targets = results.get("targets") or ()
    if targets:
        said.append(_targets_met(sum(bool(t.get("met")) for t in targets), len(targets)))
    if results.get("state") == "partial":
        said.insert(0, "This run is partial: parts of the study are missing.")
    if not said:
        said.append("The run holds no recommendation.")
    return tuple(said)


def _targets_met(met: int, of: int) -> str:
    if of == 1:
        return f"The study’s one target is {'met' if met else 'missed'}."
    if met in (0, of):
        return f"All {count(of)} targets are met." if met else "No target is met."
    return f"Of {count(of)} targets {count(met)} {'is' if met == 1 else 'are'} met."


def _key_figures(results: JsonDict) -> tuple[KeyFigure, ...]:
    figures = []
    model = _shown_in_detail(results) or {}
    for split in ("test", "val"):
        score = lookup.metric(model, split, "accuracy")
        if score is not None:
            detail = [f"{percent_interval(score)}%"] if score.interval else []
            detail += [f"{count(score.n)} pictures"] if score.n else []
            label = f"{lookup.split_word(split).capitalize()} accuracy"
            figures.append(KeyFigure(label, percent(score.value), ", ".join(detail)))
            break
    pairs = [p for p in results.get("comparisons") or () if p.get("speedup") is not None]
    if pairs:
        pair = max(pairs, key=lambda p: p["speedup"])
        detail = []
        if pair.get("seconds_a") is not None and pair.get("seconds_b") is not None:
            detail.append(f"{duration(pair['seconds_b'])} → {duration(pair['seconds_a'])}")
        figures.append(KeyFigure("Acceleration", times(pair["speedup"]), "".join(detail)))
    targets = results.get("targets") or ()
    if targets:
        met = sum(bool(t.get("met")) for t in targets)
        figures.append(KeyFigure("Targets met", f"{count(met)} of {count(len(targets))}", ""))
    sizes = lookup.split_sizes(results)
    if sizes:
        total = sum(sum(of.values()) for of in sizes.values())
        classes = len((results.get("data") or {}).get("classes") or ())
        detail = [f"{count(classes)} classes"] if classes else []
        figures.append(KeyFigure("Pictures", count(total), "".join(detail)))
    if results.get("wall_seconds") is not None and len(figures) < 4:
        figures.append(KeyFigure("Time of the run", duration(results["wall_seconds"]), ""))
    return tuple(figures)


def _question(results: JsonDict) -> Section:
    text = str((results.get("experiment") or {}).get("description") or "")
    blocks: list[Block | None] = [
        Paragraph(" ".join(part.split())) for part in text.split("\n\n") if part.strip()
    ]
    blocks += [
        data_tables.caveats(results),
        data_tables.description(results),
        data_tables.counts(results),
        data_tables.left_out(results),
    ]
    return _section("question", "Question and data", blocks)


def _method(results: JsonDict) -> Section:
    entries = lookup.models(results)
    differing = set(lookup.differing(entries)) if entries else set()
    common = {
        k: v
        for k, v in (lookup.hyperparameters(entries[0]) if entries else {}).items()
        if k not in differing
    }
    names = lookup.setting_names(list(common))
    items = tuple((names[k][:1].upper() + names[k][1:], setting(v)) for k, v in common.items())
    blocks: list[Block | None] = []
    modes = {str(m.get("mode")) for m in entries}
    if "standard" in modes and "cached" in modes:
        blocks.append(
            Paragraph(
                "Every model is a frozen backbone with a new, trained head. In standard mode the "
                "backbone runs at every training step; in cached mode its output is computed once "
                "per picture, stored, and read back at every step. The mathematics is the same."
            )
        )
    elif entries:
        blocks.append(
            Paragraph("Every model is a frozen backbone with a new head, which alone is trained.")
        )
    blocks += [data_tables.backbones(results), result_tables.models(results)]
    if items:
        blocks += [Paragraph("All models share these settings:"), Facts(items, priority=4)]
    return _section("method", "Method", blocks)


def _results(run: Run) -> Section:
    results = run.results
    blocks: list[Block | None] = []
    model = _shown_in_detail(results)
    scores = result_tables.scores(results, (_recommended(results) or {}).get("name"))
    if scores is not None:
        blocks.append(Paragraph(_conventions(results)))
    blocks += [scores, plotting.labels_chart(results), plotting.model_curves(run)]
    blocks += plotting.sweep_charts(results)
    for sweep in results.get("sweeps") or ():
        blocks += [result_tables.sweep(sweep), plotting.sweep_curves(run, sweep)]
    if model is not None:
        blocks += [
            result_tables.per_class(model),
            plotting.confusion(results, model),
            result_tables.worst_pairs(results, model),
        ]
    blocks.append(result_tables.per_class_of_all(results))
    return _section("results", "Results", blocks)


def _conventions(results: JsonDict) -> str:
    text = "Intervals are 95% intervals. "
    if lookup.choosing_split(results) == "val":
        return text + "The validation split chooses; the test split only reports."
    return text + "No model has a validation score: the test split chose, and so flatters."


def _acceleration(results: JsonDict) -> Section:
    pairs = results.get("comparisons") or ()
    timed = any(p.get("speedup") is not None for p in pairs)
    return _section(
        "acceleration",
        "Acceleration" if timed else "Comparisons and time",
        (
            result_tables.comparisons(results),
            plotting.time_chart(results),
            result_tables.times_of_models(results),
        ),
    )


def _conclusions(results: JsonDict) -> Section:
    sentences = _sentences(results)
    return _section(
        "conclusions",
        "Conclusions and recommended values",
        (
            Advice(sentences) if sentences else None,
            conclusion_tables.recommended_values(results, _recommended(results)),
        ),
    )


def _targets(results: JsonDict) -> Section:
    table = conclusion_tables.targets(results)
    blocks: list[Block | None] = [table]
    missed = [str(t.get("part")) for t in results.get("targets") or () if not t.get("met")]
    if missed:
        parts = listing(list(dict.fromkeys(missed)))
        blocks.insert(0, Paragraph(f"Missed in part {parts}.", strong=True))
    return _section("targets", "Targets", blocks)


def _repeating(results: JsonDict) -> Section:
    command = str((results.get("experiment") or {}).get("command") or "")
    return _section(
        "repeating",
        "Reproducibility",
        (
            Paragraph("This command repeats the run:") if command else None,
            Command(command) if command else None,
            data_tables.environment(results),
            data_tables.weights(results),
        ),
    )

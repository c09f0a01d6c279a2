"""Turns a run folder into a report's content: records whose every number has its text."""

from collections.abc import Iterable
from pathlib import Path

from headstart.report import (
    calibration_tables,
    class_tables,
    conclusion_tables,
    cost_plotting,
    cost_tables,
    curve_plotting,
    data_tables,
    ensemble_tables,
    estimate_plotting,
    goal_tables,
    kinds,
    language_tables,
    learning_curve_tables,
    lookup,
    measures,
    methods,
    mistakes,
    near_duplicate_tables,
    numbering,
    opening,
    pairwise_tables,
    plotting,
    score_tables,
    seed_tables,
    stage_tables,
    suspicious_tables,
    text_tables,
    time_tables,
    zero_shot_tables,
)
from headstart.report.load import Run, load_run
from headstart.report.records import (
    Advice,
    Block,
    Command,
    Facts,
    Paragraph,
    ReportView,
    Section,
)
from headstart.report.text import capital, day, listing
from headstart.types import JsonDict


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
    date = day(results.get("created"))
    view = ReportView(
        title=str(experiment.get("title") or name),
        subtitle=f"Experiment {name}{profile}" + (f" · {date}" if date else ""),
        created=str(results.get("created") or ""),
        abstract=opening.abstract(results),
        key_figures=opening.key_figures(results),
        sections=tuple(
            section
            for section in (
                _question(results),
                _method(results),
                _results(run),
                _errors(run),
                _calibration(results),
                _labels(results),
                _zero_shot(results),
                _ensembles(results),
                _costs(results),
                _acceleration(results),
                _discussion(results),
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


def _question(results: JsonDict) -> Section:
    text = str((results.get("experiment") or {}).get("description") or "")
    blocks: list[Block | None] = [
        Paragraph(" ".join(part.split())) for part in text.split("\n\n") if part.strip()
    ]
    blocks += [
        data_tables.caveats(results),
        data_tables.description(results),
        data_tables.counts(results),
        language_tables.corpus(results),
        text_tables.truncation(results),
        data_tables.left_out(results),
    ]
    return _section("question", "Question and data", blocks)


def _method(results: JsonDict) -> Section:
    trained = kinds.trained(results)
    hidden = ("from_scratch", *(stage_tables.SHOWN if kinds.staged(results) else ()))
    common = {k: v for k, v in lookup.shared(trained).items() if k not in hidden}
    names = lookup.setting_names(list(common))
    items = tuple((capital(names[k]), text) for k, text in common.items())
    blocks: list[Block | None] = [Paragraph(text) for text in methods.way_of_training(results)]
    blocks += [
        data_tables.backbones(results),
        language_tables.architectures(results),
        score_tables.models(results),
        stage_tables.stages(results),
    ]
    table, shared = stage_tables.settings(results)
    blocks.append(table)
    if shared.items:
        blocks += [Paragraph("All stages share these settings:"), shared]
    if items:
        blocks += [Paragraph("All models share these settings:"), Facts(items, priority=4)]
    return _section("method", "Method", blocks)


def _results(run: Run) -> Section:
    results = run.results
    blocks: list[Block | None] = []
    model = opening.shown_in_detail(results)
    chosen = (opening.recommended(results) or {}).get("name")
    tables = score_tables if measures.goal(results) == "classification" else goal_tables
    scores = tables.scores(results, chosen)
    if scores is not None:
        blocks.append(Paragraph(_conventions(results)))
    blocks += [
        scores,
        score_tables.further_tests(results, chosen),
        score_tables.class_means(results, chosen),
        pairwise_tables.tests(results, chosen),
        seed_tables.seeds(results, chosen),
        plotting.labels_chart(results),
        curve_plotting.model_curves(run),
        estimate_plotting.traces(run),
    ]
    blocks += plotting.sweep_charts(results)
    for sweep in results.get("sweeps") or ():
        blocks += [score_tables.sweep(results, sweep), curve_plotting.sweep_curves(run, sweep)]
    if model is not None:
        blocks += [
            class_tables.per_class(results, model),
            plotting.confusion(results, model),
            class_tables.worst_pairs(results, model),
            estimate_plotting.estimates(run, model),
        ]
    blocks += [class_tables.per_class_of_all(results), text_tables.examples(results)]
    blocks += [*language_tables.samples(results, model), language_tables.references(results)]
    return _section("results", "Results", blocks)


def _errors(run: Run) -> Section:
    blocks = [
        *mistakes.blocks(run),
        *near_duplicate_tables.blocks(run.results),
        *suspicious_tables.blocks(run),
    ]
    return _section("errors", "Errors and doubtful data", blocks)


def _calibration(results: JsonDict) -> Section:
    model = opening.shown_in_detail(results)
    return _section("calibration", "Calibration", calibration_tables.blocks(results, model))


def _labels(results: JsonDict) -> Section:
    return _section("labels", "How much data", learning_curve_tables.blocks(results))


def _conventions(results: JsonDict) -> str:
    text = "Intervals are 95% intervals. "
    if lookup.choosing_split(results) == "val":
        return text + "The validation split chooses; the test split only reports."
    return text + "No model has a validation score: the test split chose, and so flatters."


def _zero_shot(results: JsonDict) -> Section:
    return _section(
        "zero-shot",
        "Pretrained classifiers as they are",
        (
            zero_shot_tables.opening(results),
            zero_shot_tables.scores(results),
            *zero_shot_tables.pictures(results),
        ),
    )


def _ensembles(results: JsonDict) -> Section:
    return _section(
        "ensembles",
        "Ensembles",
        (
            ensemble_tables.opening(results),
            ensemble_tables.gains(results, (opening.recommended(results) or {}).get("name")),
            ensemble_tables.members(results),
            ensemble_tables.pairs(results),
        ),
    )


def _costs(results: JsonDict) -> Section:
    return _section(
        "costs",
        "Size and cost",
        (
            cost_tables.costs(results, (opening.recommended(results) or {}).get("name")),
            cost_plotting.trade(results),
            stage_tables.costs(results),
        ),
    )


def _acceleration(results: JsonDict) -> Section:
    pairs = results.get("comparisons") or ()
    timed = any(p.get("speedup") is not None for p in pairs)
    return _section(
        "acceleration",
        "Acceleration" if timed else "Comparisons and time",
        (
            time_tables.comparisons(results),
            plotting.time_chart(results),
            time_tables.times_of_models(results),
        ),
    )


def _discussion(results: JsonDict) -> Section:
    sentences = opening.discussion(results)
    return _section("discussion", "Discussion", (Advice(sentences) if sentences else None,))


def _conclusions(results: JsonDict) -> Section:
    sentences = opening.sentences(results)
    return _section(
        "conclusions",
        "Conclusions and recommended values",
        (
            Advice(sentences) if sentences else None,
            conclusion_tables.recommended_values(results, opening.recommended(results)),
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

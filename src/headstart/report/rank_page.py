"""The page of a ranking of backbones: one HTML file that needs nothing else."""

import statistics
from collections.abc import Sequence

from headstart.report.html import to_html
from headstart.report.numbering import number
from headstart.report.plots import CostPlot, CostPoint
from headstart.report.rank_tables import accuracies, in_order, measured, sizes, times
from headstart.report.records import (
    Block,
    Column,
    Command,
    Facts,
    Figure,
    KeyFigure,
    Paragraph,
    ReportView,
    Row,
    Section,
    Table,
)
from headstart.report.text import (
    MISSING,
    clean,
    count,
    day,
    decimal,
    duration,
    listing,
    mebibytes,
    p_value,
    percent,
    percent_interval,
    plural,
    probability,
    quantity,
)
from headstart.types import JsonDict

DISTURBED = (
    "The times are disturbed, most likely by other programs on this machine, and too long. They "
    "still compare the networks, which took turns; measure again on a quiet machine."
)
_NAMES = {"logme": "LogME", "leep": "LEEP", "knn": "Nearest neighbours"}
_BUSY = 0.8  # cores in use by calls that do nothing but compute: less, and others took them
_UNSTEADY = 2.0  # 95th percentile over the median; on a quiet machine it is below 1.3
_FEW = 8  # fewer networks than this say little about how good the cheap scores are


def rank_html(record: JsonDict) -> str:
    """Render a ranking.

    Args:
        record: The content of rank.json.

    Returns:
        A complete page. Every text of a user is escaped.
    """
    return to_html(number(rank_view(record)))


def rank_view(record: JsonDict) -> ReportView:
    """Return what the page of a ranking shows.

    Args:
        record: The content of rank.json.

    Returns:
        The view, not yet numbered.
    """
    entries = in_order(record)
    ranked = [one for one in entries if one["scores"] is not None]
    advice = record["recommendation"]
    noun = str(record["data"]["noun"])
    origin = clean(record["data"]["origin"])
    samples = int(record["method"]["samples"])
    chosen = next(one for one in entries if one["key"] == advice["name"])
    abstract = [
        clean(advice["sentence"]),
        f"Each accuracy is that of a linear probe on frozen features, tested out of fold on "
        f"{plural(samples, noun)} of training and validation; no test sample entered a score.",
    ]
    conclusion: list[Block] = [Paragraph(clean(advice["sentence"]), strong=True)]
    conclusion += [Paragraph(text) for text in _remarks(ranked, advice)]
    if disturbed(record):
        conclusion.append(Paragraph(DISTURBED))
    figure = _trade(ranked, noun)
    return ReportView(
        title="Which backbone?",
        subtitle=" · ".join(filter(None, [origin, day(record.get("created"))])),
        created=str(record.get("created") or ""),
        abstract=tuple(abstract),
        key_figures=_key_figures(chosen, ranked, entries, noun),
        sections=(
            Section(
                "choice",
                "Accuracy",
                (*conclusion, *([figure] if figure else []), accuracies(ranked, advice)),
            ),
            Section("cost", "Cost", (times(entries, advice, noun), sizes(entries, advice, noun))),
            Section("cheap", "How far the cheap scores can be trusted", _trust(record, ranked)),
            Section("method", "How it was measured", _method(record, entries, noun)),
        ),
    )


def disturbed(record: JsonDict) -> bool:
    """Return whether times cannot be trusted.

    Args:
        record: The content of rank.json.

    Returns:
        Whether the calls had less than a core of the CPU, or half of the networks took, at either
        batch size, more than twice their median time in one call of twenty (of fewer calls than
        that: in the slowest).
    """
    for size in ("1", "32"):
        timed = [one["latency"][size] for one in record["candidates"]]
        slow = [t["slowest_ms"] if t["p95_ms"] is None else t["p95_ms"] for t in timed]
        ratios = [ms / t["p50_ms"] for ms, t in zip(slow, timed, strict=True)]
        if statistics.median(ratios) > _UNSTEADY:
            return True
        on_cpu = str(record["environment"]["device"]) == "cpu"
        if on_cpu and min(t["cores_used"] for t in timed) < _BUSY:
            return True
    return False


def _key_figures(
    chosen: JsonDict, ranked: Sequence[JsonDict], entries: Sequence[JsonDict], noun: str
) -> tuple[KeyFigure, ...]:
    accuracy = measured(chosen["scores"]["probe"]["accuracy"])
    single = chosen["latency"]["1"]
    p95 = single["p95_ms"]
    within = "" if p95 is None else f"; 95% within {quantity(p95)}\u00a0ms"
    random = len(entries) - len(ranked)
    more = f", and {random} of random weights" if random else ""
    return (
        KeyFigure(
            "Accuracy", percent(accuracy.value), f"{percent_interval(accuracy)}%, out of fold"
        ),
        KeyFigure(
            "Prediction",
            f"{quantity(single['p50_ms'])}\u00a0ms",
            f"a {noun}, one at a time{within}",
        ),
        KeyFigure("Size", f"{mebibytes(chosen['size_bytes'])}\u00a0MiB", "weights in float32"),
        KeyFigure("Compared", plural(len(ranked), "backbone"), f"pretrained{more}"),
    )


def _remarks(ranked: Sequence[JsonDict], advice: JsonDict) -> list[str]:
    """Return what else a reader should know before choosing."""
    remarks = []
    others = [o for o in ranked if o["key"] != advice["best"]]
    like = [o for o in others if o["indistinguishable"]]
    if like:
        remarks.append(
            "Indistinguishable from the best by the paired test on the same samples (McNemar, "
            f"Holm): {_with_p(like)}."
        )
    best = next(o for o in ranked if o["key"] == advice["best"])
    low = best["scores"]["probe"]["accuracy"]["low"]
    close = [
        o
        for o in others
        if not o["indistinguishable"] and o["scores"]["probe"]["accuracy"]["high"] >= low
    ]
    if close:
        remarks.append(
            "Less accurate than the best by the same test, although the intervals overlap: "
            f"{_with_p(close)}."
        )
    beaten = [o for o in ranked if o["dominated_by"] is not None]
    if beaten:
        remarks.append(
            "Dominated, that is, another is at least as accurate and as fast: "
            f"{listing([clean(o['key']) for o in beaten])}."
        )
    return remarks


def _with_p(entries: Sequence[JsonDict]) -> str:
    return listing([f"{clean(o['key'])} ({p_value(o['against_best']['p_holm'])})" for o in entries])


def _trade(ranked: Sequence[JsonDict], noun: str) -> Figure | None:
    """Return accuracy against the time of one sample, or None for a single network."""
    if len(ranked) < 2:
        return None
    short = [str(one["key"]).rpartition("/")[2] for one in ranked]
    points = tuple(
        CostPoint(
            # A phone has room for a short name, where it is one network's alone.
            clean(name if short.count(name) == 1 else one["key"]),
            float(one["latency"]["1"]["p50_ms"]),
            measured(one["scores"]["probe"]["accuracy"]),
            one["dominated_by"] is None,
        )
        for one, name in zip(ranked, short, strict=True)
    )
    return Figure(
        key="trade",
        caption=f"Accuracy of the probe, with 95% intervals, against the median time to predict "
        f"one {noun}; the axis of time is logarithmic. Filled, on the dashed line: networks that "
        "no other beats in both.",
        alt=f"Chart of accuracy against prediction time per {noun} of "
        + "; ".join(p.title for p in points)
        + ". The tables give the figures.",
        plot=CostPlot(points, f"prediction time, ms per {noun}", "accuracy, %"),
        priority=1,
    )


def _trust(record: JsonDict, ranked: Sequence[JsonDict]) -> tuple[Block, ...]:
    n = len(ranked)
    few = (
        f" With {plural(n, 'backbone')} that means little: read it as an anecdote."
        if n < _FEW
        else ""
    )
    text = Paragraph(
        "LogME, LEEP and nearest neighbours need no training. Here is how well the order that each "
        f"gives agrees with the order of the probe’s accuracy (1: the same, −1: reversed).{few}"
    )
    if n < 2:
        return (Paragraph("One backbone has no order: compare more to see."),)
    rows = tuple(
        Row(
            (
                _NAMES[one["score"]],
                count(one["n"]),
                decimal(one["spearman"]["value"], 2),
                probability(one["spearman"]["p"]),
                decimal(one["kendall"]["value"], 2),
                probability(one["kendall"]["p"]),
            )
        )
        for one in record["agreement"]
    )
    table = Table(
        key="agreement",
        caption="How well each cheap score predicted the order of the probe.",
        columns=(
            Column("Score"),
            Column("Backbones", "right"),
            Column("ρ", "right", "Spearman"),
            Column("p", "right", "Spearman"),
            Column("τ", "right", "Kendall"),
            Column("p", "right", "Kendall"),
        ),
        rows=rows,
        note=f"{MISSING}: fewer than two backbones have the score, or all are equal. p: of no "
        "association, exact for few backbones.",
    )
    return text, table


def _method(record: JsonDict, entries: Sequence[JsonDict], noun: str) -> tuple[Block, ...]:
    method, environment = record["method"], record["environment"]
    timing = method["timing"]
    items = [
        (
            "Samples",
            f"{count(method['samples'])} {noun}s of training and validation in "
            f"{plural(len(record['data']['classes']), 'class', 'classes')}; no test sample entered "
            "a score",
        ),
        (
            "Linear probe",
            f"logistic regression solved to its optimum; {method['folds']} folds, each predicted "
            "by a probe that has not seen it; the penalty is chosen on another fold, never on the "
            "one that is reported. Samples of a group and copies stay together",
        ),
        (
            "Neighbours",
            f"the {method['neighbours']} nearest by cosine of the other folds, votes weighted "
            "exp(cosine / 0.07)",
        ),
        (
            "Timing",
            f"{timing['engine']}, {timing['precision']}, "
            f"{plural(int(timing['threads']), 'thread')}, device {environment['device']}, "
            f"{clean(environment['cpu'])}",
        ),
    ]
    tokens = sorted({o["latency"]["1"]["tokens"] for o in entries} - {None})
    if tokens:
        items.append(
            ("Texts timed", f"of median length: {listing([count(t) for t in tokens], 'or')} tokens")
        )
    items += [(clean(o["key"]), _origin(o)) for o in entries]
    items.append(("Took", duration(record["wall_seconds"])))
    return Facts(tuple(items)), Command(clean(record["command"]))


def _origin(one: JsonDict) -> str:
    weights, done = one["weights"], one["extraction"]
    text = clean(f"{weights['origin']}; licence: {weights['license']}")
    if done is None:
        return text
    return f"{text}; features by {done['engine']}, {count(done['extracted'])} computed and " + (
        f"{count(done['reused'])} reused in {duration(done['wall_seconds'])}"
    )

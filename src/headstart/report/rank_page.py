"""The page of a ranking of backbones: one HTML file that needs nothing else."""

from collections.abc import Sequence

from headstart.report.html import to_html
from headstart.report.numbering import number
from headstart.report.plots import CostPlot, CostPoint
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
    Measured,
    capital,
    clean,
    count,
    day,
    decimal,
    duration,
    listing,
    mebibytes,
    percent,
    percent_interval,
    plural,
    probability,
    quantity,
)
from headstart.types import JsonDict

DISTURBED = (
    "Other programs had the processor while predictions were timed, so all times are too long. "
    "They still compare the networks, which took turns; measure again on a quiet machine."
)
_NAMES = {"logme": "LogME", "leep": "LEEP", "knn": "Nearest neighbours"}
_BUSY = 0.8  # cores in use by calls that do nothing but compute: less, and others took them
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
        f"{plural(samples, noun)} of training and validation; the test split was not read.",
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
                (*conclusion, *([figure] if figure else []), _accuracies(ranked, advice)),
            ),
            Section("cost", "Cost", (_times(entries, advice, noun), _sizes(entries, advice, noun))),
            Section("cheap", "How far the cheap scores can be trusted", _trust(record, ranked)),
            Section("method", "How it was measured", _method(record, entries, noun)),
        ),
    )


def in_order(record: JsonDict) -> list[JsonDict]:
    """Return the networks from the most to the least accurate, those with random weights last."""

    def place(one: JsonDict) -> tuple[bool, float, float]:
        scores = one["scores"]
        accuracy = 0.0 if scores is None else float(scores["probe"]["accuracy"]["value"])
        return scores is None, -accuracy, float(one["latency"]["1"]["p50_ms"])

    return sorted(record["candidates"], key=place)


def verdict_words(one: JsonDict, advice: JsonDict) -> str:
    """Say in a few words what became of a network.

    Args:
        one: Its entry of rank.json.
        advice: The recommendation of rank.json.

    Returns:
        Such as ``recommended`` or ``like the best; dominated by NAME``.
    """
    if one["scores"] is None:
        return "random weights: cost only"
    words = []
    if one["key"] == advice["name"]:
        words.append("recommended")
    if one["key"] == advice["best"]:
        words.append("most accurate")
    elif one["indistinguishable"] and one["key"] != advice["name"]:
        words.append("indistinguishable from the best")
    if one["dominated_by"] is not None:
        words.append(f"dominated by {one['dominated_by']}")
    return clean("; ".join(words))


def measured(score: JsonDict) -> Measured:
    """Return a score of rank.json with its interval."""
    return Measured(score["value"], score["low"], score["high"], score["n"])


def disturbed(record: JsonDict) -> bool:
    """Return whether other programs had the processor while predictions were timed."""
    return str(record["environment"]["device"]) == "cpu" and any(
        by_size["cores_used"] < _BUSY
        for one in record["candidates"]
        for by_size in one["latency"].values()
    )


def _key_figures(
    chosen: JsonDict, ranked: Sequence[JsonDict], entries: Sequence[JsonDict], noun: str
) -> tuple[KeyFigure, ...]:
    accuracy = measured(chosen["scores"]["probe"]["accuracy"])
    single = chosen["latency"]["1"]
    random = len(entries) - len(ranked)
    more = f", and {random} of random weights" if random else ""
    return (
        KeyFigure(
            "Accuracy", percent(accuracy.value), f"{percent_interval(accuracy)}%, out of fold"
        ),
        KeyFigure(
            "Prediction",
            f"{quantity(single['p50_ms'])}\u00a0ms",
            f"a {noun}, one at a time; 95% within {quantity(single['p95_ms'])}\u00a0ms",
        ),
        KeyFigure("Size", f"{mebibytes(chosen['size_bytes'])}\u00a0MiB", "weights in float32"),
        KeyFigure("Compared", plural(len(ranked), "backbone"), f"pretrained{more}"),
    )


def _remarks(ranked: Sequence[JsonDict], advice: JsonDict) -> list[str]:
    """Return what else a reader should know before choosing."""
    remarks = []
    told = [o for o in ranked if o["indistinguishable"] and o["key"] != advice["best"]]
    if told:
        remarks.append(
            f"Indistinguishable from the best, since their intervals overlap: "
            f"{listing([clean(o['key']) for o in told])}."
        )
        apart = [
            f"{clean(o['key'])} (p = {probability(o['against_best']['p_holm'])})"
            for o in told
            if o["against_best"] is not None and o["against_best"]["p_holm"] < 0.05
        ]
        if apart:
            remarks.append(
                "The paired test on the same samples, which sees more, does tell from the best: "
                f"{listing(apart)}. If every point counts, take the best."
            )
    beaten = [o for o in ranked if o["dominated_by"] is not None]
    if beaten:
        remarks.append(
            "Dominated, that is, another is at least as accurate and as fast: "
            f"{listing([clean(o['key']) for o in beaten])}."
        )
    return remarks


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


def _accuracies(ranked: Sequence[JsonDict], advice: JsonDict) -> Table:
    rows = []
    for one in ranked:
        scores, against = one["scores"], one["against_best"]
        probe = measured(scores["probe"]["accuracy"])
        cells = (
            clean(one["key"]),
            percent(probe.value, sign=""),
            percent_interval(probe),
            MISSING if against is None else probability(against["p_holm"]),
            percent(scores["knn"]["value"], sign=""),
            decimal(scores["logme"], 3),
            decimal(scores["leep"], 3),
            verdict_words(one, advice),
        )
        rows.append(Row(cells, strong=one["key"] == advice["name"]))
    probe_group, cheap_group = "Linear probe", "Cheap scores"
    return Table(
        key="accuracies",
        caption="What each backbone’s frozen features say of the labels, the most accurate first.",
        columns=(
            Column("Backbone"),
            Column("accuracy, %", "right", probe_group),
            Column("95% interval", "right", probe_group),
            Column("p against best", "right", probe_group),
            Column("neighbours, %", "right", cheap_group),
            Column("LogME", "right", cheap_group),
            Column("LEEP", "right", cheap_group),
            Column("Verdict"),
        ),
        rows=tuple(rows),
        note="p: McNemar’s exact test against the most accurate on the same samples, with Holm’s "
        "correction. LogME and LEEP: larger is better; LEEP needs a network with a classifier of "
        "its own. LogME of networks with different widths can be compared.",
        priority=1,
    )


def _times(entries: Sequence[JsonDict], advice: JsonDict, noun: str) -> Table:
    rows = []
    for one in entries:
        single, batch = one["latency"]["1"], one["latency"]["32"]
        cells = (
            clean(one["key"]),
            quantity(single["p50_ms"]),
            f"{quantity(single['low_ms'])}–{quantity(single['high_ms'])}",
            quantity(single["p95_ms"]),
            quantity(batch["p50_ms"] / 32),
            quantity(batch["p95_ms"] / 32),
            quantity(batch["samples_per_second"]),
        )
        rows.append(Row(cells, strong=one["key"] == advice["name"]))
    one_group, many_group = "One at a time, ms", f"In batches of 32, ms per {noun}"
    return Table(
        key="times",
        caption="Time of the prediction step: the forward pass with a linear head.",
        columns=(
            Column("Backbone"),
            Column("median", "right", one_group),
            Column("its 95% interval", "right", one_group),
            Column("95th percentile", "right", one_group),
            Column("median", "right", many_group),
            Column("95th percentile", "right", many_group),
            Column(f"{capital(noun)}s per second", "right"),
        ),
        rows=tuple(rows),
        note=_calls(entries),
        priority=1,
    )


def _calls(entries: Sequence[JsonDict]) -> str:
    texts = []
    for size, words in (("1", "one at a time"), ("32", "in batches of 32")):
        calls = sorted({int(one["latency"][size]["calls"]) for one in entries})
        texts.append(f"{listing([count(c) for c in calls], 'or')} calls {words}")
    return (
        f"{listing(texts)}, all networks taking turns. Decoding and preparing are not counted."
        + (" Of few calls the 95th percentile is near the slowest." if entries else "")
    )


def _sizes(entries: Sequence[JsonDict], advice: JsonDict, noun: str) -> Table:
    def peak(one: JsonDict, size: str) -> str:
        return mebibytes(None if one["peak_bytes"] is None else one["peak_bytes"][size])

    return Table(
        key="sizes",
        caption="What each network takes, with a linear head.",
        columns=(
            Column("Backbone"),
            Column("Parameters", "right"),
            Column("Size, MiB", "right"),
            Column(f"Million multiply-adds per {noun}", "right"),
            Column("one", "right", "Peak memory, MiB"),
            Column("32", "right", "Peak memory, MiB"),
            Column("Features", "right"),
        ),
        rows=tuple(
            Row(
                (
                    clean(one["key"]),
                    count(one["parameters_total"]),
                    mebibytes(one["size_bytes"]),
                    quantity(None if one["macs"] is None else one["macs"] / 1e6),
                    peak(one, "1"),
                    peak(one, "32"),
                    count(one["features"]),
                ),
                strong=one["key"] == advice["name"],
            )
            for one in entries
        ),
        note="Peak memory: above that of a process that has imported everything, weights included, "
        "predicting one and 32 at a time, measured in a process of its own.",
        priority=2,
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
            f"{plural(len(record['data']['classes']), 'class', 'classes')}; of the test split none",
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


__all__ = ["in_order", "measured", "rank_html", "rank_view", "verdict_words"]

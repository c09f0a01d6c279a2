"""The tables of a ranking of backbones: accuracy, time, size."""

from collections.abc import Sequence

from headstart.report.records import Column, Row, Table
from headstart.report.text import (
    MISSING,
    Measured,
    capital,
    clean,
    count,
    decimal,
    listing,
    mebibytes,
    percent,
    percent_interval,
    probability,
    quantity,
)
from headstart.types import JsonDict


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


def accuracies(ranked: Sequence[JsonDict], advice: JsonDict) -> Table:
    """Return the probe, the cheap scores and the verdict of each network.

    Args:
        ranked: The entries of rank.json that have scores, in order.
        advice: Its recommendation.

    Returns:
        The table.
    """
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
        "correction; below 0.05 the two are told apart. LogME and LEEP: larger is better; LEEP "
        "needs a network with a classifier of its own. LogME of networks with different widths can "
        "be compared.",
        priority=1,
    )


def times(entries: Sequence[JsonDict], advice: JsonDict, noun: str) -> Table:
    """Return how long each network predicts.

    Args:
        entries: The entries of rank.json, in order.
        advice: Its recommendation.
        noun: What one sample is.

    Returns:
        The table.
    """
    rows = []
    for one in entries:
        single, batch = one["latency"]["1"], one["latency"]["32"]
        cells = (
            clean(one["key"]),
            quantity(single["p50_ms"]),
            f"{quantity(single['low_ms'])}–{quantity(single['high_ms'])}",
            quantity(single["p95_ms"]),
            quantity(batch["p50_ms"] / 32),
            quantity(None if batch["p95_ms"] is None else batch["p95_ms"] / 32),
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
    texts, few = [], False
    for size, words in (("1", "one at a time"), ("32", "in batches of 32")):
        calls = sorted({int(one["latency"][size]["calls"]) for one in entries})
        texts.append(f"{listing([count(c) for c in calls], 'or')} calls {words}")
        few = few or any(one["latency"][size]["p95_ms"] is None for one in entries)
    return (
        f"{listing(texts)}, all networks taking turns. Decoding and preparing are not counted."
        + (f" {MISSING}: too few calls for a 95th percentile." if few else "")
    )


def sizes(entries: Sequence[JsonDict], advice: JsonDict, noun: str) -> Table:
    """Return parameters, multiply-adds and memory of each network.

    Args:
        entries: The entries of rank.json, in order.
        advice: Its recommendation.
        noun: What one sample is.

    Returns:
        The table.
    """

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

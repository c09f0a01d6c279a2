"""How far a model's confidence can be believed: the table, and the reliability diagram."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import lookup
from headstart.report.plots import ReliabilityBin, ReliabilityPanel, ReliabilityPlot
from headstart.report.records import Block, Column, Figure, Paragraph, Row, Table
from headstart.report.text import (
    count,
    decimal,
    percent,
    percent_cells,
    quantity,
)
from headstart.types import JsonDict

MOMENTS = ("before", "after")  # the temperature


def entries(results: JsonDict) -> list[tuple[JsonDict, JsonDict]]:
    """Return the models whose calibration was measured on test, with what was measured."""
    return [
        (m, m["calibration"])
        for m in lookup.models(results)
        if ((m.get("calibration") or {}).get("test") or {}).get("before")
    ]


def moment(calibration: Mapping[str, Any], which: str) -> Mapping[str, Any]:
    """Return what was measured ``before`` or ``after`` the temperature, perhaps nothing."""
    found: Mapping[str, Any] = (calibration.get("test") or {}).get(which) or {}
    return found


def mean_confidence(measured: Mapping[str, Any]) -> float | None:
    """Return the mean confidence over all samples, from the bins, or None without any."""
    bins: Sequence[Mapping[str, Any]] = measured.get("bins") or ()
    total = sum(b["n"] for b in bins)
    return sum(b["n"] * b["confidence"] for b in bins) / total if total else None


def blocks(results: JsonDict, model: JsonDict | None) -> tuple[Block | None, ...]:
    """Return the section on calibration.

    Args:
        results: The content of results.json.
        model: The model whose reliability diagram is drawn, or None.

    Returns:
        What calibration is, the table of all models, and the diagram; nothing where no model's
        calibration was measured.
    """
    found = entries(results)
    if not found:
        return ()
    of = next((c for m, c in found if model is not None and m["name"] == model["name"]), None)
    text = (
        "A model is calibrated where, of all answers of which it is nine tenths sure, nine tenths "
        "are right. "
        "The expected calibration error (ECE) is the mean distance between confidence and "
        "accuracy over bins of confidence, weighted by how many answers are in them. Even a "
        "calibrated model has some: chance moves every bin. The temperature divides the logits; "
        "it was fitted on validation and changes confidences, never the predicted class."
    )
    diagram = None if of is None or model is None else _diagram(model, of)
    return (Paragraph(text), _table(results, found, model), diagram)


def _table(
    results: JsonDict, found: Sequence[tuple[JsonDict, JsonDict]], model: JsonDict | None
) -> Table:
    rows = []
    for owner, calibration in found:
        cells = [str(owner.get("title") or owner["name"])]
        cells.append(percent_cells(lookup.metric(owner, "test", "accuracy"))[0])
        for which in MOMENTS:
            measured = moment(calibration, which)
            loss = lookup.measured(measured.get("loss"))
            cells.append(percent(mean_confidence(measured), sign=""))
            cells += percent_cells(lookup.measured(measured.get("ece")))
            cells.append(decimal(None if loss is None else loss.value, 3))
            if which == "before":
                cells.append(quantity(calibration.get("temperature")))
        rows.append(
            Row(
                tuple(cells),
                refs=(f"models/{owner['name']}/calibration",),
                strong=model is not None and owner["name"] == model["name"],
            )
        )
    groups = ("As trained", "With the temperature")
    before, after = (
        (
            Column("conf., %", "right", group),
            Column("ECE, %", "right", group),
            Column("95% interval", "right", group),
            Column("loss", "right", group),
        )
        for group in groups
    )
    numbers = sorted({int(c["bins"]) for _, c in found if c.get("bins")})
    bins = f" ECE over {count(numbers[0])} bins." if len(numbers) == 1 else ""
    return Table(
        key="calibration",
        caption="Calibration on test, as trained and with the temperature.",
        columns=(
            Column("Model"),
            Column("Acc., %", "right"),
            *before,
            Column("Temp.", "right"),
            *after,
        ),
        rows=tuple(rows),
        note=f"Conf.: mean confidence in the predicted class.{bins}{_applied(results, found)}",
        priority=2,
    )


def _applied(results: JsonDict, found: Sequence[tuple[JsonDict, JsonDict]]) -> str:
    """Say whether the stored predictions hold the temperature already."""
    states = {bool(c.get("applied")) for _, c in found}
    if states == {True}:
        return " The stored predictions are divided by the temperature already."
    if states == {False}:
        return " The stored predictions are as trained: the temperature is not in them."
    names = lookup.naming(results, [m["name"] for m, c in found if c.get("applied")], 5)
    return f" The temperature is in the stored predictions of {names}, not in those of the others."


def _diagram(model: JsonDict, calibration: JsonDict) -> Figure | None:
    panels = []
    for which, title in zip(MOMENTS, ("as trained", "with the temperature"), strict=True):
        bins = tuple(
            ReliabilityBin(
                float(b["low"]),
                float(b["high"]),
                int(b["n"]),
                float(b["confidence"]),
                float(b["accuracy"]),
            )
            for b in moment(calibration, which).get("bins") or ()
        )
        if bins:
            panels.append(ReliabilityPanel(title, bins))
    if not panels:
        return None
    name = model.get("title") or model["name"]
    return Figure(
        key="reliability",
        caption=f"Reliability of “{name}” on test. Above: accuracy of the answers in each bin of "
        "confidence; on the dashed line confidence and accuracy agree, below it the model is "
        "over-confident; larger points stand for more answers. Below: how many answers each bin "
        "holds.",
        alt=f"Reliability diagram of {name}; the table of calibration gives the expected "
        "calibration error before and after the temperature.",
        plot=ReliabilityPlot(tuple(panels)),
        priority=3,
    )

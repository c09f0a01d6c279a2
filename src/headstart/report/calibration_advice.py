"""A rule on how far the recommended model's confidence can be believed."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import lookup, nouns
from headstart.report.calibration_tables import entries, mean_confidence, moment
from headstart.report.text import (
    Measured,
    decimal,
    percent,
    percent_interval,
    percent_score,
    points,
    quantity,
)
from headstart.types import JsonDict


def calibration(results: JsonDict, ranked: Sequence[JsonDict]) -> list[JsonDict]:
    """Return whether the recommended model is over- or under-confident, and what is gained.

    Args:
        results: The content of results.json.
        ranked: The finished models, the one to choose first.

    Returns:
        One sentence on the first of the models whose calibration was measured, or nothing.
    """
    measured = {m["name"]: c for m, c in entries(results)}
    model = next((m for m in ranked if m["name"] in measured), None)
    if model is None:
        return []
    found = measured[model["name"]]
    text = _leaning(results, model, found) + _temperature(found)
    rows = [f"models/{model['name']}/calibration", f"models/{model['name']}"]
    return [{"topic": "calibration", "text": text, "rows": rows}]


def _leaning(results: JsonDict, model: JsonDict, found: JsonDict) -> str:
    """Say whether confidence lies above or below accuracy by more than its interval."""
    before = moment(found, "before")
    ece = lookup.measured(before.get("ece"))
    confidence, accuracy = mean_confidence(before), lookup.metric(model, "test", "accuracy")
    name = lookup.quoted(results, model["name"])
    error = f"its expected calibration error (ECE) is {percent_score(ece)}"
    if confidence is None or accuracy is None or accuracy.interval is None:
        return f"As trained, {error} for {name} on test." if ece is not None else ""
    low, high = accuracy.interval
    figures = f"its mean confidence on the test {nouns.many(results)} is {percent(confidence)}"
    reached = f"its accuracy {percent_score(accuracy)}"
    if low <= confidence <= high:
        lean = (
            f"{name} is on the whole neither over- nor under-confident as trained: {figures}, "
            f"inside the interval of {reached}"
        )
    else:
        gap = points(abs(confidence - accuracy.value)).lstrip("+")
        way, side = ("over", "above") if confidence > high else ("under", "below")
        lean = (
            f"{name} is {way}-confident as trained: {figures}, {gap} points {side} {reached} and "
            "outside its interval"
        )
    return f"{lean}; {error}." if ece is not None else f"{lean}."


def _temperature(found: JsonDict) -> str:
    """Say what the temperature does to the calibration error, and whether beyond noise."""
    temperature = found.get("temperature")
    before, after = (lookup.measured(moment(found, k).get("ece")) for k in ("before", "after"))
    if temperature is None or before is None or after is None:
        return ""
    text = (
        f" The temperature {quantity(temperature)}, fitted on validation, {_does(temperature)} "
        f"and takes the ECE to {percent(after.value)} ({percent_interval(after)}%)"
    )
    gain = lookup.measured(moment(found, "gain").get("loss"))
    if gain is None or gain.interval is None:
        text += f": {_verdict(before, after)}{_losses(found)}"
    else:
        text += f".{_losses(found)}{_gained(gain, gain.interval)}"
    return text + _stored(found)


def _gained(gain: Measured, interval: tuple[float, float]) -> str:
    """Say whether the temperature helps, by the log loss of the same samples before and after."""
    low, high = interval
    value = gain.value
    way = "falls" if value >= 0 else "rises"
    if value < 0:
        value, low, high = -value, -high, -low
    text = (
        f" Sample by sample the loss {way} by {quantity(value)} ({quantity(low)} to "
        f"{quantity(high)}): "
    )
    if low <= 0 <= high:
        return text + "whether the temperature helps cannot be told from noise."
    if way == "falls":
        return text + "the temperature helps."
    return text + "the temperature makes it worse; more validation samples would fit it better."


def _verdict(before: Measured, after: Measured) -> str:
    """Say whether the two errors differ by more than their intervals, where no more is known.

    Both are of the same samples, so intervals that meet say little: where a run holds the gain,
    that decides (see `_gained`). An error of this kind is never below 0, and chance pushes it up:
    its interval lies lopsided around it. So two are told apart only where intervals do not meet.
    """
    if before.interval is None or after.interval is None:
        return "without intervals there is no verdict."
    if after.interval[1] < before.interval[0]:
        return "better by more than the intervals."
    if after.interval[0] > before.interval[1]:
        return "worse by more than the intervals; more validation samples would fit it better."
    return "the intervals meet, so they alone do not tell whether it helps."


def _does(temperature: float) -> str:
    if quantity(temperature) == quantity(1.0):
        return "leaves confidences as they are"
    return "lowers confidences" if temperature > 1 else "raises confidences"


def _losses(found: Mapping[str, Any]) -> str:
    before, after = (lookup.measured(moment(found, k).get("loss")) for k in ("before", "after"))
    if before is None or after is None:
        return ""
    return f" The test loss goes from {decimal(before.value, 3)} to {decimal(after.value, 3)}."


def _stored(found: Mapping[str, Any]) -> str:
    return " The stored predictions hold it already." if found.get("applied") else ""

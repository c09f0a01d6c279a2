"""Reads over- and underfitting off the curves, by a rule that the sentence states."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from headstart.report import lookup
from headstart.report.text import Measured, count, percent, percent_interval, plural
from headstart.types import JsonDict, StepRecord

RISE = 0.10  # overfitting: validation loss at the end, relative to its minimum
STILL_FALLING = 0.05  # underfitting: fall of the validation loss over the last quarter
LEAST_EPOCHS = 4
_MOST_NAMED = 5

Verdict = Literal["overfits", "underfits", "gap", "settled"]


@dataclass(frozen=True, slots=True)
class Fit:
    """What the curves of one model say.

    Attributes:
        verdict: ``overfits``: the validation loss ends more than `RISE` above its minimum while
            the training loss fell on. ``underfits``: it still fell by more than `STILL_FALLING`
            over the last quarter of the epochs. ``gap``: neither, and the training accuracy lies
            above the validation interval. ``settled``: none of these.
        change: The relative rise, or fall, that the verdict rests on.
        epoch: The epoch of the lowest validation loss in the last stage, counted over all stages.
        window: The epochs of the last quarter of the last stage.
        epochs: All epochs.
    """

    verdict: Verdict
    change: float
    epoch: int
    window: int
    epochs: int


def read(
    steps: Sequence[StepRecord], train: Measured | None = None, val: Measured | None = None
) -> Fit | None:
    """Judge the curves of one model: of several stages, those of the last.

    What a loss does where a stage releases more layers says nothing about either fit.

    Args:
        steps: Its records, in any order.
        train: Training accuracy of the finished model; the last epoch's where None.
        val: Validation accuracy of the finished model with its interval.

    Returns:
        The verdict, or None where the last stage has fewer than four epochs with both losses.
    """
    by_split: dict[str, dict[tuple[int, int], StepRecord]] = {"train": {}, "val": {}}
    for step in steps:
        if step.split in by_split and math.isfinite(step.loss):
            by_split[step.split][step.stage, step.epoch] = step
    everything = sorted(by_split["train"].keys() & by_split["val"].keys())
    moments = [m for m in everything if m[0] == everything[-1][0]]
    before = len(everything) - len(moments)
    if len(moments) < LEAST_EPOCHS:
        return None
    train_loss = [by_split["train"][m].loss for m in moments]
    val_loss = [by_split["val"][m].loss for m in moments]
    lowest = min(range(len(moments)), key=lambda i: val_loss[i])
    window = max(1, len(moments) // 4)

    def fit(verdict: Verdict, change: float) -> Fit:
        return Fit(verdict, change, before + lowest + 1, window, len(everything))

    rise = (val_loss[-1] - val_loss[lowest]) / max(val_loss[lowest], 1e-12)
    if rise > RISE and train_loss[-1] < train_loss[lowest]:
        return fit("overfits", rise)
    earlier = val_loss[-1 - window]
    fall = (earlier - val_loss[-1]) / max(earlier, 1e-12)
    if fall > STILL_FALLING:
        return fit("underfits", fall)
    reached = train.value if train is not None else by_split["train"][moments[-1]].accuracy
    if val is not None and val.high is not None and reached > val.high:
        return fit("gap", reached - val.value)
    return fit("settled", fall)


def curves(
    results: JsonDict, histories: Mapping[str, Sequence[StepRecord]], best: JsonDict | None
) -> list[JsonDict]:
    """Return the sentences on over- and underfitting.

    Args:
        results: The content of results.json.
        histories: Records by model name.
        best: The recommended model, or None.

    Returns:
        One sentence on the recommended model, and one per verdict of the others that calls for
        something to be done.
    """
    fits: dict[str, Fit] = {}
    for model in lookup.models(results):
        if lookup.complete(model):
            train, val = (lookup.metric(model, s, "accuracy") for s in ("train", "val"))
            fit = read(histories.get(model["name"], ()), train, val)
            if fit is not None:
                fits[model["name"]] = fit
    said = []
    if best is not None and best["name"] in fits:
        text = _verdict(results, best, fits.pop(best["name"]))
        said.append({"topic": "fit", "text": text, "rows": [f"models/{best['name']}"]})
    for verdict, opening, remedy in (
        ("overfits", "overfit", "stop earlier or regularise more"),
        ("underfits", "underfit", "train longer or with a larger learning rate"),
    ):
        names = [n for n, fit in fits.items() if fit.verdict == verdict]
        if names:
            named = lookup.naming(results, names, _MOST_NAMED)
            does = opening + ("s" if len(names) == 1 else "")
            text = f"By the same rule {named} {does}: {remedy}."
            if not said:
                text = f"{named} {does} by their curves: {remedy}."
            said.append(
                {"topic": "fit", "text": text, "rows": [f"models/{n}" for n in names[:_MOST_NAMED]]}
            )
    return said


def _verdict(results: JsonDict, model: JsonDict, fit: Fit) -> str:
    """Return the verdict in words, with the rule that led to it."""
    name = lookup.quoted(results, model["name"])
    if fit.verdict == "overfits":
        return (
            f"{name} overfits: after epoch {count(fit.epoch)} of {count(fit.epochs)} its "
            f"validation loss rises by {percent(fit.change, 0)} while the training loss falls on "
            f"(the rule: more than {percent(RISE, 0)}). Stop there, or regularise more."
        )
    if fit.verdict == "underfits":
        return (
            f"{name} underfits: over the last {plural(fit.window, 'epoch')} of {count(fit.epochs)} "
            f"its validation loss still fell by {percent(fit.change, 0)} (the rule: more than "
            f"{percent(STILL_FALLING, 0)}). Train longer, or with a larger learning rate."
        )
    settled = (
        f"its validation loss neither ends more than {percent(RISE, 0)} above its minimum nor fell "
        f"by more than {percent(STILL_FALLING, 0)} over the last {plural(fit.window, 'epoch')}"
    )
    if fit.verdict == "gap":
        train, val = (lookup.metric(model, s, "accuracy") for s in ("train", "val"))
        reached = f", {percent(train.value)}," if train is not None else ""
        return (
            f"{name} has learnt what its labels can teach: {settled}, yet its training accuracy"
            f"{reached} lies above the validation interval ({percent_interval(val)}%). More labels "
            "or stronger regularisation may help; more epochs will not."
        )
    return f"{name} neither over- nor underfits: {settled}."

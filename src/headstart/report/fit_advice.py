"""Reads over- and underfitting off the curves, by a rule that the sentence states."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from headstart.report import kinds, lookup, measures, nouns
from headstart.report.measures import ACCURACY, PERPLEXITY, Measure
from headstart.report.text import Measured, count, percent, plural, quantity, signed
from headstart.types import JsonDict, StepRecord

RISE = 0.10  # overfitting: validation loss at the end, relative to its minimum
STILL_FALLING = 0.05  # underfitting: fall of the validation loss over the last quarter
LEAST_EPOCHS = 4
_LARGEST_LOSS = 700.0  # in nats; the exponential of more is no number
_MOST_NAMED = 5

Verdict = Literal["overfits", "underfits", "gap", "settled"]


@dataclass(frozen=True, slots=True)
class Fit:
    """What the curves of one model say.

    Attributes:
        verdict: ``overfits``: the validation loss ends more than `RISE` above its minimum while
            the training loss fell on. ``underfits``: it still fell by more than `STILL_FALLING`
            over the last quarter of the epochs. ``gap``: neither, and the training score is better
            than all of the validation interval. ``settled``: none of these.
        change: The relative rise, or fall, that the verdict rests on.
        epoch: The epoch of the lowest validation loss in the last stage, counted over all stages.
        window: The epochs of the last quarter of the last stage.
        epochs: All epochs.
        lowest: Training and validation loss at `epoch`.
        last: Training and validation loss at the end.
    """

    verdict: Verdict
    change: float
    epoch: int
    window: int
    epochs: int
    lowest: tuple[float, float]
    last: tuple[float, float]


def read(
    steps: Sequence[StepRecord],
    train: Measured | None = None,
    val: Measured | None = None,
    measure: Measure = ACCURACY,
) -> Fit | None:
    """Judge the curves of one model: of several stages, those of the last.

    What a loss does where a stage releases more layers says nothing about either fit. Of a language
    model the perplexity is judged, whose relative change does not depend on its level.

    Args:
        steps: Its records, in any order.
        train: Training score of the finished model; the last epoch's accuracy where None.
        val: Validation score of the finished model with its interval.
        measure: What the scores are.

    Returns:
        The verdict, or None where the last stage has fewer than four epochs with both losses.
    """
    losses, before = _last_stage(steps, measure)
    if len(losses) < LEAST_EPOCHS:
        return None
    train_loss, val_loss = zip(*losses, strict=True)
    lowest = min(range(len(losses)), key=lambda i: val_loss[i])
    window = max(1, len(losses) // 4)

    def fit(verdict: Verdict, change: float) -> Fit:
        total = before + len(losses)
        return Fit(verdict, change, before + lowest + 1, window, total, losses[lowest], losses[-1])

    rise = (val_loss[-1] - val_loss[lowest]) / max(val_loss[lowest], 1e-12)
    if rise > RISE and train_loss[-1] < train_loss[lowest]:
        return fit("overfits", rise)
    earlier = val_loss[-1 - window]
    fall = (earlier - val_loss[-1]) / max(earlier, 1e-12)
    if fall > STILL_FALLING:
        return fit("underfits", fall)
    reached = train or _last_accuracy(steps, measure)
    if val is not None and val.interval is not None and reached is not None:
        end = val.interval[1] if measure.higher else val.interval[0]
        if measure.rank(reached) < measure.rank(Measured(end)):
            return fit("gap", abs(reached.value - val.value))
    return fit("settled", fall)


def _last_stage(
    steps: Sequence[StepRecord], measure: Measure
) -> tuple[list[tuple[float, float]], int]:
    """Return training and validation loss by epoch of the last stage, and the epochs before it."""
    by_split: dict[str, dict[tuple[int, int], float]] = {"train": {}, "val": {}}
    for step in steps:
        if step.split in by_split and math.isfinite(step.loss):
            loss = step.loss
            if measure is PERPLEXITY:
                loss = math.exp(min(loss, _LARGEST_LOSS))
            by_split[step.split][step.stage, step.epoch] = loss
    everything = sorted(by_split["train"].keys() & by_split["val"].keys())
    moments = [m for m in everything if m[0] == everything[-1][0]]
    losses = [(by_split["train"][m], by_split["val"][m]) for m in moments]
    return losses, len(everything) - len(moments)


def _last_accuracy(steps: Sequence[StepRecord], measure: Measure) -> Measured | None:
    """Return the training accuracy of the last epoch, where it is what models are compared by."""
    of = [s for s in steps if s.split == "train" and math.isfinite(s.accuracy)]
    if measure is not ACCURACY or not of:
        return None
    return Measured(max(of, key=lambda s: (s.stage, s.epoch)).accuracy)


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
    measure = measures.chosen_by(results)
    fits: dict[str, Fit] = {}
    for model in lookup.models(results):
        if lookup.complete(model):
            train, val = (lookup.metric(model, s, measure.key) for s in ("train", "val"))
            fit = read(histories.get(model["name"], ()), train, val, measure)
            if fit is not None:
                fits[model["name"]] = fit
    said = []
    if best is not None:
        fit = fits.pop(best["name"], None)
        if fit is not None:
            text = _verdict(results, best, fit)
        else:
            text = _too_few(results, best, histories.get(best["name"], ()))
        if text:
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


def _loss_word(results: JsonDict) -> str:
    return "perplexity" if measures.chosen_by(results) is PERPLEXITY else "loss"


def _verdict(results: JsonDict, model: JsonDict, fit: Fit) -> str:
    """Return the verdict in words, with the rule that led to it."""
    name, loss = lookup.quoted(results, model["name"]), _loss_word(results)
    if fit.verdict == "overfits":
        return (
            f"{name} overfits: after epoch {count(fit.epoch)} of {count(fit.epochs)} its "
            f"validation {loss} rises by {percent(fit.change, 0)} while the training {loss} falls "
            f"on (the rule: more than {percent(RISE, 0)}). "
            + _remedy(results, model, fit, "Stop there, or regularise more.")
        )
    if fit.verdict == "underfits":
        return (
            f"{name} underfits: over the last {plural(fit.window, 'epoch')} of {count(fit.epochs)} "
            f"its validation {loss} still fell by {percent(fit.change, 0)} (the rule: more than "
            f"{percent(STILL_FALLING, 0)}). "
            + _remedy(results, model, fit, "Train longer, or with a larger learning rate.")
        )
    settled = (
        f"its validation {loss} neither ends more than {percent(RISE, 0)} above its minimum nor "
        f"fell by more than {percent(STILL_FALLING, 0)} over the last {plural(fit.window, 'epoch')}"
    )
    if fit.verdict == "gap":
        text = f"{name} has learnt what its labels can teach: {settled}, {_gap(results, model)}. "
        return text + _remedy(
            results,
            model,
            fit,
            "More labels or stronger regularisation may help; more epochs will not.",
        )
    return f"{name} neither over- nor underfits: {settled}. {_remedy(results, model, fit)}".rstrip()


def _gap(results: JsonDict, model: JsonDict) -> str:
    """Say how far the training score lies beyond the validation interval."""
    measure = measures.chosen_by(results)
    train, val = (lookup.metric(model, s, measure.key) for s in ("train", "val"))
    reached = f", {measure.value(train.value)}," if train is not None else ""
    side = "above" if measure.higher else "below"
    sign = "%" if measure.digits is None else ""
    return (
        f"yet its training {measure.words}{reached} lies {side} the validation interval "
        f"({measure.interval(val)}{sign})"
    )


def _remedy(results: JsonDict, model: JsonDict, fit: Fit, short: str = "") -> str:
    """Say what to try next; of other samples than pictures, also what was read off the curves."""
    if nouns.one(results) == nouns.PICTURE:
        return short
    loss = _loss_word(results)
    then, now = (signed(val - train) for train, val in (fit.lowest, fit.last))
    text = (
        f"Read off the curves: the lowest validation {loss} is {quantity(fit.lowest[1])}, at epoch "
        f"{count(fit.epoch)} of {count(fit.epochs)}"
    )
    if fit.lowest == fit.last:
        text += f", the last; the training {loss} there is {quantity(fit.last[0])}."
    else:
        text += (
            f"; it ends at {quantity(fit.last[1])}, the training {loss} at "
            f"{quantity(fit.last[0])}. The gap between the two went from {then} at that epoch to "
            f"{now} at the end."
        )
    return text + _next(results, model, fit)


def _next(results: JsonDict, model: JsonDict, fit: Fit) -> str:
    """Return what to try next, by the verdict and by what can be frozen."""
    more = f"more training {'text' if nouns.one(results) == 'token' else nouns.many(results)}"
    regularised = f"more weight decay or dropout, {more}"
    if kinds.from_scratch(model) or measures.goal(results) != "classification":
        regularised += ", or a smaller network"
    else:
        regularised += ", or more frozen layers"
    return {
        "overfits": f" Try next: {plural(fit.epoch, 'epoch')}, {regularised}.",
        "gap": f" Try next: {regularised}; more epochs will not help.",
        "underfits": " Try next: more epochs, or a higher learning rate.",
        "settled": " Nothing in the curves asks for a change.",
    }[fit.verdict]


def _too_few(results: JsonDict, model: JsonDict, steps: Sequence[StepRecord]) -> str:
    """Say what short curves show of other samples than pictures, where the rule says nothing."""
    losses, before = _last_stage(steps, measures.chosen_by(results))
    if len(losses) < 2 or nouns.one(results) == nouns.PICTURE:
        return ""
    loss = _loss_word(results)
    lowest = min(range(len(losses)), key=lambda i: losses[i][1])
    last = before + len(losses)
    text = (
        f"{lookup.quoted(results, model['name'])} trained {plural(len(losses), 'epoch')} in its "
        f"last stage, too few for a verdict on its fit (the rule wants {LEAST_EPOCHS}). Its "
        f"validation {loss} is lowest at epoch {count(before + lowest + 1)} of {count(last)}"
    )
    if lowest == len(losses) - 1:
        return text + ", the last: more epochs may still help."
    return text + f" and ends {percent(losses[-1][1] / losses[lowest][1] - 1, 0)} higher."

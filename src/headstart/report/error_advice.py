"""Rules on what the analysis found: near-copies, doubtful labels, and whether more labels pay."""

from collections.abc import Sequence
from typing import Any

from headstart.report import evidence, learning_curve_tables, lookup, near_duplicate_tables
from headstart.report.measures import ACCURACY
from headstart.report.text import (
    Measured,
    count,
    listing,
    percent,
    percent_score,
    plural,
    points,
    setting,
)
from headstart.types import JsonDict

TRUSTED_PROBE = 0.8
"""Where a probe agrees with a smaller share of the labels, many suspicions are its mistakes."""


def sentences(results: JsonDict) -> list[JsonDict]:
    """Return what the analysis of a run advises.

    Args:
        results: The content of results.json; its ``analysis`` may be missing or null.

    Returns:
        ``[{"topic", "text", "rows"}]``: near-copies and suspicious labels with the topic ``data``,
        learning curves with ``labels``; nothing of a part that was not made or found nothing.
    """
    return [*near_duplicates(results), *suspicious_labels(results), *learning_curves(results)]


def near_duplicates(results: JsonDict) -> list[JsonDict]:
    """Return how many test samples have a near-copy in training, and what that does.

    Args:
        results: The content of results.json.

    Returns:
        One sentence, or nothing where none was found.
    """
    near = evidence.part(results, "near_duplicates") or {}
    pairs = near.get("pairs") or ()
    affected = near.get("test_samples")
    if not pairs or not affected:
        return []
    tested = (near.get("checked") or {}).get("test")
    of = f" of {count(tested)}" if tested else ""
    share = f" ({percent(affected / tested)})" if tested else ""
    noun = evidence.samples(results, tested or affected)
    has = "has" if affected == 1 else "have"
    text = (
        f"{count(affected)}{of} test {noun}{share} {has} a near-copy among those that were learnt "
        "from."
    )
    rows = [evidence.NEAR_DUPLICATES]
    effect, names = _effect(results, near)
    text += effect
    if effect:
        rows += [evidence.NEAR_DUPLICATE_SCORES, *names]
    unlike = sum(near_duplicate_tables.disagree(p) for p in pairs)
    if unlike:
        carry = "carries" if unlike == 1 else "carry"
        text += (
            f" {plural(unlike, 'pair')} {carry} two different labels: perhaps one of the two "
            "labels is wrong."
        )
    text += (
        " Quote the accuracy without them, and look at them: where they are copies, keep one, or "
        "give both the same group, so that they fall into one split, and run again."
    )
    return [{"topic": "data", "text": text, "rows": rows}]


def _effect(results: JsonDict, near: JsonDict) -> tuple[str, list[str]]:
    """Return what the near-copies do to the accuracy of the model that is shown, and its row."""
    scored = [
        (str(m.get("name")), all_of, without)
        for m in near.get("models") or ()
        if (all_of := lookup.measured(m.get("accuracy"))) is not None
        and (without := lookup.measured(m.get("without"))) is not None
    ]
    if not scored:
        return "", []
    wanted = (results.get("analysis") or {}).get("model")
    name, all_of, without = next((s for s in scored if s[0] == wanted), scored[0])
    text = (
        f" With them {lookup.quoted(results, name)} is right on {percent_score(all_of)}, without "
        f"them on {percent_score(without)}: "
    )
    difference = all_of.value - without.value
    if difference == 0:
        text += "they change nothing."
    else:
        does = "lift" if difference > 0 else "lower"
        digits = 1 if abs(difference) >= 0.001 else 2
        text += f"they {does} it by {points(abs(difference), digits).lstrip('+')} points"
        inside = not ACCURACY.apart(all_of, without)
        text += ", which is less than the interval leaves open." if inside else "."
    known = lookup.model_named(results, name) is not None
    return text, [f"models/{name}"] if known else []


def suspicious_labels(results: JsonDict) -> list[JsonDict]:
    """Return how many labels a cross-validated probe doubts, and that this is no proof.

    Args:
        results: The content of results.json.

    Returns:
        One sentence, or nothing where no label is doubted.
    """
    doubted = evidence.part(results, "suspicious_labels") or {}
    number = doubted.get("found")
    if not number or not doubted.get("list"):
        return []
    checked = doubted.get("checked")
    of = (
        f"Of {plural(checked, 'label')} of training and validation {count(number)}"
        if checked
        else (f"{plural(number, 'label')} of training and validation")
    )
    text = f"{of} {'is' if number == 1 else 'are'} suspicious"
    if doubted.get("share") is not None:
        text += f"; an estimated {percent(doubted['share'])} of all are wrong"
    accuracy = lookup.measured(doubted.get("probe_accuracy"))
    text += ". They are suspicions, no proof: a cross-validated probe on frozen features says so"
    if accuracy is not None:
        text += f", which itself agrees with {percent_score(accuracy)} of the labels"
    text += ". "
    if accuracy is not None and accuracy.value < TRUSTED_PROBE:
        text += "As weak a probe accuses many labels that are right. "
    text += "Look at them from the top of the list, and mend only what you see to be wrong."
    return [{"topic": "errors", "text": text, "rows": [evidence.SUSPICIOUS_LABELS]}]


def learning_curves(results: JsonDict) -> list[JsonDict]:
    """Return for each learning curve whether more labels or another backbone would help more.

    Args:
        results: The content of results.json.

    Returns:
        One entry for each curve of at least two points.
    """
    said = []
    for position, curve in evidence.curves(results):
        measured = evidence.points(curve)
        if len(measured) < 2:
            continue
        text = f"{_measured(results, curve, measured)}. {_verdict(curve)}"
        rows = [f"{evidence.LEARNING_CURVES}/{position}"]
        said.append({"topic": "labels", "text": text, "rows": rows})
    return said


def _measured(results: JsonDict, curve: JsonDict, points_: Sequence[JsonDict]) -> str:
    """Say from where to where the accuracy goes: up to all labels where the law tells of them.

    The probe is tested on folds that are held out, so it is never trained on all labels.
    """
    first, last = points_[0], points_[-1]
    low, high = (percent(p["accuracy"]["mean"]) for p in (first, last))
    whose = f"the accuracy of a probe on the {evidence.features(results, curve)}"
    labels = curve.get("labels")
    now = learning_curve_tables.expected_of_all(curve)
    if labels and now is not None:
        return (
            f"From {count(first['n'])} training labels to all {count(labels)} that there are "
            f"{whose} goes from {low} to an expected {percent_score(now)}"
        )
    of = f" of all {count(labels)} that there are" if labels else ""
    held = ", the rest held out to be tested on," if labels else ""
    return (
        f"From {count(first['n'])} to {count(last['n'])} training labels{of}{held} {whose} goes "
        f"from {low} to {high}"
    )


def _verdict(curve: JsonDict) -> str:
    """Return what the fitted law says of more labels."""
    ahead = _ahead(curve)
    if not ahead:
        return "No power law could be fitted: what more labels would bring cannot be said."
    caution = " This extrapolates: it holds only if new labels are like those that are there."
    floor = lookup.measured((curve.get("fit") or {}).get("a"))
    verdict = curve.get("verdict")
    if verdict == "labels":
        return f"More labels still pay: {ahead}.{caution}"
    if verdict == "backbone":
        text = f"More labels will hardly help: {ahead}"
        if floor is not None:
            text += f", and leaves an error of {percent_score(floor)} whatever the number of labels"
        return (
            f"{text}. A bigger backbone, or one whose layers are released, promises more.{caution}"
        )
    return f"Whether more labels or another backbone would help more is open: {ahead}.{caution}"


def _ahead(curve: JsonDict) -> str:
    """Write the forecasts: the fitted power law expects 91.0% (89.0–92.1%) of 2 times as many."""
    known: list[tuple[JsonDict, Measured]] = [
        (f, score)
        for f in learning_curve_tables.forecasts(curve)
        if f.get("factor") != 1 and (score := lookup.measured(f["accuracy"])) is not None
    ]
    if not known or not curve.get("fit"):
        return ""
    said = [
        f"{percent_score(s)} of {_times(f.get('factor'))} as many"
        + (f" ({count(f['n'])})" if curve.get("labels") else "")
        for f, s in known
    ]
    return f"the fitted power law expects {listing(said)}"


def _times(factor: Any) -> str:
    return "twice" if factor == 2 else f"{setting(factor)} times"

"""What a run says of its parts together: records of models and sweeps, comparisons, targets."""

import dataclasses
import operator
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from headstart.compare import compare_pair, relative_difference, squared_error_difference
from headstart.config import schema
from headstart.evaluate import evaluate_classification, evaluate_regression, wilson
from headstart.runs import build
from headstart.runs.evidence import calibration_record
from headstart.runs.record import score_json
from headstart.runs.result import Member, PartResult
from headstart.types import JsonDict, Score

_OPERATORS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


def model_record(name: str, key: str | None, result: PartResult) -> JsonDict:
    """Return a part's entry in `models`: for a sweep, of its best member.

    Args:
        name: The part's name.
        key: The backbone's key in the experiment; None for an ensemble.
        result: What the part left.

    Returns:
        The entry as docs/reference/results.md describes it.
    """
    part = result.part
    record: JsonDict = {
        "name": name,
        "title": part.title or name,
        "part": name,
        "kind": part.kind,
        "mode": result.mode,
        "backbone": key,
        **_training(result),
        "metrics": {},
        "per_class": {},
        "confusion": {},
        "stages": _stages(result),
        "parameters_total": result.parameters_total,
        "parameters_trainable": sum(s.parameters_trainable for s in result.stages[-1:]),
        "size_bytes": result.size_bytes,
        "engine": result.stages[-1].engine if result.stages else "torch",
        "images_extracted": sum(s.extracted for s in result.stages),
        "images_reused": sum(s.reused for s in result.stages),
        "prediction": result.prediction,
        "ensemble": result.special if part.kind == "ensemble" else None,
        "language": result.special if part.kind == "language_model" else None,
        "examples": list(result.examples),
        "zero_shot": result.special if part.kind == "zero_shot" else None,
        "notes": list(result.notes),
        "calibration": calibration_record(result),
        "seeds": result.seeds,
        "history": f"models/{name}/history.parquet" if result.members else None,
        "trace": f"models/{name}/trace.parquet" if _traced(result) else None,
        "predictions": {
            s: f"models/{name}/predictions-{s}.parquet"
            for s in (*result.predictions, *result.estimates)
        },
    }
    if part.kind == "language_model":
        record["metrics"] = dict(result.scores)
    for split, estimates in result.estimates.items():
        errors = evaluate_regression(estimates.targets, estimates.values)
        record["metrics"][split] = {k: score_json(v) for k, v in errors.items()}
    for split, predictions in result.predictions.items():
        found = evaluate_classification(
            predictions.labels, predictions.probabilities, predictions.classes
        )
        record["metrics"][split] = {k: score_json(v) for k, v in found.scores.items()}
        record["metrics"][split] |= result.scores.get(split, {})
        if split == "test":
            record["confusion"][split] = found.confusion.tolist()
            record["per_class"][split] = [
                {
                    "class": row.name,
                    "precision": score_json(row.precision),
                    "recall": score_json(row.recall),
                    "f1": score_json(row.f1),
                    "support": row.support,
                }
                for row in found.per_class
            ]
    return record


def _traced(result: PartResult) -> bool:
    return bool(result.members) and any(r.split == "steps" for r in result.shown.records)


def _training(result: PartResult) -> JsonDict:
    """Return how a part was trained; parts that were not have their settings alone."""
    part = result.part
    if not isinstance(part, schema.TrainedPart):
        hidden = {"kind", "title", "backbone", "references"}
        settings = part.model_dump(mode="json", exclude=hidden)
        diverged = bool(result.members) and result.best is None
        return {
            "from_scratch": part.kind == "language_model",
            "head": {"kind": part.kind},
            "hyperparameters": build.flattened(
                {k: v for k, v in settings.items() if v not in ({}, None)}
            ),
            "labels_per_class": None,
            "seed": getattr(part, "seed", 0),
            "state": "diverged" if diverged else "complete",
            "message": result.shown.outcome.message if result.members else None,
        }
    outcome = result.shown.outcome
    return {
        "from_scratch": part.from_scratch,
        "head": part.head.model_dump(mode="json"),
        "hyperparameters": _settings(part),
        "labels_per_class": part.labels_per_class,
        "seed": part.seed,
        "state": outcome.state,
        "message": outcome.message,
    }


def _settings(part: schema.TrainedPart) -> dict[str, object]:
    """Return what decides a model's training; how a search came upon it does not."""
    found = build.settings_of(part)
    return {k: v for k, v in found.items() if k.partition(".")[0] not in ("search", "tried")}


def _stages(result: PartResult) -> list[JsonDict]:
    """Return the stages; where a sweep's members trained together the time is that of all."""
    records = [dataclasses.asdict(stage) for stage in result.stages]
    for record in records:
        del record["extracted"], record["reused"], record["engine"]
        record["wall_seconds"] = round(record["wall_seconds"], 3)
        record["extraction_seconds"] = round(record["extraction_seconds"], 3)
    return records


def sweep_record(
    name: str, part: schema.SweepPart, result: PartResult, train_count: int, val_count: int
) -> JsonDict:
    """Return a sweep's entry in `sweeps`. Its members show validation figures only.

    Args:
        name: The part's name.
        part: Its configuration.
        result: What the part left.
        train_count: Number of training samples, for the intervals.
        val_count: Number of validation samples, likewise.

    Returns:
        The entry as docs/reference/results.md describes it.
    """
    best = result.best
    return {
        "name": name,
        "title": part.title or name,
        "mode": result.mode,
        "axes": _axes(result.part if isinstance(result.part, schema.SweepPart) else part),
        # A regression has no accuracy: its loss chooses.
        "select": {"metric": "loss" if result.estimates else part.select.metric, "split": "val"},
        "members": [
            _member_record(member, index == best, train_count, val_count)
            for index, member in enumerate(result.members)
        ],
        "best_model": name if best is not None else None,
        "history": f"sweeps/{name}/history.parquet",
        "wall_seconds": round(_seconds(result), 3),
        "extraction_seconds": round(result.extraction_seconds, 3),
        "at_edge": {}
        if best is None or part.grid is None
        else _edges(part.grid, result.members[best].values),
        # Who may read results need not know the way into a database, or its password.
        "search": None
        if part.search is None
        else part.search.model_dump(mode="json", exclude={"storage"}),
    }


def _axes(part: schema.SweepPart) -> JsonDict:
    """Return the values of each axis: of a search those that were tried, in order of size."""
    if part.grid is not None:
        return {key: list(values) for key, values in part.grid.items()}
    return {key: sorted({one[key] for one in part.tried}) for key in (part.tried or ({},))[0]}


def comparison_records(
    pairs: Sequence[tuple[str, str]], results: Mapping[str, PartResult]
) -> list[JsonDict]:
    """Compare pairs of parts on the test split.

    Args:
        pairs: Names of two parts each; pairs with a part that did not run are left out.
        results: What the parts left.

    Returns:
        Entries as docs/reference/results.md describes them.
    """
    records = []
    for a, b in dict.fromkeys(pairs):
        if a not in results or b not in results:
            continue
        first, second = results[a], results[b]
        compared = _compared(a, b, first, second)
        if compared is None:
            continue
        seconds_a, seconds_b = _seconds(first), _seconds(second)
        # The same training two ways can be timed against each other; two models cannot.
        two_ways = _two_ways(first, second)
        records.append(
            {
                "a": a,
                "b": b,
                "split": "test",
                **compared[0],
                "seconds_a": round(seconds_a, 3),
                "seconds_b": round(seconds_b, 3),
                "speedup": round(seconds_b / seconds_a, 3) if two_ways else None,
                "weights_relative_difference": _weights_apart(first, second) if two_ways else None,
                "cold": not (first.warm or second.warm),
                "text": _times_in_words(a, b, first, second) if two_ways else compared[1],
            }
        )
    return records


def target_records(
    targets: Sequence[schema.Target],
    models: Sequence[JsonDict],
    comparisons: Sequence[JsonDict],
    recommended: str | None,
) -> list[JsonDict]:
    """Hold each target against what was reached.

    Args:
        targets: The experiment's targets.
        models: Entries of `models`.
        comparisons: Entries of `comparisons`.
        recommended: The part that validation chose: what a target of the part `recommended` asks.

    Returns:
        Entries with `got` (None where the part did not run) and `met`.
    """
    by_name = {model["name"]: model for model in models}
    by_pair = {(c["a"], c["b"]): c for c in comparisons}
    records = []
    for target in targets:
        got: float | None = None
        if target.against is not None:
            entry = by_pair.get((target.part, target.against))
            got = None if entry is None else _paired(entry, target.metric)
        elif (name := _meant(target.part, by_name, recommended)) in by_name:
            split, _, metric = target.metric.partition(".")
            score = by_name[name]["metrics"].get(split, {}).get(metric)
            got = None if score is None else score["value"]
        met = got is not None and _OPERATORS[target.op](got, target.value)
        records.append({**target.model_dump(mode="json"), "got": got, "met": bool(met)})
    return records


def _meant(part: str, known: Mapping[str, JsonDict], recommended: str | None) -> str:
    if part == schema.RECOMMENDED and part not in known and recommended is not None:
        return recommended
    return part


def pairs_of(experiment: schema.Experiment) -> list[tuple[str, str]]:
    """Return the pairs to compare: those asked for, and those that targets need."""
    asked = [(c.a, c.b) for c in experiment.comparisons]
    return asked + [(t.part, t.against) for t in experiment.targets if t.against is not None]


def _member_record(member: Member, best: bool, train_count: int, val_count: int) -> JsonDict:
    metrics: JsonDict = {}
    at = (max((r.stage for r in member.records), default=0), member.outcome.best_epoch)
    kept = [r for r in member.records if (r.stage, r.epoch) == at and r.split != "steps"]
    if member.val_loss is not None:
        counts = {"train": train_count, "val": val_count}
        for record in kept:
            n = counts[record.split]
            # The loop keeps the mean alone: there is nothing to resample.
            metrics[record.split] = {
                "loss": {"value": record.loss, "low": None, "high": None, "n": n}
            }
            if member.val_accuracy is not None:
                accuracy = wilson(round(record.accuracy * n), n)
                metrics[record.split]["accuracy"] = score_json(accuracy)
    return {
        "values": member.values,
        "state": member.outcome.state,
        "message": member.outcome.message,
        "epochs": member.outcome.epochs,
        "best_epoch": member.outcome.best_epoch,
        "metrics": metrics,
        "best": best,
    }


def _edges(
    grid: Mapping[str, Sequence[float | int]], values: Mapping[str, float | int]
) -> dict[str, str | None]:
    edges: dict[str, str | None] = {}
    for key, tried in grid.items():
        ordered = sorted(set(tried))
        if key == "seed" or len(ordered) < 2:
            continue
        edges[key] = {ordered[0]: "low", ordered[-1]: "high"}.get(values[key])
    return edges


def _paired(entry: JsonDict, metric: str) -> float | None:
    if metric == "gain":
        if entry.get("mse_difference") is not None:
            less: float = -entry["mse_difference"]["value"]
            return less
        gain: float = entry["accuracy_difference"]["value"]
        return gain
    value: float | None = entry[metric]
    return value


def _two_ways(first: PartResult, second: PartResult) -> bool:
    """Return whether two parts are the same training done two ways: then their times compare.

    Cached against standard; or stages that differ in nothing but whether features are stored.
    """
    if {first.mode, second.mode} == {"cached", "standard"}:
        return True
    a, b = (_without_features(r) for r in (first, second))
    return a is not None and a == b


def _without_features(result: PartResult) -> JsonDict | None:
    """Return all that decides a staged part's weights, or None where it is no staged part."""
    part = result.part
    if result.mode != "staged" or not isinstance(part, schema.TrainedPart):
        return None
    same = {k: v for k, v in _settings(part).items() if not k.endswith(".features")}
    return {**same, "backbone": part.backbone, "labels_per_class": part.labels_per_class}


def _seconds(result: PartResult) -> float:
    return max(result.wall_seconds, 1e-3)


def _compared(a: str, b: str, first: PartResult, second: PartResult) -> tuple[JsonDict, str] | None:
    """Return how two parts' answers on the test split differ, and the same in words."""
    if "test" in first.predictions and "test" in second.predictions:
        paired = compare_pair(first.predictions["test"], second.predictions["test"])
        difference = paired.accuracy_difference
        numbers: JsonDict = {
            "agreement": paired.agreement,
            "agreement_n": paired.n,
            "accuracy_difference": score_json(difference),
        }
        return numbers, f"test accuracy of {a} minus that of {b}: {_in_words(difference)}"
    if "test" in first.estimates and "test" in second.estimates:
        difference = squared_error_difference(first.estimates["test"], second.estimates["test"])
        numbers = {
            "agreement": None,
            "agreement_n": difference.n,
            "accuracy_difference": None,
            "mse_difference": score_json(difference),
        }
        return numbers, f"squared error of {a} minus that of {b}: {_in_words(difference)}"
    return None


def _in_words(difference: Score) -> str:
    figures = (difference.value, difference.low, difference.high)
    digits = 6 if 0 < abs(difference.value) < 0.001 else 3
    value, low, high = (f"{figure:+.{digits}f}" for figure in figures)
    return f"{value} ({low} to {high})"


def _times_in_words(a: str, b: str, first: PartResult, second: PartResult) -> str:
    """Say how much faster one way of the same training was."""
    seconds_a, seconds_b = _seconds(first), _seconds(second)
    warm = first.warm or second.warm
    return (
        f"{a} took {seconds_a:.1f} s, {b} took {seconds_b:.1f} s: "
        f"{a} was {seconds_b / seconds_a:.1f} times as fast"
        + (" (the features lay in the cache already)" if warm else " (extraction included)")
    )


def _weights_apart(first: PartResult, second: PartResult) -> float | None:
    if first.trained is None or second.trained is None:
        return None
    return relative_difference(_arrays(first), _arrays(second))


def _arrays(result: PartResult) -> dict[str, npt.NDArray[np.float32]]:
    assert result.trained is not None
    floating = {k: v for k, v in result.trained.tensors.items() if v.is_floating_point()}
    return {k: v.float().numpy() for k, v in floating.items()}

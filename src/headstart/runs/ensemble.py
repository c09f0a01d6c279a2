"""Earlier parts that vote: fitted on validation predictions, measured on the test split."""

import time
from collections.abc import Mapping

import numpy as np

from headstart.compare import compare_pair
from headstart.config import schema
from headstart.errors import RunError
from headstart.evaluate import measure_diversity
from headstart.predict import align, combine, fit_ensemble
from headstart.runs.record import score_json
from headstart.runs.result import PartResult
from headstart.types import JsonDict, Predictions


def run_ensemble(
    name: str, part: schema.EnsemblePart, results: Mapping[str, PartResult]
) -> PartResult:
    """Combine the stored predictions of earlier parts.

    Args:
        name: The part's name.
        part: Its configuration.
        results: What the earlier parts left.

    Returns:
        Predictions of every split that all members predicted, and what the ensemble is worth.

    Raises:
        RunError: Fewer than two members have predictions.
    """
    start = time.perf_counter()
    members = tuple(m for m in part.members if m in results and "val" in results[m].predictions)
    missing = [m for m in part.members if m not in members]
    if len(members) < 2:
        raise RunError(
            f"{name}: expected at least two members with predictions, got {len(members)}; "
            f"without any: {', '.join(missing)}"
        )
    found = [results[m] for m in members]
    ensemble = fit_ensemble(part.voting, members, [r.predictions["val"] for r in found])
    predictions: dict[str, Predictions] = {}
    for split in dict.fromkeys(s for r in found for s in r.predictions):
        # Members that trained on different samples have no common training predictions.
        same = {frozenset(r.predictions[split].names) for r in found if split in r.predictions}
        if len(same) == 1 and all(split in r.predictions for r in found):
            predictions[split] = combine(ensemble, [r.predictions[split] for r in found])
    used = [r for r, weight in zip(found, ensemble.weights, strict=True) if weight > 0]
    times = [r.prediction for r in used]
    seconds = None if any(t is None for t in times) else sum(t["seconds"] for t in times if t)
    special: JsonDict = {
        "voting": part.voting,
        "members": list(members),
        "weights": [round(float(w), 6) for w in ensemble.weights],
        "prediction_seconds": seconds,
        **_worth(members, found, predictions),
    }
    prediction = None
    if seconds is not None and used:
        first = used[0].prediction
        assert first is not None
        rate = first["samples"] / max(seconds, 1e-9)
        prediction = {**first, "seconds": seconds, "images_per_second": round(rate, 3)}
    notes = [f"{m} has no predictions and does not vote" for m in missing]
    return PartResult(
        part=part,
        predictions=predictions,
        wall_seconds=time.perf_counter() - start,
        prediction=prediction,
        special=special,
        parameters_total=sum(r.parameters_total for r in used),
        size_bytes=sum(r.size_bytes for r in used),
        notes=tuple(notes),
    )


def _worth(
    names: tuple[str, ...], found: list[PartResult], predictions: Mapping[str, Predictions]
) -> JsonDict:
    """Compare the ensemble with its best member, and the members with each other."""

    def val_accuracy(result: PartResult) -> float:
        val = result.predictions["val"]
        return float((val.predicted == val.labels).mean())

    best = max(range(len(found)), key=lambda i: val_accuracy(found[i]))
    out: JsonDict = {"best_member": names[best], "gain": None, "disagreement": None, "pairs": []}
    if "test" not in predictions:
        return out
    tests = align([r.predictions["test"] for r in found], names=names)
    gain = compare_pair(predictions["test"], tests[best]).accuracy_difference
    diversity = measure_diversity(np.stack([t.predicted for t in tests]), tests[0].labels)
    out["gain"] = score_json(gain)
    out["disagreement"] = diversity.disagreement
    out["pairs"] = [
        {
            "a": names[p.a],
            "b": names[p.b],
            "disagreement": p.disagreement,
            "q_statistic": p.q_statistic,
            "double_fault": p.double_fault,
        }
        for p in diversity.pairs
    ]
    return out

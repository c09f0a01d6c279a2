"""Whether figures can be believed: calibration of a model, and tests between models."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from headstart.compare import PairTest, test_estimate_pairs, test_pairs
from headstart.config import schema
from headstart.evaluate.calibration import (
    Reliability,
    fit_temperature,
    paired_gain,
    reliability,
    with_temperature,
)
from headstart.runs.record import score_json
from headstart.runs.result import PartResult
from headstart.types import JsonDict

BINS = 15
_ALL_PAIRS = 10  # models up to which every pair is tested; else each against the recommended one


def calibration_record(result: PartResult) -> JsonDict | None:
    """Return how a part's confidence fits its accuracy, as trained and with a temperature.

    Args:
        result: What the part left.

    Returns:
        ``calibration`` of results.json; None where there are no validation or test predictions,
        or the part knows nothing of the input.
    """
    val, test = result.predictions.get("val"), result.predictions.get("test")
    if val is None or test is None or isinstance(result.part, schema.BaselinePart):
        return None
    applied = result.temperature
    if applied is None:
        temperature = fit_temperature(val.labels, val.probabilities)
        before = test.probabilities
        after = with_temperature(before, temperature)
    else:
        # log p times the temperature are the logits again, up to a constant.
        temperature, after = applied, test.probabilities
        before = with_temperature(after, 1 / applied)
    return {
        "temperature": round(temperature, 10),
        "applied": applied is not None,
        "bins": BINS,
        "test": {
            "before": _reliability_json(reliability(test.labels, before, BINS)),
            "after": _reliability_json(reliability(test.labels, after, BINS)),
            "gain": {"loss": score_json(paired_gain(test.labels, before, after))},
        },
    }


def _reliability_json(found: Reliability) -> JsonDict:
    return {
        "ece": score_json(found.ece),
        "loss": score_json(found.loss),
        "bins": [
            {k: round(v, 10) for k, v in dataclasses.asdict(one).items()}
            for one in found.bins
            if one.n
        ],
    }


def tests_record(results: Mapping[str, PartResult], recommended: str | None) -> JsonDict | None:
    """Test the models of a run against each other on the test split.

    Args:
        results: What the parts left.
        recommended: The model that validation chose, or None.

    Returns:
        ``tests`` of results.json; None where there are not two models to test.
    """
    predictions = {n: r.predictions["test"] for n, r in results.items() if "test" in r.predictions}
    estimates = {n: r.estimates["test"] for n, r in results.items() if "test" in r.estimates}
    names = list(predictions or estimates)
    pairs = list(itertools.combinations(names, 2))
    if len(names) > _ALL_PAIRS:
        known = recommended if recommended in names else None
        pairs = [(known, n) for n in names if n != known] if known is not None else []
    if not pairs:
        return None
    if predictions:
        found, metric, method = test_pairs(predictions, pairs), "accuracy", "mcnemar-exact"
    else:
        found, metric, method = test_estimate_pairs(estimates, pairs), "mse", "paired-bootstrap"
    return {
        "split": "test",
        "metric": metric,
        "method": method,
        "correction": "holm",
        "pairs": [_pair_json(one) for one in found],
    }


def with_verdicts(comparisons: Sequence[JsonDict], tests: JsonDict | None) -> list[JsonDict]:
    """Return comparisons whose words say whether the two models can be told apart.

    Args:
        comparisons: Entries of ``comparisons``.
        tests: ``tests`` of the same results.

    Returns:
        The same, those of models that were tested with the verdict in their text: what does not
        survive the correction for all tests of the run is called indistinguishable.
    """
    pairs = () if tests is None else tests["pairs"]
    verdicts = {frozenset((p["a"], p["b"])): p["distinguishable"] for p in pairs}
    found = []
    for one in comparisons:
        verdict = verdicts.get(frozenset((one["a"], one["b"])))
        text = one["text"]
        if verdict is not None and one["speedup"] is None:
            text += ": they really differ" if verdict else ": they are indistinguishable"
        found.append({**one, "text": text})
    return found


def _pair_json(one: PairTest) -> JsonDict:
    return {
        "a": one.a,
        "b": one.b,
        "difference": score_json(one.difference),
        "a_only": one.a_only,
        "b_only": one.b_only,
        "p": one.p,
        "p_holm": one.p_holm,
        "distinguishable": one.distinguishable,
    }

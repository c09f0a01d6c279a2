"""The discussion claims what intervals support, and an ensemble must be worth its cost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_makers import model, results, score, texts

from headstart.report import advise
from headstart.types import JsonDict


def stage(trainable: str, trained: int = 1000, seconds: float = 60.0) -> dict[str, Any]:
    return {
        "name": trainable,
        "trainable": trainable,
        "epochs": 5,
        "wall_seconds": seconds,
        "parameters_trainable": trained,
    }


def network(name: str, val: float, test: float, *stages: dict[str, Any], **more: Any) -> JsonDict:
    return {**model(name, val, test, kind="model", backbone="vgg", stages=list(stages)), **more}


def frozen(**more: Any) -> JsonDict:
    return network("frozen", 0.80, 0.79, stage("head", 1000, 60.0), **more)


def tuned(test: float = 0.90, **more: Any) -> JsonDict:
    return network("tuned", 0.91, test, stage("head"), stage("last 3", 70000, 540.0), **more)


def scratch(test: float = 0.10, **more: Any) -> JsonDict:
    whole = stage("all", 90000, 300.0)
    return network("scratch", 0.11, test, whole, from_scratch=True, **more)


def against(a: str, b: str, low: float, high: float) -> dict[str, Any]:
    difference = {"value": (low + high) / 2, "low": low, "high": high, "n": 200}
    return {"a": a, "b": b, "split": "test", "accuracy_difference": difference, "speedup": None}


def said(topic: str, **parts: Any) -> str:
    return texts(advise(results(**parts), {}), topic).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.70, 0.90, "transfer learning is a real gain"),
        (-0.01, 0.02, "cannot be told apart"),
        (-0.2, -0.1, "training from scratch is better"),
    ],
)
def test_pretrained_weights_are_held_against_random_ones(
    low: float, high: float, verdict: str
) -> None:
    models = [frozen(), tuned(), scratch()]
    text = said("transfer", models=models, comparisons=[against("tuned", "scratch", low, high)])
    assert verdict in text
    assert f"({100 * low:+.1f} to {100 * high:+.1f})".replace("-", "−") in text
    assert "“TUNED” trained 70,000 parameters over 5 + 5 epochs in 10.0 min" in text
    assert "“SCRATCH” trained 90,000 parameters over 5 epochs in 5.0 min" in text
    # The run may have compared them the other way round.
    turned = said("transfer", models=models, comparisons=[against("scratch", "tuned", -high, -low)])
    assert turned == text


def test_without_a_comparison_the_figures_stand_alone() -> None:
    text = said("transfer", models=[tuned(0.90), scratch(0.10)])
    assert "90.0% (87.0–93.0%) against 10.0% (7.0–13.0%) on test: transfer learning" in text
    text = said("transfer", models=[tuned(0.90), scratch(0.88)])
    assert "cannot be told apart" in text
    bare = [tuned(), scratch()]
    for entry in bare:
        for split in entry["metrics"].values():
            del split["accuracy"]["low"]
    text = said("transfer", models=bare)
    assert "no verdict" in text
    assert "real gain" not in text


def test_only_models_of_one_network_and_the_same_labels_are_held_against_each_other() -> None:
    other = [tuned(backbone="resnet"), scratch()]
    assert said("transfer", models=other) == ""
    assert said("frozen", models=[frozen(labels_per_class=10), tuned()]) == ""
    assert said("transfer", models=[frozen(), tuned()]) == ""


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.05, 0.15, "releasing layers is a real gain"),
        (-0.01, 0.02, "freezing costs nothing that could be measured"),
        (-0.10, -0.05, "releasing layers loses accuracy"),
    ],
)
def test_released_layers_are_held_against_frozen_ones(
    low: float, high: float, verdict: str
) -> None:
    pairs = [against("frozen", "tuned", -high, -low)]
    everything = results(models=[frozen(), tuned(), scratch()], comparisons=pairs)
    advice = advise(everything, {})
    (sentence,) = [s for s in advice["sentences"] if s["topic"] == "frozen"]
    assert verdict in sentence["text"]
    assert "trains 70,000 parameters (head, then last 3) instead of 1,000" in sentence["text"]
    assert "10.0\u00a0min instead of 60\u00a0s" in sentence["text"]
    assert sentence["rows"] == [
        *("models/frozen", "models/tuned", "comparisons/0"),
        *("models/frozen/stages/0", "models/tuned/stages/0", "models/tuned/stages/1"),
    ]
    # What the discussion says of the two is not said again.
    assert "comparisons/0" not in {
        row for s in advice["sentences"] if s["topic"] == "model" for row in s["rows"]
    }


@pytest.mark.parametrize(
    ("train", "verdict"),
    [(0.999, "it overfits more"), (0.86, "lies within the intervals"), (None, "")],
)
def test_overfitting_is_claimed_only_where_the_gaps_are_apart(
    train: float | None, verdict: str
) -> None:
    pair = [frozen(), tuned(0.80)]
    if train is not None:
        for entry, value in zip(pair, (0.80, train), strict=True):
            entry["metrics"]["train"] = {"accuracy": score(value, 0.005)}
    text = said("frozen", models=pair)
    assert verdict in text
    assert ("1.0 points above test accuracy with frozen layers" in text) == (train is not None)
    assert "overfits less" not in text


def test_several_networks_are_summed_up_first() -> None:
    models = []
    for i, gain in enumerate((0.10, 0.0, -0.10)):
        for entry in (frozen(), tuned(0.79 + gain)):
            models.append({**entry, "name": f"{entry['name']}{i}", "backbone": f"net{i}"})
    text = said("frozen", models=models)
    assert text.startswith(
        "Releasing frozen layers, in 3 pairs of models: a real gain in 1, no difference that could "
        "be told from noise in 1 and a loss in 1."
    )


def test_a_frozen_model_with_the_same_head_is_held_against_the_released_one() -> None:
    tuned_linear = tuned(head={"kind": "linear"})
    logistic = frozen(head={"kind": "logistic"})
    text = said("frozen", models=[logistic, tuned_linear])
    assert "Their heads differ too (linear, logistic)." in text
    same = {**frozen(head={"kind": "linear"}), "name": "same", "title": "SAME"}
    same["metrics"] = {s: {"accuracy": score(0.7)} for s in ("val", "test")}
    text = said("frozen", models=[logistic, same, tuned_linear])
    assert "“TUNED” against “SAME”" in text
    assert "heads differ" not in text


def test_one_training_done_two_ways_is_told_once() -> None:
    slow = {**tuned(), "name": "slow", "title": "SLOW"}
    pair = {**against("tuned", "slow", 0.0, 0.0), "agreement": 1.0, "speedup": 7.0}
    everything = {"models": [frozen(), tuned(), slow], "comparisons": [pair]}
    text = said("frozen", **everything)
    assert "“TUNED” against “FROZEN”" in text
    assert "SLOW" not in text
    assert "7.00× as fast" in said("acceleration", **everything)


def test_a_large_model_may_be_fast() -> None:
    models = [priced("large", 0.80, 200, 4), priced("small", 0.90, 10, 8)]
    assert "20.0× the weights of “SMALL” yet is 2.00× as fast" in said("cost", models=models)


def priced(name: str, val: float, mib: float, ms: float, **more: Any) -> JsonDict:
    prediction = {"seconds": ms * 0.2, "samples": 200}
    return model(name, val, val, size_bytes=mib * 2**20, prediction=prediction, **more)


def test_the_smallest_that_cannot_be_told_from_the_best_is_named() -> None:
    models = [
        priced("large", 0.91, 200, 40),
        priced("middle", 0.90, 50, 10),
        priced("small", 0.80, 10, 2),
    ]
    text = said("cost", models=models)
    assert "“LARGE” is best on validation (91.0%), with 200 MiB and 40.0 ms per picture" in text
    assert "smallest that cannot be told from it is “MIDDLE” (90.0%), with 50.0 MiB" in text
    assert "4.00× the weights of “MIDDLE” and takes 4.00× its time" in text
    assert "+1.0 points on validation: the two cannot be told apart" in text
    models[1]["metrics"]["val"]["accuracy"] = score(0.85)
    text = said("cost", models=models)
    assert "Every smaller model lies below its interval." in text
    assert "The largest" not in text


def test_a_large_model_that_is_worse_is_called_so() -> None:
    models = [priced("large", 0.80, 200, 40), priced("small", 0.90, 10, 2)]
    text = said("cost", models=models)
    assert "No model is smaller." in text
    assert "−10.0 points on validation: more weights for less accuracy" in text
    models = [priced("large", 0.90, 200, 40), priced("small", 0.80, 10, 2)]
    assert "less accuracy" not in said("cost", models=models)


def test_costs_are_not_discussed_where_sizes_are_the_same_or_nothing_was_timed() -> None:
    same = [priced("a", 0.9, 10, 2), priced("b", 0.8, 10, 2)]
    assert said("cost", models=same) == ""
    untimed = [model("a", 0.9, size_bytes=10), model("b", 0.8, size_bytes=20)]
    assert said("cost", models=untimed) == ""


def vote(val: float, test: float = 0.9, **more: Any) -> JsonDict:
    ensemble = {
        "voting": "soft",
        "members": ["a", "b"],
        "weights": [0.5, 0.5],
        "best_member": "a",
        "gain": {"value": 0.02, "low": 0.01, "high": 0.03, "n": 200},
        "prediction_seconds": 3.0,
        **more,
    }
    return model("vote", val, test, kind="ensemble", stages=[], ensemble=ensemble)


MEMBERS = [priced("a", 0.90, 10, 5), priced("b", 0.88, 10, 10)]


@pytest.mark.parametrize(
    ("low", "high", "words", "not_said"),
    [
        (
            0.01,
            0.03,
            "a real gain. The vote takes 15.0 ms per picture instead of 5.00",
            "not worth",
        ),
        (-0.01, 0.03, "cannot be told apart", "real gain"),
        (-0.03, -0.01, "the vote is worse", "real gain"),
    ],
)
def test_an_ensembles_gain_is_held_against_its_time(
    low: float, high: float, words: str, not_said: str
) -> None:
    gain = {"value": (low + high) / 2, "low": low, "high": high, "n": 200}
    text = said("ensemble", models=[*MEMBERS, vote(0.9, gain=gain)])
    assert words in text
    assert not_said not in text
    assert ("not worth its time" in text) == (low <= 0)
    assert "(3.00×)" in text


@given(st.integers(0, 100), st.integers(0, 100))
def test_an_ensemble_is_recommended_only_above_the_interval(val: int, test: int) -> None:
    models = [*MEMBERS, vote(val / 100, test / 100)]
    chosen = advise(results(models=models), {})["model"]
    # Intervals are ±3 points: the best single model must lie below the ensemble's.
    assert chosen == ("vote" if val / 100 - 0.03 > 0.90 else "a")


def test_the_choice_for_or_against_an_ensemble_is_explained() -> None:
    text = said("model", models=[*MEMBERS, vote(0.92)])
    assert "Use “A”: of the single models it has the highest validation accuracy, 90.0%" in text
    assert "“VOTE” has a higher figure on validation, 92.0%, but “A” lies inside" in text
    assert "On validation, “B” is indistinguishable from “A”" in text
    text = said("model", models=[*MEMBERS, vote(0.96)])
    assert "Use “VOTE”: it has the highest validation accuracy, 96.0%" in text
    assert "all its 2 members at every prediction, 15.0 ms per picture against 5.00 of “A”" in text
    assert "lies below its interval with 90.0%" in text
    lower = said("model", models=[*MEMBERS, vote(0.89)])
    assert "higher figure" not in lower
    assert "“VOTE” and “B” are indistinguishable from “A”" in lower


def as_it_is(name: str, top1: float) -> JsonDict:
    entry = model(name, 0.5, kind="zero_shot", backbone=name, stages=[], mode=None)
    del entry["metrics"]["val"]
    return {**entry, "zero_shot": {"top1": score(top1), "top5": score(top1 + 0.2)}}


def backbones(**more: Any) -> list[JsonDict]:
    spec = {"height": 224, "width": 224, "resize": 256}
    return [
        {"key": "pad", "name": "net", "input": {**spec, "fit": "pad"}},
        {"key": "resize", "name": "net", "input": {**spec, "fit": "resize", **more}},
    ]


@pytest.mark.parametrize(
    ("padded", "verdict"),
    [
        (0.05, "“RESIZE” is better by more than the interval"),
        (0.29, "the two cannot be told apart"),
        (0.50, "“PAD” is better by more than the interval"),
    ],
)
def test_padding_is_held_against_resizing(padded: float, verdict: str) -> None:
    models = [as_it_is("pad", padded), as_it_is("resize", 0.30)]
    data = {"sizes": {"median": [64, 56]}}
    text = said("input", models=models, backbones=backbones(), data=data)
    assert "padded or stretched" in text
    assert verdict in text
    assert "covers 64 × 56 of 224 × 224 pixels, 7.1% of the input" in text
    large = {"sizes": {"median": [640, 480]}}
    assert "covers" not in said("input", models=models, backbones=backbones(), data=large)


def test_only_inputs_that_differ_in_nothing_else_are_compared() -> None:
    models = [as_it_is("pad", 0.1), as_it_is("resize", 0.3)]
    assert said("input", models=models, backbones=backbones(height=128)) == ""
    assert said("input", models=models, backbones=backbones(fit="pad")) == ""
    models = [
        {**tuned(), "backbone": "pad"},
        {**tuned(0.5), "name": "other", "title": "OTHER", "backbone": "resize"},
    ]
    text = said("input", models=models, backbones=backbones())
    assert "“TUNED” is better" in text
    models[1]["hyperparameters"] = {"stages.0.batch_size": 7}
    assert said("input", models=models, backbones=backbones()) == ""

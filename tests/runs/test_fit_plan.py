"""What `headstart fit` decides: by measurement, within the budget, without the test split."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from colour_photos import write_photos
from text_studies import tiny_network, write_texts

from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop
from headstart.backbones.base import Backbone
from headstart.backbones.candidates import Candidate
from headstart.config import schema
from headstart.config.load import load_experiment
from headstart.errors import ConfigError
from headstart.features.extract import Extraction, extract
from headstart.heads import stage_sizes
from headstart.runs import fit_plan
from headstart.runs.fit_clock import Clock, largest_limit
from headstart.runs.fit_file import Choice, Tuning, experiment_text
from headstart.runs.fit_plan import Plan, Tried
from headstart.runs.pace import Pace
from headstart.train import cut_for

pytestmark = pytest.mark.usefixtures("one_thread")

LITE = "packaged/efficientnet-lite0"
COUNTS = {"train": 140, "val": 30, "test": 30}
Decide = Callable[..., tuple[Choice, tuple[Tried, ...]]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, texts, and networks of a few thousand numbers that read texts."""
    root = tmp_path_factory.mktemp("place")
    write_photos(root / "photos")
    write_texts(root / "texts.csv", COUNTS)
    for name in ("one", "two", "three"):
        # They differ: the store tells them apart by their weights.
        width = {"one": 8, "two": 12, "three": 16}[name]
        tiny_network(root / name, intermediate_size=width, max_position_embeddings=256)
    return root


@pytest.fixture
def decide(place: Path) -> Decide:
    """Decide on some data; texts are read by the networks that are named."""

    def go(
        data: str = "texts.csv",
        names: Sequence[str] = ("one",),
        *,
        budget: float = 1000.0,
        path: Path | None = None,
    ) -> tuple[Choice, tuple[Tried, ...]]:
        pictures = data == "photos"
        plan = Plan(
            place=str(place / data if path is None else path),
            kind="auto" if pictures else "text",
            columns={},
            workers=1,
            allow_network=False,
            show=SilentProgress(),
            stop=Stop(),
            clock=Clock(time.perf_counter(), budget),
        )
        asked = [LITE] if pictures else [f"transformers/{place / n}" for n in names]
        return plan.choose(asked)

    return go


def paces(monkeypatch: pytest.MonkeyPatch, step_seconds: Mapping[int | str, float]) -> list[Any]:
    """Let a sample's share of a training step take so long, by what is trained; say what was."""
    timed: list[Any] = []

    def measure(backbone: Backbone, head_cut: str, trainable: int | str, *rest: object) -> Pace:
        timed.append(trainable)
        cut = cut_for(trainable, stage_sizes(backbone, head_cut), head_cut).cut
        each = step_seconds.get(trainable, step_seconds[0])
        return Pace(trainable, cut, "float32", each, 0.0, 0.0)

    monkeypatch.setattr(fit_plan, "measure_pace", measure)
    return timed


def speeds(monkeypatch: pytest.MonkeyPatch, seconds: Mapping[str, float]) -> None:
    """Let a sample's frozen features take so long, by the last part of the network's name."""

    def slow(images: Any, indices: Any, backbone: Backbone, cut: str, **rest: Any) -> Extraction:
        done = extract(images, indices, backbone, cut, **rest)
        each = seconds.get(backbone.name.rpartition("/")[2], 0.0)
        return replace(done, wall_seconds=each * done.extracted)

    monkeypatch.setattr(fit_plan, "extract", slow)


def said(choice: Choice, words: str) -> str:
    """Return the only reason with some words."""
    (found,) = [reason for reason in choice.reasons if words in reason]
    return found


def test_a_slow_machine_trains_the_probe_alone_and_says_how_long_more_would_take(
    decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = paces(monkeypatch, {0: 100.0})
    choice, _ = decide("photos")
    assert choice.tuning is None
    assert len(timed) == 1  # what is slower still is not even timed
    reason = said(choice, "no time for fine-tuning")
    # 24 photos, 70% of them in the training split: 4 epochs of 15 to 18 samples.
    seconds = int(reason.split("take about ")[1].split(" s ")[0])
    assert 4 * 15 * 100 <= seconds <= 4 * 18 * 100 + 100
    assert f"4 epochs of the last {timed[0]} stages" in reason
    parts = load(choice).parts
    assert list(parts) == ["probe"]


def test_a_fast_machine_trains_everything_for_as_many_epochs_as_are_of_use(
    decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = paces(monkeypatch, {0: 1e-6})
    choice, _ = decide("photos")
    assert timed[-1] == "all"
    assert choice.tuning is not None
    assert (choice.tuning.trainable, choice.tuning.epochs) == ("all", 10)
    assert "10 epochs of all of the network" in said(choice, "Fine-tuning is tried")


def test_the_largest_release_is_taken_that_there_is_time_for(
    decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 16 photos: an epoch of the last 2 stages takes about 80 s of the 1000, of all 1600 s.
    paces(monkeypatch, {0: 100.0, 2: 5.0})
    choice, _ = decide("photos")
    assert choice.tuning is not None
    assert choice.tuning.trainable == 2
    assert 4 < choice.tuning.epochs < 10
    assert choice.tuning.epochs * 16 * 5.0 < 60 * choice.tuning.max_minutes < 1000
    _, stage = load(choice).parts["tuned"].stages
    assert stage.trainable == schema.Last(last=2)
    assert stage.epochs == choice.tuning.epochs


def test_time_that_the_timing_took_is_not_promised_to_the_training(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(time.perf_counter(), 1000.0)

    def measure(backbone: Backbone, head_cut: str, trainable: int | str, *_: object) -> Pace:
        clock.budget -= 400  # a machine that stumbles
        cut = cut_for(trainable, stage_sizes(backbone, head_cut), head_cut).cut
        return Pace(trainable, cut, "float32", 0.1, 0.0, 0.0)

    monkeypatch.setattr(fit_plan, "measure_pace", measure)
    photos = str(place / "photos")
    plan = Plan(photos, "auto", {}, 1, False, SilentProgress(), Stop(), clock)
    choice, _ = plan.choose([LITE])
    assert clock.left < 0
    assert choice.tuning is None
    assert said(choice, "no time for fine-tuning")
    load(choice)


def load(choice: Choice) -> Any:
    """Return the experiment as `headstart run` reads it."""
    path = Path(str(choice.data["path"])).parent / "chosen.yaml"
    path.write_text(experiment_text("chosen", choice), encoding="utf-8")
    return load_experiment(path)


def test_more_data_than_there_is_time_for_are_drawn_from(
    decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces(monkeypatch, {0: 1e9})
    speeds(monkeypatch, {"one": 3.0})
    choice, _ = decide(budget=500.0)
    limit = choice.data["limit_per_class"]
    # 200 texts would take 400 s (all of them fill batches better than the few that were timed),
    # and three quarters of what is left may go into features.
    counts = [n // 2 for n in COUNTS.values() for _ in range(2)]
    seconds = [2.0 * sum(min(n, most) for n in counts) for most in (limit, limit + 1)]
    assert seconds[0] <= 0.75 * 480
    assert seconds[1] > 0.75 * (480 - 30)  # deciding has taken some seconds
    assert f"at most {limit} of each class" in said(choice, "would take 400 s")
    assert load(choice).data.limit_per_class == limit
    more, _ = decide(budget=3000.0)
    assert "limit_per_class" not in more.data


@pytest.mark.parametrize("wanted", range(0, 60, 3))
def test_as_many_of_each_class_are_drawn_as_fit_in_all(wanted: int) -> None:
    counts = np.array([20, 14, 6, 6, 3])
    fits = [n for n in range(5, 21) if np.minimum(counts, n).sum() <= wanted]
    assert largest_limit(counts, wanted) == max(fits, default=5)


def test_what_is_stored_takes_no_time_and_what_is_missing_does(
    decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces(monkeypatch, {0: 1e9})
    speeds(monkeypatch, {"one": 3.0})
    first, second = (decide(budget=200.0)[0].data["limit_per_class"] for _ in range(2))
    # The trial's own samples must not look as if everything were stored.
    assert 5 < first < second < 70
    assert "limit_per_class" not in decide(budget=3000.0)[0].data
    assert "limit_per_class" not in decide(budget=100.0)[0].data


def test_the_backbone_with_the_best_probe_is_taken(
    decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces(monkeypatch, {0: 1e9})
    choice, tried = decide(names=("one", "two", "three"))
    values = {one.name: one.accuracy.value for one in tried}
    assert len(values) == 3
    assert values[choice.backbone["name"]] == max(values.values()) > min(values.values())
    for name, value in values.items():
        assert f"{value:.3f}" in said(choice, choice.backbone["name"])
        assert name in said(choice, choice.backbone["name"])


@pytest.mark.parametrize("stored", [False, True])
def test_backbones_that_would_take_too_long_are_named_and_left_out(
    decide: Decide, place: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    paces(monkeypatch, {0: 1e9})
    if stored:  # that the first one is then quick says nothing of the second
        decide()
    speeds(monkeypatch, {"one": 3.0 if stored else 0.0, "two": 50.0, "three": 0.0})
    choice, tried = decide(names=("one", "two", "three"))
    assert [one.accuracy is None for one in tried] == [False, True, False]
    assert not choice.backbone["name"].endswith("/two")
    assert "two was not tried: it would take" in said(choice, "not tried")
    # Of those that lie here, cheapest first, what comes after it is not even timed.
    here = [Candidate(f"transformers/{place / n}", "package", 1.0) for n in ("one", "two", "three")]
    monkeypatch.setattr(fit_plan, "candidates", lambda _: tuple(here))
    choice, tried = decide(names=())
    assert [one.accuracy is None for one in tried] == [False, True]
    assert "two was not tried: it would take" in said(choice, "not tried")
    assert "/three" in said(choice, "no time to try what costs more")


def test_the_test_split_has_no_say(
    decide: Decide, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces(monkeypatch, {0: 1e9})
    table = pd.read_csv(place / "texts.csv")
    test = table.split == "test"
    table.loc[test, "label"] = table[test].label.map({"good": "bad", "bad": "good"})
    table.to_csv(tmp_path / "turned.csv", index=False)
    plain, turned = (decide("t", path=p)[1] for p in (place / "texts.csv", tmp_path / "turned.csv"))
    assert plain[0].accuracy == turned[0].accuracy
    assert plain[0].accuracy.n == COUNTS["train"] + COUNTS["val"]


def test_html_in_texts_is_taken_out(
    decide: Decide, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces(monkeypatch, {0: 1e9})
    table = pd.read_csv(place / "texts.csv")
    table.text = [f"{t}<br /><b>{n}</b>" if n % 4 == 0 else t for n, t in enumerate(table.text)]
    table.to_csv(tmp_path / "web.csv", index=False)
    choice, _ = decide("t", path=tmp_path / "web.csv")
    assert "50 of 200 texts hold HTML tags" in said(choice, "HTML")
    assert load(choice).backbones["backbone"].strip_markup is True
    plain, _ = decide()
    assert "strip_markup" not in plain.backbone
    assert not any("HTML" in reason for reason in plain.reasons)


def test_without_a_network_on_this_machine_it_says_how_to_get_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_plan, "candidates", lambda _: ())
    clock = Clock(time.perf_counter(), 100)
    plan = Plan(str(place / "photos"), "auto", {}, 1, False, SilentProgress(), Stop(), clock)
    with pytest.raises(ConfigError, match=r"no pretrained network for pictures.*headstart\[demo\]"):
        plan.choose(())


@pytest.mark.parametrize("noun", ["picture", "text", "pair"])
@pytest.mark.parametrize("trainable", ["all", 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_file_says_what_was_decided(
    tmp_path: Path, noun: Any, trainable: Any, precision: Any
) -> None:
    choice = Choice(
        data={"kind": "auto" if noun == "picture" else "text", "path": str(tmp_path)},
        backbone={"name": LITE if noun == "picture" else "packaged/minilm-l6"},
        title="What: {they} are #called",
        noun=noun,
        tuning=Tuning(trainable, 5, precision, 2.5),
        learning_curve=True,
        reasons=("One: because. # and no comment", "Two."),
    )
    study = load(choice)
    assert study.title == "A model for What: {they} are #called"
    assert study.notes == choice.reasons
    assert study.analysis.learning_curve is True
    tuned = study.parts["tuned"]
    assert (tuned.max_minutes, tuned.calibrate) == (2.5, True)
    _, stage = tuned.stages
    assert stage.trainable == ("all" if trainable == "all" else schema.Last(last=2))
    assert (stage.epochs, stage.precision) == (5, precision)
    assert (stage.augmentation is not None) == (noun == "picture")
    assert [(c.a, c.b) for c in study.comparisons] == [("tuned", "probe")]


def test_nothing_is_left_of_the_timing(place: Path) -> None:
    """The network is the same afterwards, and torch's stream of random numbers elsewhere."""
    from headstart.backbones.registry import load_backbone
    from headstart.runs.pace import measure_pace, releases

    network = load_backbone("headstart/resnet20", weights="random")
    cut = network.stages[-1]
    before = network.digest(cut)
    batches = [np.random.default_rng(n).normal(size=(4, 3, 32, 32)) for n in range(2)]
    found = releases(network, cut)
    assert found[0] == "all"
    assert list(found[1:]) == sorted(found[1:], reverse=True)
    for trainable in (found[0], found[-1]):
        pace = measure_pace(
            network,
            cut,
            trainable,
            [b.astype(np.float32) for b in batches],
            0.5,
            3,
            torch.device("cpu"),
            "float32",
        )
        assert pace.step_seconds > 0
        assert pace.look_seconds > 0
        # Stored features need no reading.
        assert pace.read_seconds == (0.5 if trainable == "all" else 0.0)
    assert network.digest(cut) == before
    assert all(p.grad is None for p in network.prefix(cut).parameters())
    assert Pace(1, cut, "float32", 3.0, 2.0, 1.0).epoch_seconds(10, 5) == 10 * 4 + 5 * 3

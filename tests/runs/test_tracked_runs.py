"""Whole runs that TensorBoard watches: every part is shown, each point once, stopped or not."""

from pathlib import Path
from typing import Any

import pytest
from colour_photos import write_photos
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from text_studies import StopAfter, write_corpus

from headstart import RunResult, resume, run
from headstart._util.progress import SilentProgress
from headstart.errors import StoppedError
from headstart.report.load import load_run
from headstart.runs.executors import executor_for

pytestmark = pytest.mark.usefixtures("one_thread")

PICTURES = """
name: watched
title: Watched
data: {{kind: auto, path: {place}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones: {{small: {{name: headstart/resnet20, weights: random}}}}
cache: {{engine: torch}}
timing: {{measure: false}}
analysis: {{near_duplicates: false, suspicious_labels: false}}
checkpoints: {{steps: 1}}
parts:
  probe: {{kind: model, head: {{kind: logistic, c: [0.01, 1.0, 100.0]}}}}
  one: {{kind: model, head: {{kind: logistic, c: [1.0]}}}}
  staged:
    kind: model
    batch_size: 4
    record_steps: 2
    optimizer: {{kind: sgd, learning_rate: 0.01}}
    stages:
      - {{trainable: head, epochs: 2}}
      - {{trainable: {{last: 1}}, epochs: 3}}
  seeds: {{kind: model, extends: staged, seeds: 2}}
  head: {{kind: model, epochs: 2, seeds: 2}}
"""
WORDS = """
name: words
title: Words
data: {{kind: language, path: {place}, min_count: 1}}
checkpoints: {{steps: 1}}
parts:
  words:
    kind: language_model
    embedding: 8
    hidden: 12
    layers: 1
    epochs: 3
    batch_size: 8
    bptt: 10
    optimizer: {{kind: adam, learning_rate: 0.02}}
    record_steps: 2
    samples: 0
"""
STUDIES = {"pictures": PICTURES, "words": WORDS}
Points = dict[str, dict[str, list[tuple[int, float]]]]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("places")
    photos = write_photos(root / "photos", spread=60)
    return {"pictures": photos, "words": write_corpus(root / "words", lines=30)}


def start(kind: str, places: dict[str, Path], folder: Path, **options: Any) -> RunResult:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(STUDIES[kind].format(place=places[kind]))
    return run(path, out=folder / "runs", show=SilentProgress(), **options)


@pytest.fixture(scope="module")
def straight(
    places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, RunResult]:
    """Each study in one go."""
    root = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(root / "cache"))
        return {k: start(k, places, root / k, track=("tensorboard",)) for k in STUDIES}


def points(folder: Path) -> Points:
    """Return what TensorBoard shows of a run: sub-run -> figure -> (step, value)."""
    found: Points = {}
    shown = folder / "tensorboard"
    for place in sorted({p.parent for p in shown.rglob("events.*")}):
        events = EventAccumulator(str(place), size_guidance={"scalars": 0})
        events.Reload()
        tags = events.Tags()["scalars"]
        found[str(place.relative_to(shown))] = {
            t: [(e.step, e.value) for e in events.Scalars(t)] for t in tags
        }
    return found


def losses(result: RunResult, part: str, split: str) -> list[Any]:
    """Return the losses of a part's history."""
    records = load_run(result.folder).histories[part]
    return [pytest.approx(r.loss) for r in records if r.split == split]


def test_every_part_is_shown(straight: dict[str, RunResult]) -> None:
    shown = points(straight["pictures"].folder)
    models = {m["name"] for m in straight["pictures"].results["models"]}
    assert {place.partition("/")[0] for place in shown} == models
    members = {f"{name}/member-0{n}" for name in ("seeds", "head") for n in (0, 1)}
    members |= {f"probe/member-0{n}" for n in range(3)}
    assert {p for p in shown if "member" in p and "final" not in p} == members
    for name in models:
        assert "final/test/accuracy" in shown[f"{name}/final"]


def test_the_epochs_of_later_stages_come_after_those_of_earlier_ones(
    straight: dict[str, RunResult],
) -> None:
    result = straight["pictures"]
    shown = points(result.folder)
    expected = list(zip(range(1, 6), losses(result, "staged", "val"), strict=True))
    assert shown["staged"]["val/loss"] == expected
    # 12 training pictures in batches of 4: 3 steps in each of 5 epochs, recorded by twos.
    steps = [step for step, _ in shown["staged"]["steps/loss"]]
    assert steps == [2, 4, 6, 8, 10, 12, 14]
    assert shown["seeds/member-00"]["val/loss"] == expected
    assert shown["seeds/member-01"]["val/loss"] != expected


def test_a_probe_that_is_solved_is_one_point_of_each_strength(
    straight: dict[str, RunResult],
) -> None:
    result = straight["pictures"]
    shown = points(result.folder)
    (model,) = [m for m in result.results["models"] if m["name"] == "probe"]
    strengths = (0.01, 1.0, 100.0)
    chosen = strengths.index(model["hyperparameters"]["head.c"][0])
    values = [shown[f"probe/member-0{n}"]["val/loss"] for n in range(3)]
    assert [len(v) for v in values] == [1, 1, 1]
    assert values[chosen] == [(1, losses(result, "probe", "val")[0])]
    assert len({v for ((_, v),) in values}) == 3
    # Solved alone it begins elsewhere, and ends within the solver's tolerance.
    ((_, alone),) = shown["one"]["val/loss"]
    assert alone == pytest.approx(values[1][0][1], rel=0.01)


def test_a_language_model_is_shown(straight: dict[str, RunResult]) -> None:
    result = straight["words"]
    shown = points(result.folder)
    for split in ("train", "val"):
        expected = list(zip((1, 2, 3), losses(result, "words", split), strict=True))
        assert shown["words"][f"{split}/loss"] == expected
    steps = [step for step, _ in shown["words"]["steps/loss"]]
    assert steps == list(range(2, 2 * len(steps) + 1, 2))
    (model,) = result.results["models"]
    perplexity = model["metrics"]["test"]["perplexity"]["value"]
    assert shown["words/final"]["final/test/perplexity"] == [(0, pytest.approx(perplexity))]


def learning(found: Points) -> Points:
    """Leave out what no two runs share."""
    return {
        place: {k: v for k, v in figures.items() if "seconds" not in k}
        for place, figures in found.items()
    }


@pytest.mark.parametrize(
    ("kind", "looks"),
    # In the second stage of a model, in the second of several seeds, in a language model.
    [("pictures", 24), ("pictures", 80), ("words", 16)],
)
def test_what_was_stopped_and_resumed_shows_nothing_twice(
    straight: dict[str, RunResult], places: dict[str, Path], tmp_path: Path, kind: str, looks: int
) -> None:
    with pytest.raises(StoppedError):
        start(kind, places, tmp_path, track=("tensorboard",), stop=StopAfter(looks))
    (folder,) = (tmp_path / "runs").glob("*-*")
    before = points(folder)
    assert resume(folder, show=SilentProgress()).folder == folder  # nobody names the tracker again
    after = points(folder)
    assert before.keys() < after.keys()
    assert learning(after) == learning(points(straight[kind].folder))
    # Going on with what is done shows what was shown.
    resume(folder, show=SilentProgress())
    assert learning(points(folder)) == learning(after)


@pytest.mark.parametrize("kind", list(STUDIES))
def test_what_other_processes_trained_is_shown_when_it_is_done(
    straight: dict[str, RunResult],
    places: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    with executor_for("processes", jobs=2) as executor:
        result = start(kind, places, tmp_path, track=("tensorboard",), executor=executor)
    assert learning(points(result.folder)) == learning(points(straight[kind].folder))


def test_without_a_tracker_there_is_no_folder_of_one(
    places: dict[str, Path], tmp_path: Path
) -> None:
    result = start("words", places, tmp_path)
    assert not list(result.folder.rglob("*tensorboard*"))
    assert not (result.folder / "trackers.json").exists()

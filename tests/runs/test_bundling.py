"""`headstart bundle`: what a run's model says, its bundle says, without the run and its data."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from colour_photos import write_photos
from text_studies import go, write_corpus, write_place

from headstart import RunResult
from headstart.cli.main import main
from headstart.errors import ConfigError, RunError
from headstart.predict import load_bundle, verify_bundle
from headstart.predict.bundle_write import check_in_clean_process
from headstart.predict.recheck import check
from headstart.runs.bundling import Bundled, bundle_run
from headstart.runs.result import read_estimates, read_predictions

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTOS = """
name: colours
title: Three colours
data: {{kind: auto, path: {place}/photos, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones:
  small: {{name: headstart/resnet20, weights: random, image_size: 24}}
  other: {{name: headstart/dcnn, weights: random, image_size: 32}}
timing: {{measure: false}}
parts:
  probe: {{kind: model, backbone: small, head: {{kind: logistic, c: [1.0]}}}}
  swept: {{kind: sweep, backbone: other, epochs: 2, grid: {{optimizer.learning_rate: [0.01, 0.1]}}}}
  tuned:
    kind: model
    backbone: small
    epochs: 1
    batch_size: 8
    stages: [{{trainable: {{last: 2}}}}]
  chance: {{kind: baseline}}
  soft: {{kind: ensemble, members: [probe, swept, tuned], voting: soft}}
  greedy: {{kind: ensemble, members: [probe, tuned], voting: greedy}}
"""
TEXTS = """
name: {way}
title: Texts
data: {{kind: text, path: {place}/{data}.csv}}
backbones:
  bert: {{name: transformers/{place}/bert, max_length: 20{more}}}
  albert: {{name: transformers/{place}/albert, max_length: 30, pooling: pooler{more}}}
timing: {{measure: false}}
parts:
  probe: {{kind: model, head: {{kind: logistic, c: [1.0]}}}}
  albert:
    kind: model
    backbone: albert
    epochs: 1
    batch_size: 8
    optimizer: {{kind: adamw, learning_rate: 0.003}}
    stages: [{{trainable: [layer]}}]
"""
WORDS = """
name: words
title: Words
data: {{kind: language, path: {place}/corpus, min_count: 1}}
parts:
  lstm: {{kind: language_model, embedding: 6, hidden: 8, layers: 1, epochs: 1, batch_size: 4}}
"""
AFTER = """
name: after
title: A classifier on a language model
data: {{kind: text, path: {place}/{data}.csv}}
backbones: {{words: {{name: "run:{run}/lstm", max_length: 20{more}}}}}
timing: {{measure: false}}
parts: {{probe: {{kind: model, head: {{kind: logistic, c: [1.0]}}}}}}
"""
NUMBERS = """
name: numbers
title: Numbers
data: {kind: sequence, target: adding, train: 60, val: 20, test: 30}
backbones: {gru: {name: headstart/gru, weights: random, hidden: 8, layers: 2}}
timing: {measure: false}
parts: {gru: {kind: model, from_scratch: true, epochs: 1, batch_size: 8}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_place(tmp_path_factory.mktemp("data"), {"train": 24, "val": 12, "test": 20})
    write_photos(folder / "photos", each=12, spread=30.0)
    write_corpus(folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def studies(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """Runs of pictures, texts, pairs, numbers, and of texts on a language model."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache")))
        found["photos"] = go(tmp_path_factory.mktemp("photos"), PHOTOS.format(place=place))
        found["numbers"] = go(tmp_path_factory.mktemp("numbers"), NUMBERS)
        found["words"] = go(tmp_path_factory.mktemp("words"), WORDS.format(place=place))
        for way, data in (("single", "texts"), ("together", "pairs"), ("separately", "pairs")):
            more = f", pairs: {way}" if data == "pairs" else ""
            study = TEXTS.format(place=place, data=data, more=more, way=way)
            found[way] = go(tmp_path_factory.mktemp(way), study)
        study = AFTER.format(place=place, data="pairs", run=found["words"].folder, more="")
        found["after"] = go(tmp_path_factory.mktemp("after"), study)
    return found


@pytest.fixture(autouse=True)
def checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each check takes seconds: one test has it, the others check in this one."""
    monkeypatch.setattr("headstart.runs.bundling.check_in_clean_process", check)


def same_as_in_the_run(run: RunResult, part: str, bundled: Bundled, data: Sequence[Path]) -> None:
    """What the run stored of the samples that the bundle brings is what the bundle says."""
    hidden = [(path, path.with_name(f"{path.name}-away")) for path in (run.folder, *data)]
    place = run.folder / "models" / part
    about = json.loads((place / "part.json").read_text())
    if about["estimates"]:
        estimates = read_estimates(place, "test")
        stored = dict(zip(estimates.names, estimates.values[:, None], strict=True))
    else:
        predictions = read_predictions(place, "test", tuple(about["classes"]))
        stored = dict(zip(predictions.names, predictions.probabilities, strict=True))
    for path, away in hidden:
        path.rename(away)
    try:
        with load_bundle(bundled.path) as bundle:
            samples = bundle.stored_samples()
            said = bundle.predict([sample.data for sample in samples])
    finally:
        for path, away in hidden:
            away.rename(path)
    expected = np.stack([stored[sample.name] for sample in samples])
    np.testing.assert_allclose(said.reshape(expected.shape), expected, rtol=0, atol=1e-4)
    if bundled.info.goal == "classification":
        truth = dict(zip(predictions.names, predictions.labels, strict=True))
        assert [s.label for s in samples] == [
            predictions.classes[truth[sample.name]] for sample in samples
        ]
        counts = np.unique([str(s.label) for s in samples], return_counts=True)[1]
        assert len(counts) == len(bundled.info.classes)
        assert counts.max() - counts.min() <= 1, "spread over the classes"


@pytest.mark.parametrize("part", ["probe", "swept", "tuned", "soft", "greedy"])
def test_pictures(studies: dict[str, RunResult], place: Path, part: str, tmp_path: Path) -> None:
    run = studies["photos"]
    done = bundle_run(run.folder, model=part, out=tmp_path / f"{part}.headstart", samples=6)
    assert (done.info.name, done.info.task) == (part, "image")
    (entry,) = [m for m in run.results["models"] if m["name"] == part]
    assert done.info.metrics["test"] == entry["metrics"]["test"]
    assert "train" not in done.info.metrics
    members = len([w for w in entry["ensemble"]["weights"] if w]) if entry["ensemble"] else 1
    assert len(done.info.backbones) == members
    same_as_in_the_run(run, part, done, [place / "photos"])


@pytest.mark.parametrize("part", ["probe", "albert"])
@pytest.mark.parametrize("way", ["single", "together", "separately"])
def test_texts_and_pairs(
    studies: dict[str, RunResult], place: Path, way: str, part: str, tmp_path: Path
) -> None:
    done = bundle_run(studies[way].folder, model=part, out=tmp_path / "b", samples=5)
    assert done.info.task == ("text" if way == "single" else "pair")
    # Neither the network's folder nor its tokenizer is there any more.
    same_as_in_the_run(studies[way], part, done, [place / "bert", place / "albert"])
    files = [p for p in done.path.rglob("*") if p.is_file() and p.suffix != ".safetensors"]
    everything = b"".join(path.read_bytes() for path in files)
    assert str(place.parent).encode() not in everything, "a folder of this machine"


def test_texts_on_a_language_model_of_another_run(
    studies: dict[str, RunResult], tmp_path: Path
) -> None:
    done = bundle_run(studies["after"].folder, out=tmp_path / "b")
    assert done.info.backbones[0]["name"] == "run:lstm"
    same_as_in_the_run(studies["after"], "probe", done, [studies["words"].folder])


def test_numbers(studies: dict[str, RunResult], tmp_path: Path) -> None:
    done = bundle_run(studies["numbers"].folder, out=tmp_path / "b")
    assert (done.info.goal, done.info.task) == ("regression", "sequence")
    same_as_in_the_run(studies["numbers"], "gru", done, [])
    with load_bundle(done.path) as bundle:
        assert all(isinstance(sample.label, float) for sample in bundle.stored_samples())


@pytest.mark.parametrize("version", [2, 3, 4])
def test_models_that_earlier_versions_saved(
    studies: dict[str, RunResult], version: int, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(studies["photos"].folder, tmp_path / "old"))
    path = folder / "models" / "tuned" / "model.json"
    record = json.loads(path.read_text())
    for key in ("options", "goal") if version == 2 else ():
        del record[key]
    if version < 4:
        del record["temperature"]
    path.write_text(json.dumps({**record, "format_version": version}))
    done = bundle_run(folder, model="tuned", out=tmp_path / "b")
    assert done.difference < 1e-4


@pytest.mark.parametrize(
    ("study", "model", "words"),
    [
        ("words", None, "a language model names no classes of a text: bundle a model that was"),
        ("photos", "chance", "says the same of every sample; these can be: probe, swept, tuned"),
        ("photos", "tund", "did you mean 'tuned'"),
    ],
)
def test_what_cannot_be_bundled_says_why(
    studies: dict[str, RunResult], study: str, model: str | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        bundle_run(studies[study].folder, model=model, out=tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_none_or_lost_its_model_or_data_says_so(
    studies: dict[str, RunResult], place: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="expected the folder of a finished run"):
        bundle_run(tmp_path, out=tmp_path / "b")
    folder = Path(shutil.copytree(studies["photos"].folder, tmp_path / "run"))
    (folder / "models" / "probe" / "model.json").rename(folder / "models" / "probe" / "away.json")
    with pytest.raises(RunError, match="the files of the model probe are not there"):
        bundle_run(folder, model="soft", out=tmp_path / "b")
    other = write_photos(tmp_path / "other", each=12, spread=10.0)
    with pytest.raises(RunError, match=r"expected the data that this run was made with.*--data"):
        bundle_run(folder, model="tuned", out=tmp_path / "b", data=str(other))
    moved = Path(shutil.copytree(place / "photos", tmp_path / "moved"))
    assert bundle_run(folder, model="tuned", out=tmp_path / "b", data=str(moved)).info.name == "b"


def test_weights_that_were_changed_since_the_run_are_noticed(
    studies: dict[str, RunResult], tmp_path: Path
) -> None:
    import safetensors.torch

    folder = Path(shutil.copytree(studies["photos"].folder, tmp_path / "run"))
    path = folder / "models" / "tuned" / "model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save({k: t * 1.5 for k, t in tensors.items()}))
    with pytest.raises(RunError, match="tuned says something else now than in the run"):
        bundle_run(folder, model="tuned", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_command_writes_the_recommended_model_and_says_what_comes_next(
    studies: dict[str, RunResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = studies["single"]
    out = tmp_path / "texts.headstart"
    monkeypatch.setattr("headstart.runs.bundling.check_in_clean_process", check_in_clean_process)
    monkeypatch.setattr(
        sys, "argv", ["headstart", "bundle", str(run.folder), "--out", str(out), "--samples", "3"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert f"next: headstart predict {out} INPUT" in printed
    info = verify_bundle(out)
    (entry,) = [
        m for m in run.results["models"] if m["name"] == run.results["recommendation"]["model"]
    ]
    assert info.title == f"Texts: {entry['title']}"
    assert len([name for name in info.raw["files"] if name.startswith("samples/0")]) == 3

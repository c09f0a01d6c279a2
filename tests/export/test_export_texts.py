"""`AutoModelForSequenceClassification` says what the bundle says, however its texts are pooled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exported_texts import PAIRS, SINGLE, write_text_bundle
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from headstart.backbones.base import TextOptions
from headstart.backbones.ragged import Pooling
from headstart.errors import ConfigError, EngineError
from headstart.export import export_library
from headstart.heads import HeadSpec
from headstart.predict import load_bundle

pytestmark = pytest.mark.usefixtures("one_thread")


@torch.inference_mode()
def said_by_library(folder: Path, texts: list[str] | list[tuple[str, str]]) -> torch.Tensor:
    """What a user of transformers gets, texts of different lengths in one batch."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    logits: torch.Tensor = model(**inputs).logits
    return logits


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        ("bert", "mean"),
        ("bert", "attention"),
        ("bert", "first"),
        ("bert", "pooler"),
        ("albert", "mean"),
        ("albert", "pooler"),
        ("roberta", "mean"),
        ("roberta", "pooler"),
        ("distilbert", "mean"),
        ("distilbert", "first"),
        ("electra", "mean"),
        ("electra", "first"),
        ("mpnet", "first"),
    ],
)
def test_the_library_says_the_same(tmp_path: Path, kind: str, pooling: Pooling) -> None:
    options = TextOptions(pooling=pooling)
    path = write_text_bundle(tmp_path, kind, text=options)
    with load_bundle(path) as bundle:
        expected = bundle.predict([text.encode() for text in SINGLE])
        found = export_library(bundle, tmp_path / "out", "transformers")
    assert found.samples == len(SINGLE)
    assert found.difference < 5e-5
    got = said_by_library(tmp_path / "out", SINGLE).softmax(dim=1).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-5)
    assert np.ptp(expected, axis=0).max() > 0.001  # not the same for all texts
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    added = [note for note in found.notes if "one layer was added" in note]
    assert bool(added) == (pooling in ("mean", "attention"))


def test_pairs_of_texts_in_one_sequence(tmp_path: Path) -> None:
    path = write_text_bundle(tmp_path, text=TextOptions(pairs="together"))
    with load_bundle(path) as bundle:
        export_library(bundle, tmp_path / "out", "transformers")
        expected = [sample.probabilities for sample in bundle.stored_samples()]
    got = said_by_library(tmp_path / "out", PAIRS).softmax(dim=1).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-5)


def test_a_regression_and_a_head_that_normalises(tmp_path: Path) -> None:
    path = write_text_bundle(tmp_path, goal="regression", head=HeadSpec(normalization="batch"))
    with load_bundle(path) as bundle:
        found = export_library(bundle, tmp_path / "out", "transformers")
        expected = bundle.predict([text.encode() for text in SINGLE])
    assert found.difference < 5e-5
    got = said_by_library(tmp_path / "out", SINGLE)[:, 0].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("kind", "options", "head", "words"),
    [
        ("bert", TextOptions(pairs="separately"), HeadSpec(), "pairs: together"),
        ("bert", TextOptions(pooling="max"), HeadSpec(), "pooling: first"),
        ("mpnet", TextOptions(pooling="mean"), HeadSpec(), "pooling: first"),
        ("bert", TextOptions(), HeadSpec(hidden=(4,)), "1 hidden layer"),
    ],
)
def test_what_no_class_computes_is_refused_and_nothing_is_left(
    tmp_path: Path, kind: str, options: TextOptions, head: HeadSpec, words: str
) -> None:
    path = write_text_bundle(tmp_path, kind, text=options, head=head)
    with load_bundle(path) as bundle, pytest.raises(ConfigError, match=words):
        export_library(bundle, tmp_path / "out" / "model", "transformers")
    assert not list((tmp_path / "out").iterdir())


def test_weights_that_say_something_else_are_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.export import libraries

    path = write_text_bundle(tmp_path)
    save = libraries._save

    def other(place: Path, state: dict[str, torch.Tensor]) -> None:
        save(place, {key: value * 1.01 for key, value in state.items()})

    monkeypatch.setattr(libraries, "_save", other)
    with load_bundle(path) as bundle, pytest.raises(EngineError, match="nothing was written"):
        export_library(bundle, tmp_path / "out", "transformers")
    assert not (tmp_path / "out").exists()

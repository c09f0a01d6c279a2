"""Weights of words: known sums, planted words, and words that nobody reads."""

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from explained_bundles import WORDS, Told, Torch, chain, text_spec
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headstart.backbones.ragged import Pool
from headstart.backbones.recurrent import RecurrentLayer, RecurrentSpec
from headstart.backbones.recurrent_stages import EmbeddingStage, recurrent_stages
from headstart.data.text import decode_text, pair_bytes, pair_of
from headstart.errors import DataError
from headstart.predict.explain import explain_sample, explanations
from headstart.predict.integrated import integrated_gradients
from headstart.predict.occlusion import words_of
from headstart.types import FloatArray, TextSpec

pytestmark = pytest.mark.usefixtures("one_thread")

PARTS = {"good": 2.0, "great": 1.0, "bad": -3.0}


def sums(text: str) -> float:
    return sum(PARTS.get(word.strip(".,!").lower(), 0.0) for word in text.split())


def judge(spec: TextSpec, most: int = 1000) -> Told:
    """A model whose log odds are the sum of its words' parts, of the first `most` words."""

    def prepare(data: bytes) -> FloatArray:
        texts = [decode_text(data)[0]] if spec.pairs == "single" else pair_of(data)
        words = " ".join(texts).split()[:most]
        if not words:
            raise DataError("there is no word in it")
        return np.array([[PARTS.get(w.strip(".,!").lower(), 0.0), 1] for w in words], np.float32)

    return Told(spec, lambda row: float(row[:, 0].sum()), prepare)


def gru(spec: TextSpec, seed: int = 0) -> Torch:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = RecurrentSpec("gru", len(WORDS), 8, 6)
        layers = nn.ModuleList(RecurrentLayer("gru", i, o) for i, o in shape.widths())
        table = nn.Embedding(len(WORDS), 8)
    separately = spec.pairs == "separately"
    stages = recurrent_stages(shape, layers, table, pooling="mean", separately=separately)
    return Torch(chain(spec, *stages), ("yes", "no"))


def weights(found: dict[str, object]) -> dict[str, float]:
    return {word["text"]: word["weight"] for word in found["words"]}  # type: ignore[attr-defined]


@given(st.text(max_size=60))
def test_words_are_everything_but_the_white_space(text: str) -> None:
    words = words_of(text)
    assert "".join(word.text for word in words) == "".join(text.split())
    assert all(text[word.start : word.end] == word.text for word in words)
    assert all(a.end <= b.start for a, b in itertools.pairwise(words))


def test_scripts_without_spaces_are_read_sign_by_sign() -> None:
    assert [w.text for w in words_of("很好 film,您 don't")] == ["很", "好", "film,", "您", "don't"]


def test_words_weigh_what_their_absence_changes() -> None:
    text = "A 😀 good, great thing with one bad side."
    bundle = judge(text_spec())
    found = explain_sample(bundle, text.encode(), label="yes")
    assert found["method"] == "occlusion"
    assert weights(found) == pytest.approx(
        {"A": 0, "😀": 0, "good,": 2 / 3, "great": 1 / 3, "thing": 0, "with": 0, "one": 0}
        | {"bad": -1, "side.": 0},
        abs=1e-3,
    )
    assert found["scale"] == pytest.approx(3, rel=1e-3)
    assert found["text"] == text
    assert all(text[word["start"] : word["end"]] == word["text"] for word in found["words"])
    # Of the other class the signs are the other way round.
    other = weights(explain_sample(bundle, text.encode(), label="no"))
    assert other["bad"] == 1
    assert other["good,"] < 0


def test_of_a_long_text_several_words_are_left_out_at_a_time() -> None:
    words = ["so"] * 300
    words[123] = "good"
    bundle = judge(text_spec())
    found = explain_sample(bundle, " ".join(words).encode())
    assert found["window"] == 5
    marked = [i for i, word in enumerate(found["words"]) if word["weight"] > 0.5]
    assert marked == [120, 121, 122, 123, 124]
    assert bundle.asked <= 2 + 64


def test_words_that_are_not_read_are_said_to_be_unseen() -> None:
    bundle = judge(text_spec(), most=20)
    text = " ".join(["so"] * 10 + ["good"] + ["so"] * 9 + ["bad"] * 5)
    words = explain_sample(bundle, text.encode())["words"]
    assert [word["seen"] for word in words] == [True] * 20 + [False] * 5
    assert [word["weight"] for word in words[20:]] == [0] * 5
    assert max(range(25), key=lambda i: words[i]["weight"]) == 10


def test_what_hardly_matters_is_not_shown_as_if_it_did() -> None:
    bundle = Told(
        text_spec(),
        lambda row: float(row.sum()),
        lambda data: np.array([[0.001 * (w == "good")] for w in data.decode().split()], np.float32),
    )
    assert abs(weights(explain_sample(bundle, b"a good day"))["good"]) < 0.02


def test_a_text_of_one_word_and_one_of_none() -> None:
    bundle = judge(text_spec())
    assert weights(explain_sample(bundle, b"good")) == {"good": 0}
    for empty in (b"", b" \n "):
        with pytest.raises(DataError, match="no word"):
            explain_sample(bundle, empty)


def test_markup_is_left_out_where_the_model_leaves_it_out() -> None:
    found = explain_sample(
        judge(text_spec(strip_markup=True)), b"A good<br /><br />film &amp; more"
    )
    assert found["text"] == "A good film & more"
    assert [word["text"] for word in found["words"]] == ["A", "good", "film", "&", "more"]


@pytest.mark.parametrize("pairs", ["together", "separately"])
def test_both_texts_of_a_pair_have_weights(pairs: Literal["together", "separately"]) -> None:
    bundle = judge(text_spec(pairs=pairs))
    found = explain_sample(bundle, pair_bytes("a good day", "a bad day"), label="yes")
    assert found["texts"] == ["a good day", "a bad day"]
    told = {(word["side"], word["text"]): word["weight"] for word in found["words"]}
    assert told[1, "good"] > 0 > told[2, "bad"]
    assert told[1, "a"] == told[2, "a"] == 0


def test_integrated_gradients_of_a_linear_network_are_each_words_own_part() -> None:
    spec = text_spec()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        table = nn.Embedding(len(WORDS), 8)
    linear = chain(spec, ("embeddings", EmbeddingStage(table, 0.0)), ("pooled", Pool("mean", 8)))
    bundle = Torch(linear, ("yes", "no"))
    text = "w7 w9 w7 w21"
    row = bundle.prepare(text.encode())
    found = integrated_gradients(bundle.inside, row, [text], words_of(text), 1)
    weight = bundle.inside.head.layers[0].weight[0, 1]
    with torch.no_grad():
        of_word = (table.weight - table.weight[WORDS.index("[MASK]")]) @ weight / len(row)
    expected = [float(of_word[WORDS.index(word)]) for word in text.split()]
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pairs", ["single", "together", "separately"])
def test_integrated_gradients_add_up_to_the_difference_of_the_logits(
    pairs: Literal["single", "together", "separately"],
) -> None:
    spec = text_spec(20, pairs)
    bundle = gru(spec)
    texts = ["w7 w9, w21 w5"] if pairs == "single" else ["w7 w9, w21", "w6 w29"]
    row = bundle.prepare(texts[0].encode() if pairs == "single" else pair_bytes(*texts))
    masked = row.copy()
    masked[~np.isin(row[:, 0], [2, 3]), 0] = WORDS.index("[MASK]")
    words = [word for side, text in enumerate(texts) for word in words_of(text, side)]
    # |u - v| of two texts read separately has corners, where a sum of few terms is less exact.
    rough = 0.05 if pairs == "separately" else 1e-3
    for output in (0, 1):
        found = integrated_gradients(bundle.inside, row, texts, words, output)
        both = torch.from_numpy(np.stack([row, masked]))
        logits = bundle.inside.logits(both, "input").detach()[:, output]
        assert found is not None
        assert abs(float(logits[0] - logits[1])) > 1e-3
        assert found.sum() == pytest.approx(float(logits[0] - logits[1]), rel=rough, abs=1e-5)
        assert (found != 0).all()


def test_a_long_text_takes_integrated_gradients_and_counts_only_what_is_read() -> None:
    bundle = gru(text_spec(100))
    assert explanations(bundle) == ("occlusion", "integrated-gradients")
    text = " ".join(WORDS[5 + i % 25] for i in range(150))
    found = explain_sample(bundle, text.encode())
    assert found["method"] == "integrated-gradients"
    assert [word["seen"] for word in found["words"]] == [True] * 98 + [False] * 52
    assert not any(word["weight"] for word in found["words"][98:])
    assert explain_sample(bundle, text.encode(), method="occlusion")["method"] == "occlusion"
    short = explain_sample(bundle, b"w7 w9", method="integrated-gradients")
    assert short["method"] == "integrated-gradients"
    assert short["unit"] == "logit"


def test_without_a_neutral_token_words_are_left_out_instead() -> None:
    spec = text_spec()
    bare = spec.tokenizer
    for token in ("[MASK]", "[PAD]", "[UNK]"):
        bare = bare.replace(token, f"x{token[1:-1]}x")
    bundle = gru(TextSpec(bare, spec.max_length))
    assert explain_sample(bundle, b"w7 w9", method="integrated-gradients")["method"] == "occlusion"

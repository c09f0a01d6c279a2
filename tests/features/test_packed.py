"""Encoders rewritten for the CPU: the same features, from texts without what fills them up."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from headstart.backbones.base import Backbone, SeriesOptions, TextOptions
from headstart.backbones.registry import load_backbone
from headstart.backbones.transformers_stages import Layer
from headstart.features.engine_torch import TorchEngine
from headstart.features.graph import frozen_copy
from headstart.features.lengths import Ladder
from headstart.features.packed import packed
from headstart.features.sequences import each_by_itself
from headstart.types import FloatArray

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LONGEST = 100
LENGTHS = (100, 65, 64, 3, 71, 40, 9, 1, 66)
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": LONGEST + 2,
    "vocab_size": 30,
    "initializer_range": 0.5,
}
KINDS = {
    "bert": transformers.BertConfig,
    "roberta": transformers.RobertaConfig,
    "electra": transformers.ElectraConfig,
}


def network(folder: Path, kind: str, pairs: str = "single") -> Backbone:
    """Return an encoder with large random weights, vectors included."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = KINDS.get(kind, transformers.AlbertConfig)(**SIZES)
        model = transformers.AutoModel.from_config(config).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=float("norm" in name.lower()), std=0.3)
    model.save_pretrained(folder)
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(4, 30))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))
    options = TextOptions(max_length=LONGEST, pairs=pairs)  # type: ignore[arg-type]
    return load_backbone(f"transformers/{folder}", text=options)


def tokens(pairs: bool = False) -> FloatArray:
    random = np.random.default_rng(0)
    batch = np.zeros((len(LENGTHS), LONGEST, 2), np.float32)
    for row, length in zip(batch, LENGTHS, strict=True):
        row[:length, 0] = random.integers(4, 30, length)
        row[:length, 1] = 1
        if pairs:
            row[length // 2 : length, 1] = 2
    return batch


def library(backbone: Backbone, cut: str, batch: FloatArray) -> list[FloatArray]:
    """Return what the library's layers give for each text alone."""
    with torch.no_grad():
        prefix = backbone.prefix(cut)
        return [
            prefix(torch.from_numpy(row[None, :length]))[0].numpy()
            for row, length in zip(batch, LENGTHS, strict=True)
        ]


@pytest.mark.parametrize("kind", [*KINDS, "albert"])
@pytest.mark.parametrize("cut", ["layer.1", "pooled"])
def test_an_engine_gives_what_the_library_gives_for_each_text_alone(
    tmp_path: Path, kind: str, cut: str
) -> None:
    backbone, batch = network(tmp_path, kind), tokens()
    found = TorchEngine(backbone, cut, CPU).run(batch)
    for row, expected in zip(found, library(backbone, cut, batch), strict=True):
        got = row
        if cut != "pooled":
            assert not row[len(expected) :].any()
            got = row[: len(expected)]
        # Additions in another order: a few units in the last place of the largest number.
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_texts_of_a_pair_that_never_see_each_other_do_not_see_each_other_packed(
    tmp_path: Path,
) -> None:
    backbone, batch = network(tmp_path, "bert", "separately"), tokens(pairs=True)
    found = TorchEngine(backbone, "pooled", CPU).run(batch)
    expected = np.stack(library(backbone, "pooled", batch))
    # Products of two means among them.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("cut", ["layer.1", "pooled"])
def test_a_text_is_the_same_whatever_fills_up_the_batch_and_whoever_is_beside_it(
    tmp_path: Path, cut: str
) -> None:
    engine, batch = TorchEngine(network(tmp_path, "bert"), cut, CPU), tokens()
    whole = engine.run(batch)
    for some in ([3], [7, 3], [6, 5, 7], [1, 8], [2, 0, 3]):
        length = max(LENGTHS[i] for i in some)
        found = engine.run(np.ascontiguousarray(batch[some, :length]))
        expected = whole[some] if cut == "pooled" else whole[some, :length]
        np.testing.assert_array_equal(found, expected)


def test_it_goes_on_from_stored_activations_as_from_tokens(tmp_path: Path) -> None:
    backbone, batch = network(tmp_path, "bert"), tokens()
    middle = TorchEngine(backbone, "layer.0", CPU).run(batch)
    found = TorchEngine(backbone, "pooled", CPU, start="layer.0").run(middle)
    expected = TorchEngine(backbone, "pooled", CPU).run(batch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_layers_of_berts_kind_are_packed_and_what_is_not_stays_as_it_is(tmp_path: Path) -> None:
    bert, albert = network(tmp_path / "bert", "bert"), network(tmp_path / "albert", "albert")
    stages = frozen_copy(bert, "pooled")
    rewritten = packed(stages, 2)
    assert not any(isinstance(stage, Layer) for stage in rewritten)
    assert len(rewritten) == 3  # embeddings, all layers, pooling
    other = frozen_copy(albert, "pooled")
    assert packed(other, 2) is other
    embeddings = frozen_copy(bert, "embeddings")
    assert packed(embeddings, 2) is embeddings
    # Of BERT's build, and yet another function: nobody is given other features for speed's sake.
    scaled = frozen_copy(bert, "pooled")
    for layer in scaled:
        if isinstance(layer, Layer):
            layer.register_forward_hook(lambda *given: given[-1] * 1.01)
    assert packed(scaled, 2) is scaled


@pytest.mark.parametrize("start", ["input", "embeddings", "layer.0"])
def test_attention_of_another_kind_is_left_alone_wherever_it_goes_on_from(
    tmp_path: Path, start: str
) -> None:
    # As an attention that knows distances: the same where all tokens are, and not otherwise.
    bert = network(tmp_path, "bert")
    stages = frozen_copy(bert, "pooled", start)
    for stage in stages:
        if isinstance(stage, Layer):
            query = stage.layer.attention.self.query
            query.register_forward_hook(lambda *given: given[-1] - given[-1].mean(1, keepdim=True))
    assert packed(stages, bert.shape(start)[-1]) is stages


def test_only_what_reads_all_steps_at_once_takes_sequences_one_by_one(tmp_path: Path) -> None:
    options = SeriesOptions(channels=1, max_length=LONGEST, hidden=8)
    recurrent = load_backbone("headstart/gru", weights="random", series=options)
    assert not TorchEngine(recurrent, "pooled", CPU).alone
    engine = TorchEngine(network(tmp_path, "bert"), "pooled", CPU)
    assert engine.alone
    assert engine.sequences_at_once(65) < engine.sequences_at_once(64)


def test_long_sequences_come_alone_and_short_ones_always_with_as_many() -> None:
    seen: list[tuple[int, ...]] = []

    def run(part: FloatArray) -> FloatArray:
        seen.append(part.shape)
        sums: FloatArray = part[..., 0].sum(axis=1, keepdims=True)
        return sums

    batch = tokens()
    found = each_by_itself(run, batch, LONGEST, map)
    np.testing.assert_array_equal(found[:, 0], batch[..., 0].sum(axis=1))
    long = [(1, n, 2) for n in (100, 71, 66, 65)]
    assert seen == [*long, (16, 64, 2), (25, 40, 2), (64, 16, 2), (64, 8, 2)]
    empty = each_by_itself(run, np.zeros((2, 5, 2), np.float32), 5, map)
    assert empty.shape == (2, 1)
    assert seen[-1] == (64, 5, 2)  # no longer than the network reads


def test_all_that_come_alone_are_one_group_by_falling_length() -> None:
    measured = Ladder(np.array([8, 96, 64, 128, 96]))
    assert {k: v.tolist() for k, v in measured.groups(64).items()} == {
        128: [3, 1, 4],
        64: [2],
        8: [0],
    }
    assert list(measured.groups()) == [128, 96, 64, 8]
    assert list(Ladder(np.array([8, 16])).groups(64)) == [16, 8]

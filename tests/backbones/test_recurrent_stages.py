"""Recurrent networks as backbones: cuts, padding, pairs, files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from headstart.backbones import ragged
from headstart.backbones.base import INPUT, POOLED, example_input
from headstart.backbones.chain import Chain
from headstart.backbones.recurrent import LanguageNetwork, RecurrentSpec
from headstart.backbones.recurrent_sampling import readable, sample_text
from headstart.backbones.recurrent_saved import (
    build_saved,
    load_language_model,
    save_language_model,
)
from headstart.backbones.recurrent_stages import build_series
from headstart.errors import ConfigError, WeightsError
from headstart.types import SeriesSpec, TextSpec

WORDS = ("<unk>", "<eos>", *(f"w{i}" for i in range(18)))
SPEC = RecurrentSpec("lstm", len(WORDS), 6, 8, layers=2, tied=True)
CELLS = ("elman", "gru", "lstm")


def tokenizer(words: tuple[str, ...] = WORDS) -> str:
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made.to_str()


def language(spec: RecurrentSpec = SPEC) -> LanguageNetwork:
    torch.manual_seed(5)
    network = LanguageNetwork(spec)
    # Larger weights than a training begins with, so that every part of an input shows.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network.eval()


def saved(folder: Path, spec: RecurrentSpec = SPEC) -> Path:
    about = {"origin": "a language model of 3 lines", "perplexity": {"test": 12.5}}
    save_language_model(folder, language(spec), tokenizer(), about)
    return folder


def chain(folder: Path, **options) -> Chain:
    return Chain("run:r/m", build_saved("run:r/m", folder, **options))


def tokens(*samples: tuple[list[int], list[int]], length: int = 0) -> torch.Tensor:
    """Make a batch of samples, each of a first and a second text."""
    longest = max(length, *(len(a) + len(b) for a, b in samples))
    out = torch.zeros(len(samples), longest, 2)
    for row, (a, b) in zip(out, samples, strict=True):
        row[: len(a) + len(b), 0] = torch.tensor([*a, *b], dtype=torch.float32)
        row[: len(a) + len(b), 1] = torch.tensor([1.0] * len(a) + [2.0] * len(b))
    return out


PAIRS = (([4, 5, 6, 7], [8, 9]), ([10], [11, 12, 13]), ([3, 3], [2]))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pairs", ["single", "separately"])
def test_suffix_of_prefix_is_the_whole_at_every_cut(tmp_path: Path, cell, pairs) -> None:
    backbone = chain(saved(tmp_path, replace(SPEC, cell=cell)), pairs=pairs, max_length=9)
    assert backbone.stages == ("embeddings", "layer.0", "layer.1", "pooled")
    x = tokens(*(PAIRS if pairs == "separately" else [(a + b, []) for a, b in PAIRS]))
    whole = backbone.prefix(POOLED)(x)
    assert whole.shape == (3, *backbone.shape(POOLED))
    assert backbone.shape(POOLED) == ((24,) if pairs == "separately" else (6,))
    assert backbone.shape("layer.0") == (18 if pairs == "separately" else 9, 9)
    for cut in (INPUT, *backbone.stages):
        suffix = backbone.suffix(cut).eval()
        # Not bit by bit: where a tensor lies in memory decides how its sums are ordered.
        torch.testing.assert_close(suffix(backbone.prefix(cut)(x)), whole, rtol=1e-5, atol=1e-6)
        assert backbone.ragged(cut) == (cut != POOLED)


@pytest.mark.parametrize("pairs", ["single", "separately"])
@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last", "attention"])
def test_padding_and_company_change_nothing(tmp_path: Path, pairs, pooling) -> None:
    backbone = chain(saved(tmp_path), pairs=pairs, pooling=pooling)
    samples = PAIRS if pairs == "separately" else [(a + b, []) for a, b in PAIRS]
    together = backbone.prefix(POOLED)(tokens(*samples, length=13))
    alone = torch.cat([backbone.prefix(POOLED)(tokens(one)) for one in samples])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    for cut in ("embeddings", "layer.1"):
        values = backbone.prefix(cut)(tokens(*samples, length=13))
        assert torch.equal(values[1, 4:], torch.zeros_like(values[1, 4:]))


def test_texts_of_a_pair_are_read_each_by_itself(tmp_path: Path) -> None:
    saved(tmp_path)
    pairs = chain(tmp_path, pairs="separately").prefix(POOLED)
    single = chain(tmp_path).prefix(POOLED)
    got = pairs(tokens(*PAIRS))
    u = torch.cat([single(tokens((a, []))) for a, _ in PAIRS])
    v = torch.cat([single(tokens((b, []))) for _, b in PAIRS])
    expected = torch.cat([u, v, (u - v).abs(), u * v], dim=1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_the_last_layer_says_what_the_language_model_computes(tmp_path: Path) -> None:
    saved(tmp_path)
    network = language()
    z = torch.tensor([[4, 5, 6], [9, 8, 7]])
    hidden = chain(tmp_path).prefix("layer.1")(tokens(([4, 5, 6], []), ([9, 8, 7], [])))
    values, _ = ragged.split(hidden)
    torch.testing.assert_close(network.decoder(values).flatten(0, 1), network(z)[0])


def test_the_example_of_the_largest_input_goes_through(tmp_path: Path) -> None:
    backbone = chain(saved(tmp_path), pairs="separately", max_length=4)
    x = example_input(backbone.input_spec, 2, torch.device("cpu"))
    assert backbone.prefix(POOLED)(x).shape == (2, 24)


def test_dropout_is_on_the_trained_side_of_a_cut(tmp_path: Path) -> None:
    shares = {"dropout_words": 0.4, "dropout_hidden": 0.4, "dropout_weight": 0.4}
    backbone = chain(saved(tmp_path, replace(SPEC, **shares)))
    x = tokens(*[(a + b, []) for a, b in PAIRS])
    z = backbone.prefix("layer.0")(x)
    assert torch.equal(z, backbone.prefix("layer.0")(x))  # frozen: nothing is drawn
    suffix = backbone.suffix("layer.0").train()
    assert not torch.equal(suffix(z), suffix(z))
    suffix.eval()
    assert torch.equal(suffix(z), backbone.between("layer.0", POOLED)(z))


def test_clones_are_independent_and_digests_follow_the_weights(tmp_path: Path) -> None:
    backbone = chain(saved(tmp_path))
    copy = backbone.clone()
    assert copy.digests() == backbone.digests()
    with torch.no_grad():
        copy.modules("layer.0", "layer.1")[0][1].layer.weight_hh.add_(1)
    assert copy.digest("layer.0") == backbone.digest("layer.0")
    assert copy.digest("layer.1") != backbone.digest("layer.1")
    assert chain(tmp_path, pooling="mean").digest(POOLED) != backbone.digest(POOLED)
    assert chain(tmp_path, pairs="separately").digest("layer.0") != backbone.digest("layer.0")


def test_a_saved_model_is_the_same_model_and_cites_its_training(tmp_path: Path) -> None:
    network, found = language(), load_language_model(saved(tmp_path))
    z = torch.tensor([[4, 5, 6]])
    again = found.network()
    assert torch.equal(again(z), network(z))
    assert again.decoder.weight is again.embedding.weight
    assert not again.training
    assert found.about["perplexity"] == {"test": 12.5}
    backbone = chain(tmp_path, strip_markup=True, max_length=30)
    assert backbone.weights.kind == "pretrained"
    assert backbone.weights.origin.startswith("a language model of 3 lines (sha256 ")
    assert backbone.input_spec == TextSpec(tokenizer(), 30, "single", strip_markup=True)
    assert backbone.parameters_total == sum(p.numel() for p in network.parameters())


def test_random_weights_are_the_same_architecture_and_follow_the_seed(tmp_path: Path) -> None:
    saved(tmp_path)
    own = chain(tmp_path)
    a, b, c = (chain(tmp_path, weights="random", seed=seed) for seed in (1, 1, 2))
    assert a.weights.kind == "random"
    assert a.digests() == b.digests()
    assert a.digests() != c.digests()
    assert a.digest(INPUT) == own.digest(INPUT)  # the architecture
    assert a.digest(POOLED) != own.digest(POOLED)
    before = torch.random.get_rng_state()
    chain(tmp_path, weights="random", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_damage_and_impossible_wishes_are_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected a language model \(language.json\)"):
        load_language_model(tmp_path)
    saved(tmp_path)
    with pytest.raises(ConfigError, match="expected 'separately', got 'together'"):
        chain(tmp_path, pairs="together")
    with pytest.raises(ConfigError, match=r"'pretrained' .* or 'random', got 'x.pth'"):
        chain(tmp_path, weights="x.pth")
    with pytest.raises(ConfigError, match="max_length: expected at least 1"):
        chain(tmp_path, max_length=0)
    record = json.loads((tmp_path / "language.json").read_text())
    (tmp_path / "language.json").write_text(json.dumps({**record, "format_version": 9}))
    with pytest.raises(WeightsError, match="expected version 1, got 9"):
        load_language_model(tmp_path)
    spec = {**record["spec"], "hidden": 9}
    (tmp_path / "language.json").write_text(json.dumps({**record, "spec": spec}))
    with pytest.raises(WeightsError, match=r"belong to another network: .* misshapen"):
        load_language_model(tmp_path)
    (tmp_path / "language.json").write_text(json.dumps({**record, "spec": {"cell": "gru"}}))
    with pytest.raises(WeightsError, match="spec: expected"):
        load_language_model(tmp_path)
    (tmp_path / "language.json").write_text(json.dumps(record))
    data = bytearray((tmp_path / "language.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "language.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=r"language\.safetensors does not fit its checksum"):
        load_language_model(tmp_path)


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    save_language_model(tmp_path, language(), tokenizer(WORDS[:-1]), {})
    with pytest.raises(WeightsError, match="the tokenizer has 19 words, and the network 20"):
        load_language_model(tmp_path)


@pytest.mark.parametrize("cell", CELLS)
def test_series_are_read_to_their_last_step(cell) -> None:
    network = build_series(cell, 2, 7, hidden=5, layers=2, seed=4)
    backbone = Chain(f"headstart/{cell}", network)
    assert backbone.input_spec == SeriesSpec(2, 7)
    assert backbone.stages == ("layer.0", "layer.1", "pooled")
    assert backbone.shape(POOLED) == (5,)
    rng = np.random.default_rng(0)
    x = torch.zeros(2, 7, 3)
    for row, length in zip(x, (3, 7), strict=True):
        row[:length, :2] = torch.from_numpy(rng.random((length, 2), dtype=np.float32))
        row[:length, 2] = 1
    made = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    library = made(2, 5, 2, batch_first=True)
    for i, (_, stage) in enumerate(backbone.modules(INPUT, "layer.1")):
        for name, value in stage.layer.named_parameters():
            getattr(library, f"{name}_l{i}").data.copy_(value.data)
    # torch's packed batches stop at each sample's own end.
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x[..., :2], torch.tensor([3, 7]), batch_first=True, enforce_sorted=False
    )
    state = library(packed)[1]
    last = (state[0] if cell == "lstm" else state)[-1]
    torch.testing.assert_close(backbone.prefix(POOLED)(x), last)
    again = Chain(f"headstart/{cell}", build_series(cell, 2, 7, hidden=5, layers=2, seed=4))
    assert again.digests() == backbone.digests()


def test_impossible_series_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_length: expected at least 1"):
        build_series("gru", 1, 0, hidden=4)
    with pytest.raises(ConfigError, match="hidden: expected at least 1"):
        build_series("gru", 1, 5, hidden=0)


def test_samples_are_seeded_and_leave_the_model_as_it_was() -> None:
    network = language().train()
    z = torch.tensor([[4, 5, 6]])
    network(z)
    carried = network.random_state()
    first = sample_text(network, WORDS, seed=1, words=30, start="w3 w4")
    assert first == sample_text(network, WORDS, seed=1, words=30, start="w3 w4")
    assert first != sample_text(network, WORDS, seed=2, words=30, start="w3 w4")
    assert first.startswith("w3 w4")
    assert "<unk>" not in first
    assert network.training
    for name, state in network.random_state().items():
        assert torch.equal(state, carried[name])
    likely = sample_text(network, WORDS, seed=1, words=12, temperature=0)
    assert likely == sample_text(network, WORDS, seed=2, words=12, temperature=0)
    with pytest.raises(ConfigError, match="temperature >= 0"):
        sample_text(network, WORDS, seed=1, temperature=-1)


def test_samples_follow_the_models_probabilities() -> None:
    network = language()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        network.decoder.bias[:] = -1e4
        network.decoder.bias[[2, 3]] = torch.tensor([3.0, 1.0]).log()
    text = sample_text(network, WORDS, seed=0, words=400).split()
    assert set(text) == {"w0", "w1"}
    assert text.count("w0") / 400 == pytest.approx(0.75, abs=0.07)
    with torch.no_grad():
        network.decoder.bias[0] = 1e4
    assert set(sample_text(network, WORDS, seed=0, words=9).split()) == {"w0", "w1"}
    assert "<unk>" in sample_text(network, WORDS, seed=0, words=9, unknown=True)


def test_words_become_text_as_people_write_it() -> None:
    words = "The well @-@ known ship ( 1 @,@ 000 t ) can 't , \" he said \" . <eos> <eos> It 's 5 !"
    assert readable(words.split()) == (
        "The well-known ship (1,000 t) can't, \"he said\".\n\nIt's 5!"
    )

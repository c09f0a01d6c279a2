"""What every backbone that reads texts promises, against the library's own model."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from headstart.backbones.base import INPUT, Backbone, TextOptions
from headstart.backbones.parts import shared_stages
from headstart.backbones.registry import load_backbone
from headstart.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "vocab_size": 30,
    # Large enough that each part moves the result: with the usual 0.02 all tokens look alike.
    "initializer_range": 0.5,
}
DISTILBERT = {
    "dim": 16,
    "n_layers": 3,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": 40,
    "vocab_size": 30,
    "initializer_range": 0.5,
}
ROBERTA = {**SIZES, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


@dataclass(frozen=True)
class Case:
    """A configuration of the library and how its network is cut."""

    config: transformers.PretrainedConfig
    layers: int = 3  # 0: in one piece
    typed: bool = True  # whether it tells two texts in one sequence apart
    pooler: bool = True

    @property
    def kind(self) -> str:
        return str(self.config.model_type)


CASES = (
    Case(transformers.BertConfig(**SIZES)),
    Case(transformers.RobertaConfig(**ROBERTA, type_vocab_size=1), typed=False),
    Case(transformers.DistilBertConfig(**DISTILBERT), typed=False, pooler=False),
    Case(transformers.AlbertConfig(**SIZES, embedding_size=8)),
    Case(transformers.ElectraConfig(**SIZES, embedding_size=8), pooler=False),
    # Their layers look at distances between tokens: they stay in one piece.
    Case(transformers.MPNetConfig(**ROBERTA), layers=0, typed=False),
    Case(transformers.DebertaV2Config(**SIZES), layers=0, typed=False, pooler=False),
)

Pair = tuple[list[int], list[int]]
# Ids of tokens without the special ones; the last sample is one long text and a short one.
PAIRS: tuple[Pair, ...] = (
    ([5, 6, 7, 8, 9], [10, 11]),
    ([12], [13, 14, 15, 16]),
    ([20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 5, 6], [17]),
)


@dataclass(frozen=True)
class Subject:
    """A saved model, the library's own object of it, and its case."""

    case: Case
    folder: Path
    model: Any

    def load(self, **options: Any) -> Backbone:
        return load_backbone(f"transformers/{self.folder}", text=TextOptions(**options))

    def hidden(self, ids: list[int], types: list[int] | None = None) -> torch.Tensor:
        """Return the library's vectors of one sequence, without padding."""
        inputs = {"input_ids": torch.tensor([ids])}
        if types is not None and self.case.typed:
            inputs["token_type_ids"] = torch.tensor([types])
        with torch.no_grad():
            return cast(torch.Tensor, self.model(**inputs).last_hidden_state[0])


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.kind)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    case = cast(Case, request.param)
    folder = tmp_path_factory.mktemp(case.kind)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = transformers.AutoModel.from_config(case.config).eval()
        for name, parameter in model.named_parameters():  # biases begin at zero, norms at one
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=float("norm" in name.lower()), std=0.3)
    model.save_pretrained(folder)
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *(f"w{i}" for i in range(5, 30))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))
    return Subject(case, folder, model)


def batch(samples: list[list[tuple[int, int]]], extra: int = 0) -> torch.Tensor:
    """Return samples of (id, segment) as one tensor, filled up with zeros."""
    length = max(len(sample) for sample in samples) + extra
    x = torch.zeros(len(samples), length, 2)
    for row, sample in enumerate(samples):
        x[row, : len(sample)] = torch.tensor(sample, dtype=torch.float32)
    return x


def together(pair: Pair) -> list[tuple[int, int]]:
    first, second = ([0, *pair[0], 2], [*pair[1], 2])
    return [(i, 1) for i in first] + [(i, 2) for i in second]


def separately(pair: Pair) -> list[tuple[int, int]]:
    return [(i, s) for s, text in enumerate(pair, start=1) for i in (0, *text, 2)]


def single(pair: Pair) -> list[tuple[int, int]]:
    return [(i, 1) for i in (0, *pair[0], 2)]


SINGLES = batch([single(pair) for pair in PAIRS])


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)


def test_stages_are_embeddings_layers_and_pooled(subject: Subject) -> None:
    layers = [f"layer.{i}" for i in range(subject.case.layers)]
    expected = ["embeddings", *layers, "pooled"] if layers else ["encoder", "pooled"]
    assert list(subject.load().stages) == expected
    own = sum(p.numel() for p in subject.model.parameters())
    assert subject.load().parameters_total == own


def test_every_cut_gives_what_the_whole_gives(subject: Subject) -> None:
    backbone = subject.load(pairs="together")
    x = batch([together(pair) for pair in PAIRS], extra=2)
    whole = backbone.prefix("pooled")(x)
    for cut in (INPUT, *backbone.stages):
        z = backbone.between(INPUT, cut)(x)
        before = z.clone()
        with torch.no_grad():
            assert torch.equal(backbone.suffix(cut)(z), whole), cut
        assert torch.equal(z, before), f"the suffix after {cut} writes over cached activations"
    for first, second in itertools.pairwise((INPUT, *backbone.stages)):
        ((name, _),) = backbone.modules(first, second)
        assert name == second


def test_vectors_are_those_of_the_library_with_padding_or_without(subject: Subject) -> None:
    backbone = subject.load(pairs="together")
    for extra in (0, 6):
        x = batch([together(pair) for pair in PAIRS], extra=extra)
        z = backbone.prefix(backbone.stages[-2])(x)
        assert torch.equal(z[..., -1], x[..., -1])  # segments travel along
        assert not z[x[..., -1] == 0].any()  # and padding is zeros at every cut
        for row, pair in enumerate(PAIRS):
            sample = together(pair)
            hidden = subject.hidden([i for i, _ in sample], [s - 1 for _, s in sample])
            close(z[row, : len(sample), :-1], hidden)
            close(backbone.prefix("pooled")(x)[row], hidden.mean(dim=0))


@pytest.mark.parametrize("pooling", ["first", "max", "last", "attention"])
def test_poolings_are_those_of_the_vectors(subject: Subject, pooling: str) -> None:
    vectors = subject.load(pooling=pooling).prefix("pooled")(SINGLES)
    for row, pair in enumerate(PAIRS):
        hidden = subject.hidden([i for i, _ in single(pair)])
        expected = {
            "first": hidden[0],
            "max": hidden.amax(dim=0),
            "last": hidden[-1],
            "attention": hidden.mean(dim=0),  # as long as it is untrained
        }
        close(vectors[row], expected[pooling])


def test_a_separate_pair_is_two_texts_that_never_see_each_other(subject: Subject) -> None:
    backbone = subject.load(pairs="separately")
    x = batch([separately(pair) for pair in PAIRS], extra=3)
    vectors = backbone.prefix("pooled")(x)
    for row, pair in enumerate(PAIRS):
        u, v = (subject.hidden([0, *text, 2]).mean(dim=0) for text in pair)
        close(vectors[row], torch.cat([u, v, (u - v).abs(), u * v]))
    middle = backbone.stages[len(backbone.stages) // 2]
    with torch.no_grad():
        close(backbone.suffix(middle)(backbone.prefix(middle)(x)), vectors)


def test_the_networks_own_pooler(subject: Subject) -> None:
    if not subject.case.pooler:
        with pytest.raises(ConfigError, match="has no pooler of its own"):
            subject.load(pooling="pooler")
        return
    ids = [[0, *text, 2] for text in PAIRS[0]]
    with torch.no_grad():
        u, v = (library_pooled(subject, text) for text in ids)
    vectors = subject.load(pooling="pooler").prefix("pooled")(batch([single(PAIRS[0])], extra=2))
    close(vectors[0], u)
    pairs = subject.load(pooling="pooler", pairs="separately").prefix("pooled")
    close(pairs(batch([separately(PAIRS[0])]))[0], torch.cat([u, v, (u - v).abs(), u * v]))


def library_pooled(subject: Subject, ids: list[int]) -> torch.Tensor:
    return cast(torch.Tensor, subject.model(input_ids=torch.tensor([ids])).pooler_output[0])


def test_a_row_of_nothing_but_padding_is_no_nan(subject: Subject) -> None:
    for pairs in ("single", "separately"):
        backbone = subject.load(pairs=pairs)
        x = torch.cat([SINGLES, torch.zeros_like(SINGLES[:1])])
        vectors = backbone.prefix("pooled")(x)
        assert vectors.isfinite().all()
        close(vectors[:-1], backbone.prefix("pooled")(SINGLES))


def test_a_frozen_prefix_does_not_move_and_its_suffix_learns(subject: Subject) -> None:
    backbone = subject.load()
    cut = backbone.stages[0] if subject.case.layers else INPUT
    prefix, suffix = backbone.prefix(cut), backbone.suffix(cut)
    head = nn.Linear(backbone.shape("pooled")[0], 2)
    nn.Sequential(prefix, suffix, head).train()
    assert not any(part.training for part in prefix.modules())
    before, after = backbone.digest(cut), backbone.digest("pooled")
    head(suffix(prefix(SINGLES))).square().sum().backward()
    assert all(p.grad is None for p in prefix.parameters())
    assert all(p.grad is not None for p in suffix.parameters())
    torch.optim.SGD(suffix.parameters(), lr=0.1).step()
    assert backbone.digest(cut) == before
    assert backbone.digest("pooled") != after


def test_dropout_works_in_a_trained_suffix_and_nowhere_else(subject: Subject) -> None:
    backbone = subject.load()
    assert torch.equal(*(backbone.suffix(INPUT)(SINGLES) for _ in range(2)))
    suffix = backbone.suffix(INPUT).train()
    drops = subject.case.kind != "albert"  # published without dropout
    assert torch.equal(*(suffix(SINGLES) for _ in range(2))) != drops
    z = backbone.prefix("pooled")
    assert torch.equal(z(SINGLES), z(SINGLES))


def test_a_clone_learns_for_itself(subject: Subject) -> None:
    backbone = subject.load()
    digests = backbone.digests()
    clone = backbone.clone()
    assert clone.digests() == digests
    assert shared_stages(clone) == shared_stages(backbone)
    suffix = clone.suffix(INPUT)
    suffix(SINGLES).square().mean().backward()
    torch.optim.SGD(suffix.parameters(), lr=0.1).step()
    assert clone.digest("pooled") != digests["pooled"]
    assert backbone.digests() == digests


def test_digests_follow_what_is_computed(subject: Subject) -> None:
    mean, again = subject.load(), subject.load(max_length=20, strip_markup=True)
    assert mean.digests() == again.digests()  # how a text is cut is the input's, not the network's
    assert subject.load(pooling="max").digest("pooled") != mean.digest("pooled")
    assert subject.load(pairs="separately").digests() != mean.digests()
    assert subject.load(pairs="together").digests() == mean.digests()
    assert list(mean.digests()) == [INPUT, *mean.stages]


def test_shapes_are_those_of_the_longest_sample(subject: Subject) -> None:
    backbone = subject.load(max_length=12, pairs="separately")
    assert backbone.shape(INPUT) == (24, 2)
    assert backbone.shape(backbone.stages[0]) == (24, 17)
    assert backbone.shape("pooled") == (64,)
    assert [backbone.ragged(cut) for cut in (INPUT, backbone.stages[0], "pooled")] == [
        True,
        True,
        False,
    ]


def test_only_albert_shares_its_layers(subject: Subject) -> None:
    shared = (("layer.0", "layer.1", "layer.2"),) if subject.case.kind == "albert" else ()
    assert shared_stages(subject.load()) == shared

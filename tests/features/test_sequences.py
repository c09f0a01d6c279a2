"""Features of texts and series: each its own, whatever is beside it, and no room for padding."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from headstart._util.progress import SilentProgress
from headstart.backbones.base import Backbone, SeriesOptions, TextOptions
from headstart.backbones.registry import load_backbone
from headstart.data.encode import encoder, measure_lengths
from headstart.data.text import pair_bytes
from headstart.errors import DataError, EngineError
from headstart.features.extract import Extraction, extract
from headstart.features.lengths import filled_up, ladder, padded_length, rows_at_once
from headstart.features.plan import estimate
from headstart.features.store import FeatureStore
from headstart.types import FloatArray, TextSpec

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LONGEST = 80
RAGGED = ("embeddings", "layer.0", "layer.1")


@dataclass
class Samples:
    """Samples in memory; remembers which were read."""

    data: list[bytes]
    reads: list[int] = field(default_factory=list)
    scanned: list[str] | None = None  # digests from before the bytes changed

    @property
    def names(self) -> Sequence[str]:
        return [f"text-{number}" for number in range(len(self.data))]

    @property
    def digests(self) -> Sequence[str]:
        return self.scanned or [hashlib.sha256(data).hexdigest() for data in self.data]

    def __len__(self) -> int:
        return len(self.data)

    def read(self, index: int) -> bytes:
        self.reads.append(index)
        return self.data[index]


def texts(count: int, seed: int = 0, longest: int = 70) -> Samples:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest + 1, count)
    lengths[:2] = longest, 1
    words = [[f"w{i}" for i in random.integers(5, 30, n)] for n in lengths]
    return Samples([" ".join(some).encode() for some in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with large random weights, and a tokenizer of 25 words."""
    path = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=LONGEST,
        vocab_size=30,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = transformers.BertModel(config).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=float("Norm" in name), std=0.3)
    model.save_pretrained(path)
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *(f"w{i}" for i in range(5, 30))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def bert(folder: Path) -> Backbone:
    return load_backbone(f"transformers/{folder}", text=TextOptions())


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def get(
    samples: Samples,
    backbone: Backbone,
    store: FeatureStore,
    indices: Sequence[int] | None = None,
    *,
    cut: str = "pooled",
    **options: object,
) -> Extraction:
    order = list(range(len(samples))) if indices is None else indices
    chosen = {"device": CPU, "workers": 0, "progress": SilentProgress(), **options}
    return extract(samples, order, backbone, cut, store=store, **chosen)  # type: ignore[arg-type]


def alone(samples: Samples, backbone: Backbone, cut: str, index: int) -> FloatArray:
    """Run one sample through the network by itself, without any padding."""
    x = torch.from_numpy(encoder(samples, backbone.input_spec)(index)[None])
    with torch.no_grad():
        return np.asarray(backbone.prefix(cut)(x)[0].numpy())


def row(done: Extraction, place: int) -> FloatArray:
    return done.features.gather([place])[0]


@pytest.mark.parametrize("cut", [*RAGGED, "pooled"])
def test_each_text_is_as_the_network_sees_it_alone_in_the_order_asked_for(
    bert: Backbone, store: FeatureStore, cut: str
) -> None:
    samples = texts(24)
    order = [int(i) for i in np.random.default_rng(1).permutation(24)][:20]
    done = get(samples, bert, store, order, cut=cut, workers=2)
    assert (done.extracted, done.engine) == (20, "torch")
    for place, index in enumerate(order):
        expected = alone(samples, bert, cut, index)
        got = row(done, place)
        if cut != "pooled":
            assert not got[len(expected) :].any()  # what fills it up is zeros, segment included
            got = got[: len(expected)]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_pairs_that_never_see_each_other_are_extracted_too(
    folder: Path, store: FeatureStore
) -> None:
    backbone = load_backbone(f"transformers/{folder}", text=TextOptions(pairs="separately"))
    plain = [data.decode() for data in texts(12, seed=3, longest=30).data]
    samples = Samples([pair_bytes(a, b) for a, b in itertools.pairwise(plain)])
    for cut in ("layer.0", "pooled"):
        done = get(samples, backbone, store, cut=cut)
        for index in range(len(samples)):
            expected = alone(samples, backbone, cut, index)
            got = row(done, index)[: len(expected)]
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cut", ["layer.0", "pooled"])
def test_features_do_not_depend_on_batch_order_or_company(
    bert: Backbone, tmp_path: Path, cut: str
) -> None:
    samples = texts(40)
    whole = get(samples, bert, FeatureStore(tmp_path / "whole"), cut=cut)

    @settings(max_examples=8, deadline=None)
    @given(
        order=st.lists(st.integers(0, 39), min_size=1, max_size=12),
        batch_size=st.integers(1, 70),
        workers=st.integers(0, 2),
    )
    def check(order: list[int], batch_size: int, workers: int) -> None:
        store = FeatureStore(tmp_path / hashlib.sha256(repr(order).encode()).hexdigest())
        done = get(samples, bert, store, order, cut=cut, batch_size=batch_size, workers=workers)
        for place, index in enumerate(order):
            np.testing.assert_array_equal(row(done, place), row(whole, index))

    check()


def test_only_missing_texts_are_computed_and_repeats_once(
    bert: Backbone, store: FeatureStore
) -> None:
    samples = texts(10)
    get(samples, bert, store, [0, 1, 2, 3], cut="layer.0")
    again = Samples([*samples.data, samples.data[5]])
    done = get(again, bert, store, [0, 5, 10, 5, 3, 7], cut="layer.0")
    assert (done.extracted, done.reused) == (2, 4)
    assert set(again.reads) == {5, 7}
    for place in (2, 3):
        np.testing.assert_array_equal(row(done, place), row(done, 1))
    assert get(again, bert, store, cut="layer.0").extracted == 4  # 4, 6, 8 and 9


def test_going_on_from_a_ragged_cut_is_what_starting_from_the_text_is(
    bert: Backbone, tmp_path: Path
) -> None:
    samples = texts(30)
    direct = get(samples, bert, FeatureStore(tmp_path / "direct")).features.load()
    store = FeatureStore(tmp_path / "store")
    get(samples, bert, store, list(reversed(range(30))), cut="layer.0")
    for cut in ("layer.1", "pooled"):
        done = get(samples, bert, store, cut=cut, replay=True)
        assert done.replayed_from == ("layer.0" if cut == "layer.1" else "layer.1")
    np.testing.assert_allclose(done.features.load(), direct, rtol=0, atol=1e-5)
    lengths = get(samples, bert, store, cut="layer.1").features.lengths
    np.testing.assert_array_equal(
        lengths, get(samples, bert, store, cut="layer.0").features.lengths
    )


def test_ragged_shards_hold_no_padding_beyond_the_ladder(
    bert: Backbone, store: FeatureStore
) -> None:
    samples = texts(40)
    done = get(samples, bert, store, cut="layer.0")
    kept = measure_lengths(samples, range(40), bert.input_spec).kept  # type: ignore[arg-type]
    expected = [padded_length(int(n), LONGEST) for n in kept]
    assert done.features.lengths.tolist() == expected
    shapes = {
        tuple(json.loads(path.read_text())["shape"])
        for path in store.root.rglob("*.json")
        if "shape" in path.read_text()
    }
    assert shapes == {(n, 17) for n in expected}
    stored = sum(path.stat().st_size for path in store.root.rglob("*.npy"))
    assert stored <= sum(expected) * 17 * 4 + 256 * len(shapes)
    together = done.features.load()
    for place, length in enumerate(expected):
        np.testing.assert_array_equal(together[place, :length], row(done, place))
        assert not together[place, length:].any()
    # What is asked for together is filled up to the longest of it and no further.
    short = [i for i, n in enumerate(expected) if n <= 24]
    assert done.features.gather(short).shape == (len(short), max(expected[i] for i in short), 17)


def test_a_store_of_sequences_is_listed_and_checked(bert: Backbone, store: FeatureStore) -> None:
    samples = texts(12)
    get(samples, bert, store, cut="layer.0")
    (entry,) = store.ls()
    assert (entry.samples, entry.cut) == (12, "layer.0")
    assert store.verify() == ()
    victim = max(store.root.rglob("*.npy"), key=lambda path: path.stat().st_size)
    raw = bytearray(victim.read_bytes())
    raw[-1] ^= 1
    victim.write_bytes(bytes(raw))
    assert len(store.verify()) == 1
    store.prune(damaged=True)
    done = get(samples, bert, store, cut="layer.0")
    assert 0 < done.extracted < 12
    np.testing.assert_allclose(
        row(done, 0)[:72], alone(samples, bert, "layer.0", 0), rtol=0, atol=1e-5
    )


def test_half_precision_halves_the_numbers_of_sequences(
    bert: Backbone, store: FeatureStore
) -> None:
    samples = texts(9)
    full = get(samples, bert, store, cut="layer.0")
    half = get(samples, bert, store, cut="layer.0", dtype="float16", replay=False)
    assert half.extracted == 9
    np.testing.assert_allclose(half.features.load(), full.features.load(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_for_pictures_is_refused_in_one_sentence(
    bert: Backbone, store: FeatureStore, engine: str
) -> None:
    with pytest.raises(EngineError, match=f"'{engine}' takes pictures.*choose the engine 'torch'"):
        get(texts(3), bert, store, engine=engine)


def test_a_text_that_cannot_be_read_is_named(bert: Backbone, store: FeatureStore) -> None:
    samples = texts(4)
    backbone = load_backbone(
        "headstart/gru", weights="random", series=SeriesOptions(channels=2, max_length=5)
    )
    with pytest.raises(DataError, match=r"text-1: expected 1 to 5 steps of 2 float32 numbers"):
        get(Samples([bytes(16), bytes(12)]), backbone, store)
    changed = Samples([*samples.data[:3], b"w5"], scanned=list(samples.digests))
    with pytest.raises(DataError, match="text-3: has changed since"):
        get(changed, bert, store)


def test_the_plan_counts_the_ladder_and_not_the_longest_text(
    bert: Backbone, store: FeatureStore
) -> None:
    samples = texts(30, longest=12)
    planned = estimate(
        samples, range(30), bert, "layer.0", store=store, dtype="float32", device=CPU
    )
    assert planned.samples == 30
    needed = get(samples, bert, store, cut="layer.0").bytes_written
    assert needed / 2 < planned.disk_bytes < 2 * needed
    again = estimate(samples, range(30), bert, "layer.0", store=store, dtype="float32", device=CPU)
    assert again.samples == 0


def test_series_of_numbers_are_extracted_like_texts(store: FeatureStore) -> None:
    random = np.random.default_rng(0)
    series = [random.normal(size=(n, 2)).astype("<f4") for n in (3, 1, 20, 9, 3)]
    samples = Samples([one.tobytes() for one in series])
    options = SeriesOptions(channels=2, max_length=20, hidden=8)
    backbone = load_backbone("headstart/lstm", weights="random", series=options)
    done = get(samples, backbone, store, [4, 2, 0, 1, 3])
    for place, index in enumerate([4, 2, 0, 1, 3]):
        x = torch.from_numpy(np.pad(series[index], ((0, 0), (0, 1)), constant_values=1)[None])
        expected = backbone.prefix("pooled")(x)[0].detach().numpy()
        np.testing.assert_allclose(row(done, place), expected, rtol=0, atol=1e-6)


def test_the_ladder_wastes_less_than_a_quarter() -> None:
    for length in range(1, 600):
        step = padded_length(length, 600)
        assert length <= step <= 600
        assert step - length < max(8, length / 4)
        assert padded_length(step, 600) == step
        assert padded_length(min(length + 1, 600), 600) >= step
        assert rows_at_once(step, on_cpu=True) >= 1
    assert padded_length(599, 600) == 600
    assert padded_length(3, 5) == 5
    assert filled_up(np.ones((2, 3, 2), np.float32), 5)[:, 3:].sum() == 0


def test_pictures_have_no_ladder_and_texts_are_measured_by_tokens(bert: Backbone) -> None:
    samples = Samples([b"w5", b"w5 " * 9, b"w5 " * 200])
    measured = ladder(samples, [2, 0, 1], bert.input_spec)
    assert measured is not None
    assert measured.lengths.tolist() == [LONGEST, 8, 16]
    assert list(measured.groups()) == [LONGEST, 16, 8]
    assert isinstance(bert.input_spec, TextSpec)
    found = measure_lengths(samples, [0, 1, 2], bert.input_spec)
    assert found.whole.tolist() == [3, 11, 202]
    assert found.kept.tolist() == [3, 11, LONGEST]

"""From bytes to what a network takes: tokens and their segments, steps of numbers, batches."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from headstart.data.encode import TextEncoder, converter, encoder, measure_lengths, stack
from headstart.data.loader import load_batches
from headstart.data.text import pair_bytes
from headstart.errors import DataError
from headstart.types import InputSpec, SeriesSpec, TextSpec

WORDS = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(4, 20))]
SERIES = SeriesSpec(channels=2, max_length=4)


def tokenizer(special=True):
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        made.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    made.enable_padding(length=12)  # as some tokenizer.json files have it: it is not asked for
    made.enable_truncation(3)
    return made.to_str()


def spec(max_length=8, special=True, **options):
    return TextSpec(tokenizer(special), max_length, **options)


@dataclass
class Samples:
    data: list

    @property
    def names(self):
        return [f"sample-{i}" for i in range(len(self.data))]

    @property
    def digests(self):
        return [str(i) for i in range(len(self.data))]

    def __len__(self):
        return len(self.data)

    def read(self, index):
        return self.data[index]


def ids(data, **options):
    return converter(spec(**options))(data).tolist()


def test_a_text_is_its_tokens_and_segment_1():
    assert ids(b"w5 nothing w7") == [[0, 1], [5, 1], [3, 1], [7, 1], [2, 1]]
    assert ids(b"w5 w6", special=False) == [[5, 1], [6, 1]]
    assert ids("﻿w5".encode()) == ids(b"w5")
    assert converter(spec())(b"w5").dtype == np.float32


def test_too_long_a_text_loses_its_end_and_keeps_its_special_tokens():
    found = [i for i, _ in ids(b"w4 w5 w6 w7 w8 w9 w10", max_length=5)]
    assert found == [0, 4, 5, 6, 2]
    # Of a pair in one sequence the longer text is cut first.
    pair = pair_bytes("w4 w5 w6 w7 w8 w9", "w10 w11")
    assert ids(pair, pairs="together", max_length=8) == [
        *([i, 1] for i in (0, 4, 5, 6, 2)),
        *([i, 2] for i in (10, 11, 2)),
    ]
    other = pair_bytes("w10 w11", "w4 w5 w6 w7 w8 w9")
    assert [i for i, _ in ids(other, pairs="together", max_length=8)] == [0, 10, 11, 2, 4, 5, 6, 2]


def test_a_separate_pair_is_two_sequences_each_with_its_own_limit():
    pair = pair_bytes("w4 w5 w6 w7", "w10")
    assert ids(pair, pairs="separately", max_length=4) == [
        *([i, 1] for i in (0, 4, 5, 2)),
        *([i, 2] for i in (0, 10, 2)),
    ]
    assert spec(max_length=4, pairs="separately").longest == 8


def test_markup_is_taken_out_where_asked():
    text = b"w5<br />w6 &amp; <b>w7</b>"
    assert [i for i, _ in ids(text, strip_markup=True, special=False)] == [5, 6, 3, 7]
    assert len(ids(text, special=False, max_length=40)) > 6


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"", {"special": False}, "there is no word in it"),
        (b"<br />", {"special": False, "strip_markup": True}, "there is no word in it"),
        (b"w5", {"pairs": "together"}, "expected a pair of texts"),
        (b'["w5"]', {"pairs": "separately"}, "expected a pair of texts"),
    ],
)
def test_what_cannot_be_read_is_named(data, options, message):
    with pytest.raises(DataError, match=f"sample-1: .*{message}"):
        encoder(Samples([b"w5", data]), spec(**options))(1)


def test_lengths_are_those_of_the_tokens_before_and_after_cutting():
    texts = Samples([b"w5", b"w4 " * 3, b"w4 " * 30])
    found = measure_lengths(texts, [2, 0, 1], spec(max_length=6))
    assert found.kept.tolist() == [6, 3, 5]
    assert found.whole.tolist() == [32, 3, 5]
    for row, kept in zip((2, 0, 1), found.kept, strict=True):
        assert len(converter(spec(max_length=6))(texts.read(row))) == kept
    pairs = Samples([pair_bytes("w4 " * 9, "w5")])
    for way in ("together", "separately"):
        made = spec(max_length=6, pairs=way)
        (kept,) = measure_lengths(pairs, [0], made).kept
        assert len(converter(made)(pairs.read(0))) == kept
    numbers = Samples([np.zeros((3, 2), "<f4").tobytes()])
    assert measure_lengths(numbers, [0], SERIES).whole.tolist() == [3]
    assert measure_lengths(numbers, [], SERIES).kept.shape == (0,)
    with pytest.raises(DataError, match=r"sample-0: .*pair of texts"):
        measure_lengths(texts, [0], spec(pairs="together"))


@pytest.mark.parametrize(
    ("data", "made"),
    [
        (b"  ", spec(special=False)),
        (b"<br />", spec(special=False, strip_markup=True)),
        (pair_bytes("", " "), spec(special=False, pairs="separately")),
        (b"", SERIES),
    ],
)
def test_a_sample_of_no_length_is_named_when_lengths_are_measured(data, made):
    with pytest.raises(DataError, match="sample-1: there is no word in it"):
        measure_lengths(Samples([pair_bytes("w5", "w6"), data]), [1], made)


def test_measuring_lengths_shows_how_far_it_is():
    class Watched:
        def __init__(self):
            self.tasks, self.done = [], 0

        @contextmanager
        def task(self, description, total, unit):
            self.tasks.append((description, total, unit))
            yield self

        def advance(self, amount=1):
            self.done += amount

    shown = Watched()
    measure_lengths(Samples([b"w5", b"w6 w7", b"w8"]), [0, 2], spec(), shown)
    assert (shown.tasks, shown.done) == ([("measuring lengths", 2, "samples")], 2)


def test_a_tokenizer_that_is_none_is_one_clear_error():
    with pytest.raises(DataError, match="the tokenizer cannot be read: expected the JSON"):
        TextEncoder(TextSpec('{"no": "tokenizer"}', 8))


def test_steps_of_numbers_get_a_segment_of_ones():
    values = np.arange(6, dtype="<f4").reshape(3, 2)
    found = converter(SERIES)(values.tobytes())
    np.testing.assert_array_equal(found[:, :2], values)
    np.testing.assert_array_equal(found[:, 2], 1)
    assert (found.dtype, found.flags.c_contiguous) == (np.float32, True)


@pytest.mark.parametrize("size", [0, 4, 12, 40])
def test_sequences_of_other_sizes_are_refused(size):
    with pytest.raises(DataError, match=rf"1 to 4 steps of 2 float32.*got {size} bytes"):
        converter(SERIES)(bytes(size))


def test_a_batch_is_filled_up_with_zeros_at_the_end():
    rows = [np.ones((n, 3), np.float32) for n in (2, 4, 1)]
    batch = stack(rows, SERIES)
    assert batch.shape == (3, 4, 3)
    assert batch.sum(axis=(1, 2)).tolist() == [6, 12, 3]
    assert not batch[0, 2:].any()
    assert stack(rows, SERIES, 6).shape == (3, 6, 3)
    pictures = InputSpec(2, 2, 2, "bilinear", (0, 0, 0), (1, 1, 1))
    assert stack([np.ones((3, 2, 2), np.float32)] * 2, pictures).shape == (2, 3, 2, 2)


def test_batches_of_texts_come_in_order_whatever_the_threads_do():
    texts = Samples([f"w{4 + i % 16} ".encode() * (1 + i % 5) for i in range(40)])
    order = np.random.default_rng(0).permutation(40)
    plain = list(load_batches(texts, order, spec(), 7, workers=0))
    threaded = list(load_batches(texts, order, spec(), 7, workers=4))
    assert [len(batch) for batch in plain] == [7, 7, 7, 7, 7, 5]
    for a, b in zip(plain, threaded, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [int(row[1, 0]) for batch in plain for row in batch] == [4 + int(i) % 16 for i in order]


def test_one_encoder_serves_many_threads():
    encode = TextEncoder(spec(max_length=6)).encode
    texts = [f"w{4 + i % 16} w5 w6 w7 w8 w9".encode() for i in range(400)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encode, texts))
    for text, found in zip(texts, together, strict=True):
        np.testing.assert_array_equal(found, encode(text))

"""A stream of predictions: as many as inputs, in their order, soon, and in little memory."""

import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import DataError, HeadstartError
from headstart.predict.samples import Input, failed
from headstart.predict.stream import Outcome, predict_inputs
from headstart.types import FloatArray


class Lengths:
    """Says of each sample how long it is; what it is asked is written down."""

    batch_size = 4

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.prepared = 0

    def prepare(self, data: bytes) -> FloatArray:
        self.prepared += 1
        if data.startswith(b"bad"):
            raise DataError("damaged")
        if data.startswith(b"late"):
            time.sleep(0.01)
        return np.ones((len(data), 2), np.float32)

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        self.batches.append([len(row) for row in rows])
        return np.array([[len(row), 1] for row in rows], np.float32)


def inputs_of(samples: Sequence[bytes]) -> Iterator[Input]:
    for number, data in enumerate(samples):
        yield Input(str(number), partial(bytes, data))


def lengths(outcomes: Sequence[Outcome]) -> list[int | None]:
    return [None if one.row is None else int(one.row[0]) for one in outcomes]


@settings(max_examples=40, deadline=None)
@given(
    samples=st.lists(st.sampled_from([b"a", b"three", b"bad", b"late and long"]), max_size=40),
    batch_size=st.integers(1, 5),
    window=st.integers(1, 3),
    workers=st.integers(1, 3),
)
def test_every_input_has_its_outcome_in_its_place(
    samples: list[bytes], batch_size: int, window: int, workers: int
) -> None:
    network = Lengths()
    stream = predict_inputs(
        network, inputs_of(samples), batch_size=batch_size, window=window, workers=workers
    )
    found = [one for some in stream for one in some]
    assert [one.name for one in found] == [str(n) for n in range(len(samples))]
    assert lengths(found) == [None if s == b"bad" else len(s) for s in samples]
    assert {one.error for one in found if one.row is None} <= {"damaged"}
    assert all(len(batch) <= batch_size for batch in network.batches)


def test_texts_of_a_batch_are_of_like_lengths() -> None:
    network = Lengths()
    samples = [b"x" * (1 + n * 7 % 16) for n in range(16)]
    list(predict_inputs(network, inputs_of(samples), window=4))
    assert network.batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]


def test_an_answer_does_not_wait_for_the_batch_to_be_full() -> None:
    """The source says one thing, and goes on only when it has the answer: as a person does."""
    answered = threading.Event()

    def slowly() -> Iterator[Input]:
        for data in (b"one", b"three"):
            yield Input(data.decode(), partial(bytes, data))
            assert answered.wait(20)
            answered.clear()

    found = []
    for some in predict_inputs(Lengths(), slowly(), batch_size=1000):
        found += some
        answered.set()
    assert lengths(found) == [3, 5]


def test_a_slow_reader_holds_the_source_back() -> None:
    taken = 0

    def endless() -> Iterator[Input]:
        nonlocal taken
        while True:
            taken += 1
            yield Input("", partial(bytes, b"x"))

    network = Lengths()
    stream = predict_inputs(network, endless(), batch_size=10)
    next(stream)
    time.sleep(0.3)
    assert taken <= 10 + 20 + 2  # given and prepared, the queue, one in hand
    stream.close()
    before = taken
    time.sleep(0.3)
    assert taken <= before + 1
    assert not [t.name for t in threading.enumerate() if t.name.startswith("headstart-")]


def test_a_source_that_breaks_is_told_after_what_came_before() -> None:
    def breaking() -> Iterator[Input]:
        yield from inputs_of([b"a", b"bb"])
        raise HeadstartError("the disk is gone")

    stream = predict_inputs(Lengths(), breaking())
    assert lengths(next(stream)) == [1, 2]
    with pytest.raises(HeadstartError, match="the disk is gone"):
        next(stream)


def test_numbers_that_are_none_are_an_error_of_that_input() -> None:
    class Diverged(Lengths):
        def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
            said = super().predict_prepared(rows)
            said[said == 2] = np.nan
            return said

    samples = [*inputs_of([b"a", b"bb", b"ccc"]), failed("x", "gone")]
    (found,) = predict_inputs(Diverged(), samples)
    assert lengths(found) == [1, None, 3, None]
    assert "finite" in str(found[1].error)
    assert found[3] == Outcome("x", None, "gone")


def test_numbers_below_one_are_refused() -> None:
    for wrong in ({"batch_size": 0}, {"window": 0}, {"workers": 0}):
        with pytest.raises(ValueError, match="expected batch_size, window, workers >= 1"):
            next(predict_inputs(Lengths(), [], **wrong))

"""The engine computes the next batch while the last one's features are stored."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from headstart.errors import DataError
from headstart.features.passes import run_ahead


def batches(count: int, broken: int | None = None) -> Iterator[np.ndarray]:
    for number in range(count):
        if number == broken:
            raise DataError(f"{number}.jpg: damaged")
        yield np.full((2, 3), number, dtype=np.float32)


def test_results_come_in_order() -> None:
    found = [rows[0, 0] for rows in run_ahead(lambda batch: batch * 10, batches(7))]
    assert found == [0, 10, 20, 30, 40, 50, 60]


def test_the_next_batch_is_computed_while_the_caller_holds_the_last() -> None:
    second = threading.Event()

    def run(batch: np.ndarray) -> np.ndarray:
        if batch[0, 0] == 1:
            second.set()
        return batch

    results = run_ahead(run, batches(3))
    next(results)
    assert second.wait(10), "the second batch waits for the first one's consumer"
    results.close()


def test_what_was_computed_before_a_bad_picture_is_not_lost() -> None:
    results = run_ahead(lambda batch: batch, batches(5, broken=3))
    assert [next(results)[0, 0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match=r"3\.jpg"):
        next(results)


def test_what_was_computed_before_the_engine_fails_is_not_lost() -> None:
    def run(batch: np.ndarray) -> np.ndarray:
        if batch[0, 0] == 2:
            raise RuntimeError("out of memory")
        return batch

    results = run_ahead(run, batches(5))
    assert [next(results)[0, 0] for _ in range(2)] == [0, 1]
    with pytest.raises(RuntimeError, match="memory"):
        next(results)


def test_no_thread_is_left_when_the_caller_stops_early() -> None:
    results = run_ahead(lambda batch: batch, batches(5))
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("headstart-ahead")]

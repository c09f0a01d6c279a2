"""The prediction time counts prediction, once it is warm, until the device is done."""

import numpy as np
import pytest

from headstart.evaluate import time_prediction


class Machine:
    """A clock that moves only when something is done, and a diary of what is done."""

    def __init__(self, seconds_per_sample: list[float]) -> None:
        self.now = 100.0
        self.diary: list[str] = []
        self._speeds = iter(seconds_per_sample)
        self._pending = 0.0

    def predict(self, batch: np.ndarray) -> None:
        self.diary.append(f"predict {len(batch)}")
        self._pending += next(self._speeds) * len(batch)  # like a GPU: returns at once

    def synchronize(self) -> None:
        self.diary.append("wait")
        self.now += self._pending
        self._pending = 0.0

    def clock(self) -> float:
        self.diary.append("look")
        return self.now


def batches(*sizes: int) -> list[np.ndarray]:
    return [np.zeros((size, 3, 2, 2), dtype=np.float32) for size in sizes]


def test_median_extremes_and_rate_of_the_repeats() -> None:
    machine = Machine([9.0, 0.1, 0.1, 0.5, 0.5, 0.2, 0.2])
    result = time_prediction(
        machine.predict,
        batches(8, 2),
        repeats=3,
        synchronize=machine.synchronize,
        clock=machine.clock,
    )
    assert result.seconds == pytest.approx(2.0)
    assert (result.low, result.high) == (pytest.approx(1.0), pytest.approx(5.0))
    assert (result.samples, result.repeats, result.batch_size) == (10, 3, 8)
    assert result.samples_per_second == pytest.approx(5.0)


def test_the_clock_is_read_only_when_the_device_is_idle_and_after_the_warm_up() -> None:
    machine = Machine([1.0] * 10)
    time_prediction(
        machine.predict,
        batches(4, 4, 1),
        repeats=2,
        warm_up=2,
        synchronize=machine.synchronize,
        clock=machine.clock,
    )
    once = ["wait", "look", "predict 4", "predict 4", "predict 1", "wait", "look"]
    assert machine.diary == ["predict 4", "predict 4", *once, *once]


def test_a_real_clock_counts_forwards() -> None:
    seen: list[int] = []
    result = time_prediction(lambda x: seen.append(len(x)), batches(3, 3), warm_up=0, repeats=2)
    assert seen == [3, 3, 3, 3]
    assert 0 <= result.low <= result.seconds <= result.high
    assert result.samples_per_second > 0


@pytest.mark.parametrize(
    ("sizes", "options"), [((), {}), ((0,), {}), ((2,), {"repeats": 0}), ((2,), {"warm_up": -1})]
)
def test_nothing_to_time_is_refused(sizes: tuple[int, ...], options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one sample, repeats >= 1 and warm_up >= 0"):
        time_prediction(len, batches(*sizes), **options)

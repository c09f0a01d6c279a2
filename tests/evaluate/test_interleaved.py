"""Taking turns is fair: what slows the machine slows every call alike."""

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from headstart.evaluate.timing import drift, latency, time_interleaved


class SlowingMachine:
    """Its clock moves only with work, and the same work takes longer the later it is done."""

    def __init__(self, slower_per_second: float = 0.0) -> None:
        self.now = 0.0
        self.slower = slower_per_second
        self.diary: list[str] = []

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.diary.append(name)
            self.now += seconds * (1 + self.slower * self.now)

        return call

    def clock(self) -> float:
        return self.now


def names(count: int) -> list[str]:
    return [f"model {number}" for number in range(count)]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_drift_hits_all_alike(count: int) -> None:
    slower = 0.5 / (24 * count)  # e^0.5 = 1.65 times slower in the end
    machine = SlowingMachine(slower)
    calls = {name: machine.work(name, 1.0) for name in names(count)}
    taken = time_interleaved(calls, rounds=24, clock=machine.clock)
    medians = [np.median(seconds) for seconds in taken.values()]
    first = next(iter(taken.values()))
    assert first[-1] > 1.5 * first[0]  # the machine did slow down
    assert max(medians) / min(medians) < 1.02

    one_after_the_other = SlowingMachine(slower)
    blocks = [
        np.median(
            time_interleaved(
                {name: one_after_the_other.work(name, 1.0)},
                rounds=24,
                clock=one_after_the_other.clock,
            )[name]
        )
        for name in names(count)
    ]
    assert max(blocks) / min(blocks) > 1.2  # which is what taking turns is for


def test_the_slower_of_two_stays_the_slower_by_as_much() -> None:
    machine = SlowingMachine(slower_per_second=0.005)
    calls = {"fast": machine.work("fast", 1.0), "slow": machine.work("slow", 1.3)}
    taken = time_interleaved(calls, rounds=24, clock=machine.clock)
    assert np.median(taken["slow"]) / np.median(taken["fast"]) == pytest.approx(1.3, rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_each_stands_everywhere_and_after_everyone_equally_often(count: int) -> None:
    machine = SlowingMachine()
    rounds = 2 * count
    calls = {name: machine.work(name, 1.0) for name in names(count)}
    taken = time_interleaved(calls, rounds=rounds, warm_up=0, clock=machine.clock)
    assert all(len(seconds) == rounds for seconds in taken.values())
    orders = np.array(machine.diary).reshape(rounds, count)
    for order in orders:
        assert sorted(order) == names(count)  # once in each round
    for place in orders.T:
        assert set(Counter(place).values()) == {2}
    followed = Counter((a, b) for order in orders for a, b in itertools.pairwise(order))
    assert len(followed) == count * (count - 1)
    assert set(followed.values()) <= {2}


def test_the_clock_is_read_when_the_device_is_idle_and_warm() -> None:
    diary: list[str] = []
    now = iter(range(100))
    taken = time_interleaved(
        {"a": lambda: diary.append("a")},
        rounds=2,
        warm_up=2,
        synchronize=lambda: diary.append("wait"),
        clock=lambda: diary.append("look") or next(now),  # type: ignore[func-returns-value]
        after_round=lambda: diary.append("round"),
    )
    once = ["wait", "look", "a", "wait", "look", "round"]
    assert diary == ["a", "a", *once, *once]
    assert taken["a"].tolist() == [1, 1]


@pytest.mark.parametrize("options", [{"rounds": 0}, {"rounds": 1, "warm_up": -1}])
def test_no_round_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="rounds >= 1"):
        time_interleaved({"a": int}, **options)
    with pytest.raises(ValueError, match="at least one call"):
        time_interleaved({}, rounds=1)


def test_a_summary_of_calls() -> None:
    milliseconds = np.arange(1, 101) / 1e3
    found = latency(np.random.default_rng(0).permutation(milliseconds), batch_size=4)
    assert found.p50_ms == pytest.approx(50.5)
    assert found.p95_ms == pytest.approx(95.05)
    assert found.p50_ms_per_sample == pytest.approx(50.5 / 4)
    assert found.samples_per_second == pytest.approx(4 / 0.0505)
    # Tables of the sign test: of 100 values the median lies between the 40th and the 61st.
    assert (found.low_ms, found.high_ms) == (pytest.approx(40), pytest.approx(61))


def test_the_interval_of_the_median_covers_it() -> None:
    rng = np.random.default_rng(1)
    for calls in (6, 24, 51):
        draws = rng.lognormal(0, 1, size=(4000, calls))  # skewed, as times are; its median is 1
        found = [latency(row, 1) for row in draws]
        share = np.mean([one.low_ms <= 1e3 <= one.high_ms for one in found])
        assert 0.94 < share < 0.985  # at least 95%: ranks are whole numbers


@pytest.mark.parametrize(("seconds", "batch_size"), [([], 1), ([1.0], 0)])
def test_no_call_has_no_summary(seconds: list[float], batch_size: int) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        latency(np.array(seconds), batch_size)


def test_drift_is_the_later_half_over_the_earlier() -> None:
    assert drift(np.array([1.0, 1.0, 9.0, 1.2, 1.2])) == pytest.approx(0.2)
    assert drift(np.array([2.0, 1.0])) == pytest.approx(-0.5)
    assert drift(np.array([1.0])) == 0

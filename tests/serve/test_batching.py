"""Samples of many requests are computed together; none waits in vain, none spoils another."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from headstart.errors import DataError
from headstart.serve.batching import Batching, Network, Ticket
from headstart.serve.limits import Limits
from headstart.serve.refusal import Refusal
from headstart.types import FloatArray


class Doubling:
    """A network that doubles one number; it can be held up."""

    def __init__(self, batch_size: int = 4) -> None:
        self.batches: list[list[float]] = []
        self.prepared = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.computing = threading.Event()
        self.network = Network(self.prepare, self.compute, batch_size)

    def prepare(self, data: bytes) -> FloatArray:
        self.prepared += 1
        if data == b"bad":
            raise DataError("it is bad")
        if data == b"bug":
            raise KeyError("a bug")
        number, _, length = data.decode().partition("*")
        return np.full(int(length or 1), float(number), dtype=np.float32)

    def compute(self, rows: Sequence[FloatArray]) -> FloatArray:
        self.computing.set()
        assert self.go_on.wait(30)
        numbers = [float(row[0]) for row in rows]
        self.batches.append(numbers)
        if 1313.0 in numbers:
            raise RuntimeError("unlucky")
        with np.errstate(over="ignore"):
            return np.array(numbers, dtype=np.float32) * 2


@contextmanager
def running(network: Doubling, **limits: float) -> Iterator[Batching]:
    bounds = Limits(**{"max_queue": 64, "max_items": 8, **limits})  # type: ignore[arg-type]
    batching = Batching({"net": network.network}, bounds, on_batch=lambda *_: None)
    try:
        yield batching
    finally:
        network.go_on.set()
        batching.close()


def brought(batching: Batching, *samples: bytes) -> Ticket:
    batching.admit("net", len(samples))
    return batching.submit("net", samples)


def asked(question: Callable[[], Awaitable[None]]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(20):
            await question()

    asyncio.run(in_time())


def test_every_sample_gets_its_own_answer_whatever_it_was_computed_with() -> None:
    network = Doubling()
    with running(network) as batching:

        async def question() -> None:
            tickets = [
                brought(batching, *(b"%d" % (3 * i + j) for j in range(3))) for i in range(9)
            ]
            for i, ticket in enumerate(tickets):
                await ticket.done
                assert ticket.answers == [2 * (3 * i + j) for j in range(3)]

        asked(question)
        assert batching.depth("net") == 0
    assert max(map(len, network.batches)) <= 4
    assert sum(map(len, network.batches)) == 27


def test_what_came_while_the_network_computed_is_computed_together() -> None:
    network = Doubling()
    network.go_on.clear()
    with running(network) as batching:

        async def question() -> None:
            tickets = [brought(batching, b"0")]
            assert await asyncio.to_thread(network.computing.wait, 10)
            tickets += [brought(batching, b"%d" % i) for i in range(1, 6)]
            while network.prepared < 6:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            network.go_on.set()
            await asyncio.gather(*(ticket.done for ticket in tickets))

        asked(question)
    assert list(map(len, network.batches)) == [1, 4, 1]


def test_a_request_alone_is_computed_at_once() -> None:
    network = Doubling()
    with running(network, max_wait_ms=5_000) as batching:

        async def question() -> None:
            began = time.monotonic()
            await brought(batching, b"1").done
            assert time.monotonic() - began < 2

        asked(question)


def test_one_whose_body_is_still_being_read_is_waited_for_a_little() -> None:
    network = Doubling()
    with running(network, max_wait_ms=5_000) as batching:

        async def question() -> None:
            batching.expect("net")
            first = brought(batching, b"1")
            await asyncio.sleep(0.1)
            second = brought(batching, b"2")
            batching.forget("net")
            await asyncio.gather(first.done, second.done)

        asked(question)
    assert list(map(sorted, network.batches)) == [[1, 2]]


def test_one_who_is_expected_no_more_is_not_waited_for() -> None:
    network = Doubling()
    with running(network, max_wait_ms=5_000) as batching:

        async def question() -> None:
            batching.expect("net")
            ticket = brought(batching, b"1")
            batching.forget("net")
            began = time.monotonic()
            await ticket.done
            assert time.monotonic() - began < 2

        asked(question)
        assert batching.depth("net") == 0


def test_a_bad_sample_spoils_no_other() -> None:
    with running(Doubling()) as batching:

        async def question() -> None:
            mixed = brought(batching, b"1", b"bad", b"2")
            unlucky = brought(batching, b"1313")
            buggy = brought(batching, b"bug")
            good = brought(batching, b"3")
            await asyncio.gather(mixed.done, unlucky.done, buggy.done, good.done)
            assert mixed.answers == [2, "it is bad", 4]
            assert mixed.failure is None
            assert good.answers == [6]
            assert isinstance(unlucky.failure, RuntimeError)
            assert isinstance(buggy.failure, KeyError)

        asked(question)
        assert batching.depth("net") == 0


def test_an_answer_that_is_no_number_is_told_as_an_error() -> None:
    with running(Doubling()) as batching:

        async def question() -> None:
            ticket = brought(batching, b"3e38", b"1")
            await ticket.done
            assert "finite" in str(ticket.answers[0])
            assert ticket.answers[1] == 2

        asked(question)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    network = Doubling()
    network.go_on.clear()
    with running(network, max_queue=8) as batching:

        async def question() -> None:
            tickets = [brought(batching, *[b"1"] * 4) for _ in range(2)]
            with pytest.raises(Refusal, match="full") as refusal:
                batching.admit("net", 1)
            assert refusal.value.status == 503
            assert 1 <= int(refusal.value.headers["Retry-After"]) <= 60
            with pytest.raises(Refusal, match="full"):
                batching.expect("net")
            network.go_on.set()
            await asyncio.gather(*(ticket.done for ticket in tickets))
            for _ in range(9):  # who is expected takes no room
                batching.expect("net")
            batching.admit("net", 8)
            batching.release("net", 8)
            for _ in range(9):
                batching.forget("net")

        asked(question)


def test_what_nobody_waits_for_is_not_computed_and_leaves_its_room() -> None:
    network = Doubling()
    network.go_on.clear()
    with running(network, max_queue=16) as batching:

        async def question() -> None:
            first = brought(batching, b"1")
            assert await asyncio.to_thread(network.computing.wait, 10)
            dropped = [brought(batching, *[b"7"] * 5) for _ in range(3)]
            assert batching.depth("net") == 16
            for ticket in dropped:
                batching.drop(ticket)
            while batching.depth("net") > 1:  # one may be in a worker's hands
                await asyncio.sleep(0.01)
            last = brought(batching, b"2")
            network.go_on.set()
            await asyncio.gather(first.done, last.done)
            assert last.answers == [4]

        asked(question)
    assert not any(7.0 in batch for batch in network.batches)
    assert network.prepared <= 2 + 8 + 2  # what was prepared before, and in the workers' hands


def test_nothing_is_prepared_far_ahead_of_the_network() -> None:
    network = Doubling(batch_size=2)
    network.go_on.clear()
    with running(network) as batching:

        async def question() -> None:
            tickets = [brought(batching, *[b"1"] * 8) for _ in range(4)]
            assert await asyncio.to_thread(network.computing.wait, 10)
            await asyncio.sleep(0.2)
            assert network.prepared <= 2 * 2 + 2  # two batches ahead, one in the network
            network.go_on.set()
            await asyncio.gather(*(ticket.done for ticket in tickets))

        asked(question)


def test_sequences_of_like_length_are_computed_together_and_the_oldest_first() -> None:
    network = Doubling(batch_size=3)
    network.go_on.clear()
    with running(network) as batching:

        async def question() -> None:
            tickets = [brought(batching, b"0")]
            assert await asyncio.to_thread(network.computing.wait, 10)
            tickets += [brought(batching, s) for s in (b"1*90", b"2*5", b"3*6", b"4*80", b"5*85")]
            while network.prepared < 6:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            network.go_on.set()
            await asyncio.gather(*(ticket.done for ticket in tickets))

        asked(question)
    assert list(map(sorted, network.batches)) == [[0], [1, 4, 5], [2, 3]]


def test_two_bundles_share_the_workers_and_neither_waits_for_the_other() -> None:
    slow, quick = Doubling(), Doubling()
    slow.go_on.clear()
    batching = Batching(
        {"slow": slow.network, "quick": quick.network}, Limits(workers=1), on_batch=lambda *_: None
    )

    async def question() -> None:
        for _ in range(8):
            batching.admit("slow", 8)
        held = [batching.submit("slow", [b"1"] * 8) for _ in range(8)]
        batching.admit("quick", 1)
        ticket = batching.submit("quick", [b"21"])
        await ticket.done
        assert ticket.answers == [42]
        slow.go_on.set()
        await asyncio.gather(*(ticket.done for ticket in held))

    try:
        asked(question)
    finally:
        slow.go_on.set()
        batching.close()


def test_closing_finishes_what_was_taken() -> None:
    network = Doubling()
    with running(network) as batching:

        async def question() -> None:
            tickets = [brought(batching, *[b"1"] * 8) for _ in range(8)]
            await asyncio.to_thread(batching.close)
            await asyncio.gather(*(ticket.done for ticket in tickets))
            assert all(ticket.answers == [2] * 8 for ticket in tickets)

        asked(question)

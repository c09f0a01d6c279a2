"""Reading a body: within its size, its time and the memory of all of them."""

import asyncio
import time
from typing import Any

import pytest
from starlette.datastructures import Headers

from headstart.serve.body import BodyReader
from headstart.serve.limits import Limits
from headstart.serve.refusal import ClientGoneError, Refusal

LIMITS = Limits(max_bytes=1_000, max_memory_bytes=2_500, idle_seconds=0.5)


class Sender:
    """Sends pieces; then nothing more, or the end."""

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.asked = 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if not self.pieces:
            await asyncio.sleep(30)
        piece = self.pieces.pop(0)
        more = bool(self.pieces) or not self.ends
        return {"type": "http.request", "body": piece, "more_body": more}


def read(sender: Any, length: int | None = None, *, seconds: float = 0.3) -> bytes:
    said = Headers({} if length is None else {"content-length": str(length)})

    async def run() -> bytes:
        with BodyReader(LIMITS).hold() as body:
            return await body.read(said, sender, limit=1_000, seconds=seconds)

    return asyncio.run(run())


def test_pieces_become_one_body() -> None:
    assert read(Sender(b"ab", b"", b"cd")) == b"abcd"
    assert read(Sender(b"x" * 1_000), 1_000) == b"x" * 1_000


def test_nothing_is_read_of_a_body_that_says_it_is_too_large() -> None:
    sender = Sender(b"x")
    with pytest.raises(Refusal, match="larger than 1,000 bytes"):
        read(sender, 1_001)
    assert sender.asked == 0


def test_no_more_is_read_than_may_be() -> None:
    sender = Sender(*[b"x" * 400] * 10)
    with pytest.raises(Refusal) as refusal:
        read(sender)
    assert (refusal.value.status, sender.asked) == (413, 3)
    with pytest.raises(Refusal):  # more than it said
        read(Sender(*[b"x" * 400] * 10), 5)


def test_a_slow_body_and_one_that_never_ends() -> None:
    with pytest.raises(Refusal) as refusal:
        read(Sender(b"x", ends=False), 10)
    assert refusal.value.status == 408


def test_one_who_sends_nothing_is_not_waited_for_as_long_as_one_who_is_slow() -> None:
    began = time.monotonic()
    with pytest.raises(Refusal) as refusal:
        read(Sender(b"x", ends=False), 10, seconds=20)
    assert (refusal.value.status, refusal.value.headers["Connection"]) == (408, "close")
    assert time.monotonic() - began < 5

    async def slow() -> dict[str, Any]:
        await asyncio.sleep(0.2)
        pieces.append(b"x")
        return {"type": "http.request", "body": b"x", "more_body": len(pieces) < 5}

    pieces: list[bytes] = []
    assert read(slow, 5, seconds=20) == b"xxxxx"


def test_one_who_hangs_up() -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGoneError):
        read(gone)


def test_all_bodies_share_one_memory_and_give_it_back() -> None:
    reader = BodyReader(LIMITS)

    async def run() -> None:
        with reader.hold() as first, reader.hold() as second, reader.hold() as third:
            for body in (first, second):
                said = Headers({"content-length": "1000"})
                await body.read(said, Sender(b"x" * 1_000), limit=1_000, seconds=1)
            assert reader.held_bytes == 2_000
            with pytest.raises(Refusal) as refusal:  # it comes without saying how much
                await third.read(Headers({}), Sender(b"x" * 600), limit=1_000, seconds=1)
            assert refusal.value.status == 503
            assert refusal.value.headers["Retry-After"]
        assert reader.held_bytes == 0

    asyncio.run(run())


def test_who_says_much_and_sends_nothing_takes_no_memory() -> None:
    reader = BodyReader(LIMITS)
    said = Headers({"content-length": "1000"})

    async def idle() -> None:
        with reader.hold() as body:
            await body.read(said, Sender(b"", ends=False), limit=1_000, seconds=30)

    async def run() -> None:
        crowd = [asyncio.ensure_future(idle()) for _ in range(20)]
        await asyncio.sleep(0.05)
        with reader.hold() as body:
            data = await body.read(said, Sender(b"x" * 1_000), limit=1_000, seconds=1)
        assert len(data) == 1_000
        ended = await asyncio.gather(*crowd, return_exceptions=True)
        assert [getattr(one, "status", None) for one in ended] == [408] * 20

    asyncio.run(run())

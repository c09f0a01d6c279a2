"""A request's body, read within its limits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers

from headstart.serve.limits import Limits, Memory
from headstart.serve.refusal import ClientGoneError, Refusal

Receive = Callable[[], Awaitable[Any]]


class BodyReader:
    """Reads bodies one beside the other, all within one budget of memory."""

    def __init__(self, limits: Limits) -> None:
        """Begin with nothing read.

        Args:
            limits: What a body may cost.
        """
        self._memory = Memory(limits.max_memory_bytes)
        self._idle_seconds = limits.idle_seconds

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies that are being read or used."""
        return self._memory.taken

    @contextmanager
    def hold(self) -> Iterator["HeldBody"]:
        """Open one request's share of the memory; it is given back when the block ends."""
        body = HeldBody(self._memory, self._idle_seconds)
        try:
            yield body
        finally:
            self._memory.give_back(body.taken)


class HeldBody:
    """One request's body and the memory that is taken for it."""

    def __init__(self, memory: Memory, idle_seconds: float) -> None:
        """Take nothing yet; see `BodyReader.hold`."""
        self._memory = memory
        self._idle_seconds = idle_seconds
        self.taken = 0

    async def read(
        self, headers: Headers, receive: Receive, *, limit: int, seconds: float
    ) -> bytes:
        """Read the whole body.

        Memory is taken as it comes, whatever the client says of its size: who says much and sends
        nothing takes nothing from others.

        Args:
            headers: The request's headers.
            receive: The server's function that gives the next piece.
            limit: Bytes at most.
            seconds: Time that it may take.

        Returns:
            The body.

        Raises:
            Refusal: It is longer than `limit` (413), slower than `seconds` or nothing of it comes
                for a while (408), or there is no memory left (503).
            ClientGoneError: The client hung up.
        """
        said = headers.get("content-length", "")
        expected = int(said) if said.isascii() and said.isdigit() else 0
        if expected > limit:
            raise too_large(limit)
        pieces: list[bytes] = []
        size = 0
        try:
            clock = asyncio.get_running_loop().time
            end = clock() + seconds
            async with asyncio.timeout_at(end) as patience:
                while True:
                    patience.reschedule(min(end, clock() + self._idle_seconds))
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size > limit:
                        raise too_large(limit)
                    self._memory.take(len(piece))
                    self.taken = size
                    pieces.append(piece)
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError:
            raise Refusal(
                408,
                "slow_body",
                f"the body did not come within {seconds:.3g} s, "
                f"or nothing of it for {self._idle_seconds:.3g} s",
                headers=[("Connection", "close")],
            ) from None


def too_large(limit: int) -> Refusal:
    """Return the refusal of a body that is longer than `limit` bytes."""
    return Refusal(
        413,
        "too_large",
        f"the body is larger than {limit:,} bytes: send fewer samples or smaller ones",
        headers=[("Connection", "close")],
    )


async def drain(receive: Receive, *, seconds: float = 2.0, limit: int = 64_000_000) -> None:
    """Read and forget the rest of a body, so that a client that is still sending can hear us.

    A connection that is closed with bytes unread is reset, and the answer on its way is lost.

    Args:
        receive: The server's function that gives the next piece.
        seconds: For so long at most.
        limit: So many bytes at most.
    """
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while size < limit:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return

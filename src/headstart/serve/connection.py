"""A connection that must say in time what it wants."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimelyConnection(H11Protocol):
    """Uvicorn's connection, closed where no request is answered and none comes in time.

    Uvicorn's own limit is for the time between requests alone, and ends with the first byte.

    Attributes:
        header_seconds: From the connection, or from the first byte after an answer, to the end of
            the next request's header lines.
    """

    header_seconds = 10.0
    _too_late: asyncio.TimerHandle | None = None

    # As uvicorn has it, which needs a transport that can be written to.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of header lines give no more time."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the waiting."""
        super().connection_lost(exc)
        self._unwatch()

    def _watch(self) -> None:
        if self.conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY):  # a request is there
            self._unwatch()
        elif self._too_late is None:
            self._too_late = self.loop.call_later(
                self.header_seconds, self.timeout_keep_alive_handler
            )

    def _unwatch(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

"""Ctrl-C without loss: the first one asks, the second one insists."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from headstart.errors import StoppedError
from headstart.types import Progress


class Stop:
    """Whether somebody asked the program to stop; long work looks at it where it can end safely."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._event = threading.Event()

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the program to stop at the next safe place."""
        self._event.set()

    def withdraw(self) -> None:
        """Go on as if nobody had asked."""
        self._event.clear()

    def raise_if_requested(self) -> None:
        """End the work here if somebody asked.

        Raises:
            StoppedError: Somebody did.
        """
        if self._event.is_set():
            raise StoppedError("stopped as you asked")


@contextmanager
def on_signals(stop: Stop, show: Progress) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM ask to stop; a second Ctrl-C ends the program at once.

    Args:
        stop: Is told.
        show: Says that it was heard.

    Yields:
        Nothing. Outside the main thread, which alone hears signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heard(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.request()
        show.say("Stopping at the next safe place (Ctrl-C again: at once)")

    old = {s: signal.signal(s, heard) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

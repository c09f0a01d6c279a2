"""Ctrl-C and SIGTERM ask, a second Ctrl-C insists, and afterwards signals are as they were."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop, on_signals
from headstart.errors import HeadstartError, StoppedError


class Said(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)


def handlers() -> tuple[object, object]:
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


def alone(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test in a process of its own: a signal too many would end all that come after it."""

    @functools.wraps(test)
    def run() -> None:
        code = f"import test_stopping; test_stopping.{test.__name__}.__wrapped__()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


def test_nobody_has_asked_at_first() -> None:
    stop = Stop()
    assert not stop.requested
    stop.raise_if_requested()
    stop.request()
    assert stop.requested
    with pytest.raises(StoppedError) as error:
        stop.raise_if_requested()
    assert isinstance(error.value, HeadstartError)


@alone
def test_the_first_ctrl_c_asks_and_the_second_insists() -> None:
    before = handlers()
    stop, show = Stop(), Said()
    lines = []

    def work() -> None:
        with on_signals(stop, show):
            assert not stop.requested
            assert not show.messages
            os.kill(os.getpid(), signal.SIGINT)
            lines.append("goes on")
            assert stop.requested
            assert len(show.messages) == 1
            assert "Ctrl-C again" in show.messages[0]
            os.kill(os.getpid(), signal.SIGINT)
            lines.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert lines == ["goes on"]
    assert handlers() == before


@alone
def test_sigterm_asks_however_often_it_comes() -> None:
    before = handlers()
    stop = Stop()
    with on_signals(stop, Said()):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested
    assert handlers() == before


@alone
def test_ctrl_c_insists_on_what_another_asked_for() -> None:
    def work() -> None:
        with on_signals(Stop(), Said()):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()


@alone
def test_signals_are_as_they_were_afterwards_even_after_an_error() -> None:
    def mine(number: int, frame: object) -> None:
        raise AssertionError("not within the block")

    signal.signal(signal.SIGTERM, mine)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def work() -> None:
        with on_signals(Stop(), Said()):
            assert handlers()[0] not in (mine, signal.SIG_IGN)
            assert handlers()[1] is not mine
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert handlers() == (signal.SIG_IGN, mine)


@alone
def test_one_block_inside_another_gives_the_outer_one_back() -> None:
    outer, inner = Stop(), Stop()
    with on_signals(outer, Said()):
        with on_signals(inner, Said()):
            os.kill(os.getpid(), signal.SIGINT)
        assert inner.requested
        assert not outer.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert outer.requested


def test_outside_the_main_thread_nothing_changes() -> None:
    before = handlers()
    seen: list[object] = []

    def work() -> None:
        with on_signals(Stop(), Said()):
            seen.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
    assert handlers() == before


@alone
def test_a_request_is_seen_by_other_threads() -> None:
    stop = Stop()
    seen = threading.Event()

    def work() -> None:
        while not stop.requested:
            time.sleep(0.01)
        seen.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    with on_signals(stop, Said()):
        os.kill(os.getpid(), signal.SIGINT)
    assert seen.wait(timeout=10)
    thread.join()

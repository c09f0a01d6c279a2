"""Showing how far long work is: bars on a terminal, sparse lines in a log, nothing in a test."""

import contextlib
import sys
import time
from collections.abc import Iterator

from headstart.types import Progress, Task


class _NoTask:
    def advance(self, amount: int = 1) -> None:
        pass


class SilentProgress:
    """Shows nothing."""

    @contextlib.contextmanager
    def task(self, description: str, total: int, unit: str) -> Iterator[Task]:
        """Open a task that nobody watches."""
        del description, total, unit
        yield _NoTask()

    def say(self, message: str) -> None:
        """Drop the message."""
        del message


class _LineTask:
    """Prints at most one line each `every` seconds, and one at the end."""

    def __init__(self, description: str, total: int, unit: str, every: float) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._every = every
        self._done = self._printed = 0
        self._start = self._last = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._print(now)

    def close(self) -> None:
        if self._printed < self._done or not self._done:
            self._print(time.monotonic())

    def _print(self, now: float) -> None:
        self._printed = self._done
        elapsed = max(now - self._start, 1e-9)
        rate = self._done / elapsed
        left = (self._total - self._done) / rate if rate > 0 else float("inf")
        tail = f", {left:.0f} s left" if self._done < self._total else f", {elapsed:.1f} s"
        print(
            f"  {self._description}: {self._done}/{self._total} {self._unit}, "
            f"{rate:.1f} {self._unit}/s{tail}",
            flush=True,
        )


class LineProgress:
    """Prints plain lines: for logs and pipes."""

    def __init__(self, every: float = 10.0) -> None:
        self._every = every

    @contextlib.contextmanager
    def task(self, description: str, total: int, unit: str) -> Iterator[Task]:
        """Open a task that prints a line now and then."""
        task = _LineTask(description, total, unit, self._every)
        yield task
        task.close()

    def say(self, message: str) -> None:
        """Print the message."""
        print(message, flush=True)


class RichProgress:
    """Draws a bar with a rate and the time left: for terminals."""

    @contextlib.contextmanager
    def task(self, description: str, total: int, unit: str) -> Iterator[Task]:
        """Open a task that draws a bar."""
        from rich import progress as rich_progress

        class Rate(rich_progress.ProgressColumn):
            def render(self, task: rich_progress.Task) -> str:
                speed = task.finished_speed or task.speed
                return "" if speed is None else f"{speed:,.1f} {unit}/s"

        columns = (
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            Rate(),
            rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
        )
        with rich_progress.Progress(*columns, transient=True) as bars:
            identifier = bars.add_task(description, total=total)

            class Bar:
                def advance(self, amount: int = 1) -> None:
                    bars.advance(identifier, amount)

            yield Bar()

    def say(self, message: str) -> None:
        """Print the message above the bars."""
        import rich

        rich.print(message)


def for_terminal() -> Progress:
    """Return bars where standard output is a terminal, plain lines where it is not."""
    return RichProgress() if sys.stdout.isatty() else LineProgress()

"""What a contender is asked and what it answers: a file with its job, one line of JSON.

Nothing but the standard library: every environment runs it. A contender is a module with a `main`
that calls `answer` with a function; what it imports at the top is not counted as work, what the
function does is.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Answer = dict[str, Any]


def answer(work: Callable[[Job], Answer], packages: Sequence[str]) -> None:
    """Do a job and print what came of it as the last line.

    Args:
        work: Takes the job; returns figures. What it returns as ``seconds`` counts; where it
            returns none, all its time does.
        packages: Whose versions are named.
    """
    job: Job = json.loads(Path(sys.argv[1]).read_text())
    start = time.perf_counter()
    found = work(job)
    took = time.perf_counter() - start
    versions = {name: metadata.version(name) for name in packages}
    # With what a contender does not count as work: the rest of the process is its start-up.
    standard = {"seconds": took, "work_seconds": took, "threads": job["threads"]}
    print(json.dumps({**standard, **found, "versions": versions}), flush=True)


def corner(features: Any, rows: int = 4, columns: int = 64) -> list[float]:
    """Return the first numbers of an array [samples, width], to hold against another side's."""
    return [round(float(number), 6) for row in features[:rows, :columns] for number in row]


def listed(folder: str) -> tuple[list[str], list[str]]:
    """Return the paths of all photographs of a folder, and the name of the folder of each."""
    paths = sorted(Path(folder).glob("*/*"))
    return [str(path) for path in paths], [path.parent.name for path in paths]


class Epochs:
    """Measures the time of epochs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = time.perf_counter()

    def start(self) -> None:
        """Begin to count now."""
        self._last = time.perf_counter()

    def ended(self) -> None:
        """Count an epoch, from the end of the one before."""
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now

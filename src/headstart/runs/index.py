"""runs/index.html: every run of a folder on one page, made anew from what lies there.

Nothing is remembered between two writings: the page is what the folder holds, so that two runs at
once cannot lose each other's row. Whoever changes the state of a run writes the page afterwards.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from headstart._util import files
from headstart.errors import RunError
from headstart.report.run_rows import Found, RunRow, State, broken_row, row_of
from headstart.report.runs_page import MARK, runs_html
from headstart.runs.alive import is_at_work
from headstart.runs.record import RESULTS_NAME, RUN_NAME
from headstart.types import JsonDict, Progress

INDEX_NAME = "index.html"
_LOCK_NAME = ".index.lock"
_PATIENCE_SECONDS = 20.0  # another process writes the page: seconds where there are thousands
_RANK_NAME = "rank.json"
_TIMED = re.compile(r"-\d{8}-\d{6}(-\d+)?$")  # how the folder of a run or a ranking ends
_ENDS: tuple[State, ...] = ("complete", "partial", "stopped", "failed")
_LARGEST_BENCHMARK = 16 * 2**20  # bytes; a larger file of JSON is something else
_MARKED_WITHIN = 1000  # letters
# What a file of an unexpected shape can lead to; the row says so, and the others are shown.
_ODD_SHAPES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Index:
    """The page, and what is on it.

    Attributes:
        path: Where it lies.
        states: How many rows are in each state.
    """

    path: Path
    states: Counter[State]


def write_index(out: Path) -> Index:
    """Write the page of all runs of a folder.

    Args:
        out: The folder of all runs.

    Returns:
        Where the page is, and what it counts.

    Raises:
        RunError: There is no such folder, it cannot be written, or its index.html is another page.
    """
    if not out.is_dir():
        raise RunError(f"{out}: expected the folder of all runs (such as runs), got no folder")
    path = out / INDEX_NAME
    _refuse_other_page(path)
    try:
        # The last to write must be the last to have looked.
        with _alone(out):
            rows = read_rows(out)
            files.write_text(path, runs_html(rows, str(out)))
    except OSError as error:
        raise RunError(f"{path}: the page of all runs cannot be written: {error}") from error
    return Index(path, Counter(row.state for row in rows))


def refresh(out: Path, show: Progress) -> None:
    """Write the page of all runs where that can be done; a run must not fail for it.

    Args:
        out: The folder of all runs.
        show: Is told where it cannot.
    """
    try:
        write_index(out)
    except RunError as error:
        show.say(str(error))


def read_rows(out: Path) -> list[RunRow]:
    """Read what runs, rankings and benchmarks a folder holds.

    Args:
        out: The folder of all runs.

    Returns:
        Their rows, the newest first. What is damaged has a row that says so.
    """
    rows = [row for place in sorted(out.iterdir()) if (row := _row(place)) is not None]
    return sorted(rows, key=lambda row: row.moment, reverse=True)


def _row(place: Path) -> RunRow | None:
    """Return the row of a file or folder; None where it is none of ours."""
    try:
        found = _found(place)
        return None if found is None else row_of(found)
    except OSError as error:
        why = f"it cannot be read: {error.strerror or error}"
    except RunError as error:
        why = str(error)
    except _ODD_SHAPES:
        why = "a file in it is not as Headstart writes it"
    return broken_row(place, why)


def _found(place: Path) -> Found | None:
    if place.name.startswith("."):
        return None
    if not place.is_dir():
        return _benchmark(place)
    has = {name for name in (RUN_NAME, RESULTS_NAME, _RANK_NAME) if (place / name).exists()}
    if _RANK_NAME in has:
        return Found(place, "rank", "complete", "", {}, _read(place / _RANK_NAME) or {})
    if not has:
        if _TIMED.search(place.name) is None:
            return None
        raise RunError(f"neither {RUN_NAME} nor {RESULTS_NAME} is in it")
    about, results = _read(place / RUN_NAME), _read(place / RESULTS_NAME)
    state, note = _state(place, about, results)
    return Found(place, "run", state, note, about or {}, results or {})


def _benchmark(path: Path) -> Found | None:
    if path.suffix != ".json" or not path.is_file():
        return None
    if path.stat().st_size > _LARGEST_BENCHMARK:
        return None
    try:
        record = _read(path)
    except RunError:
        return None  # somebody's file of JSON
    if record is None or not {"conditions", "preparations", "results"} <= record.keys():
        return None
    return Found(path, "benchmark", "complete", "", {}, record)


def _state(folder: Path, about: JsonDict | None, results: JsonDict | None) -> tuple[State, str]:
    """Return how a run stands, and what there is to say of that.

    What run.json says holds, except that one who is killed cannot write it: then nobody holds the
    run's lock. Runs of earlier versions have results alone.
    """
    said = (about or {}).get("state")
    if said == "running":
        if is_at_work(folder):
            return "running", ""
        return "stopped", "It ended without a word: killed, or the machine was switched off."
    if said in _ENDS:
        return _ENDS[_ENDS.index(said)], str((about or {}).get("message") or "")
    if results is None:
        return "stopped", "It ended before its first part was done."
    return ("complete", "") if results["state"] == "complete" else ("partial", "")


def _read(path: Path) -> JsonDict | None:
    """Read a file of JSON; None where there is none."""
    if path.exists() and not path.is_file():  # to open a pipe would wait for ever
        raise RunError(f"the file {path.name} is a folder, a pipe or the like")
    try:
        # NaN is not JSON and never written; a file edited by hand may hold it all the same.
        value: Any = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise RunError(f"the file {path.name} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"the file {path.name} is not as Headstart writes it")
    return value


def _refuse_other_page(path: Path) -> None:
    """Leave a page alone that somebody else has put there: the folder may be anybody's."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = MARK in file.read(_MARKED_WITHIN)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path}: the page of all runs cannot be written: {error}") from error
    if not ours:
        raise RunError(
            f"{path}: this page is not Headstart's, and is left as it is; give runs a folder of "
            "their own (--out), or move the page away"
        )


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Let one process at a time read the folder and write the page, where that can be had."""
    lock = FileLock(out / _LOCK_NAME)
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except (OSError, NotImplementedError):  # a timeout too: a late page is better than none
        yield
        return
    try:
        yield
    finally:
        lock.release()

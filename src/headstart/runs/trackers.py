"""Showing a run while it goes on: TensorBoard and MLflow behind one small interface.

A tracker only watches. One that fails is switched off with a line, and the training goes on.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from headstart._util import files
from headstart.errors import ConfigError, HeadstartError, nearest
from headstart.report.load import load_run
from headstart.types import JsonDict, Progress, StepRecord

NAMES = ("tensorboard", "mlflow")
NOTES_NAME = "trackers.json"
MOST_MEMBERS = 32  # of a larger sweep only the chosen member's curves are shown, when it is over

_Ending = TypeVar("_Ending")


@dataclass(frozen=True, slots=True)
class Point:
    """Some figures of one training at one time.

    Attributes:
        part: The part's name.
        member: Index of the member, or None where the part trains one model.
        step: Epochs that were done by then, over all stages; optimiser steps of ``steps/…``.
        figures: Finite figures by name, such as ``val/loss``.
    """

    part: str
    member: int | None
    step: int
    figures: Mapping[str, float]

    @property
    def place(self) -> str:
        """``PART``, or ``PART/member-03``."""
        return self.part if self.member is None else member_place(self.part, self.member)


class Tracker(Protocol):
    """Something that shows a run while it goes on."""

    def start(self, folder: Path, experiment: str, settings: Mapping[str, object]) -> None:
        """Begin a run, or go on with one.

        Args:
            folder: The run folder.
            experiment: Name of the study.
            settings: Every setting of the study, flat, with dotted keys.
        """
        ...

    def log(self, point: Point) -> None:
        """Show a point; one that was shown before is not shown twice."""
        ...

    def finish(self, results: JsonDict) -> None:
        """Show the final figures of every part.

        Args:
            results: The content of results.json.
        """
        ...

    def close(self) -> None:
        """Write what is left, and let go; the run may go on later."""
        ...


@dataclass(slots=True)
class _Way:
    """How far one training is, over all its stages."""

    stage: int = 0
    before: tuple[int, int] = (0, 0)  # epochs and steps of earlier stages
    last: tuple[int, int] = (0, 0)

    def step(self, record: StepRecord) -> int:
        """Return where a record lies: the epoch; of one within epochs the optimiser step."""
        if record.stage < self.stage:  # the training begins again
            self.stage, self.before, self.last = record.stage, (0, 0), (0, 0)
        elif record.stage > self.stage:
            self.stage = record.stage
            self.before = (self.before[0] + self.last[0], self.before[1] + self.last[1])
        self.last = (record.epoch, record.step)
        within = record.split == "steps"
        return self.before[1] + record.step if within else self.before[0] + record.epoch


@dataclass(slots=True)
class Trackers:
    """All trackers of a run; without any, nothing happens.

    Attributes:
        active: Trackers by name; one that fails is taken out.
        folder: The run folder.
        show: Where to say that one was switched off.
    """

    active: dict[str, Tracker]
    folder: Path
    show: Progress
    _ways: dict[tuple[str, int], _Way] = field(default_factory=dict)

    def start(self, experiment: str, settings: Mapping[str, object]) -> None:
        """Begin the run, or go on with it, and note for `resume` who watches it.

        Args:
            experiment: Name of the study.
            settings: Every setting of the study, flat, with dotted keys.
        """
        if self.active:
            note(self.folder, "names", list(self.active))
        self._each(lambda tracker: tracker.start(self.folder, experiment, settings))

    def log(self, part: str, record: StepRecord, *, first: int = 0, members: int = 1) -> None:
        """Show one record.

        Args:
            part: The part's name.
            record: What the loop yielded.
            first: Index among the part's members of the record's member 0.
            members: How many members the part has.
        """
        if not self.active or members > MOST_MEMBERS:
            return
        index = first + record.member
        step = self._ways.setdefault((part, index), _Way()).step(record)
        point = Point(part, index if members > 1 else None, step, figures_of(record))
        if point.figures:
            self._each(lambda tracker: tracker.log(point))

    def finish(self, results: JsonDict) -> None:
        """Show the final figures of every part, and the curves that waited for the choice.

        Args:
            results: The content of results.json; its folder is read too.
        """
        large = [s["name"] for s in results["sweeps"] if len(s["members"]) > MOST_MEMBERS]
        if large and self.active:
            try:
                histories = load_run(self.folder).histories
            except HeadstartError as error:
                self.show.say(f"the curves of {', '.join(large)} are not tracked: {error}")
                histories = {}
            for name in large:
                for record in histories.get(name, ()):
                    self.log(name, record)
        self._each(lambda tracker: tracker.finish(results))

    def close(self) -> None:
        """Write what is left, and let go."""
        self._each(lambda tracker: tracker.close())
        self.active.clear()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in tuple(self.active.items()):
            try:
                call(tracker)
            except Exception as error:  # whatever a tracker's package raises
                del self.active[name]
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                self.show.say(f"{name} does not track this run any more, which goes on: {reason}")


def no_trackers() -> Trackers:
    """Return trackers that show nothing."""
    from headstart._util.progress import SilentProgress

    return Trackers({}, Path(), SilentProgress())


def check_trackers(names: Sequence[str]) -> None:
    """Refuse, before any work, trackers that do not exist or whose packages are missing.

    Args:
        names: Such as ``tensorboard``.

    Raises:
        ConfigError: There is no tracker of that name.
        MissingExtraError: Its package is not installed.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(
                f"track: expected {' or '.join(NAMES)}, got {name!r}: {nearest(name, NAMES)}"
            )
    for name in dict.fromkeys(names):
        _new(name, Path())


def build_trackers(names: Sequence[str], folder: Path, out: Path, show: Progress) -> Trackers:
    """Return the trackers of a run.

    Args:
        names: Such as ``tensorboard``; may be empty.
        folder: The run folder.
        out: Folder of all runs, where MLflow's database is.
        show: Where to say that one was switched off.

    Returns:
        The trackers, not yet started.

    Raises:
        ConfigError: There is no tracker of that name.
        MissingExtraError: Its package is not installed.
    """
    check_trackers(names)
    return Trackers({name: _new(name, out) for name in dict.fromkeys(names)}, folder, show)


@contextmanager
def tracking(
    names: Sequence[str],
    folder: Path,
    experiment: str,
    settings: Mapping[str, object],
    show: Progress,
) -> Iterator[Trackers]:
    """Let trackers watch a run, and let go of them however it ends.

    Args:
        names: Such as ``tensorboard``; may be empty.
        folder: The run folder; the one above it is that of all runs.
        experiment: Name of the study.
        settings: Every setting of the study, flat, with dotted keys.
        show: Where to say that one was switched off.

    Yields:
        The trackers; call `finish` when results and report are written.
    """
    trackers = build_trackers(names, folder, folder.absolute().parent, show)
    trackers.start(experiment, settings)
    try:
        yield trackers
    finally:
        trackers.close()


def tracked_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the trackers that watched a run, for going on with it."""
    return tuple(name for name in notes(folder).get("names", ()) if name in NAMES)


def watching(
    steps: Generator[StepRecord, None, _Ending],
    trackers: Trackers,
    part: str,
    *,
    first: int = 0,
    members: int = 1,
) -> Generator[StepRecord, None, _Ending]:
    """Hand on what a training yields and returns, showing each record on the way.

    Args:
        steps: A training, as `headstart.train.fit` returns it.
        trackers: Who watches.
        part: The part's name.
        first: Index among the part's members of the records' member 0.
        members: How many members the part has.

    Yields:
        Every record, as it came.

    Returns:
        What the training returns.
    """  # noqa: DOC405
    try:
        while True:
            try:
                record = next(steps)
            except StopIteration as end:
                ending: _Ending = end.value
                return ending
            trackers.log(part, record, first=first, members=members)
            yield record
    finally:
        steps.close()


def figures_of(record: StepRecord) -> dict[str, float]:
    """Return what there is to show of a record; a regression has no accuracy."""
    found = {"loss": record.loss}
    if record.split != "steps":
        found["accuracy"] = record.accuracy if record.accuracy >= 0 else math.nan
    if record.split == "train":
        found["learning_rate"] = record.learning_rate
    return {f"{record.split}/{k}": v for k, v in found.items() if math.isfinite(v)}


def final_figures(model: JsonDict) -> dict[str, float]:
    """Return the final figures of an entry of ``models``: scores with their intervals, costs."""
    found: dict[str, float] = {}
    for split, scores in model["metrics"].items():
        for metric, score in scores.items():
            for end in ("value", "low", "high"):
                key = f"final/{split}/{metric}" + ("" if end == "value" else f"_{end}")
                if isinstance(score.get(end), int | float):
                    found[key] = float(score[end])
    found["final/wall_seconds"] = float(sum(s["wall_seconds"] for s in model["stages"]))
    for key in ("parameters_total", "size_bytes"):
        found[f"final/{key}"] = float(model[key])
    return found


def member_place(part: str, member: int) -> str:
    """Return the name under which a member of a part is shown."""
    return f"{part}/member-{member:02d}"


def shown_members(results: JsonDict) -> Iterator[tuple[str, JsonDict]]:
    """Yield the place and the entry of each member of the sweeps that are shown member by member.

    Args:
        results: The content of results.json.

    Yields:
        Such as ``("probe/member-03", {"values": …, "state": …})``.
    """
    for sweep in results["sweeps"]:
        if 1 < len(sweep["members"]) <= MOST_MEMBERS:
            for index, member in enumerate(sweep["members"]):
                yield member_place(sweep["name"], index), member


def notes(folder: Path) -> JsonDict:
    """Return what trackers noted in a run folder; nothing where the file is missing or damaged."""
    try:
        found = files.read_json(folder / NOTES_NAME)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note(folder: Path, key: str, value: object) -> None:
    """Note something in a run folder, for going on with the run."""
    files.write_json(folder / NOTES_NAME, {**notes(folder), key: value})


def milliseconds() -> int:
    """Return the time of day in milliseconds."""
    return int(1000 * time.time())


def _new(name: str, out: Path) -> Tracker:
    if name == "tensorboard":
        from headstart.runs.tracker_tensorboard import TensorBoardTracker

        return TensorBoardTracker()
    from headstart.runs.tracker_mlflow import MlflowTracker

    return MlflowTracker(out)

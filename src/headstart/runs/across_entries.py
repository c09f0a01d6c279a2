"""Which parts of which runs are compared, read from their folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import RunError, nearest
from headstart.report import lookup
from headstart.report.load import read_results
from headstart.report.text import Measured, plural
from headstart.runs.record import RESULTS_NAME
from headstart.types import JsonDict


@dataclass(frozen=True, slots=True)
class Entry:
    """A part of a run.

    Attributes:
        number: From 1, as the table counts.
        run: Name of the run folder.
        folder: The run folder.
        part: The part's name.
        model: Its entry in ``models`` of results.json.
        results: The content of results.json.
    """

    number: int
    run: str
    folder: Path
    part: str
    model: JsonDict
    results: JsonDict

    @property
    def key(self) -> str:
        """Its number as text."""
        return str(self.number)

    @property
    def backbone(self) -> JsonDict | None:
        """Its backbone's entry in results.json, or None."""
        found = [b for b in self.results["backbones"] if b["key"] == self.model["backbone"]]
        return found[0] if found else None

    def score(self, split: str, metric: str) -> Measured | None:
        """Return a score, or None where there is none."""
        return lookup.metric(self.model, split, metric)

    @property
    def seconds(self) -> float:
        """Wall time of its training, extraction included."""
        return float(sum(stage["wall_seconds"] for stage in self.model["stages"]))

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds of the prediction step for each sample, or None."""
        timed = self.model.get("prediction")
        return None if not timed else 1000 * timed["seconds"] / timed["samples"]


def read_entries(runs: Sequence[str | Path], *, every: bool) -> list[Entry]:
    """Read the parts that words of the command line mean, each once.

    Args:
        runs: Run folders, or ``RUN/PART``.
        every: Whether a run means all its parts, not the recommended one.

    Returns:
        The parts as they came. Where folders have the same name their whole path tells them apart.

    Raises:
        RunError: There is no such run or part, or a run is not complete.
    """
    places = [place for run in runs for place in _places(Path(run), every)]
    found = {(folder.resolve(), part): folder for folder, part in places}
    resolved = {folder for folder, _ in found}
    alike = len({folder.name for folder in resolved}) < len(resolved)
    entries = []
    for number, ((whole, part), folder) in enumerate(found.items(), 1):
        results = read_results(folder)
        model = next(m for m in results["models"] if m["name"] == part)
        entries.append(
            Entry(number, str(folder) if alike else whole.name, folder, part, model, results)
        )
    return entries


def _places(path: Path, every: bool) -> list[tuple[Path, str]]:
    """Return run folders and parts that a word of the command line means."""
    if not (path / RESULTS_NAME).exists():
        folder, part = path.parent, path.name
        if (folder / RESULTS_NAME).exists():
            names = [m["name"] for m in read_results(folder)["models"]]
            if part not in names:
                raise RunError(f"{path}: {folder} has no part {part!r}: {nearest(part, names)}")
            return [(folder, part)]
        near = sorted(p.parent.name for p in folder.glob(f"*/{RESULTS_NAME}"))
        raise RunError(
            f"{path}: expected a run folder (one that holds {RESULTS_NAME}), or RUN/PART; "
            + (nearest(part, near) or f"{folder} holds {plural(len(near), 'run')}")
        )
    results = read_results(path)
    names = [m["name"] for m in results["models"]]
    if every:
        return [(path, name) for name in names]
    if results["state"] != "complete":
        raise RunError(
            f"{path}: expected a run that is complete, got one that is {results['state']}: only "
            f"{', '.join(names) or 'no part'} ran; go on with it (headstart resume {path}), or "
            "name a part (RUN/PART)"
        )
    chosen = results["recommendation"]["model"]
    if chosen is None:
        raise RunError(
            f"{path}: expected a recommended part, got none: name one (RUN/PART) of "
            f"{', '.join(names)}"
        )
    return [(path, chosen)]

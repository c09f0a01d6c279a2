"""The five-minute path: from a folder of pictures or a table of texts to a model, within a budget.

Everything that is chosen here is chosen by measurement on the data at hand, before the study runs,
and written into an experiment file; the study then is an ordinary run of that file. The test split
plays no part in any choice.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart._util import files
from headstart._util.stopping import Stop
from headstart.config.load import load_experiment
from headstart.data.guess import guess_kind
from headstart.errors import ConfigError
from headstart.runs.fit_clock import Clock
from headstart.runs.fit_file import experiment_text
from headstart.runs.fit_plan import Plan, Tried
from headstart.runs.names import study_name
from headstart.runs.runner import RunResult, run
from headstart.types import Progress

LEAST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class FitResult:
    """What `fit_data` leaves.

    Attributes:
        run: The run.
        file: The experiment file: running it repeats the study.
        tried: The backbones that were looked at.
        reasons: What was decided and why, a sentence each.
        model: Folder of the recommended model, or None.
        wall_seconds: Everything.
    """

    run: RunResult
    file: Path
    tried: tuple[Tried, ...]
    reasons: tuple[str, ...]
    model: Path | None
    wall_seconds: float


def fit_data(
    place: str,
    *,
    budget_seconds: float = 300.0,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    backbones: Sequence[str] = (),
    out: str | Path = "runs",
    allow_network: bool = False,
    workers: int = 2,
    show: Progress,
    stop: Stop | None = None,
    began: float | None = None,
) -> FitResult:
    """Make the best model of some data that there is time for.

    Args:
        place: Folder, archive or table with pictures or texts.
        budget_seconds: How long everything may take.
        kind: ``auto`` (pictures) or ``text``; None finds out.
        columns: Names of a table's columns by role, where they are not the usual ones.
        backbones: Names of networks to choose among; none for those that lie on this machine.
        out: Folder of all runs.
        allow_network: Whether weights may be downloaded.
        workers: Threads that decode.
        show: Where to show how far it is.
        stop: Somebody may ask it to stop.
        began: When the budget began, on the clock of `time.perf_counter`; None for now.

    Returns:
        The run, the experiment file, and why it is as it is.

    Raises:
        ConfigError: The budget is too small, or no backbone is there.
        HeadstartError: The data are not as needed.
    """
    clock = Clock(time.perf_counter() if began is None else began, budget_seconds)
    if budget_seconds < LEAST_SECONDS:
        raise ConfigError(
            f"budget: expected at least {LEAST_SECONDS:.0f} seconds, got {budget_seconds:g}"
        )
    stop = stop if stop is not None else Stop()
    found = guess_kind(place, columns) if kind is None else kind
    plan = Plan(place, found, dict(columns or {}), workers, allow_network, show, stop, clock)
    choice, tried = plan.choose(backbones)
    name = f"fit-{study_name(place)}"
    text = experiment_text(name, choice)
    path = _write(Path(out), name, text)
    show.say(f"experiment file: {path}")
    result = run(str(path), out=out, allow_network=allow_network, show=show, stop=stop)
    best = result.results["recommendation"]["model"]
    saved = None if best is None else result.folder / "models" / best
    return FitResult(
        run=result,
        file=path,
        tried=tried,
        reasons=choice.reasons,
        model=saved if saved is not None and (saved / "model.json").exists() else None,
        wall_seconds=clock.spent,
    )


def _write(out: Path, name: str, text: str) -> Path:
    """Write the experiment file beside the runs; a file that says otherwise is left alone."""
    for number in range(1, 1000):
        path = out / (f"{name}.yaml" if number == 1 else f"{name}-{number}.yaml")
        if not path.exists():
            files.write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            continue
        load_experiment(str(path))
        return path
    raise ConfigError(f"{out}: no free name for an experiment file beginning with {name}")


__all__ = ["FitResult", "Tried", "fit_data"]

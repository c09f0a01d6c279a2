"""A whole run: from an experiment to a folder with results and a report; and going on with one."""

import datetime
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from headstart._util import files, progress
from headstart._util.devices import resolve_device
from headstart._util.stopping import Stop
from headstart.config import schema
from headstart.config.load import load_experiment
from headstart.data.dataset import Dataset
from headstart.errors import ConfigError, HeadstartError, RunError, StoppedError
from headstart.report import render
from headstart.runs import index, record
from headstart.runs.alive import at_work
from headstart.runs.apart import Apart
from headstart.runs.assembly import assemble
from headstart.runs.build import flattened
from headstart.runs.executors import Executor
from headstart.runs.inputs import resolved
from headstart.runs.plan import plan_parts
from headstart.runs.reopened import found_again
from headstart.runs.study import Study
from headstart.runs.trackers import check_trackers, tracked_names, tracking
from headstart.types import RESAMPLING, JsonDict, Progress


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves.

    Attributes:
        folder: The run folder.
        results: The content of its results.json.
        report_html: The report as one HTML file.
        report_pdf: The report as PDF.
    """

    folder: Path
    results: JsonDict
    report_html: Path
    report_pdf: Path


def run(
    experiment: schema.Experiment | str | Path,
    *,
    data: str | None = None,
    out: str | Path = "runs",
    profile: str | None = None,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    allow_network: bool = False,
    track: Sequence[str] = (),
    show: Progress | None = None,
    stop: Stop | None = None,
    executor: Executor | None = None,
) -> RunResult:
    """Run a study and write its results and report.

    Args:
        experiment: An `Experiment`, a shipped experiment's name, or the path of a YAML file.
        data: Where the data are; replaces `data.path`.
        out: Folder of all runs; this one gets a new folder inside.
        profile: Which of the experiment's profiles to apply.
        only: Names of parts to repeat alone; empty for all.
        overrides: Changes as ``dotted.key=value``.
        allow_network: Whether weights and data that are missing may be downloaded.
        track: Who else shows it while it runs: ``tensorboard``, ``mlflow``.
        show: Where to show how far it is; None for the terminal.
        stop: Somebody may ask it to stop; None where nobody will.
        executor: Who does what takes long; None: this process.

    Returns:
        The folder, the results, and where the reports are.

    Raises:
        HeadstartError: The experiment, data or weights are not as needed; nothing was trained.
        StoppedError: Somebody asked to stop; the message says how to go on.
    """
    check_trackers(track)
    show = show if show is not None else progress.for_terminal()
    if isinstance(experiment, schema.Experiment):
        if data is not None or profile is not None or overrides:
            raise ConfigError(
                "data, profile and overrides change a file while it is loaded: "
                "give them to Experiment.load, or give run a name or path"
            )
        study, source = experiment, experiment.name
    else:
        study = load_experiment(experiment, profile=profile, data=data, overrides=tuple(overrides))
        source = str(experiment)
    study = resolved(study, Path(out))
    prepared = Study.prepare(
        study,
        plan_parts(study, only),
        resolve_device(study.device),
        allow_network=allow_network,
        show=show,
        stop=stop if stop is not None else Stop(),
    )
    now = datetime.datetime.now().astimezone()
    folder = record.new_run_folder(Path(out), study, now)
    about = {
        "format_version": 1,
        "command": _command(source, data, profile, only, overrides, allow_network),
        "created": now.isoformat(timespec="seconds"),
        "only": list(only),
        "allow_network": allow_network,
        "working_folder": str(Path.cwd()),
        "fingerprint": prepared.dataset.fingerprint,
        "resampling": RESAMPLING,
        "threads": torch.get_num_threads(),
        "wall_seconds": 0.0,
    }
    record.write_experiment(folder, study)
    files.write_json(folder / record.RUN_NAME, about)
    files.write_json(folder / "environment.json", record.environment(str(prepared.device)))
    return _execute(prepared, folder, about, track, executor)


def resume(
    folder: str | Path,
    *,
    allow_network: bool = False,
    track: Sequence[str] = (),
    show: Progress | None = None,
    stop: Stop | None = None,
    executor: Executor | None = None,
) -> RunResult:
    """Go on with a run that was stopped or killed, where it was.

    Parts that are done are read; the part in progress goes on from its last checkpoint. On a CPU
    the results are, bit for bit, those of a run that was never stopped.

    Args:
        folder: The run folder.
        allow_network: Whether weights and data that are missing may be downloaded; as it was
            when the run began if that allowed it.
        track: Who else shows it; none for those that did when it began.
        show: Where to show how far it is; None for the terminal.
        stop: Somebody may ask it to stop; None where nobody will.
        executor: Who does what takes long; None: this process.

    Returns:
        The folder, the results, and where the reports are.

    Raises:
        RunError: The folder is no run, or the data have changed since.
        StoppedError: Somebody asked to stop again.
    """
    check_trackers(track)
    folder = Path(folder)
    try:
        about: JsonDict = files.read_json(folder / record.RUN_NAME)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder}: expected the folder of a run ({record.RUN_NAME} is missing or damaged): "
            f"{error}"
        ) from error
    study = found_again(load_experiment(folder / record.EXPERIMENT_NAME), about["working_folder"])
    prepared = Study.prepare(
        study,
        plan_parts(study, about["only"]),
        resolve_device(study.device),
        allow_network=allow_network or about["allow_network"],
        show=show if show is not None else progress.for_terminal(),
        stop=stop if stop is not None else Stop(),
    )
    if prepared.dataset.fingerprint != about["fingerprint"]:
        raise RunError(
            f"{folder}: expected the data that this run began with (fingerprint "
            f"{about['fingerprint'][:12]}…), got {prepared.dataset.fingerprint[:12]}…: samples or "
            "labels have changed; start a new run with `headstart run`"
        )
    if _half_done_otherwise(prepared.dataset, about):
        raise RunError(
            f"{folder}: expected a run whose pictures were resized by {RESAMPLING}, but an earlier "
            "version began it, which resized them by Pillow; finish it with that version, or start "
            "a new run with `headstart run`"
        )
    about["allow_network"] = about["allow_network"] or allow_network  # jobs read it there
    return _execute(prepared, folder, about, track or tracked_names(folder), executor)


def _half_done_otherwise(dataset: object, about: JsonDict) -> bool:
    """Return whether going on would train one model on pictures of two kinds."""
    before = about.get("resampling", "pillow")  # by versions that did not say
    pictures = isinstance(dataset, Dataset) and dataset.noun == "picture"
    return pictures and before != RESAMPLING and about.get("state") != "complete"


def _execute(
    study: Study,
    folder: Path,
    about: JsonDict,
    track: Sequence[str],
    executor: Executor | None,
) -> RunResult:
    """Run the parts that are not done yet, write the results after each, and the report.

    Meanwhile the run says of itself that it is at work, and in the end how it ended.
    """
    started = time.perf_counter() - about["wall_seconds"]
    settings = flattened(study.experiment.model_dump(mode="json"))
    about = {**about, "state": "running", "message": None}
    name = study.experiment.name
    before = torch.get_num_threads()
    try:
        with at_work(folder), _ending(folder, about, started):
            torch.set_num_threads(record.threads_of(about))
            files.write_json(folder / record.RUN_NAME, about)
            index.refresh(folder.parent, study.show)
            with tracking(track, folder, name, settings, study.show) as study.trackers:
                if executor is not None:
                    Apart(executor, folder.resolve(), study.show, study.stop).run(study)
                results = assemble(study, folder, about, started)
                html, pdf = render(folder, max_pages=study.experiment.report.max_pages)
                study.trackers.finish(results)
            about["state"] = results["state"]
    finally:
        torch.set_num_threads(before)
        index.refresh(folder.parent, study.show)
    return RunResult(folder, results, html, pdf)


@contextmanager
def _ending(folder: Path, about: JsonDict, started: float) -> Iterator[None]:
    """Write into run.json how a run ended, and say how to go on where it was stopped."""
    try:
        yield
    except StoppedError as error:
        about |= {"state": "stopped", "message": str(error)}
        go_on = f"headstart resume {shlex.quote(str(folder))}"
        raise StoppedError(f"{error}; go on with: {go_on}") from error
    except KeyboardInterrupt:
        about |= {"state": "stopped", "message": "stopped at once, by a second Ctrl-C"}
        raise
    except BaseException as error:
        known = isinstance(error, HeadstartError)
        what = str(error) if known else f"{type(error).__name__}: {error}"
        about |= {"state": "failed", "message": what}
        raise
    finally:
        about["wall_seconds"] = round(time.perf_counter() - started, 3)
        files.write_json(folder / record.RUN_NAME, about)


def _command(
    source: str,
    data: str | None,
    profile: str | None,
    only: Sequence[str],
    overrides: Sequence[str],
    allow_network: bool,
) -> str:
    words = ["headstart", "run", source]
    for flag, value in (("--profile", profile), ("--data", data)):
        if value is not None:
            words += [flag, str(value)]
    for part in only:
        words += ["--only", part]
    for override in overrides:
        words += ["-s", override]
    if allow_network:
        words.append("--allow-network")
    return shlex.join(words)

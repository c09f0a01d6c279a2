"""`headstart run`: run a study and print what came out."""

import shlex
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:  # NumPy comes with it: not for --help
    from collections.abc import Callable

    from headstart._util.stopping import Stop
    from headstart.runs.runner import RunResult
    from headstart.types import JsonDict


_Executor = Annotated[
    Literal["local", "processes", "ray"],
    typer.Option(help="Who does what takes long: this process, several, or a Ray cluster."),
]
_Jobs = Annotated[
    int | None, typer.Option(min=1, help="How many processes (--executor processes).")
]
_Address = Annotated[
    str | None,
    typer.Option(help="The Ray cluster: auto, HOST:PORT or ray://HOST:PORT; else this machine."),
]

_DataParallel = Annotated[
    int, typer.Option(min=1, help="Processes that train one model together (--executor ray).")
]


def run(
    experiment: Annotated[
        str, typer.Argument(help="A name that `headstart experiments` lists, or a YAML file.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Folder, archive or manifest with the data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    profile: Annotated[
        str | None, typer.Option(help="small: minutes on a laptop; full: as published.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Repeat this part alone (and what it builds on); may be repeated."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", help="Change a setting: dotted.key=value; may be repeated."),
    ] = None,
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Download weights and data that are missing.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Show the run live: tensorboard or mlflow; may be repeated."),
    ] = None,
    executor: _Executor = "local",
    jobs: _Jobs = None,
    address: _Address = None,
    data_parallel: _DataParallel = 1,
) -> None:
    """Run a study: its models and sweeps, their evaluation, and the report."""
    from headstart.runs.runner import run as run_study

    work = partial(
        run_study,
        experiment,
        data=data,
        out=out,
        profile=profile,
        only=tuple(only or ()),
        overrides=tuple(set_ or ()),
        allow_network=allow_network,
        track=tuple(track or ()),
    )
    _carry_out(work, executor, jobs, address, data_parallel)


def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Download weights and data that are missing.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Show the run live: tensorboard or mlflow; default: as it began."),
    ] = None,
    executor: _Executor = "local",
    jobs: _Jobs = None,
    address: _Address = None,
    data_parallel: _DataParallel = 1,
) -> None:
    """Go on with a run that was stopped or killed, where it was."""
    from headstart.runs.runner import resume as resume_run

    work = partial(resume_run, run, allow_network=allow_network, track=tuple(track or ()))
    _carry_out(work, executor, jobs, address, data_parallel)


def _carry_out(
    work: "Callable[..., RunResult]",
    executor: Literal["local", "processes", "ray"],
    jobs: int | None,
    address: str | None,
    data_parallel: int,
) -> None:
    """Do a run with its executor, heed signals, and print what came out."""
    from headstart._util import progress
    from headstart._util.stopping import on_signals
    from headstart.runs.executors import executor_for

    stop, show = _stop(), progress.for_terminal()
    with ExitStack() as stack:
        stack.enter_context(on_signals(stop, show))
        if _only_follows(stack):
            return
        others = stack.enter_context(
            executor_for(executor, jobs=jobs, address=address, data_parallel=data_parallel)
        )
        result = work(show=show, stop=stop, executor=others)
    print_result(result)


def _stop() -> "Stop":
    """Return what asks the work of this process to stop: its share of a training too."""
    from headstart._util.stopping import Stop
    from headstart.runs import in_team, jobs

    return jobs.STOP if in_team.is_begun() else Stop()


def _only_follows(stack: ExitStack) -> bool:
    """Join the processes that this one was begun with, if any; all but the first only follow."""
    from headstart.runs import in_team

    if not in_team.is_begun() or stack.enter_context(in_team.connected()) == 0:
        return False
    in_team.follow()
    return True


def print_result(result: "RunResult") -> None:
    """Print what came out of a run and where it lies."""
    _print_results(result.results)
    typer.echo(f"Run folder:  {result.folder}")
    typer.echo(f"Report:      {result.report_html}")
    typer.echo(f"             {result.report_pdf}")
    if _can_be_bundled(result.results):
        typer.echo(f"next: headstart bundle {shlex.quote(str(result.folder))}")


def _can_be_bundled(results: "JsonDict") -> bool:
    """Return whether the recommended model is one that was trained to tell something of samples."""
    name = (results.get("recommendation") or {}).get("model")
    kinds = {model["name"]: model.get("kind", "model") for model in results["models"]}
    return kinds.get(name) in ("model", "sweep", "ensemble")


def _print_results(results: "JsonDict") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for problem in results["data"]["problems"]:
        console.print(f"[yellow]data:[/yellow] {escape(problem['text'])}", highlight=False)
    metric = _headline(results["models"])
    words = {"accuracy": "", "mse": ": mean squared error", "perplexity": ": perplexity"}
    table = Table(title=escape(results["experiment"]["title"] + words[metric]))
    table.add_column("part", no_wrap=True)
    further = _further_sets(results["models"], metric)
    for name in (
        "val",
        "test",
        "95% interval",
        *further,
        "train s",
        "extract s",
    ):
        # A terminal that is too narrow cuts the names of parts, never a figure.
        table.add_column(name, justify="right", no_wrap=True, min_width=max(len(name), 5))
    for model in results["models"]:
        whole = sum(stage["wall_seconds"] for stage in model["stages"])
        extraction = sum(stage["extraction_seconds"] for stage in model["stages"])
        times = (f"{whole - extraction:.1f}", f"{extraction:.1f}")
        blank = [""] * len(further)
        if metric not in model["metrics"].get("test", {}):
            table.add_row(escape(model["name"]), model["state"], "", "", *blank, *times)
            continue
        test = model["metrics"]["test"][metric]
        val = model["metrics"].get("val", {}).get(metric, {}).get("value")
        others = [model["metrics"].get(split, {}).get(metric) for split in further]
        table.add_row(
            escape(model["name"]),
            "" if val is None else _short(val),
            _short(test["value"]),
            f"{_short(test['low'])}–{_short(test['high'])}",
            *("" if other is None else _short(other["value"]) for other in others),
            *times,
        )
    console.print(table)
    for comparison in results["comparisons"]:
        line = escape(comparison["text"])
        if comparison["agreement"] is not None:
            line += f"; {comparison['agreement']:.2%} of test predictions identical"
        console.print(line, highlight=False)
    for target in results["targets"]:
        console.print(escape(target_line(target)), highlight=False)


def _headline(models: "list[JsonDict]") -> str:
    """Return the figure that tells most of these models: accuracy, squared error, perplexity."""
    tests = [model["metrics"].get("test", {}) for model in models]
    for metric in ("perplexity", "mse"):
        if any(metric in test for test in tests):
            return metric
    return "accuracy"


def _further_sets(models: "list[JsonDict]", metric: str) -> list[str]:
    """Return the names of test sets besides the first."""
    splits = dict.fromkeys(split for m in models for split in m["metrics"])
    measured = [s for s in splits if any(metric in m["metrics"].get(s, {}) for m in models)]
    return [split for split in measured if split.startswith("test-")]


def _short(value: float) -> str:
    """Return a figure with as many digits as tell something."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 else f"{value:.4g}"


def target_line(target: "JsonDict") -> str:
    """Return one target as a line: what was asked, what was reached."""
    against = f" against {target['against']}" if target["against"] else ""
    got = "not run" if target["got"] is None else f"{target['got']:.4g}"
    verdict = "met" if target["met"] else "MISSED"
    return (
        f"target {verdict}: {target['part']} {target['metric']}{against} "
        f"{target['op']} {target['value']:g}, got {got}"
    )

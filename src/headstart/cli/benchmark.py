"""`headstart benchmark`: how long saved models take to predict, and what they need for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from headstart.evaluate.timing import Latency
    from headstart.features.engine import EngineName
    from headstart.runs.benchmark_records import Benchmark, EngineResult, Timing


def benchmark(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of saved models, such as runs/RUN/models/NAME.", metavar="MODEL..."
        ),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Pictures, .txt files, folders of these, or a table of texts; may be repeated. "
            "Default: samples are made up."
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="torch, onnxruntime or openvino; may be repeated. Default: all installed that "
            "take the samples."
        ),
    ] = None,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(help="Samples of one call; may be repeated. Default: 1 and 32."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="How many times each call is timed.")] = 24,
    warm_up: Annotated[int, typer.Option(help="Calls of each before the clock starts.")] = 3,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads that compute, in every engine. Default: all usable cores."),
    ] = None,
    samples: Annotated[int, typer.Option(help="At most so many samples.")] = 64,
    device: Annotated[str, typer.Option(help="Where torch computes: cpu, cuda or cuda:N.")] = "cpu",
    memory: Annotated[
        bool,
        typer.Option("--memory/--no-memory", help="Measure memory, in a process for each figure."),
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Write all figures to this JSON file.")] = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="What is printed.")] = "table",
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Download backbone weights that are missing.")
    ] = False,
) -> None:
    """Time the predictions of saved models side by side; their size, memory and energy."""
    import json

    from headstart._util import files, progress
    from headstart.evaluate.energy import open_rapl
    from headstart.runs.benchmark import Plan
    from headstart.runs.benchmark import benchmark as measure
    from headstart.runs.index import INDEX_NAME, refresh

    plan = Plan(
        engines=cast("tuple[EngineName, ...]", tuple(engine)) if engine else None,
        batch_sizes=tuple(dict.fromkeys(batch_size)) if batch_size else (1, 32),
        rounds=rounds,
        warm_up=warm_up,
        threads=threads,
        samples=samples,
        device=device,
        memory=memory,
    )
    found = measure(
        models,
        plan,
        data=data or (),
        allow_network=allow_network,
        progress=progress.SilentProgress() if format == "json" else progress.for_terminal(),
        rapl=open_rapl(),
    )
    record = found.as_json()
    if out is not None:
        files.write_json(out, record)
        if (out.parent / INDEX_NAME).exists():  # it was put among the runs
            refresh(out.parent, progress.SilentProgress())
    if format == "json":
        typer.echo(json.dumps(record, indent=2))
    else:
        _print(found)
    if any(result.state != "ok" for result in found.results):
        raise typer.Exit(1)


def _print(found: "Benchmark") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(_models(found))
    console.print(_preparations(found))
    console.print(_times(found))
    for result in found.results:
        if result.reason or result.memory_note:
            console.print(
                f"[red]{escape(result.model)} in {result.engine}:[/red] "
                f"{escape(result.reason or result.memory_note)}",
                highlight=False,
            )
    for line in _conditions(found):
        console.print(escape(line), highlight=False)
    for warning in found.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False)


def _models(found: "Benchmark") -> "Table":
    table = _table(
        "Models", ("model", "backbone"), ("parameters", "mult.-adds", "weights", "saved")
    )
    for one in found.models:
        adds = "not counted" if one.multiply_adds is None else f"{one.multiply_adds / 1e6:,.0f} M"
        parameters = f"{one.parameters / 1e6:,.2f} M"
        sizes = (_size(one.network_bytes), _size(one.saved_bytes))
        table.add_row(one.name, one.backbone, parameters, adds, *sizes)
    return table


def _preparations(found: "Benchmark") -> "Table":
    table = _table("Before the network, ms a sample, one thread", ("step", "for"), ("p50", "p95"))
    for step in found.preparations:
        everyone = len(step.models) == len(found.models)
        names = "all" if everyone else ", ".join(step.models)
        table.add_row(step.step, names, _ms(step.latency.p50_ms), _p95(step.latency))
    return table


def _times(found: "Benchmark") -> "Table":
    names = ("p50", "95% of p50", "p95", "samples/s", "off torch", "memory", "J/1000")
    title = f"The network, ms a sample, {_threads(found)}"
    table = _table(title, ("model", "engine", "batch"), names)
    for result in found.results:
        off = "" if result.max_difference is None else f"{result.max_difference:.0e}"
        if result.state != "ok":
            table.add_row(result.model, result.engine, "", *[result.state, "", "", "", off, "", ""])
        for timing in result.timings:
            table.add_row(result.model, result.engine, *_row(result, timing, off))
    return table


def _row(result: "EngineResult", timing: "Timing", off: str) -> tuple[str, ...]:
    taken = timing.latency
    size = taken.batch_size
    memory = dict(result.predicting_bytes).get(size)
    return (
        str(size),
        _ms(taken.p50_ms_per_sample),
        f"{_ms(taken.low_ms / size)} to {_ms(taken.high_ms / size)}",
        _p95(taken),
        f"{taken.samples_per_second:,.1f}",
        off,
        "" if memory is None else _size(memory),
        "" if timing.joules_per_1000 is None else f"{timing.joules_per_1000:,.1f}",
    )


def _conditions(found: "Benchmark") -> list[str]:
    about = found.conditions
    machine = about.machine
    packages = machine["packages"]
    used = dict.fromkeys(result.engine for result in found.results)
    versions = ", ".join(f"{name} {packages[name]}" for name in used)
    loads = [f"{load:.2f}" for load in (about.load_begin, about.load_end) if load is not None]
    lines = [
        f"{about.when}; {machine['cpu']}, {machine['cores']} cores, {machine['platform']}",
        f"device {about.device}, {_threads(found)}; headstart {machine['headstart']}, {versions}",
        f"{about.rounds} rounds, all models and engines by turns, after {about.warm_up} calls to "
        f"warm up; samples: {about.samples}",
        f"load at the beginning and the end: {' and '.join(loads) or 'not known'}",
        f"energy: {found.energy}",
    ]
    lengths = [f"{one.name} {one.length}" for one in found.models if one.length is not None]
    if lengths:
        lines.append(f"multiply-adds are of samples of the median length: {', '.join(lengths)}")
    if found.idle_watts is not None:
        lines.append(f"power before the first model ran: {found.idle_watts:.1f} W")
    return lines


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        # A terminal that is too narrow cuts names, never a figure.
        table.add_column(name, justify="right", no_wrap=True, min_width=max(len(name), 5))
    return table


def _threads(found: "Benchmark") -> str:
    count = found.conditions.threads
    return f"{count} thread{'' if count == 1 else 's'}"


def _p95(taken: "Latency") -> str:
    from headstart.runs.benchmark_records import LEAST_CALLS_P95

    return "–" if taken.calls < LEAST_CALLS_P95 else _ms(taken.p95_ms_per_sample)


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _size(size_bytes: int) -> str:
    if size_bytes < 1e5:
        return f"{size_bytes / 1e3:,.1f} kB"
    return f"{size_bytes / 1e6:,.1f} MB"

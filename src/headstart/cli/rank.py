"""`headstart rank`: which backbone for these data, by accuracy and cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from headstart.cli import options

if TYPE_CHECKING:  # NumPy comes with it: not for --help
    from headstart.runs.rank import RankResult
    from headstart.types import JsonDict


def rank(
    data: options.Data,
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="Compare this network; may be repeated. Default: those here."),
    ] = None,
    random: Annotated[
        list[str] | None,
        typer.Option(help="Also time this one, with random weights; may be repeated."),
    ] = None,
    kind: options.Kind = "auto",
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    limit_per_class: Annotated[
        int | None, typer.Option(help="Samples of each class and split at most (a seeded draw).")
    ] = None,
    out: options.Out = Path("runs"),
    allow_network: options.AllowNetwork = False,
    workers: options.Workers = 2,
    format_: Annotated[
        Literal["table", "json"], typer.Option("--format", help="What to print.")
    ] = "table",
) -> None:
    """Compare frozen backbones on your data; no test sample enters a score."""
    from headstart._util import progress
    from headstart._util.stopping import Stop, on_signals
    from headstart.runs.rank import rank as rank_backbones

    source, columns = options.data_options(
        kind, text=text_column, pair=pair_column, label=label_column, split=split_column
    )
    stop = Stop()
    show = progress.SilentProgress() if format_ == "json" else progress.for_terminal()
    with on_signals(stop, show):
        result = rank_backbones(
            data,
            kind=source,
            columns=columns,
            backbones=tuple(backbone or ()),
            random=tuple(random or ()),
            limit_per_class=limit_per_class,
            out=out,
            allow_network=allow_network,
            workers=workers,
            show=show,
            stop=stop,
        )
    if format_ == "json":
        typer.echo((result.folder / "rank.json").read_text(encoding="utf-8"), nl=False)
    else:
        _print(result)


def _print(result: "RankResult") -> None:
    from rich.console import Console

    from headstart.report.rank_page import DISTURBED, disturbed

    console = Console()
    record = result.record
    for problem in record["data"]["problems"]:
        console.print(f"data: {problem['text']}", markup=False, highlight=False)
    console.print(_accuracies(record))
    console.print(_costs(record))
    if disturbed(record):
        console.print(DISTURBED, style="yellow", markup=False, highlight=False)
    for line in _agreement(record):
        console.print(line, markup=False, highlight=False)
    console.print()
    console.print(record["recommendation"]["sentence"], markup=False, highlight=False)
    typer.echo(f"Everything:  {result.folder / 'rank.json'}")
    typer.echo(f"Page:        {result.html}")


def _accuracies(record: "JsonDict") -> object:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from headstart.report.rank_tables import in_order, verdict_words

    samples = record["method"]["samples"]
    noun = record["data"]["noun"]
    table = Table(
        title=f"Accuracy out of fold, {samples:,} {noun}s of train and val",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("backbone", overflow="fold", min_width=16)
    for name in ("probe %", "95%", "kNN %", "LogME", "LEEP"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for one in in_order(record):
        scores = one["scores"]
        if scores is None:
            continue
        probe = scores["probe"]["accuracy"]
        leep = "–" if scores["leep"] is None else f"{scores['leep']:.3f}"
        table.add_row(
            escape(one["key"]),
            f"{100 * probe['value']:.1f}",
            f"{100 * probe['low']:.1f}–{100 * probe['high']:.1f}",
            f"{100 * scores['knn']['value']:.1f}",
            f"{scores['logme']:.3f}",
            leep,
            escape(verdict_words(one, record["recommendation"])),
        )
    return table


def _costs(record: "JsonDict") -> object:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from headstart.report.rank_tables import in_order

    timing, noun = record["method"]["timing"], record["data"]["noun"]
    tokens = {one["latency"]["1"]["tokens"] for one in record["candidates"]} - {None}
    length = f" of {' or '.join(map(str, sorted(tokens)))} tokens" if tokens else ""
    table = Table(
        title=(
            f"Cost with a linear head: {timing['engine']}, threads: {timing['threads']}, "
            f"{record['environment']['device']}; ms per {noun}{length}, p50 / p95"
        ),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("backbone", overflow="fold", min_width=16)
    heads = ("ms,\none", "ms,\nbatch 32", "a\nsecond", "params\nM", "size\nMiB")
    for name in (*heads, "M mult-\nadds", "peak\nMiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in in_order(record):
        single, batch, peak = one["latency"]["1"], one["latency"]["32"], one["peak_bytes"]
        table.add_row(
            escape(one["key"]),
            _p50_p95(single, 1),
            _p50_p95(batch, 32),
            f"{batch['samples_per_second']:.0f}",
            f"{one['parameters_total'] / 1e6:.1f}",
            f"{one['size_bytes'] / 2**20:.0f}",
            "–" if one["macs"] is None else f"{one['macs'] / 1e6:,.0f}",
            "–" if peak is None else f"{peak['32'] / 2**20:.0f}",
        )
    return table


def _p50_p95(taken: "JsonDict", size: int) -> str:
    p95 = taken["p95_ms"]
    return f"{_ms(taken['p50_ms'] / size)} / {'–' if p95 is None else _ms(p95 / size)}"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"


def _agreement(record: "JsonDict") -> list[str]:
    words = {"logme": "LogME", "leep": "LEEP", "knn": "kNN"}
    parts = [
        f"{words[one['score']]} {one['spearman']['value']:+.2f} (n = {one['n']})"
        for one in record["agreement"]
        if one["spearman"]["value"] is not None
    ]
    if not parts:
        return []
    few = "; with so few it means little" if record["agreement"][0]["n"] < 8 else ""
    return [f"Spearman's rho with the order of the probe: {', '.join(parts)}{few}"]

"""`headstart fit`: from a folder of pictures or a table of texts to a model, in five minutes."""

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from headstart.cli import options

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Return the seconds of a length of time such as ``90s``, ``5m`` or ``1h30m``.

    Args:
        text: Numbers with the units s, m, h; a number alone counts minutes.

    Returns:
        Seconds.

    Raises:
        BadParameter: It is no such length.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    if parts and "".join(n + u for n, u in parts) == text:
        return sum(float(n) * _UNITS[u] for n, u in parts)
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return 60 * float(text)
    raise typer.BadParameter(f"expected a time such as 90s, 5m or 1h, got {text!r}")


def fit(
    data: options.Data,
    budget: Annotated[str, typer.Option(help="How long everything may take: 90s, 5m, 1h.")] = "5m",
    kind: options.Kind = "auto",
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="Choose among these networks; may be repeated. Default: those here."),
    ] = None,
    out: options.Out = Path("runs"),
    allow_network: options.AllowNetwork = False,
    workers: options.Workers = 2,
) -> None:
    """Make the best model of your data that there is time for, and the file to go on from."""
    began = time.perf_counter()
    seconds = seconds_of(budget)
    from headstart._util import progress
    from headstart._util.stopping import Stop, on_signals
    from headstart.cli.run import print_result
    from headstart.runs.fit import fit_data

    source, columns = options.data_options(
        kind, text=text_column, pair=pair_column, label=label_column, split=split_column
    )
    stop, show = Stop(), progress.for_terminal()
    with on_signals(stop, show):
        result = fit_data(
            data,
            budget_seconds=seconds,
            kind=source,
            columns=columns,
            backbones=tuple(backbone or ()),
            out=out,
            allow_network=allow_network,
            workers=workers,
            show=show,
            stop=stop,
            began=began,
        )
    typer.echo()
    for reason in result.reasons:
        typer.echo(f"- {reason}")
    typer.echo(f"\nThe same as an experiment file, {result.file}:\n")
    typer.echo(result.file.read_text(encoding="utf-8"))
    print_result(result.run)
    if result.model is not None:
        typer.echo(f"Model:       {result.model}")
    typer.echo(f"Took {result.wall_seconds:.0f} s of {seconds:.0f} s.")

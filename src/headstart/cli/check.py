"""`headstart check` and `headstart report`: look at a run that is there."""

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")]


def check(run: RunFolder) -> None:
    """Print a study's targets and exit with 1 if one was missed."""
    from headstart.cli.run import target_line
    from headstart.report.load import read_results

    targets = read_results(run)["targets"]
    if not targets:
        typer.echo(f"{run}: this study sets no targets")
    for target in targets:
        typer.echo(target_line(target))
    if not all(target["met"] for target in targets):
        raise typer.Exit(1)


def report(
    run: RunFolder,
    max_pages: Annotated[
        int | None, typer.Option(help="Pages of the PDF at most; default: as the study says.")
    ] = None,
) -> None:
    """Render a run's report again."""
    from headstart.config.load import read_yaml
    from headstart.report import render
    from headstart.report.load import read_results

    read_results(run)
    if max_pages is None:
        max_pages = read_yaml(run / "experiment.yaml").get("report", {}).get("max_pages")
    for path in render(run, max_pages=max_pages):
        typer.echo(str(path))

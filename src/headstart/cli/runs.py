"""`headstart runs`: all runs of a folder on one page."""

from pathlib import Path
from typing import Annotated

import typer


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder of all runs.", metavar="FOLDER")] = Path(
        "runs"
    ),
) -> None:
    """Write the page of all runs, index.html in their folder, and say where it is."""
    from headstart.runs.index import write_index

    index = write_index(folder)
    counts = ", ".join(f"{count} {state}" for state, count in index.states.most_common())
    typer.echo(f"Runs:        {counts or 'none yet'}")
    typer.echo(f"Page:        {index.path}")

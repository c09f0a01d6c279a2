"""`headstart check-data`: what is wrong with a data set, on one page, before any training."""

from typing import Annotated

import typer


def check_data(
    path: Annotated[str, typer.Argument(help="Folder, archive or manifest.", metavar="DIR")],
    workers: Annotated[int, typer.Option(help="Threads that decode.")] = 2,
) -> None:
    """Look at every picture: unreadable files, duplicates, class counts, sizes, modes."""
    from rich.console import Console

    from headstart._util.files import cache_root
    from headstart._util.progress import for_terminal
    from headstart.data.checks import scan
    from headstart.data.page import render
    from headstart.data.source import open_source

    source = open_source("auto", path)
    preflight = scan(
        source, workers=workers, progress=for_terminal(), cache_dir=cache_root() / "scans"
    )
    console = Console()
    console.print(render(preflight, console.width), markup=False, highlight=False)
    if any(problem["severity"] == "error" for problem in preflight.problems()):
        raise typer.Exit(1)

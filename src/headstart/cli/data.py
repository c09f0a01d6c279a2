"""`headstart check-data`: what is wrong with a data set, on one page, before any training."""

from typing import Annotated, Literal

import typer


def check_data(
    path: Annotated[str, typer.Argument(help="Folder, archive, manifest or table.", metavar="DIR")],
    kind: Annotated[
        Literal["auto", "text"],
        typer.Option(help="auto: pictures, of whatever layout; text: texts or pairs of texts."),
    ] = "auto",
    text_column: Annotated[
        str | None, typer.Option(help="Column of the text, or of a pair's first text.")
    ] = None,
    pair_column: Annotated[
        str | None, typer.Option(help="Column of the second text of a pair.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the class.")] = None,
    workers: Annotated[int, typer.Option(help="Threads that decode.")] = 2,
) -> None:
    """Look at every picture or text: what is unreadable, duplicates, class counts, sizes."""
    from rich.console import Console

    from headstart._util.files import cache_root
    from headstart._util.progress import for_terminal
    from headstart.data.checks import scan
    from headstart.data.page import render
    from headstart.data.source import open_source

    named = {"text": text_column, "pair": pair_column, "label": label_column}
    columns = {role: name for role, name in named.items() if name is not None}
    source = open_source(kind, path, columns=columns or None)
    preflight = scan(
        source, workers=workers, progress=for_terminal(), cache_dir=cache_root() / "scans"
    )
    console = Console()
    console.print(render(preflight, console.width), markup=False, highlight=False)
    if any(problem["severity"] == "error" for problem in preflight.problems()):
        raise typer.Exit(1)

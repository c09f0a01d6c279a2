"""`headstart bundle`: a model of a run as one file or folder that stands alone."""

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli import options


def bundle(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.", metavar="RUN")],
    model: Annotated[
        str | None, typer.Option(help="Which of its models. Default: the recommended one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where: a folder, or a file ending in .headstart. Default: a file in RUN."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="How many samples of the test split it brings along.")
    ] = 16,
    data: Annotated[
        str | None, typer.Option(help="Where the data are now. Default: where they were.")
    ] = None,
    allow_network: options.AllowNetwork = False,
) -> None:
    """Write a model of a run as a bundle: everything to predict with it, and nothing else."""
    from headstart._util import progress
    from headstart.runs.bundling import bundle_run

    done = bundle_run(
        run,
        model=model,
        out=out,
        samples=samples,
        data=data,
        allow_network=allow_network,
        show=progress.for_terminal(),
    )
    info = done.info
    count = len(done.info.backbones)
    typer.echo(f"{done.path}: {info.title}")
    typer.echo(
        f"  {info.size_bytes / 1e6:,.1f} MB, {count} network{'s' if count > 1 else ''}; opened in "
        "a process of its own, without network and packages of weights: it says the same of its "
        f"stored samples, and differs from what the run stored by at most {done.difference:.1g}"
    )
    typer.echo(f"next: headstart predict {done.path} INPUT   or: headstart serve {done.path}")

"""The command `headstart`: its verbs, and how errors are shown.

Only light modules are imported here; each verb imports what it needs when it is called, so that
`headstart --help` is there at once.
"""

import sys

import typer

from headstart.cli import (
    benchmark,
    bundle,
    cache,
    check,
    compare,
    data,
    experiments,
    export,
    fit,
    predict,
    rank,
    run,
    runs,
    serve,
)
from headstart.errors import HeadstartError, StoppedError

app = typer.Typer(
    name="headstart",
    help="Transfer learning done right: frozen features once, honest numbers, a report.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: Rich would take half of the time to show it
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fit")(fit.fit)
app.command("rank")(rank.rank)
app.command("run")(run.run)
app.command("resume")(run.resume)
app.command("compare")(compare.compare)
app.command("benchmark")(benchmark.benchmark)
app.command("bundle")(bundle.bundle)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("runs")(runs.runs)
app.command("check")(check.check)
app.command("report")(check.report)
app.command("experiments")(experiments.experiments)
app.command("show")(experiments.show)
app.command("validate")(experiments.validate)
app.command("schema")(experiments.schema)
app.command("check-data")(data.check_data)
app.command("serve")(serve.serve)
app.add_typer(cache.app, name="cache")


def _version(value: bool) -> None:
    if value:
        from headstart import __version__

        typer.echo(f"headstart {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    del version


def main() -> None:
    """Run the command line; an error that a user can mend is one message and exit status 2."""
    try:
        app()
    except StoppedError as error:
        print(f"headstart: {error}", file=sys.stderr)
        sys.exit(130)
    except HeadstartError as error:
        print(f"headstart: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("headstart: stopped; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)

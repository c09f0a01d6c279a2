"""The command `headstart`: its verbs, and how errors are shown.

Only light modules are imported here; each verb imports what it needs when it is called, so that
`headstart --help` is there at once.
"""

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

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

# What a shell says of a program that a signal ended: 128 and the signal's number.
_INTERRUPTED, _NOBODY_READS, _TERMINATED = 130, 141, 143


@contextmanager
def _read_to_the_end() -> Iterator[None]:
    """End quietly where nobody reads what is printed any more, as after `| head`."""
    try:
        yield
    except BrokenPipeError as error:
        # Python would try once more when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_NOBODY_READS) from error


class _Commands(TyperGroup):
    """The verbs. Click itself says 1 of a broken pipe, as of an error: it does not hear of one."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the command line; `--version` and `--help` print here."""
        with _read_to_the_end():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Call a verb."""
        with _read_to_the_end():
            found = super().invoke(ctx)
            sys.stdout.flush()
            return found


app = typer.Typer(
    cls=_Commands,
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


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a verb as an exception does: temporary folders and child processes go too.

    Verbs that listen to it themselves (run, fit, serve …) do so instead while they work.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield  # whoever started it wants it so
        return
    own = os.getpid()

    def heard(number: int, frame: FrameType | None) -> None:
        del number, frame
        if os.getpid() != own:  # a copy of the process, which owns nothing
            os._exit(_TERMINATED)
        sys.exit(_TERMINATED)

    signal.signal(signal.SIGTERM, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _collect_seldom() -> None:
    """Look for garbage in cycles less often, and not at the end.

    torch and its like make some million objects when they are imported, which all live as long as
    the program: going through them again and again takes half a second of every command, and once
    more, when it ends, as long.
    """
    gc.set_threshold(10_000, 10, 10)
    atexit.register(gc.freeze)


def main() -> None:
    """Run the command line; an error that a user can mend is one message and exit status 2."""
    _collect_seldom()
    try:
        with _ended_by_sigterm():
            app()
    except StoppedError as error:
        print(f"headstart: {error}", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except HeadstartError as error:
        print(f"headstart: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("headstart: stopped; what was finished is kept", file=sys.stderr)
        sys.exit(_INTERRUPTED)

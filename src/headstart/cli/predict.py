"""`headstart predict`: a bundle's predictions of files, folders, texts, tables, lines, URLs."""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer

from headstart.cli import options
from headstart.cli.predict_formats import Format, lines_of

if TYPE_CHECKING:  # torch comes with it: not for --help
    from headstart.predict import Bundle, BundleInfo
    from headstart.predict.inputs import Reading
    from headstart.predict.stream import Outcome

_TEXT_BATCHES = 16  # texts of so many batches are sorted by length together

Shown = Callable[[int], None]
"""Is told how many more inputs are done."""


def predict(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle: a folder or a .headstart file.", metavar="BUNDLE")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, patterns, tables, texts, URLs; - (and none): standard input, "
            "one text or path a line.",
            metavar="INPUT",
        ),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="json: one object a line.")] = "table",
    top: Annotated[int, typer.Option(min=1, help="Classes that are told, at most.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    pair: Annotated[
        str | None, typer.Option(help="Second text of a pair; INPUT is the first one.")
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="A text file holds one text or path a line.")
    ] = False,
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Read INPUTs that are URLs.")
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Samples handed to the model at a time. Default: the bundle's."),
    ] = None,
    workers: options.Workers = 2,
    engine: Annotated[
        Literal["auto", "torch", "onnxruntime", "openvino"] | None,
        typer.Option(help="What computes. Default: what the bundle was made for."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Predict with a bundle. Exit status: 0; 1 some inputs failed; 2 all of them."""
    from headstart._util.devices import resolve_device
    from headstart.predict import load_bundle
    from headstart.predict.inputs import STANDARD_INPUT

    if out is not None:
        _check_out(out)
    columns = _columns(text_column, pair_column)
    words = _words(inputs or [STANDARD_INPUT], pair)
    with load_bundle(bundle, device=resolve_device(device), engine=engine) as loaded:
        reading = _reading(loaded.info, columns, pair, lines=lines, allow_network=allow_network)
        head, line = lines_of(format_, loaded.info, top)
        with (
            _target(out) as file,
            _bar(words, reading, quiet=out is None and sys.stdout.isatty()) as shown,
        ):
            file.write(head.encode())
            found = _outcomes(loaded, words, reading, batch, workers)
            total, failures = _write(file, found, line, shown)
    if out is not None:
        typer.echo(str(out))
    if failures:
        typer.echo(f"headstart: {failures:,} of {total:,} inputs failed", err=True)
        raise typer.Exit(2 if failures == total else 1)


def _columns(text: str | None, pair: str | None) -> dict[str, str]:
    from headstart.errors import ConfigError

    if pair is not None and text is None:
        raise ConfigError("--pair-column: give --text-column, the first text of the pair, too")
    named = {"text": text, "pair": pair}
    return {role: name for role, name in named.items() if name is not None}


def _words(inputs: list[str], pair: str | None) -> list[str]:
    """Return the inputs; those of a pair as the one that they are together."""
    import json

    from headstart.errors import ConfigError

    if pair is None:
        return inputs
    if len(inputs) != 1:
        raise ConfigError(f"--pair: expected one INPUT, the first text, got {len(inputs)}")
    return [json.dumps([inputs[0], pair], ensure_ascii=False)]


def _reading(
    info: "BundleInfo",
    columns: dict[str, str],
    pair: str | None,
    *,
    lines: bool,
    allow_network: bool,
) -> "Reading":
    from headstart.errors import ConfigError
    from headstart.predict.inputs import Reading
    from headstart.types import SeriesSpec

    for option, kinds in (
        ("--pair", ("pair",) if pair is not None else None),
        ("--pair-column", ("pair",) if "pair" in columns else None),
        ("--text-column", ("text", "pair") if "text" in columns else None),
    ):
        if kinds is not None and info.task not in kinds:
            raise ConfigError(f"{option}: {info.name} is a model of the task {info.task!r}")
    channels = info.spec.channels if isinstance(info.spec, SeriesSpec) else 1
    return Reading(info.task, channels, columns, lines=lines, allow_network=allow_network)


def _outcomes(
    bundle: "Bundle", words: Sequence[str], reading: "Reading", batch: int | None, workers: int
) -> Iterator[list["Outcome"]]:
    from headstart.predict.inputs import open_inputs
    from headstart.predict.stream import predict_inputs

    found = predict_inputs(
        bundle,
        open_inputs(words, reading),
        batch_size=batch,
        window=1 if reading.task == "image" else _TEXT_BATCHES,
        workers=workers,
    )
    with closing(found):
        yield from found


def _write(
    file: IO[bytes],
    outcomes: Iterator[list["Outcome"]],
    line: Callable[["Outcome"], str],
    shown: Shown,
) -> tuple[int, int]:
    """Write what comes as it comes; return how many inputs there were, and how many failed."""
    total = failures = 0
    for some in outcomes:
        # A file name that is no UTF-8 has half surrogates: as escapes they are valid JSON too.
        file.write("".join(map(line, some)).encode(errors="backslashreplace"))
        file.flush()
        total += len(some)
        failures += sum(one.error is not None for one in some)
        shown(len(some))
    return total, failures


def _check_out(out: Path) -> None:
    """Make sure that a file can be written before the work for it begins."""
    from headstart.errors import ConfigError
    from headstart.predict.placing import check_free

    check_free(out)
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}: make it, or name another")
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error


@contextmanager
def _target(out: Path | None) -> Iterator[IO[bytes]]:
    """Open the file to write to: one that appears when all is done, or standard output."""
    from headstart.errors import HeadstartError
    from headstart.predict.placing import new_file

    try:
        if out is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            with new_file(out) as file:
                yield file
    except BrokenPipeError:  # of standard output: nobody reads any more
        raise
    except OSError as error:  # the disk is full, say
        name = "standard output" if out is None else f"--out {out}"
        raise HeadstartError(f"{name}: cannot be written: {error.strerror or error}") from error


def _unseen(amount: int) -> None:
    del amount


@contextmanager
def _bar(words: Sequence[str], reading: "Reading", *, quiet: bool) -> Iterator[Shown]:
    """Draw a bar on standard error where that is a terminal which shows nothing else."""
    if quiet or not sys.stderr.isatty():
        yield _unseen
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("predicting"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, rate="")

        def advance(amount: int) -> None:
            bars.advance(task, amount)
            speed = bars.tasks[0].speed
            bars.update(task, rate="" if speed is None else f"{speed:,.0f}/s")

        _count_beside(words, reading, lambda total: bars.update(task, total=total))
        yield advance


def _count_beside(words: Sequence[str], reading: "Reading", tell: Callable[[int], None]) -> None:
    """Count the inputs in a thread, where that is possible without reading them up."""
    from headstart.predict.inputs import is_countable, open_inputs

    def count() -> None:
        tell(sum(1 for _ in open_inputs(words, reading)))

    if is_countable(words):
        threading.Thread(target=count, name="headstart-count", daemon=True).start()

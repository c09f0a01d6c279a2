"""What a person names on a command line, as samples: files, folders, texts, tables, lines, URLs.

Everything is read when its turn comes, so that a million samples need no more memory than a few.
What cannot be read is an input too: reading it raises the reason, and the others go on.
"""

import glob
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from headstart.data.image import SUFFIXES as PICTURES
from headstart.data.text import decode_text
from headstart.data.text_tables import SUFFIXES as TABLES
from headstart.data.tree import ignored, natural_key
from headstart.predict.bundle_info import TaskName
from headstart.predict.fetch import fetch, is_url
from headstart.predict.input_lines import numbered_lines
from headstart.predict.input_tables import rows_of, rows_of_lines
from headstart.predict.samples import Input, checked, failed, read_file, sample_of

STANDARD_INPUT = "-"

_LINES = (".jsonl", ".ndjson")
_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Reading:
    """How what was named becomes samples.

    Attributes:
        task: What the model reads.
        channels: Numbers at each step of a sequence.
        columns: Columns of tables by role, ``text`` and ``pair``, where they have not the usual
            names; with them, standard input is JSON lines.
        lines: Whether a text file holds one sample a line (of pictures: one path a line).
        allow_network: Whether URLs may be read.
    """

    task: TaskName
    channels: int = 1
    columns: Mapping[str, str] = field(default_factory=dict)
    lines: bool = False
    allow_network: bool = False


def open_inputs(words: Sequence[str], reading: Reading, stdin: int = 0) -> Iterator[Input]:
    """Find the samples that words name, in the order of the words.

    A word is, in this order: ``-`` for standard input, a URL, a folder (its files are searched at
    any depth by their endings, in natural order), a file, a pattern such as ``photos/*.jpg``, or
    the sample itself: a text, a JSON array.

    Args:
        words: What was named.
        reading: What it is read as.
        stdin: The file descriptor of standard input.

    Yields:
        Inputs; one that cannot be found is there too, and says so when it is read.
    """
    for word in words:
        if word == STANDARD_INPUT:
            yield from _standard_input(reading, stdin)
        elif is_url(word):
            yield _of_url(word, reading)
        elif os.path.isdir(word):
            yield from _of_folder(word, reading)
        elif os.path.exists(word):
            yield from _of_file(word, reading)
        elif _is_pattern(word, reading):
            yield from _of_pattern(word, reading)
        elif reading.task == "image" or _is_file_name(word, reading):
            yield failed(word, "no such file")
        else:
            yield Input(word, partial(sample_of, word, reading.task, reading.channels))


def is_countable(words: Sequence[str]) -> bool:
    """Say whether the inputs may be looked at twice: not where a pipe is among them."""
    return all(
        word != STANDARD_INPUT
        and (not os.path.exists(word) or os.path.isdir(word) or os.path.isfile(word))
        for word in words
    )


def _standard_input(reading: Reading, descriptor: int) -> Iterator[Input]:
    try:
        # Not sys.stdin, and never closed: a thread may still be waiting for it when the program
        # ends, and both closing it and Python's own last look at sys.stdin would wait for the
        # thread.
        stream = open(descriptor, "rb", closefd=False)  # noqa: SIM115
    except OSError as error:
        yield failed(STANDARD_INPUT, error.strerror or str(error))
        return
    if reading.columns:
        pairs = reading.task == "pair"
        yield from rows_of_lines(stream, STANDARD_INPUT, reading.columns, pairs=pairs)
    else:
        yield from _of_lines(stream, reading)


def _of_lines(stream: io.BufferedReader, reading: Reading) -> Iterator[Input]:
    for number, line in numbered_lines(stream):
        where = f"line {number:,}: "
        if isinstance(line, str):
            yield failed("", where + line)
            continue
        text = decode_text(line)[0]
        if reading.task != "image":
            sample = partial(sample_of, text, reading.task, reading.channels, where)
            yield Input(text, sample)
        elif not text.strip():
            yield failed(text, f"{where}empty: expected the path of a picture")
        elif "\0" in text:
            yield failed("", f"{where}no path: are these the bytes of a picture? Give its path")
        else:
            yield _of_url(text, reading) if is_url(text) else _of_path(text, reading)


def _of_url(url: str, reading: Reading) -> Input:
    if not reading.allow_network:
        return failed(url, "a URL is read only with --allow-network")

    def read() -> bytes:
        return checked(fetch(url), reading.task, reading.channels)

    return Input(url, read)


def _of_path(path: str, reading: Reading) -> Input:
    def read() -> bytes:
        return checked(read_file(path), reading.task, reading.channels)

    return Input(path, read)


def _of_file(path: str, reading: Reading) -> Iterator[Input]:
    suffix = _suffix(path)
    if reading.task in ("text", "pair") and suffix in TABLES:
        yield from rows_of(path, reading.columns, pairs=reading.task == "pair")
    elif _is_list(suffix, reading):
        try:
            with open(path, "rb") as file:
                yield from _of_lines(file, reading)
        except OSError as error:
            yield failed(path, error.strerror or str(error))
    else:
        yield _of_path(path, reading)


def _is_list(suffix: str, reading: Reading) -> bool:
    if reading.task == "sequence" and suffix in _LINES:
        return True
    return reading.lines and not (reading.task == "image" and suffix in PICTURES)


def _of_folder(folder: str, reading: Reading) -> Iterator[Input]:
    wanted = _suffixes(reading)
    found = False
    for path in _walk(folder, wanted, frozenset()):
        found = True
        yield from _of_file(path, reading)
    if not found:
        yield failed(folder, f"no file ends in {', '.join(sorted(wanted))}")


def _suffixes(reading: Reading) -> frozenset[str]:
    """Return the endings of the files of a folder that hold samples."""
    of: dict[TaskName, frozenset[str]] = {
        "image": PICTURES,
        "text": frozenset({".txt"}),
        "pair": frozenset({".txt"}),
        "sequence": frozenset({".json", *_LINES}),
    }
    return of[reading.task]


def _walk(
    folder: str, suffixes: frozenset[str], above: frozenset[tuple[int, int]]
) -> Iterator[str]:
    """Yield the files under a folder in natural order; only one folder's names are held a time.

    Args:
        folder: Where.
        suffixes: Endings of the files that count, in lower case.
        above: Identities of the folders above: a link back to one of them is a circle.
    """
    try:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        with os.scandir(folder) as entries:
            kept = {
                entry.name: entry.is_dir()
                for entry in entries
                if not ignored(entry.name) and (entry.is_dir() or _suffix(entry.name) in suffixes)
            }
    except OSError:
        return
    for name in sorted(kept, key=natural_key):
        path = os.path.join(folder, name)
        if kept[name]:
            yield from _walk(path, suffixes, above | {identity})
        else:
            yield path


def _is_pattern(word: str, reading: Reading) -> bool:
    if not _MAGIC & set(word):
        return False
    # "Was it good?" is a text, and "**well** …" would search the whole disk.
    return reading.task == "image" or _is_file_name(word, reading)


def _of_pattern(pattern: str, reading: Reading) -> Iterator[Input]:
    matches = sorted(glob.iglob(pattern, recursive=True), key=natural_key)
    if not matches:
        yield failed(pattern, "no file matches this pattern")
    for path in matches:
        yield from _of_folder(path, reading) if os.path.isdir(path) else _of_file(path, reading)


def _is_file_name(word: str, reading: Reading) -> bool:
    """Say whether a word that is no file here was meant as one, and not as the sample."""
    known = {".txt", *TABLES} if reading.task in ("text", "pair") else {".json", *_LINES}
    return not any(c.isspace() for c in word) and _suffix(word) in known


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()

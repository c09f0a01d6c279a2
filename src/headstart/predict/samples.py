"""One sample as a person gives it, as the bytes that a model takes."""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headstart.data.checks import probe_pair, probe_text
from headstart.data.text import decode_text, pair_bytes, text_bytes
from headstart.errors import DataError
from headstart.predict.bundle_info import TaskName

MAX_BYTES = 128 * 2**20
"""A file, or what a URL gives, of more bytes than this is no sample."""


@dataclass(frozen=True, slots=True)
class Input:
    """One sample that is to be predicted.

    Attributes:
        name: What it is called where its prediction is shown: a path, a URL, a table's row, or
            the text itself.
        read: Returns its bytes; raises `DataError` with the reason, without the name, where there
            are none. Safe to call in any thread.
    """

    name: str
    read: Callable[[], bytes]


def failed(name: str, reason: str) -> Input:
    """Return an input that cannot be read, for this reason."""

    def read() -> bytes:
        raise DataError(reason)

    return Input(name, read)


def read_file(path: str) -> bytes:
    """Return a file's bytes.

    Args:
        path: A file, or a pipe.

    Returns:
        What is in it.

    Raises:
        DataError: It cannot be read, or holds more than `MAX_BYTES`.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
                return file.read()
            data = file.read(MAX_BYTES + 1)  # a device may have no end
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    if len(data) > MAX_BYTES:
        raise DataError(f"too large for one sample: more than {MAX_BYTES:,} bytes")
    return data


def checked(data: bytes, task: TaskName, channels: int = 1) -> bytes:
    """Return what a model takes of the content of a file that holds one sample.

    Args:
        data: The file.
        task: What the model reads.
        channels: Numbers at each step of a sequence.

    Returns:
        The sample's bytes.

    Raises:
        DataError: There is no sample in it. (Pictures are looked at when they are decoded.)
    """
    if task == "image":
        return data
    if task == "text":
        probe_text(data)
        return data
    return sample_of(decode_text(data)[0].strip(), task, channels)


def sample_of(text: str, task: TaskName, channels: int = 1, where: str = "") -> bytes:
    """Return the bytes of a sample that somebody typed.

    Args:
        text: A text; a pair, as a JSON array of two strings or with a tab between them; a sequence
            as a JSON array.
        task: What the model reads; not a picture.
        channels: Numbers at each step of a sequence.
        where: Comes before the reason where there is no sample, such as ``line 3: ``.

    Returns:
        The sample's bytes.

    Raises:
        DataError: It is no such sample.
    """
    try:
        if task == "pair":
            return text_pair(*_two(text))
        if task == "sequence":
            return sequence_bytes(_json(text), channels)
        data = text_bytes(text)
        probe_text(data)
        return data
    except DataError as error:
        raise DataError(f"{where}{error}") from error


def text_pair(first: str, second: str) -> bytes:
    """Return the bytes of a pair of texts.

    Args:
        first: The first text.
        second: The second text.

    Returns:
        The sample's bytes.

    Raises:
        DataError: One of them has no word.
    """
    data = pair_bytes(first, second)
    probe_pair(data)
    return data


def sequence_bytes(value: object, channels: int) -> bytes:
    """Return the bytes of a sequence of numbers.

    Args:
        value: A list of steps, each a list of numbers, or a number where there is one channel; or
            an object with such a list under ``values``.
        channels: Numbers at each step.

    Returns:
        float32 [length, channels], little-endian.

    Raises:
        DataError: It is no such sequence.
    """
    steps = value.get("values") if isinstance(value, dict) else value
    wanted = "numbers" if channels == 1 else f"lists of {channels} numbers"
    if not isinstance(steps, list) or not steps:
        raise DataError(f"expected a JSON array of {wanted}, got {_shortly(value)}")
    rows = [step if isinstance(step, list) else [step] for step in steps]
    for number, row in enumerate(rows, start=1):
        if len(row) != channels or not all(map(_is_number, row)):
            raise DataError(
                f"expected a JSON array of {wanted}, got {_shortly(steps[number - 1])} at step "
                f"{number:,}"
            )
    return np.array(rows, dtype="<f4").tobytes()


def _is_number(value: object) -> bool:
    """Say whether it is a number that float32 has."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= float(np.finfo(np.float32).max)  # false for what is not a number


def _two(text: str) -> tuple[str, str]:
    """Return the two texts of a pair in one line."""
    if text.lstrip().startswith("["):
        match _json(text):
            case [str(first), str(second)]:
                return first, second
    elif text.count("\t") == 1:
        first, _, second = text.partition("\t")
        return first, second
    if not text.strip():
        raise DataError("empty: no words")
    raise DataError(
        "expected two texts: INPUT and --pair, or a JSON array of two strings, or one tab between "
        f"them; got {_shortly(text)}"
    )


def _json(text: str) -> object:
    if not text.strip():
        raise DataError("empty")
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected JSON, or a file that exists, got {_shortly(text)}") from error
    return value


def _shortly(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"

"""Lines of a stream that may have no end, each in bounded memory."""

import codecs
import io
from collections.abc import Iterator

MAX_LINE = 16 * 2**20
"""A line of more bytes than this is no sample."""


def numbered_lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes | str]]:
    r"""Yield the lines of a stream as they come.

    Lines end with ``\n`` or ``\r\n``; what ends them is not part of them. A stream in UTF-16 (with
    a byte order mark, as Windows makes it) is read as such; lines of any other are left as they
    are.

    Args:
        stream: Where from.

    Yields:
        The number of each line, from 1, and its bytes (of UTF-16: in UTF-8), or a text that says
        why it cannot be used: the line is longer than `MAX_LINE`.
    """
    start = stream.peek(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        parts: Iterator[bytes] = _of_utf16(stream)
    else:
        parts = iter(lambda: stream.readline(MAX_LINE), b"")
    number, continued = 0, False
    for part in parts:
        ends = part.endswith(b"\n")
        if continued:  # the rest of a line that was too long
            continued = not ends
            continue
        number += 1
        continued = not ends and len(part) >= MAX_LINE
        if continued:
            yield number, f"too long for one sample: more than {MAX_LINE:,} bytes"
        else:
            yield number, part.removesuffix(b"\n").removesuffix(b"\r")


def _of_utf16(stream: io.BufferedReader) -> Iterator[bytes]:
    """Yield the lines of a stream in UTF-16 as those of UTF-8."""
    wide = io.TextIOWrapper(stream, encoding="utf-16", errors="replace", newline="\n")
    try:
        while part := wide.readline(MAX_LINE):
            yield part.encode()
    finally:
        wide.detach()  # else it would close the stream, which is not its own

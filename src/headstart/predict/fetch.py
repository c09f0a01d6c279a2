"""One sample from a URL, with limits on its size and on the time it takes."""

import time
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException
from typing import IO
from urllib.parse import urlsplit

from headstart.errors import DataError
from headstart.predict.samples import MAX_BYTES

_SCHEMES = ("http", "https")
_SILENCE_SECONDS = 20.0
_TOTAL_SECONDS = 120.0
_PIECE = 1 << 16


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects from HTTP to HTTP only: urllib would follow them to FTP too."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme.lower() not in _SCHEMES:
            raise DataError(f"refused: it redirects to {newurl!r:.100}, which is not http or https")
        # urllib has no stubs for its own types' details here.
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def is_url(word: str) -> bool:
    """Say whether a word is the address of a file on the web."""
    start = word[:8].lower()
    return start.startswith(("http://", "https://")) and not any(c.isspace() for c in word)


def fetch(url: str, *, max_bytes: int = MAX_BYTES, seconds: float = _TOTAL_SECONDS) -> bytes:
    """Download one file.

    Args:
        url: An address that begins with ``http://`` or ``https://``.
        max_bytes: More are refused.
        seconds: How long it may take.

    Returns:
        The file.

    Raises:
        DataError: It cannot be had, is too large or takes too long.
    """
    deadline = time.monotonic() + seconds
    # Not build_opener: that would also open files, FTP and data URLs.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    found = bytearray()
    try:
        with opener.open(url, timeout=min(_SILENCE_SECONDS, seconds)) as answer:
            while piece := answer.read1(_PIECE):
                found += piece
                if len(found) > max_bytes:
                    raise DataError(f"too large for one sample: more than {max_bytes:,} bytes")
                if time.monotonic() > deadline:
                    raise DataError(f"it takes longer than {seconds:g} s")
    except urllib.error.HTTPError as error:
        raise DataError(f"the server answered {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DataError(f"cannot be fetched: {reason}") from error
    return bytes(found)

"""Whose requests a server without a key answers: not those of other web pages.

A browser lets any page send requests to any address, this machine's too. What it does not let a
page do is lie about where it comes from.
"""

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers

from headstart.serve.refusal import Refusal


def check_origin(method: str, headers: Headers, names: Collection[str] | None) -> None:
    """Refuse what a page of another server may have sent.

    Args:
        method: The request's method.
        headers: Its headers. Programs other than browsers send no ``Origin``, and are not refused.
        names: Names of this machine by which it may be asked, besides those of the loopback; None:
            any name, for a server that others reach by names that it does not know.

    Raises:
        Refusal: It is for another name (421): a page's own name that was made to point here. Or it
            was sent by a page of another address (403).
    """
    host = headers.get("host", "").lower()
    if host and names is not None and not _is_here(_name(host), names):
        raise Refusal(
            421,
            "wrong_host",
            f"this server answers as localhost alone, not as {host!r:.80}; "
            "to serve under another name, set a key",
        )
    origin = headers.get("origin")
    if method == "POST" and origin is not None and origin.lower().partition("://")[2] != host:
        raise Refusal(
            403,
            "other_origin",
            f"a page of {origin!r:.80} may not use this server; to let it, set a key",
        )


def _name(host: str) -> str:
    """Return the name or address in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _is_here(name: str, names: Collection[str]) -> bool:
    if name == "localhost" or name.endswith(".localhost") or name in map(str.lower, names):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

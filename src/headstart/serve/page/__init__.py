"""The page at ``/``, the API's description at ``/docs``, and their files: plain, own, offline."""

import hashlib
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["page_routes"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

# Everything comes from this server, and nothing is written into the page but by its own scripts. A
# picture that was chosen is shown from the browser's memory ("blob:").
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    # Asked again each time, and answered by 304 where nothing has changed: never a page of one
    # version with the script of another.
    "Cache-Control": "no-cache",
}


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Return the content and the tag of each file; nothing else can be asked for."""
    folder = resources.files(__name__) / "static"
    found = {}
    for file in folder.iterdir():
        content = file.read_bytes()
        found[file.name] = (content, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found


def _send(request: Request, name: str) -> Response:
    known = _files().get(name)
    if known is None:
        return Response("there is no such file\n", 404, _HEADERS, media_type="text/plain")
    content, tag = known
    headers = {**_HEADERS, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(content, 200, headers, media_type=_TYPES[name.rpartition(".")[2]])


async def _index(request: Request) -> Response:
    return _send(request, "index.html")


async def _docs(request: Request) -> Response:
    return _send(request, "docs.html")


async def _static(request: Request) -> Response:
    return _send(request, request.path_params["name"])


page_routes = (
    Route("/", _index),
    Route("/docs", _docs),
    Route("/static/{name}", _static),
)
"""Text that anybody may read: none of it needs a key, and none of it names what is served."""

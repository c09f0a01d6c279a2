"""What the tests have served by Ray; the replicas import this file.

One replica serves all tests: to start one takes seconds. A request's header says for which test it
is, and a file of that name what is served there.
"""

import pickle
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from served_fakes import fakes
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from headstart.errors import BundleError
from headstart.serve import Limits, create_app

SERVER = "x-test-server"
_KEPT = 4  # applications: each has threads of its own


def several(folder: Path) -> Callable[[], FastAPI]:
    """Return what makes the application that is many: those that `write` has put into a folder."""

    def application() -> FastAPI:
        app = FastAPI()
        app.add_middleware(ByHeader, folder=folder)

        @app.get("/health")
        def health() -> str:
            return "none of those that are tested"

        return app

    return application


def broken() -> FastAPI:
    """Make no application."""
    raise BundleError("it is broken")


def write(
    folder: Path,
    bundles: dict[str, object] | None,
    key: str | None,
    names: tuple[str, ...] | None,
    limits: dict[str, float],
) -> str:
    """Say what is to be served, and return the header's word for it."""
    name = secrets.token_hex(8)
    served = bundles if bundles is not None else fakes()
    (folder / name).write_bytes(pickle.dumps((served, key, names, limits)))
    return name


class ByHeader:
    """Gives each request to the application that its header names."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._made: dict[str, FastAPI] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = Headers(scope=scope).get(SERVER) if scope["type"] == "http" else None
        app = self._app if name is None else self._named(name)
        await app(scope, receive, send)

    def _named(self, name: str) -> FastAPI:
        if name not in self._made:
            bundles, key, names, limits = pickle.loads((self._folder / name).read_bytes())
            self._made[name] = create_app(bundles, Limits(**limits), api_key=key, names=names)
            while len(self._made) > _KEPT:
                old = self._made.pop(next(iter(self._made)))
                threading.Thread(target=old.state.service.close).start()
        return self._made[name]

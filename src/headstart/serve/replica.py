"""What runs in each of Ray's replicas: the application, and what Ray's processes need besides."""

import logging.config
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, final

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart._util.devices import resolve_device
from headstart.predict import load_bundle
from headstart.serve.app import create_app
from headstart.serve.limits import Limits
from headstart.serve.logs import log_settings


def application_of(
    bundles: Mapping[str, Path],
    limits: Limits,
    *,
    device: str,
    threads: int,
    api_key: str | None,
    names: Collection[str] | None,
) -> Callable[[], FastAPI]:
    """Return what makes the application that serves bundles.

    Args:
        bundles: Paths by name; every machine of the cluster sees them there.
        limits: What a request may cost.
        device: Where torch computes.
        threads: How many compute on the processor.
        api_key: As in `headstart.serve.app.create_app`.
        names: Likewise.

    Returns:
        A function without arguments. The bundles that it opens are closed when the application's
        lifespan ends.
    """
    places = {name: path.resolve() for name, path in bundles.items()}

    def application() -> FastAPI:
        where = resolve_device(device)
        with ExitStack() as opened:
            loaded = {
                name: opened.enter_context(load_bundle(place, device=where, threads=threads))
                for name, place in places.items()
            }
            app = create_app(loaded, limits, api_key=api_key, names=names)
            _close_after(app, opened.pop_all())
        return app

    return application


def in_replica(application: Callable[[], FastAPI], *, alone: bool) -> Callable[[], FastAPI]:
    """Return what makes the application in a process of Ray's.

    Args:
        application: Makes the application.
        alone: Whether nobody but this machine may reach the process.

    Returns:
        A function, as Ray Serve wants it: not just anything that can be called.
    """

    def made() -> FastAPI:
        if alone:
            _stay_on_this_machine()
        logging.config.dictConfig(log_settings())
        app = application()
        app.add_middleware(_OneNumber)
        return app

    return made


def _close_after(app: FastAPI, opened: ExitStack) -> None:
    """Close what an application uses when it ends: nobody else is there who could."""
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def closing(served: Any) -> AsyncIterator[Any]:
        with opened:
            async with lifespan(served) as state:
                yield state

    app.router.lifespan_context = closing


def _stay_on_this_machine() -> None:
    """Keep to the loopback the port that a replica opens for calls from others.

    Ray Serve opens it on all addresses, without a key, once the application is made: this is
    called before. Where a version of Ray does it in another way, the replica does not start.
    """
    from ray.serve._private import replica

    open_port = replica.add_port_to_grpc_server

    def open_here(server: Any, address: str) -> Any:
        return open_port(server, address.replace("[::]", "127.0.0.1"))

    replica.add_port_to_grpc_server = open_here


@final
class _OneNumber:
    """Leaves out the number of a request where Ray's proxy adds it to the answer, the same one.

    The proxy gives every request a number where the client did not; both the proxy and `Access` put
    it into the answer. A client's own number that `Access` does not take is another one: ours, by
    which the request is found in the log, is then sent beside it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = (b"x-request-id", Headers(scope=scope).get("x-request-id", "").encode("latin-1"))

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    one for one in message.get("headers", ()) if tuple(one) != added
                ]
            await send(message)

        await self._app(scope, receive, send_once)

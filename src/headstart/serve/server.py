"""The server as a process: a socket, signals, an end without loss."""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from headstart.errors import ConfigError
from headstart.serve.connection import TimelyConnection
from headstart.serve.logs import LOGGER, log_settings
from headstart.serve.service import Service

_LOG = logging.getLogger(LOGGER)

_CONNECTIONS = 1_000
_GRACE_SECONDS = 1.0  # /health says "stopping" for so long, for those who share out requests

# A request waits for the interpreter's lock while another thread holds it: at most so long. The
# usual 5 ms are much beside the time that a small network takes.
_SWITCH_SECONDS = 0.001


def bind(host: str, port: int) -> socket.socket:
    """Open the socket that a server listens on.

    Args:
        host: An address, or a name of one.
        port: A port; 0 for any that is free.

    Returns:
        The socket, bound and not listening yet.

    Raises:
        ConfigError: The address is unknown, or the port is taken or not ours to take.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}; choose another --host or --port"
        ) from error
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Return whether only programs on this machine can reach a socket."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def address_of(bound: socket.socket) -> str:
    """Return the address of the page, such as ``http://127.0.0.1:8000``."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(
    app: FastAPI,
    bound: socket.socket,
    *,
    on_started: Callable[[], None] = lambda: None,
    grace_seconds: float = _GRACE_SECONDS,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what was taken; a second signal ends it at once.

    Args:
        app: What `create_app` returned.
        bound: What `bind` returned.
        on_started: Is called when requests are taken.
        grace_seconds: How long /health says "stopping" before connections are closed.
    """
    service: Service = app.state.service
    seconds = service.limits.timeout_seconds

    class Connection(TimelyConnection):
        header_seconds = service.limits.header_seconds

    config = uvicorn.Config(
        app,
        # On h11: the parsers in C hold header lines without a limit; this one does not.
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=log_settings(),
        access_log=False,
        server_header=False,
        # What a header says of where a request came from is not believed.
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        asyncio.run(_serve(uvicorn.Server(config), service, bound, on_started, grace_seconds))
    finally:
        sys.setswitchinterval(before)


async def _serve(
    server: uvicorn.Server,
    service: Service,
    bound: socket.socket,
    on_started: Callable[[], None],
    grace_seconds: float,
) -> None:
    stop = asyncio.Event()
    running = asyncio.ensure_future(server.serve(sockets=[bound]))
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    if not running.done():
        _listen_to_signals(stop, server)
        on_started()
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await _wind_down(server, service, grace_seconds)
    await running


def _listen_to_signals(stop: asyncio.Event, server: uvicorn.Server) -> None:
    """Let the first signal ask for an end, and the second one insist; instead of uvicorn's own."""

    def heard() -> None:
        if stop.is_set():
            server.force_exit = True
            server.should_exit = True
        stop.set()

    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows: uvicorn's own signals have to do
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, heard)


async def _wind_down(server: uvicorn.Server, service: Service, grace_seconds: float) -> None:
    """Refuse what is new, finish what was taken, and only then close connections."""
    service.stopping = True
    _LOG.info("stopping", extra={"fields": {"waiting": service.taken}})
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not server.should_exit:
        passed = loop.time() - began
        finished = passed >= grace_seconds and not service.taken
        if finished or passed > service.limits.timeout_seconds:
            server.should_exit = True
        await asyncio.sleep(0.05)

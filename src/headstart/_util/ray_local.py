"""Ray's clusters: one of this machine, which nobody else can reach, or one that is there."""

import logging
import os
import signal
import socket
import threading
from typing import Any

from headstart._util.imports import optional
from headstart.errors import ConfigError, RunError

# Ray gives its processes the machine's outer address, whatever it is told, unless this is off: it
# is there for systems on which Ray does not build clusters.
_OUTER_ADDRESS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

_CLIENT = "ray://"
_REACH_SECONDS = 10.0


def is_client() -> bool:
    """Return whether this program is connected as a client of a cluster, and no part of it."""
    from ray.util.client import ray as client

    return bool(client.is_connected())


def begin(address: str | None, feature: str, *, clients: bool = False) -> tuple[Any, bool]:
    """Connect to a cluster, or begin one of this machine.

    Nothing is reported to Ray's makers and there is no dashboard; the processes of a cluster that
    is begun here listen on the loopback address alone.

    Args:
        address: ``auto`` or ``HOST:PORT`` of a cluster that is there, or ``ray://HOST:PORT`` of its
            server for clients; None: this machine's own, even where another one is running on it.
        feature: What Ray is needed for, as messages call it.
        clients: Whether a client can do what it is needed for.

    Returns:
        Ray, and whether this connected to a cluster, or began one: `ray.shutdown` then disconnects,
        or ends the one that was begun. False where this process was connected before.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: The address is that of a server for clients, which cannot do it.
        RunError: There is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    client = address is not None and address.startswith(_CLIENT)
    if client and not clients:
        raise ConfigError(
            f"--address: expected auto, or HOST:PORT of a cluster's head (port 6379 as Ray has it),"
            f" got {address!r}: run this program on a machine of the cluster"
        )
    alone = address is None
    if alone:
        os.environ[_OUTER_ADDRESS] = "0"  # for Ray's processes, and ours that ask for them
    ray = optional("ray", "ray", feature)
    if ray.is_initialized():
        return ray, False
    if alone:
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False
    given: dict[str, Any] = {"address": "local" if alone else address}
    if alone:
        given["include_dashboard"] = False
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        if not alone:
            _try_to_reach(address)
        if client:
            # Else the cluster would wait for a program that was killed, and go on writing where a
            # resumed run works.
            os.environ.setdefault("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "0")
            # The client hands the level on to the cluster, and tells its own.
            logging.getLogger("ray").setLevel(logging.ERROR)
        ray.init(log_to_driver=False, logging_level="ERROR", **given)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise RunError(
            f"--address: expected the address of a Ray cluster, such as auto, HOST:6379 or, where "
            f"clients are served, ray://HOST:10001, got {address!r} ({error}): is it up? "
            "Where its log asks for a token, set RAY_AUTH_MODE=token here"
        ) from error
    finally:
        if before is not None:  # Ray's own ends the program where ours asks it to stop
            signal.signal(signal.SIGTERM, before)
    return ray, True


def _try_to_reach(address: str | None) -> None:
    """Raise an error where nobody listens: Ray itself would go on trying for many minutes."""
    from ray._private import services

    if address is not None and address.startswith(_CLIENT):
        found: str | None = address.removeprefix(_CLIENT)
    else:
        found = services.canonicalize_bootstrap_address(address)
    if found is not None:  # else Ray says at once that it knows of no cluster
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()

"""The same application on a Ray cluster: replicas, as many as there are requests for.

Each replica has the bundles of its own and gathers its own requests into batches; Ray shares
requests out among them. What differs from the server in one process (`headstart.serve.server`):

- Connections are those of Ray's proxy: it sets no bound to the time and the size of header lines,
  and holds a body that is on its way in its own memory. The application refuses what is too large
  or too slow all the same; where strangers can reach it, put a server in front that bounds both.
- ``/metrics`` and ``/health`` are answered by one of the replicas, and speak of it alone.
- The log of requests is written to the standard error of the replicas: Ray keeps it, one file for
  each process, in ``/tmp/ray/session_latest/logs/worker-*.err``.
- ``/-/routes`` and ``/-/healthz`` are Ray's own; they name the application, not the models.
"""

import http.client
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from headstart._util.imports import optional
from headstart._util.ray_local import begin
from headstart._util.stopping import Stop
from headstart.errors import ConfigError, RunError
from headstart.serve.limits import Limits
from headstart.serve.replica import in_replica

APPLICATION = "headstart"
"""What it is called on the cluster."""

_FEATURE = "--engine ray"
_DEVICES = ("auto", "cpu", "cuda", "mps")
_TRIES = 3  # of each replica to begin: what is wrong with a bundle is wrong the next time too
_PATIENCE_SECONDS = 600.0  # for all of it: machines may have to be started, bundles to be read

# Requests that a replica takes at a time, and that wait in the proxy. As many as connections of the
# server in one process, which is far more than `Limits.max_queue`: who comes too many is to be
# refused by the application, which says when to come again, and not kept waiting by the proxy.
_REQUESTS = 1_000

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where to ask what listens everywhere


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many processes answer, and what each of them has.

    Attributes:
        least: So many are always there.
        most: So many may come while there is work for them.
        cores: Processor cores of each.
        gpus: Graphics processors of each, or a share of one.
        device: Where torch computes in each: ``cuda`` needs `gpus`; ``auto``: there if it has any,
            else on the processor.
    """

    least: int = 1
    most: int = 1
    cores: float = 1.0
    gpus: float = 0.0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what could never work.

        Raises:
            ConfigError: A number is not positive, the most is less than the least, or a device does
                not go with the graphics processors.
        """
        if not 1 <= self.least <= self.most:
            raise ConfigError(
                f"--replicas: expected 1 or more and at most --max-replicas, got {self.least} and "
                f"{self.most}"
            )
        if not 0 < self.cores < math.inf:
            raise ConfigError(f"--threads: expected cores of each replica, got {self.cores}")
        if not 0 <= self.gpus < math.inf or (self.gpus > 1 and self.gpus % 1):
            raise ConfigError(
                "--replica-gpus: expected a whole number of graphics processors, or a share of one "
                f"between 0 and 1, got {self.gpus}"
            )
        if self.device not in _DEVICES:
            raise ConfigError(
                f"--device: with {_FEATURE} expected one of {', '.join(_DEVICES)}, got "
                f"{self.device!r}: Ray chooses which graphics processor a replica has"
            )
        if (self.device == "cuda" and not self.gpus) or (
            self.device in ("cpu", "mps") and self.gpus
        ):
            raise ConfigError(
                f"--device: {self.device} does not go with {self.gpus:g} graphics processors of "
                "each replica: see --replica-gpus"
            )

    @property
    def place(self) -> str:
        """Where torch computes: on what was set aside for the replica, and on nothing else.

        Ray does not hide graphics processors from those who have none: ``auto`` alone would let all
        replicas crowd on the first one.
        """
        if self.device == "auto":
            return "cuda" if self.gpus else "cpu"
        return self.device


def start(
    application: Callable[[], FastAPI],
    limits: Limits,
    replicas: Replicas,
    *,
    host: str,
    port: int,
    address: str | None = None,
    stop: Stop | None = None,
) -> Callable[[], None]:
    """Serve an application on Ray, and return when it answers.

    Args:
        application: Makes the application, in each replica.
        limits: What a request may cost: those of the application.
        replicas: How many processes answer.
        host: Address to listen on.
        port: Port.
        address: ``auto`` or ``HOST:PORT`` of a cluster; None: one of this machine alone.
        stop: Whether somebody does not want to wait for it any more; None: nobody could.

    Returns:
        A function that ends it. Other applications of a cluster that was there before go on.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: The cluster has no room for the least number of replicas.
        RunError: There is no cluster at the address, Ray Serve listens elsewhere on it or serves
            such an application already, or the replicas do not start.
        StoppedError: Somebody asked to stop before it answered.
    """
    ray, connected = begin(address, _FEATURE)
    alone = address is None
    ours = connected and alone  # a cluster that nobody else uses
    with ExitStack() as undo:
        if connected:
            undo.callback(ray.shutdown)
        serve = _serve()
        _check_room(ray, replicas)
        with _told(ray, serve):
            beside = not ours and _is_there(serve, limits, host, port)
            if not beside:
                _listen(serve, limits, host, port, everywhere=not alone)
            undo.callback(serve.shutdown if ours else lambda: _leave(serve, beside))
            _deploy(serve, in_replica(application, alone=alone), limits, replicas)
            _wait(serve, (host, port) if alone else None, stop)
        return undo.pop_all().close


def _serve() -> Any:
    """Return Ray Serve, which says nothing of its own but what is wrong."""
    with warnings.catch_warnings():
        # Its settings warn of each other when they are first made.
        warnings.simplefilter("ignore", DeprecationWarning)
        serve = optional("ray.serve", "ray", _FEATURE)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    return serve


def _check_room(ray: Any, replicas: Replicas) -> None:
    """Refuse what Ray would wait for without end: more replicas than there is room for."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_room(machine, replicas) for machine in machines)
    if room >= replicas.least:
        return
    there = ray.cluster_resources()
    raise ConfigError(
        f"--replicas: expected at most {room}, got {replicas.least}: each has "
        f"{replicas.cores:g} cores and {replicas.gpus:g} graphics processors, and the cluster has "
        f"{there.get('CPU', 0):g} and {there.get('GPU', 0):g}; machines: {len(machines)}"
    )


def _room(machine: Mapping[str, float], replicas: Replicas) -> int:
    """Return how many replicas one machine has room for."""
    needs = {"CPU": replicas.cores, "GPU": replicas.gpus}
    # Shares such as a tenth do not add up to 1 exactly.
    return min(
        math.floor(machine.get(kind, 0) / each + 1e-6) for kind, each in needs.items() if each
    )


def _is_there(serve: Any, limits: Limits, host: str, port: int) -> bool:
    """Return whether Ray Serve runs on the cluster; then it must be as it is asked for here.

    Its options cannot be changed while it runs: it would go on to listen elsewhere, without a word.
    """
    client = serve.context._get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return False
    running = client.http_config
    if (running.host, running.port) != (host, port):
        raise RunError(
            f"--host and --port: expected {running.host} and {running.port}, where Ray Serve "
            f"listens on this cluster for as long as it runs, got {host} and {port}"
        )
    patience = running.request_timeout_s
    if patience is not None and patience < limits.timeout_seconds:
        raise RunError(
            f"--timeout: expected at most {patience:g} s, after which Ray Serve ends requests on "
            f"this cluster, got {limits.timeout_seconds:g}"
        )
    there = serve.status().applications.get(APPLICATION)
    if there is not None:
        raise RunError(
            f"an application {APPLICATION!r} is on this cluster already and is "
            f"{_word(there.status)}: end its server first"
        )
    return True


def _leave(serve: Any, beside: bool) -> None:
    """End our application on somebody's cluster, and Ray Serve if it is there for us alone."""
    serve.delete(APPLICATION)
    if not beside and not serve.status().applications:
        serve.shutdown()


@contextmanager
def _told(ray: Any, serve: Any) -> Iterator[None]:
    """Say what went wrong in Ray as an error of ours."""
    try:
        yield
    except (
        ray.exceptions.RayError,
        serve.exceptions.RayServeException,
        RuntimeError,
        TimeoutError,
    ) as error:
        raise RunError(f"the replicas do not start: {_last_line(str(error))}") from error


def _listen(serve: Any, limits: Limits, host: str, port: int, *, everywhere: bool) -> None:
    """Start Ray Serve where it does not run yet."""
    serve.start(
        proxy_location="EveryNode" if everywhere else "HeadOnly",
        http_options={
            "host": host,
            "port": port,
            # A request that is late is told so by the application, in its own words.
            "request_timeout_s": limits.timeout_seconds + 5,
        },
        logging_config={"enable_access_log": False},
    )


def _deploy(
    serve: Any, application: Callable[[], FastAPI], limits: Limits, replicas: Replicas
) -> None:
    """Have the replicas started; does not wait for them."""
    deployment = serve.deployment(
        name=APPLICATION,
        ray_actor_options={"num_cpus": replicas.cores, "num_gpus": replicas.gpus},
        max_ongoing_requests=max(_REQUESTS, 2 * limits.max_queue),
        max_queued_requests=_REQUESTS,
        max_constructor_retry_count=_TRIES,
        autoscaling_config={
            "min_replicas": replicas.least,
            "max_replicas": replicas.most,
            "target_ongoing_requests": max(1, limits.max_queue // 8),
        },
        graceful_shutdown_timeout_s=limits.timeout_seconds,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )(serve.ingress(application)())
    serve.run_many(
        [serve.RunTarget(target=deployment.bind(), name=APPLICATION, route_prefix="/")],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def _wait(serve: Any, front: tuple[str, int] | None, stop: Stop | None) -> None:
    """Return when the replicas run, and answer at an address where they can be asked from here."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (_runs(serve) and (front is None or _answers(*front))):
        if stop is not None:
            stop.raise_if_requested()
        if time.monotonic() > deadline:
            raise RunError(
                f"the replicas did not start within {_PATIENCE_SECONDS:g} s: {_why(serve)}"
            )
        time.sleep(0.2)


def _runs(serve: Any) -> bool:
    there = serve.status().applications.get(APPLICATION)
    state = None if there is None else _word(there.status)
    if state == "DEPLOY_FAILED":
        raise RunError(f"the replicas do not start: {_why(serve)}")
    return state == "RUNNING"


def _answers(host: str, port: int) -> bool:
    """Return whether the proxy knows the application by now: it hears of it a little later."""
    connection = http.client.HTTPConnection(_ANYWHERE.get(host, host), port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _why(serve: Any) -> str:
    """Return what Ray Serve says of the application, without the way there."""
    there = serve.status().applications.get(APPLICATION)
    if there is None:
        return "Ray Serve does not know of them"
    said = [*(one.message for one in there.deployments.values()), there.message]
    return next((_last_line(one) for one in said if one.strip()), _word(there.status))


def _word(status: Any) -> str:
    """Return the name of a status, which is an enumeration of words."""
    return str(getattr(status, "value", status))


def _last_line(text: str) -> str:
    """Return the end of what may be a whole traceback: what went wrong."""
    return (text.strip().splitlines() or ["no reason is given"])[-1].strip()

"""`headstart serve`: bundles over HTTP, with a page."""

import os
import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from headstart.serve import Limits
    from headstart.serve.on_ray import Replicas

BundleNames = Annotated[
    list[str],
    typer.Argument(help="Bundles; NAME=BUNDLE serves one under another name.", metavar="BUNDLE..."),
]
KEY_VARIABLE = "HEADSTART_API_KEY"


def serve(
    bundles: BundleNames,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any that is free.", min=0, max=65535)] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the key that clients must know; else ${KEY_VARIABLE}."),
    ] = None,
    engine: Annotated[
        Literal["auto", "torch", "onnxruntime", "openvino", "ray"] | None,
        typer.Option(
            help="What computes; default: what the bundle is written for. ray: that, in replicas "
            "on a Ray cluster."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="auto, cpu, cuda …; default: auto for torch. With --engine ray: cuda gives each "
            "replica a graphics processor, auto none."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of the network; default: all cores. With --engine ray: cores of each "
            "replica, default 1.",
            min=1,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Threads that decode; default: all cores. With --engine ray: of each replica, "
            "default: its cores.",
            min=1,
        ),
    ] = None,
    max_queue: Annotated[int, typer.Option(help="Samples waiting for each bundle.")] = 256,
    max_batch: Annotated[
        int | None, typer.Option(help="Samples computed together; default: as the bundle says.")
    ] = None,
    max_wait_ms: Annotated[
        float, typer.Option(help="How long a batch waits for samples on their way.")
    ] = 5.0,
    timeout: Annotated[float, typer.Option(help="Seconds for a request.")] = 30.0,
    max_bytes: Annotated[int, typer.Option(help="Bytes of a request.")] = 20_000_000,
    max_pixels: Annotated[int, typer.Option(help="Pixels of a picture.")] = 40_000_000,
    max_items: Annotated[int, typer.Option(help="Samples in a request.")] = 64,
    replicas: Annotated[int, typer.Option(help="With --engine ray: at least so many.", min=1)] = 1,
    max_replicas: Annotated[
        int | None,
        typer.Option(help="With --engine ray: so many under load; default: no more.", min=1),
    ] = None,
    replica_gpus: Annotated[
        float | None,
        typer.Option(
            help="With --engine ray: graphics processors of each, or a share of one; default: 1 "
            "with --device cuda.",
            min=0,
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="With --engine ray: the cluster, auto or HOST:PORT; else this machine alone."
        ),
    ] = None,
) -> None:
    """Serve bundles over HTTP: predictions, explanations, and a page in the browser."""
    from headstart._util.devices import resolve_device, usable_cores
    from headstart._util.imports import optional
    from headstart.predict import Bundle, load_bundle

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        optional(module, "serve", "`headstart serve`")
    from headstart.serve import Limits, create_app, run_server
    from headstart.serve.server import address_of, bind, is_loopback

    cores = 1 if threads is None else threads
    if workers is None:
        workers = cores if engine == "ray" else usable_cores()
    limits = Limits(
        max_queue=max_queue,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        timeout_seconds=timeout,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_items=max_items,
        workers=workers,
    )
    key = _key(api_key_file)
    if engine == "ray":
        from headstart.serve.on_ray import Replicas

        many = Replicas(
            replicas,
            replicas if max_replicas is None else max_replicas,
            float(cores),
            _gpus(replica_gpus, device),
            "auto" if device is None else device,
        )
        _serve_on_ray(bundles, limits, key, many, host=host, port=port, address=address)
        return
    _refuse_without_ray(
        {
            "--replicas": replicas != 1,
            "--max-replicas": max_replicas is not None,
            "--replica-gpus": replica_gpus is not None,
            "--address": address is not None,
        }
    )
    bound = bind(host, port)
    with ExitStack() as stack:
        stack.callback(bound.close)
        loaded: dict[str, Bundle] = {}
        for word in bundles:
            name, path = _named(word)
            bundle = stack.enter_context(
                load_bundle(
                    path,
                    engine=engine,
                    device=None if device is None else resolve_device(device),
                    threads=threads,
                )
            )
            name = bundle.info.name if name is None else name
            loaded[_free(name, loaded, path)] = bundle
        alone = is_loopback(bound)
        app = create_app(loaded, limits, api_key=key, names=(host,) if alone else None)
        run_server(app, bound, on_started=lambda: _tell(loaded, address_of(bound), key, alone))


def _serve_on_ray(
    bundles: list[str],
    limits: "Limits",
    key: str | None,
    replicas: "Replicas",
    *,
    host: str,
    port: int,
    address: str | None,
) -> None:
    """Serve until a signal comes."""
    from headstart._util.progress import for_terminal
    from headstart._util.stopping import Stop, on_signals
    from headstart.predict import verify_bundle
    from headstart.serve.on_ray import start
    from headstart.serve.replica import application_of

    paths: dict[str, Path] = {}
    for word in bundles:
        name, path = _named(word)
        info = verify_bundle(path)
        paths[_free(info.name if name is None else name, paths, path)] = path
    listens, port, where, alone = _front(host, port, address)
    application = application_of(
        paths,
        limits,
        device=replicas.place,
        threads=max(1, int(replicas.cores)),
        api_key=key,
        names=(host,) if alone else None,
    )
    stop = Stop()
    with on_signals(stop, for_terminal()):
        end = start(
            application, limits, replicas, host=listens, port=port, address=address, stop=stop
        )
        try:
            many = f"{replicas.least} to {replicas.most} replicas"
            _tell(paths, f"{where}, {many}", key, alone)
            while not stop.requested:
                time.sleep(0.2)
        finally:
            end()


def _front(host: str, port: int, address: str | None) -> tuple[str, int, str, bool]:
    """Return where Ray is to listen: address, port, what to open, whether nobody else can."""
    import ipaddress

    from headstart.errors import ConfigError
    from headstart.serve.server import address_of, bind, is_loopback

    if address is None:
        with bind(host, port) as bound:  # Ray opens it itself: this is to see that it can
            listens, free = bound.getsockname()[:2]
            return listens, free, address_of(bound), is_loopback(bound)
    if port == 0:
        raise ConfigError("--port: expected one that each machine of the cluster opens, got 0")
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        alone = ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may mean something else on another machine
        alone = host == "localhost"
    return host, port, f"{where} of each machine", alone


def _gpus(given: float | None, device: str | None) -> float:
    """Return how many graphics processors each replica has."""
    if given is not None:
        return given
    return 1.0 if device == "cuda" else 0.0


def _refuse_without_ray(given: dict[str, bool]) -> None:
    from headstart.errors import ConfigError

    words = [word for word, is_given in given.items() if is_given]
    if words:
        raise ConfigError(f"{', '.join(words)}: expected only with --engine ray")


def _tell(names: Collection[str], where: str, key: str | None, alone: bool) -> None:
    """Say what is served where, and who can use it."""
    typer.echo(f"serving {', '.join(names)} on {where}", err=True)
    if key is None and not alone:
        typer.echo(
            "warning: everybody who can reach this address can use it: there is no key; "
            f"set {KEY_VARIABLE} or --api-key-file",
            err=True,
        )


def _named(word: str) -> tuple[str | None, Path]:
    """Return the name, if one is given, and the path."""
    name, equals, path = word.partition("=")
    if not equals or not name or Path(word).exists():
        return None, Path(word)
    return name, Path(path)


def _free(name: str, taken: Collection[str], path: Path) -> str:
    from headstart.errors import ConfigError

    if name in taken or name == "all":
        why = "means all of them" if name == "all" else "is taken by another bundle"
        raise ConfigError(f"{path}: the name {name!r} {why}: name it, as in other={path}")
    return name


def _key(file: Path | None) -> str | None:
    """Return the key from its file or the environment."""
    from headstart.errors import ConfigError

    if file is None:
        source, text = KEY_VARIABLE, os.environ.get(KEY_VARIABLE)
        if text is None:
            return None
    else:
        source = f"--api-key-file {file}"
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{source}: {error}") from error
    key = text.strip()
    if not key:
        raise ConfigError(f"{source}: expected a key, it is empty")
    return key

"""`headstart serve`: bundles over HTTP, with a page."""

import os
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

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
        Literal["auto", "torch", "onnxruntime", "openvino"] | None,
        typer.Option(help="What computes; default: what the bundle is written for."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda …; default: auto for torch.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the network; default: all cores.", min=1)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads that decode; default: all cores.", min=1)
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
) -> None:
    """Serve bundles over HTTP: predictions, explanations, and a page in the browser."""
    from headstart._util.devices import resolve_device, usable_cores
    from headstart._util.imports import optional
    from headstart.predict import Bundle, load_bundle

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        optional(module, "serve", "`headstart serve`")
    from headstart.serve import Limits, create_app, run_server
    from headstart.serve.server import address_of, bind, is_loopback

    limits = Limits(
        max_queue=max_queue,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        timeout_seconds=timeout,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_items=max_items,
        workers=usable_cores() if workers is None else workers,
    )
    key = _key(api_key_file)
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
        names = (host,) if is_loopback(bound) else None
        app = create_app(loaded, limits, api_key=key, names=names)

        def started() -> None:
            typer.echo(f"serving {', '.join(loaded)} on {address_of(bound)}", err=True)
            if key is None and not is_loopback(bound):
                typer.echo(
                    "warning: everybody who can reach this address can use it: there is no key; "
                    f"set {KEY_VARIABLE} or --api-key-file",
                    err=True,
                )

        run_server(app, bound, on_started=started)


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

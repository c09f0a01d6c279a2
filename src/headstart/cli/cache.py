"""`headstart cache ls|verify|prune`: what frozen features take, whether they are whole."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from headstart.features.store import FeatureStore

app = typer.Typer(help="Look after the frozen features that are stored.", no_args_is_help=True)


def _store() -> "FeatureStore":
    from headstart._util.files import cache_root
    from headstart.features.store import FeatureStore

    return FeatureStore(cache_root() / "features")


@app.command("ls")
def ls() -> None:
    """List what is stored: backbone, cut, samples, size, last use."""
    from headstart.features.store import human_bytes

    store = _store()
    entries = store.ls()
    for entry in entries:
        typer.echo(f"{entry.key[:12]}  {entry.backbone} at {entry.cut}")
        damaged = f", {entry.damaged} damaged shards" if entry.damaged else ""
        typer.echo(
            f"    {entry.samples:,} samples, {entry.input}, "
            f"{entry.dtype}, {human_bytes(entry.size_bytes)}, "
            f"last used {entry.last_used:%Y-%m-%d}{damaged}"
        )
    total = human_bytes(sum(entry.size_bytes for entry in entries))
    typer.echo(f"{total} in {store.root}")


@app.command("verify")
def verify() -> None:
    """Read everything and compare checksums; exit with 1 if something is damaged."""
    from headstart._util.progress import for_terminal

    damages = _store().verify(for_terminal())
    for damage in damages:
        typer.echo(f"{damage.key[:12]} {damage.sidecar.name}: {damage.reason}")
    if damages:
        typer.echo("Remove them with: headstart cache prune --damaged")
        raise typer.Exit(1)
    typer.echo("All stored features are whole.")


@app.command("prune")
def prune(
    key: Annotated[
        str | None, typer.Option(help="Delete the entry whose key begins with this.")
    ] = None,
    unused_days: Annotated[
        float | None, typer.Option(help="Delete what was not used for so many days.")
    ] = None,
    max_gigabytes: Annotated[
        float | None, typer.Option(help="Delete the longest unused until the rest fits.")
    ] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="Delete damaged shards.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
) -> None:
    """Delete stored features; they can be computed again."""
    from headstart.features.store import human_bytes

    pruned = _store().prune(
        key=key,
        unused_days=unused_days,
        max_bytes=None if max_gigabytes is None else int(max_gigabytes * 1e9),
        damaged=damaged,
        dry_run=dry_run,
    )
    verb = "would delete" if dry_run else "deleted"
    typer.echo(
        f"{verb} {len(pruned.keys)} entries, {len(pruned.shards)} damaged shards, "
        f"{len(pruned.leftovers)} leftovers: {human_bytes(pruned.freed_bytes)}"
    )
    for busy in pruned.busy:
        typer.echo(f"left alone, somebody is writing it: {busy[:12]}")

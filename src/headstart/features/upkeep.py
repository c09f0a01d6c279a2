"""Looking after the store: what is in it, whether it is whole, and throwing things away."""

import contextlib
import datetime
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from headstart._util import files
from headstart._util.progress import SilentProgress
from headstart.errors import StoreError
from headstart.features.shard import MEND, Shard, checksum_is_right, read_shard
from headstart.types import JsonDict, Progress

KEY_FILE = "key.json"
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """All features of one key.

    Attributes:
        key: The key, 64 hex digits.
        backbone: Name of the backbone that was used first (the key itself holds its digest).
        cut: Name of the stage.
        input: What a sample became, in words, such as ``224×224 (crop)`` or ``256 tokens``.
        dtype: ``float32`` or ``float16``.
        samples: How many pictures.
        shards: How many shards that can be used.
        size_bytes: Disk space, all files together.
        last_used: When it was last read or written.
        damaged: Shards that are damaged as far as their sizes tell; `verify` looks closer.
        view: Number of the view where the pictures were changed at random, else None.
    """

    key: str
    backbone: str
    cut: str
    input: str
    dtype: str
    samples: int
    shards: int
    size_bytes: int
    last_used: datetime.datetime
    damaged: int
    view: int | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """One shard that must not be used.

    Attributes:
        key: The key it belongs to.
        sidecar: Path of its sidecar.
        reason: What is wrong with it.
    """

    key: str
    sidecar: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted, or would be.

    Attributes:
        keys: Entries that went as a whole.
        shards: Sidecars of damaged shards that went.
        graphs: Exported networks that went (they are made again in seconds).
        leftovers: Rests of interrupted writes that went.
        busy: Entries that were left alone because somebody is writing them.
        freed_bytes: Disk space of all that.
    """

    keys: tuple[str, ...]
    shards: tuple[Path, ...]
    graphs: tuple[Path, ...]
    leftovers: tuple[Path, ...]
    busy: tuple[str, ...]
    freed_bytes: int


def sidecars(folder: Path, begin: str = "") -> list[Path]:
    """Return the sidecars in a key's folder whose names begin so; none where there is no folder."""
    return sorted(path for path in folder.glob(f"{begin}*.json") if path.name != KEY_FILE)


def lock_path(root: Path, key: str) -> Path:
    """Return where a key's lock is: outside its folder, so that deleting it breaks no lock."""
    return root / "locks" / f"{key}.lock"


def graphs_folder(root: Path) -> Path:
    """Return where exported networks are kept."""
    return root / "graphs"


def engines_folder(root: Path) -> Path:
    """Return where it is remembered which engine was fastest."""
    return root / "engines"


def leftovers(folder: Path) -> list[Path]:
    """Return the rests of interrupted writes; only true while the key's lock is held."""
    unfinished = list(folder.glob("*.tmp"))
    return unfinished + [p for p in folder.glob("*.npy") if not p.with_suffix(".json").exists()]


def remove_leftovers(folder: Path) -> None:
    """Delete the rests of interrupted writes; the caller holds the key's lock."""
    for path in leftovers(folder):
        path.unlink(missing_ok=True)


def ls(root: Path) -> tuple[Entry, ...]:
    """List all entries, the most recently used first; damaged ones are listed too."""
    entries = [_entry(folder) for folder in _folders(root)]
    return tuple(sorted(entries, key=lambda entry: entry.last_used, reverse=True))


def verify(root: Path, progress: Progress | None = None) -> tuple[Damage, ...]:
    """Read every shard and compare it with its checksum.

    Args:
        root: The store's folder.
        progress: Is shown the shards as they are read.

    Returns:
        The damaged shards.
    """
    found = [(folder.name, path) for folder in _folders(root) for path in sidecars(folder)]
    shown = SilentProgress() if progress is None else progress
    damages = []
    with shown.task("checking features", len(found), "shards") as task:
        for key, sidecar in found:
            reason = _damage(sidecar)
            if reason is not None:
                damages.append(Damage(key, sidecar, reason))
            task.advance()
    return tuple(damages)


def prune(
    root: Path,
    *,
    key: str | None,
    unused_days: float | None,
    max_bytes: int | None,
    damaged: bool,
    dry_run: bool,
) -> Pruned:
    """Delete entries and damaged shards; see `FeatureStore.prune`.

    Args:
        root: The store's folder.
        key: First hex digits of the one entry to delete.
        unused_days: Delete what was not used for so many days.
        max_bytes: Delete the longest unused until the rest fits.
        damaged: Delete damaged shards.
        dry_run: Only say what would be deleted.

    Returns:
        What was deleted.

    Raises:
        StoreError: No entry, or more than one, begins with `key`.
    """
    entries = ls(root)
    chosen = {_named(entries, key).key} if key is not None else set()
    graphs: list[Path] = []
    if unused_days is not None:
        limit = time.time() - unused_days * 86400
        chosen |= {entry.key for entry in entries if entry.last_used.timestamp() < limit}
        graphs += [path for path in _graphs(root) if path.stat().st_mtime < limit]
    if max_bytes is not None:
        _choose_by_size(root, entries, max_bytes, chosen, graphs)
    bad = verify(root) if damaged else ()

    keys: list[str] = []
    busy: list[str] = []
    shards: list[Path] = []
    rests: list[Path] = []
    freed = _delete(graphs, dry_run)
    for folder in _folders(root):
        with _try_lock(root, folder.name) as held:
            if not held:
                busy.append(folder.name)
            elif folder.name in chosen:
                keys.append(folder.name)
                # Sidecars first: without them the data does not exist for a reader.
                freed += _delete(sorted(folder.iterdir(), key=_sidecars_first), dry_run)
                if not dry_run:
                    folder.rmdir()
            else:
                unfinished = leftovers(folder)
                broken = [damage.sidecar for damage in bad if damage.key == folder.name]
                data = [path.with_suffix(".npy") for path in broken]
                freed += _delete([*broken, *data, *unfinished], dry_run)
                rests += unfinished
                shards += broken
    return Pruned(tuple(keys), tuple(shards), tuple(graphs), tuple(rests), tuple(busy), freed)


def _choose_by_size(
    root: Path, entries: tuple[Entry, ...], max_bytes: int, chosen: set[str], graphs: list[Path]
) -> None:
    sizes = {path: path.stat().st_size for path in _graphs(root) if path not in graphs}
    total = sum(sizes.values())
    total += sum(entry.size_bytes for entry in entries if entry.key not in chosen)
    for path, size in sizes.items():  # graphs first: they are made again in seconds
        if total > max_bytes:
            graphs.append(path)
            total -= size
    for entry in reversed(entries):
        if total > max_bytes and entry.key not in chosen:
            chosen.add(entry.key)
            total -= entry.size_bytes


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if _KEY.fullmatch(p.name) and p.is_dir())


def _graphs(root: Path) -> list[Path]:
    paths = graphs_folder(root).glob("*.onnx")
    return sorted(paths, key=lambda path: path.stat().st_mtime)


def _sidecars_first(path: Path) -> bool:
    return path.suffix != ".json"


def _entry(folder: Path) -> Entry:
    shards: list[Shard] = []
    damaged = 0
    for sidecar in sidecars(folder):
        try:
            shards.append(read_shard(sidecar))
        except StoreError:
            damaged += 1
    about: JsonDict = {}
    parts: JsonDict = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        record = files.read_json(folder / KEY_FILE)
        about, parts = record["about"], record["parts"]
    stats = [path.stat() for path in folder.iterdir()]
    used = max((stat.st_mtime for stat in stats), default=folder.stat().st_mtime)
    return Entry(
        key=folder.name,
        backbone=str(about.get("backbone", "?")),
        cut=str(parts.get("cut", "?")),
        input=_input_in_words(parts.get("input", {})),
        dtype=str(parts.get("dtype", "?")),
        samples=len({digest for shard in shards for digest in shard.digests}),
        shards=len(shards),
        size_bytes=sum(stat.st_size for stat in stats),
        last_used=datetime.datetime.fromtimestamp(used, datetime.UTC),
        damaged=damaged,
        view=parts["view"]["number"] if "view" in parts else None,
    )


def _input_in_words(spec: JsonDict) -> str:
    if "height" in spec:
        return f"{spec['height']}×{spec['width']} ({spec.get('fit', '?')})"
    unit = "tokens" if "tokenizer" in spec else "steps"
    return f"{spec['max_length']} {unit} at most" if "max_length" in spec else "?"


def _damage(sidecar: Path) -> str | None:
    try:
        shard = read_shard(sidecar)
        right = checksum_is_right(shard)
    except (StoreError, OSError) as error:
        return str(error).removesuffix(f": {MEND}")
    return None if right else f"{shard.path}: the data does not match its checksum"


def _named(entries: tuple[Entry, ...], key: str) -> Entry:
    found = [entry for entry in entries if key and entry.key.startswith(key.lower())]
    if len(found) != 1:
        known = ", ".join(entry.key[:12] for entry in entries[:20]) or "none, the store is empty"
        raise StoreError(
            f"expected the first digits of one key, got {key!r}, with which {len(found)} begin; "
            f"stored: {known}"
        )
    return found[0]


def _delete(paths: list[Path], dry_run: bool) -> int:
    freed = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            if not dry_run:
                path.unlink()
            freed += size
    return freed


@contextlib.contextmanager
def _try_lock(root: Path, key: str) -> Iterator[bool]:
    path = lock_path(root, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(filelock.FileLock(path).acquire(timeout=0))
            held = True
        except filelock.Timeout:
            held = False
        yield held

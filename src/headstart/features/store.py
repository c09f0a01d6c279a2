"""The feature store: plain files, found by content, whole or not there.

    <root>/<key>/key.json    what the features depend on, for people
    <root>/<key>/<id>.npy    a shard (see `headstart.features.shard`)
    <root>/<key>/<id>.json   its sidecar
    <root>/locks/            one lock per key: one writer at a time, any number of readers
    <root>/graphs/           exported networks (see `headstart.features.graph`)
    <root>/engines/          which engine was fastest (see `headstart.features.choose`)

Labels are never stored. Everything here can be deleted at any time and is computed again.
"""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np

from headstart._util import files
from headstart._util.hashing import digest_bytes, digest_json
from headstart.errors import StoreError
from headstart.features import upkeep
from headstart.features.key import Dtype, FeatureKey
from headstart.features.remote import Remote
from headstart.features.shard import Shard, ShardWriter, open_rows, read_shard
from headstart.types import FloatArray, JsonDict, Progress

MAX_SHARD_SAMPLES = 4096
MAX_SHARD_BYTES = 256 * 1024**2
MAX_SHARD_SECONDS = 60.0
"""A shard ends at the first of the three, so that little is lost when the program is killed."""

_BYTES_PER_DIGEST = 72  # one line of the sidecar
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Index:
    """Where the samples of one key lie.

    Attributes:
        shards: All shards of the key.
        rows: Sample digest -> (position in `shards`, row in that shard).
    """

    shards: tuple[Shard, ...]
    rows: Mapping[str, tuple[int, int]]


class FeatureStore:
    """Frozen features by content, safe with several processes."""

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        """Name the folder; nothing is made before something is written.

        Args:
            root: For example ``cache_root() / "features"``.
            remote: A second home, shared with other machines; None: there is none.
        """
        self.root, self.remote = root, remote

    def folder(self, key: FeatureKey) -> Path:
        """Return where a key's shards are."""
        return self.root / key.digest()

    def index(self, key: FeatureKey, share: str = "") -> Index:
        """Find all samples of a key, or what was stored of one share of the work.

        Args:
            key: The key; it need not be in the store.
            share: As in `writer`.

        Returns:
            The index at this moment; what other processes add later is not in it, nor what lies in
            the second home alone.

        Raises:
            StoreError: A shard is damaged; the message says how to mend it.
        """
        folder = self.folder(key)
        shards = tuple(read_shard(sidecar) for sidecar in upkeep.sidecars(folder, share))
        rows = {
            digest: (position, row)
            for position, shard in enumerate(shards)
            for row, digest in enumerate(shard.digests)
        }
        if shards:
            with contextlib.suppress(OSError):  # a store that cannot be written can be read
                os.utime(folder / upkeep.KEY_FILE)  # "last used", for prune
        return Index(shards, rows)

    def fetch(self, key: FeatureKey) -> None:
        """Fetch what others have put into the second home; the caller holds the key's lock."""
        if self.remote is not None:
            self.remote.fetch(self.folder(key))

    def share(self, index: Index, samples: Iterable[str]) -> None:
        """Put the shards that hold some samples into the second home, where it lacks them.

        Args:
            index: Of one key.
            samples: Their digests; all of them in the index.

        Raises:
            SharedStoreError: The second home cannot be written.
        """
        if self.remote is None:
            return
        used = sorted({index.rows[sample][0] for sample in samples})
        if used:
            self.remote.offer([index.shards[at].path.with_suffix(".json") for at in used])

    @contextlib.contextmanager
    def lock(self, key: FeatureKey, progress: Progress) -> Iterator[None]:
        """Hold the key's lock; wait where another process holds it.

        Args:
            key: What is going to be written.
            progress: Is told when there is somebody to wait for.

        Yields:
            Nothing.

        Raises:
            StoreError: The lock cannot be made, for example in a read-only folder.
        """
        with contextlib.ExitStack() as stack:
            try:
                path = upkeep.lock_path(self.root, key.digest())
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = filelock.FileLock(path)
                try:
                    stack.enter_context(lock.acquire(timeout=0))
                except filelock.Timeout:
                    progress.say("Another process is extracting the same features: waiting for it")
                    stack.enter_context(lock.acquire(poll_interval=0.05))
            except OSError as error:
                raise _failed(error, self.root) from error
            yield

    def check_room(self, samples: int, shape: tuple[int, ...], key: FeatureKey) -> tuple[int, int]:
        """Compute the disk space that new samples need, and compare it with what is free.

        Args:
            samples: How many will be written.
            shape: Shape of one sample's features.
            key: Their key.

        Returns:
            Bytes needed and bytes free.

        Raises:
            StoreError: There is not enough room.
        """
        needed, free = room_for(samples, shape, key.dtype), self.free_bytes()
        if needed > free:
            smaller = " or store float16, which halves it" if key.dtype == "float32" else ""
            raise StoreError(
                f"{samples:,} samples of {'x'.join(map(str, shape))} {key.dtype} need "
                f"{human_bytes(needed)}, but only {human_bytes(free)} are free at {self.root}: "
                "free some ('headstart cache prune'), set HEADSTART_CACHE to a folder on another "
                f"disk, cut the network later{smaller}"
            )
        return needed, free

    def free_bytes(self) -> int:
        """Return how much is free on the disk of the store, which need not be there yet."""
        there = self.root
        while not there.exists():
            there = there.parent
        return shutil.disk_usage(there).free

    @contextlib.contextmanager
    def writer(
        self, key: FeatureKey, *, engine: str, about: JsonDict, share: str = ""
    ) -> Iterator["FeatureWriter"]:
        """Open a key for writing; the caller, or who gave it its share of the work, holds its lock.

        When the block fails, what had been written until then is kept (a shard cannot be wrong,
        only short), unless the failure was the writing itself.

        Args:
            key: The key.
            engine: Name of the engine that computes them.
            about: What people want to know of the key: the backbone's name, say. It takes no
                part in the key.
            share: Names of shards begin with it; others write other shares now. Empty: nobody
                else writes, so that half-written files are leftovers.

        Yields:
            A writer of rows.

        Raises:
            StoreError: The folder cannot be written, or the disk is full.
        """
        folder = self.folder(key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not share:
                upkeep.remove_leftovers(folder)
            if not (folder / upkeep.KEY_FILE).exists():
                record = {"key": key.digest(), "about": about, "parts": key.parts()}
                files.write_json(folder / upkeep.KEY_FILE, record)
        except OSError as error:
            raise _failed(error, folder) from error
        writer = FeatureWriter(folder, key, engine, self.remote, share)
        try:
            yield writer
        finally:
            writer.close()

    def contents(self, key: FeatureKey) -> str:
        """Return a digest of what is stored under a key, whatever shards it lies in.

        Args:
            key: The key.

        Returns:
            64 hex digits: equal for two stores that hold the same features of the same samples.
        """
        index = self.index(key)
        tables = [open_rows(shard) for shard in index.shards]
        rows = {
            digest: digest_bytes(np.ascontiguousarray(tables[shard][row]).tobytes())
            for digest, (shard, row) in index.rows.items()
        }
        return digest_json(sorted(rows.items()))

    def ls(self) -> tuple[upkeep.Entry, ...]:
        """List what is stored, the most recently used first."""
        return upkeep.ls(self.root)

    def verify(self, progress: Progress | None = None) -> tuple[upkeep.Damage, ...]:
        """Read everything and compare it with its checksums.

        Args:
            progress: Is shown the shards as they are read.

        Returns:
            The damaged shards; empty when all is well.
        """
        return upkeep.verify(self.root, progress)

    def prune(
        self,
        *,
        key: str | None = None,
        unused_days: float | None = None,
        max_bytes: int | None = None,
        damaged: bool = False,
        dry_run: bool = False,
    ) -> upkeep.Pruned:
        """Delete what is not wanted any more; entries being written by others are left alone.

        Whatever is asked for, the rests of interrupted writes go too.

        Args:
            key: Delete the entry whose key begins with these hex digits.
            unused_days: Delete entries not read or written for so many days.
            max_bytes: Delete the longest unused entries until the rest fits.
            damaged: Delete damaged shards, found as in `verify`.
            dry_run: Only say what would be deleted.

        Returns:
            What was deleted.

        Raises:
            StoreError: No entry, or more than one, begins with `key`.
        """
        return upkeep.prune(
            self.root,
            key=key,
            unused_days=unused_days,
            max_bytes=max_bytes,
            damaged=damaged,
            dry_run=dry_run,
        )


class FeatureWriter:
    """Appends rows to a key, shard after shard; all rows of a shard have one shape.

    So sequences of one length go to one shard, and no room is spent on padding.
    """

    def __init__(
        self, folder: Path, key: FeatureKey, engine: str, remote: Remote | None, share: str
    ) -> None:
        """Start without a shard; the first row opens one.

        Args:
            folder: The key's folder.
            key: The key.
            engine: Name of the engine that computes the rows.
            remote: Where each shard is copied to, or None.
            share: What names of shards begin with.
        """
        self._folder, self._key, self._engine = folder, key, engine
        self._remote, self._share = remote, share
        self._shape: tuple[int, ...] = ()
        self._shard: ShardWriter | None = None
        self._opened = 0.0
        self._max_rows = 1
        self.bytes_written = 0

    def write(self, digests: Sequence[str], rows: FloatArray) -> None:
        """Append rows; they are on the disk for good when their shard is full or on `close`.

        Args:
            digests: SHA-256 of the encoded picture of each row.
            rows: Shape [n, *shape].

        Raises:
            StoreError: The disk is full, or the numbers do not fit the type.
        """
        if rows.shape[1:] != self._shape:
            self.close()
            self._shape = rows.shape[1:]
            row_bytes = int(np.prod(self._shape)) * np.dtype(self._key.dtype).itemsize
            self._max_rows = max(1, min(MAX_SHARD_SAMPLES, MAX_SHARD_BYTES // max(row_bytes, 1)))
        start = 0
        while start < len(digests):
            if self._shard is None:
                with self._or_abort():
                    self._shard = ShardWriter(
                        self._folder, self._shape, self._key.dtype, self._engine, self._share
                    )
                self._opened = time.monotonic()
            stop = start + self._max_rows - len(self._shard)
            with self._or_abort():
                self._shard.write(digests[start:stop], rows[start:stop])
            start = stop
            too_old = time.monotonic() - self._opened > MAX_SHARD_SECONDS
            if len(self._shard) >= self._max_rows or too_old:
                self.close()

    def close(self) -> None:
        """Complete the open shard, if there is one.

        Raises:
            StoreError: The disk is full, and the shard is not stored; or it cannot be copied.
        """
        if self._shard is not None and len(self._shard):
            with self._or_abort():
                shard = self._shard.commit()
                sidecar = shard.path.with_suffix(".json")
                self.bytes_written += shard.size_bytes + sidecar.stat().st_size
            self._shard = None  # it is whole, whether or not it can be copied
            if self._remote is not None:
                self._remote.put(sidecar)
        elif self._shard is not None:
            self._shard.abort()
            self._shard = None

    @contextlib.contextmanager
    def _or_abort(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if self._shard is not None:
                self._shard.abort()
                self._shard = None
            if isinstance(error, OSError):
                raise _failed(error, self._folder) from error
            raise


def room_for(samples: int, shape: tuple[int, ...], dtype: Dtype) -> int:
    """Return the disk space, in bytes, that samples of a shape need in the store."""
    row_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return samples * (row_bytes + _BYTES_PER_DIGEST) + 4096


def human_bytes(size: float) -> str:
    """Say a size for people: ``5.1 MiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _failed(error: OSError, folder: Path) -> StoreError:
    if error.errno in _NO_ROOM:
        return StoreError(
            f"the disk of {folder} is full ({error.strerror}); nothing half-written was left, and "
            "complete shards are kept: free some space ('headstart cache prune') or set "
            "HEADSTART_CACHE to a folder on another disk, and repeat your command"
        )
    return StoreError(
        f"cannot write to the feature store at {folder} ({error.strerror or error}): set "
        "HEADSTART_CACHE to a folder that can be written"
    )

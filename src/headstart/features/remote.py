"""A second home of the feature store, on any file system that fsspec knows: NFS, S3, memory.

Shards are computed into the local store and copied there as soon as they are whole; what others
have put there is fetched before anything is computed. A shard's sidecar is copied last, in both
directions, so that a shard is whole or does not exist; nothing there is ever changed.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from headstart.errors import SharedStoreError
from headstart.features import upkeep


@dataclass(frozen=True, slots=True)
class Remote:
    """Where shards are copied to, and fetched from.

    Attributes:
        url: As fsspec takes it: ``s3://bucket/folder``, ``file:///mnt/shared/features``, …
    """

    url: str

    def fetch(self, folder: Path) -> int:
        """Fetch the shards of a key that are not here yet; the caller holds the key's lock.

        Args:
            folder: The key's folder here; its name is that of the folder there.

        Returns:
            How many were fetched.

        Raises:
            SharedStoreError: The file system cannot be reached, or a file cannot be read.
        """
        with self._told("read"):
            system, there = self._opened(folder)
            sidecars = {name for name in _names(system, there) if name.endswith(".json")}
            wanted = [name for name in sidecars if not (folder / name).exists()]
            if wanted:
                folder.mkdir(parents=True, exist_ok=True)
            shards = sorted(name for name in wanted if name != upkeep.KEY_FILE)
            if len(shards) < len(wanted):
                _get(system, f"{there}/{upkeep.KEY_FILE}", folder / upkeep.KEY_FILE)
            for name in shards:
                rows = name.removesuffix(".json") + ".npy"
                _get(system, f"{there}/{rows}", folder / rows)
                _get(system, f"{there}/{name}", folder / name)
            return len(shards)

    def put(self, sidecar: Path) -> None:
        """Copy a shard there, if it is not there.

        Args:
            sidecar: Its sidecar here.

        Raises:
            SharedStoreError: The file system cannot be reached, or a file cannot be written.
        """
        with self._told("write"):
            system, there = self._opened(sidecar.parent)
            known = (upkeep.KEY_FILE, sidecar.name)
            self._copy([sidecar], {name for name in known if system.exists(f"{there}/{name}")})

    def offer(self, sidecars: Sequence[Path]) -> None:
        """Copy those of some shards of one key there that are not there, after one look.

        Args:
            sidecars: Their sidecars here, at least one.

        Raises:
            SharedStoreError: The file system cannot be reached, or a file cannot be written.
        """
        with self._told("write"):
            self._copy(sidecars, _names(*self._opened(sidecars[0].parent)))

    def _copy(self, sidecars: Sequence[Path], known: set[str]) -> None:
        """Copy those shards, and the key's file, whose names are not known to be there."""
        new = [sidecar for sidecar in sidecars if sidecar.name not in known]
        if not new:
            return
        system, there = self._opened(new[0].parent)
        system.makedirs(there, exist_ok=True)
        key = new[0].with_name(upkeep.KEY_FILE)
        paths = [] if key.name in known else [key]
        paths += [path for sidecar in new for path in (sidecar.with_suffix(".npy"), sidecar)]
        for path in paths:
            _put(system, path, f"{there}/{path.name}")

    def _opened(self, folder: Path) -> tuple[Any, str]:
        """Return the file system, and where a key's folder is on it."""
        system, root = fsspec.core.url_to_fs(self.url)
        return system, f"{root.rstrip('/')}/{folder.name}"

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        # Each library that an address brings has errors of its own: botocore's are no OSError.
        except Exception as error:
            raise SharedStoreError(
                f"cannot {what} the shared feature store at {self.url} "
                f"({type(error).__name__}: {error}): is the address right, are you allowed to, and "
                "is the package for it installed (s3fs, gcsfs, …)?"
            ) from error


def _names(system: Any, there: str) -> set[str]:
    """Return the names in a folder as they are now; none where there is no folder."""
    system.invalidate_cache()  # others write there, too
    try:
        return {PurePosixPath(path).name for path in system.ls(there, detail=False)}
    except FileNotFoundError:
        return set()


def _get(system: Any, there: str, here: Path) -> None:
    temporary = here.with_name(f".{here.name}.{secrets.token_hex(4)}.tmp")
    try:
        system.get_file(there, str(temporary))
        os.replace(temporary, here)
    finally:
        temporary.unlink(missing_ok=True)


def _put(system: Any, here: Path, there: str) -> None:
    # An object store shows a file when it is whole; a folder of files shows it as it grows.
    temporary = f"{there}.{secrets.token_hex(4)}.tmp"
    try:
        system.put_file(str(here), temporary)
        system.mv(temporary, there)
    except Exception:
        with contextlib.suppress(Exception):  # what is told is why it could not be written
            system.rm_file(temporary)
        # Some file systems move nothing over a file: another machine was faster with the same.
        if not system.exists(there):
            raise

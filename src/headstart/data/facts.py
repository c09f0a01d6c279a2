"""What was found out about pictures, remembered between runs: by their content, and by their file.

Content is the truth. That a file still has the content that was hashed is concluded from what the
file system says of it, as git does: the same size, times of modification and of change, inode and
device. Where one of them differs, the file is read and hashed again.
"""

import contextlib
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import PIL

from headstart.data.image import MAX_PIXELS, Probe

_FORMAT = 2
# A file that was written to within this time before it was read may be written to again without
# its times showing it: file systems count time in steps of up to 2 s (FAT), and the clock of a
# server of files is not ours.
_SETTLED_NS = 10_000_000_000

Fact = Probe | str
"""What a picture is, or the reason why it cannot be read."""


class FileStatus(NamedTuple):
    """What tells a file from what it was before, without reading it.

    Attributes:
        size_bytes: Its size.
        modified_ns: When its content was last written, as the file system has it; programs can set
            this back.
        changed_ns: When anything of it last changed; on POSIX systems nobody can set this back.
        inode: Its number in its file system: a file put in its place has another.
        device: Which file system that is.
    """

    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int
    device: int

    def settled(self, now_ns: int) -> bool:
        """Return whether a write after `now_ns` would give the file other times for sure."""
        return max(self.modified_ns, self.changed_ns) + _SETTLED_NS <= now_ns

    def text(self) -> str:
        """Return all of it as one text: inodes may exceed what SQLite counts to."""
        return "/".join(map(str, self))


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What an earlier scan found in a file.

    Attributes:
        status: `FileStatus.text` of then.
        digest: SHA-256 of its content.
        fact: What the picture is, or why it cannot be read.
    """

    status: str
    digest: str
    fact: Fact


def file_status(path: str) -> FileStatus | None:
    """Return what the file system says of a file.

    Args:
        path: Where it is.

    Returns:
        Its status; None where it is no plain file, or not there.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return FileStatus(
        found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev
    )


class FactCache:
    """Facts by the digest of a picture's bytes, in one SQLite file; safe in threads and processes.

    Facts are kept apart by what else they depend on: this file's format, the limit of pixels and
    Pillow's version. Beside them stands which file had which content. A damaged or locked cache
    costs time, never a run: it then stays empty and `trouble` says so.
    """

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._version = f"{_FORMAT}/{MAX_PIXELS}/{PIL.__version__}"
        self._connection: sqlite3.Connection | None = None
        self.trouble: str | None = None
        if folder is None:
            return
        path = folder / "preflight.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS facts (digest TEXT, version TEXT, fact TEXT, "
                    "PRIMARY KEY (digest, version)) WITHOUT ROWID"
                )
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, status TEXT, "
                    "digest TEXT) WITHOUT ROWID"
                )
        except (sqlite3.Error, OSError) as error:
            self._give_up(f"the scan's cache {path} cannot be used ({error}): delete it")

    def get(self, digest: str) -> Fact | None:
        """Return what is known of a picture's bytes, or None."""
        query = "SELECT fact FROM facts WHERE digest = ? AND version = ?"
        found = self._read(query, (digest, self._version))
        return _fact(found[0][0]) if found else None

    def files(self, paths: Sequence[str]) -> dict[str, KnownFile]:
        """Return what is known of files whose content has a fact.

        Args:
            paths: Absolute paths, at most some hundreds.

        Returns:
            What is known by path; whether the file is still the same is not looked at.
        """
        if not paths:
            return {}
        query = (
            "SELECT files.path, files.status, files.digest, facts.fact FROM files "
            "JOIN facts ON facts.digest = files.digest AND facts.version = ? "
            f"WHERE files.path IN ({', '.join('?' * len(paths))})"
        )
        found = self._read(query, (self._version, *paths))
        return {
            path: KnownFile(status, digest, _fact(text)) for path, status, digest, text in found
        }

    def put(self, facts: Mapping[str, Fact], files: Mapping[str, tuple[str, str]]) -> None:
        """Remember facts by digest, and the contents of files.

        Args:
            facts: What was found, by digest.
            files: `FileStatus.text` and digest by absolute path.
        """
        lines = [
            (digest, self._version, json.dumps(fact if isinstance(fact, str) else asdict(fact)))
            for digest, fact in facts.items()
        ]
        seen = [(path, status, digest) for path, (status, digest) in files.items()]
        with self._lock:
            if self._connection is None or not (lines or seen):
                return
            try:
                with self._connection as connection:
                    connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", lines)
                    connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", seen)
            except sqlite3.Error as error:
                self._give_up(f"the scan's cache cannot be written: {error}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self, query: str, values: tuple[str, ...]) -> list[tuple[str, ...]]:
        with self._lock:
            if self._connection is None:
                return []
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                self._give_up(f"the scan's cache cannot be read: {error}")
                return []

    def _give_up(self, trouble: str) -> None:
        self.trouble = trouble
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def can_be_remembered(path: str) -> bool:
    """Return whether the cache takes a path: not one that is no Unicode."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fact(text: str) -> Fact:
    value = json.loads(text)
    return value if isinstance(value, str) else Probe(**value)

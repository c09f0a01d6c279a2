"""What was found out about pictures, remembered by their content between runs."""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import PIL

from headstart.data.image import MAX_PIXELS, Probe

_FORMAT = 2

Fact = Probe | str
"""What a picture is, or the reason why it cannot be read."""


class FactCache:
    """Facts by the digest of a picture's bytes, in one SQLite file; safe in threads and processes.

    Facts are kept apart by what else they depend on: this file's format, the limit of pixels and
    Pillow's version. A damaged or locked file costs time, never a run: the cache then stays empty
    and `trouble` says so.
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
        except (sqlite3.Error, OSError) as error:
            self._give_up(f"the scan's cache {path} cannot be used ({error}): delete it")

    def get(self, digest: str) -> Fact | None:
        """Return what is known of a picture's bytes, or None."""
        with self._lock:
            if self._connection is None:
                return None
            try:
                found = self._connection.execute(
                    "SELECT fact FROM facts WHERE digest = ? AND version = ?",
                    (digest, self._version),
                ).fetchone()
            except sqlite3.Error as error:
                self._give_up(f"the scan's cache cannot be read: {error}")
                return None
        if found is None:
            return None
        value = json.loads(found[0])
        return value if isinstance(value, str) else Probe(**value)

    def put(self, facts: Mapping[str, Fact]) -> None:
        """Remember facts by digest."""
        lines = [
            (digest, self._version, json.dumps(fact if isinstance(fact, str) else asdict(fact)))
            for digest, fact in facts.items()
        ]
        with self._lock:
            if self._connection is None or not lines:
                return
            try:
                with self._connection:
                    self._connection.executemany(
                        "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", lines
                    )
            except sqlite3.Error as error:
                self._give_up(f"the scan's cache cannot be written: {error}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _give_up(self, trouble: str) -> None:
        self.trouble = trouble
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

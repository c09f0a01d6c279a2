"""What a training in progress must remember besides its checkpoints: one JSON file."""

from pathlib import Path

from headstart._util import files
from headstart.types import JsonDict


class Notebook:
    """Notes of one member's training, kept with its checkpoints and gone when the part is done."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        """Read what was noted before the program was stopped, if it was.

        Args:
            path: The file; it is made with the first note.
            writes: Whether notes go to the file; else it is another process's, and only read.
        """
        self._path, self._writes = path, writes
        self._notes: JsonDict = files.read_json(path) if path.exists() else {}

    def get(self, key: str) -> JsonDict | None:
        """Return a note, or None."""
        note: JsonDict | None = self._notes.get(key)
        return note

    def put(self, key: str, note: JsonDict) -> None:
        """Write a note, atomically; it replaces the one of the same key."""
        self._notes = {**self._notes, key: note}
        if self._writes:
            files.write_json(self._path, self._notes)

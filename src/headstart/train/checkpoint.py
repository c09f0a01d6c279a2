"""A training in progress as two files, so that it can go on where it was.

    checkpoint.json           the commit point: everything that is not a tensor and its SHA-256, and
                              the name and SHA-256 of
    state-NNN.safetensors     model, best weights, optimiser, average, sums, random states

The tensors are written first and the JSON replaces the old one atomically, so that at every moment
the JSON names a file that is there and whole. Older tensors are removed afterwards.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import safetensors.torch
from torch import Tensor

from headstart._util import files
from headstart._util.hashing import digest_bytes, digest_json
from headstart.errors import RunError
from headstart.types import JsonDict

FORMAT_VERSION = 1
_RECORD = "checkpoint.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds.

    Attributes:
        tensors: By dotted name, on the CPU.
        record: Everything else.
    """

    tensors: dict[str, Tensor]
    record: JsonDict

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix.``, without it."""
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


class Checkpoint(Protocol):
    """Where one training is saved, and when."""

    @property
    def by_time(self) -> bool:
        """Whether the clock alone says when to save, so that a whole epoch may be one step."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether somebody asked the program to stop: save, and raise `StoppedError`."""
        ...

    def load(self) -> Saved | None:
        """Return what was saved last, or None."""
        ...

    def due(self) -> bool:
        """Say, after each optimiser step, whether it is time to save."""
        ...

    def save(self, tensors: Mapping[str, Tensor], record: JsonDict) -> None:
        """Replace what was saved before."""
        ...


class CheckpointFolder:
    """The one implementation of `Checkpoint`: a folder of its own for each training."""

    def __init__(
        self,
        folder: Path,
        *,
        every_seconds: float | None,
        every_steps: int | None,
        stop: Callable[[], bool],
    ) -> None:
        """Name the folder; it is made with the first checkpoint.

        Args:
            folder: For one training alone.
            every_seconds: Seconds between two checkpoints; None for none by time.
            every_steps: Optimiser steps between two checkpoints; None for none by steps.
            stop: Says whether somebody asked the program to stop.
        """
        self._folder = folder
        self._every_seconds = every_seconds
        self._every_steps = every_steps
        self._stop = stop
        self._steps = 0
        self._last = time.monotonic()

    @property
    def by_time(self) -> bool:
        """Whether the clock alone says when to save."""
        return self._every_steps is None

    @property
    def stopping(self) -> bool:
        """Whether somebody asked the program to stop."""
        return self._stop()

    def load(self) -> Saved | None:
        """Return what was saved last, or None.

        Returns:
            The tensors and the record; None where nothing was saved yet.

        Raises:
            RunError: The files are damaged, or of another version.
        """
        path = self._folder / _RECORD
        if not path.exists():
            return None
        advice = f"remove {self._folder} to train this model from its start, and resume again"
        try:
            whole = files.read_json(path)
            version = whole["format_version"]
            if version != FORMAT_VERSION:
                raise RunError(
                    f"{path}: expected version {FORMAT_VERSION}, got {version}: {advice}"
                )
            data = (self._folder / whole["tensors"]["file"]).read_bytes()
            sound = {
                "tensors": digest_bytes(data) == whole["tensors"]["sha256"],
                "numbers": digest_json(whole["record"]) == whole["record_sha256"],
            }
            record: JsonDict = whole["record"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: expected a checkpoint, but {error!r}: {advice}") from error
        for what, fits in sound.items():
            if not fits:
                raise RunError(f"{path}: the {what} do not fit their checksum: {advice}")
        return Saved(safetensors.torch.load(data), record)

    def elapsed(self) -> float:
        """Return the seconds that the training had taken when it was saved; 0 where it was not."""
        try:
            return float(files.read_json(self._folder / _RECORD)["record"]["elapsed"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0  # `load` says what is wrong

    def due(self) -> bool:
        """Say, after each optimiser step, whether it is time to save."""
        self._steps += 1
        if self._stop():
            return True
        if self._every_steps is not None and self._steps >= self._every_steps:
            return True
        late = self._every_seconds
        return late is not None and time.monotonic() - self._last >= late

    def save(self, tensors: Mapping[str, Tensor], record: JsonDict) -> None:
        """Replace what was saved before; a kill at any moment leaves the old or the new.

        Args:
            tensors: By dotted name, on any device.
            record: Plain JSON values.
        """
        old = sorted(self._folder.glob("state-*.safetensors"))
        # A kill in the middle of writing leaves the file that was being written.
        unfinished = list(self._folder.glob(".*.tmp"))
        number = 1 + max((int(p.stem.removeprefix("state-")) for p in old), default=0)
        name = f"state-{number:06d}.safetensors"
        # One copy each: safetensors refuses tensors that share memory.
        plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        data = safetensors.torch.save(plain)
        files.write_bytes(self._folder / name, data)
        files.write_json(
            self._folder / _RECORD,
            {
                "format_version": FORMAT_VERSION,
                "tensors": {"file": name, "sha256": digest_bytes(data)},
                "record": record,
                "record_sha256": digest_json(record),
            },
        )
        for path in (*old, *unfinished):
            with contextlib.suppress(OSError):
                path.unlink()
        self._steps = 0
        self._last = time.monotonic()

"""Bundles that cost nothing: what they say can be told from what was sent.

They can be sent to another process of this machine: what a test then does to its own works there.
"""

import contextlib
import io
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from headstart.data.encode import converter
from headstart.predict.bundle_info import TaskName
from headstart.predict.inside import Inside
from headstart.types import FloatArray, Goal, InputSpec, JsonDict, SeriesSpec, Spec, TextSpec

PICTURES = InputSpec(
    height=8, width=8, resize=8, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)
COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class FakeInfo:
    name: str
    task: TaskName
    spec: Spec
    classes: tuple[str, ...] = COLOURS
    goal: Goal = "classification"
    title: str = "A fake"
    raw: JsonDict = field(default_factory=dict)


@dataclass(frozen=True)
class SharedEvent:
    """As `threading.Event`, for several processes: a file says it, by being there or by not."""

    file: Path
    when_there: bool = True

    def is_set(self) -> bool:
        return self.file.exists() == self.when_there

    def set(self) -> None:
        self._write(self.when_there)

    def clear(self) -> None:
        self._write(not self.when_there)

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.is_set():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def _write(self, there: bool) -> None:
        if not there:
            self.file.unlink(missing_ok=True)
            return
        with contextlib.suppress(FileNotFoundError):  # of a test that is over
            self.file.touch()


Event = threading.Event | SharedEvent


class Colours:
    """Says how much of each colour is in a picture."""

    batch_size = 8
    engine = "torch"

    def __init__(self, name: str = "colours", folder: Path | None = None) -> None:
        self.info = FakeInfo(name, "image", PICTURES)
        self.go_on: Event = threading.Event()  # cleared: the network takes for ever
        self.go_on.set()
        self.computing: Event = threading.Event()
        self._folder = folder
        if folder is not None:
            self._share(folder)
        self._convert = converter(PICTURES)

    def __reduce__(self) -> tuple[Any, ...]:
        """Send it to another process: from now on the events of both are the same."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="colours-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            held = not self.go_on.is_set()
            self._share(self._folder)
            if held:
                self.go_on.clear()
        return type(self), (self.info.name, self._folder)

    def _share(self, folder: Path) -> None:
        self.go_on = SharedEvent(folder / "held", when_there=False)
        self.computing = SharedEvent(folder / "computing")

    def prepare(self, data: bytes) -> FloatArray:
        return self._convert(data)

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        self.computing.set()
        assert self.go_on.wait(30)
        means = np.stack([row.mean(axis=(1, 2)) for row in rows]) + 1e-6
        return np.asarray(means / means.sum(axis=1, keepdims=True), dtype=np.float32)

    def explainer(self) -> Inside | None:
        return None

    def expected(self, data: bytes) -> FloatArray:
        """What it says of one picture, computed alone."""
        mean = self._convert(data).mean(axis=(1, 2)) + 1e-6
        return np.asarray(mean / mean.sum(), dtype=np.float32)


class Broken(Colours):
    """Has a bug."""

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:  # noqa: ARG002
        raise ZeroDivisionError


class Sums:
    """The sum of a sequence of pairs of numbers."""

    batch_size = 4
    engine = "torch"

    def __init__(self) -> None:
        self.info = FakeInfo("sums", "sequence", SeriesSpec(2, 50), ("value",), goal="regression")
        self.prepare = converter(self.info.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.array([row[:, :-1].sum() for row in rows], dtype=np.float32)

    def explainer(self) -> Inside | None:
        return None


class Letters:
    """Says whether a text has more vowels than consonants; of a pair, of both together."""

    batch_size = 4
    engine = "torch"

    def __init__(self, task: TaskName = "text", name: str = "letters") -> None:
        self.info = FakeInfo(name, task, TextSpec("{}", 99), ("vowels", "consonants"))

    def prepare(self, data: bytes) -> FloatArray:
        text = data.decode()
        vowels = sum(letter in "aeiou" for letter in text.lower())
        return np.array([[vowels + 1, len(text) - vowels + 1]], dtype=np.float32)

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        counts = np.concatenate(rows)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float32)

    def explainer(self) -> Inside | None:
        return None


def picture(colour: tuple[int, int, int], kind: str = "PNG", side: int = 12) -> bytes:
    """Return an encoded picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, kind)
    return file.getvalue()


def fakes() -> dict[str, object]:
    """Return one of each kind."""
    return {
        "colours": Colours(),
        "letters": Letters(),
        "pairs": Letters("pair", "pairs"),
        "sums": Sums(),
    }

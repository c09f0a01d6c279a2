"""Bundles that cost nothing: what they say can be told from what was sent."""

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

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


class Colours:
    """Says how much of each colour is in a picture."""

    batch_size = 8
    engine = "torch"

    def __init__(self, name: str = "colours") -> None:
        self.info = FakeInfo(name, "image", PICTURES)
        self.go_on = threading.Event()  # cleared: the network takes for ever
        self.go_on.set()
        self.computing = threading.Event()
        self.batches: list[int] = []
        self._convert = converter(PICTURES)

    def prepare(self, data: bytes) -> FloatArray:
        return self._convert(data)

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        self.computing.set()
        assert self.go_on.wait(30)
        self.batches.append(len(rows))
        means = np.stack([row.mean(axis=(1, 2)) for row in rows]) + 1e-6
        return np.asarray(means / means.sum(axis=1, keepdims=True), dtype=np.float32)

    def explainer(self) -> Inside | None:
        return None

    def expected(self, data: bytes) -> FloatArray:
        """What it says of one picture, computed alone."""
        mean = self._convert(data).mean(axis=(1, 2)) + 1e-6
        return np.asarray(mean / mean.sum(), dtype=np.float32)


class Sums:
    """The sum of a sequence of pairs of numbers."""

    batch_size = 4
    engine = "torch"

    def __init__(self) -> None:
        self.info = FakeInfo("sums", "sequence", SeriesSpec(2, 50), ("value",), goal="regression")
        self.lengths: list[list[int]] = []
        self._convert = converter(self.info.spec)

    def prepare(self, data: bytes) -> FloatArray:
        return self._convert(data)

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        self.lengths.append([len(row) for row in rows])
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

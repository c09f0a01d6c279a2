"""The records that modules hand to each other: frozen, typed, needing no torch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

Fit = Literal["crop", "resize", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How a picture becomes the array that a backbone expects; stored with every model.

    Attributes:
        height: Rows of the input, in pixels.
        width: Columns of the input, in pixels.
        resize: The shorter edge after resizing and before the centre crop, in pixels
            (used by ``fit="crop"``).
        interpolation: The resampling filter.
        mean: Per-channel mean that is subtracted, of values in [0, 1], in RGB order.
        std: Per-channel standard deviation to divide by.
        fit: ``crop`` resizes the shorter edge to `resize` and cuts the centre out; ``resize``
            stretches to height × width; ``pad`` keeps the pixels as they are and puts zeros
            (black) around them, and shrinks only what is larger than the input.
    """

    height: int
    width: int
    resize: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Fit = "crop"


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random changes to training pictures; each is off by default.

    They are applied to the decoded picture in the order of the attributes, each picture with its
    own random stream (see `View`).

    Attributes:
        rotate: Turn by an angle drawn from ±`rotate` degrees; the corners become black.
        crop: Cut out a rectangle of a share of the area drawn from [`crop`, 1] and an aspect ratio
            drawn from [3/4, 4/3], and stretch it to the input; None keeps the input's own fit.
        shift: Move by up to this share of the height and width, black coming in at the edge.
        flip: Mirror left and right with probability 1/2.
        vertical_flip: Mirror top and bottom with probability 1/2.
        brightness: Multiply by a factor drawn from 1 ± `brightness`.
        contrast: Move away from the mean grey by a factor drawn from 1 ± `contrast`.
        saturation: Move away from grey by a factor drawn from 1 ± `saturation`.
        erase: Probability that a rectangle of 2% to 33% of the area becomes the mean colour.
    """

    rotate: float = 0.0
    crop: float | None = None
    shift: float = 0.0
    flip: bool = False
    vertical_flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0


@dataclass(frozen=True, slots=True)
class View:
    """One random draw of an augmentation for every picture of a set.

    What happens to a picture depends on the augmentation, the seed, the number and the picture's
    own bytes, and on nothing else: not on its place, its batch or the machine.

    Attributes:
        augmentation: What may happen.
        seed: The seed of the training.
        number: Which draw, from 0.
    """

    augmentation: Augmentation
    seed: int
    number: int


class ImageSet(Protocol):
    """Encoded pictures that can be read by position: the least that a feature extractor needs."""

    @property
    def names(self) -> Sequence[str]:
        """Names for people, unique, one per picture (a path inside the data set)."""
        ...

    @property
    def digests(self) -> Sequence[str]:
        """SHA-256 of each picture's encoded bytes, as 64 hex digits."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Return the encoded bytes (JPEG, PNG, PGM …) of one picture; safe to call in threads."""
        ...


class Task(Protocol):
    """One piece of long work whose advance somebody may be watching."""

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more units are done."""
        ...


class Progress(Protocol):
    """Where components say how far they are; see `headstart._util.progress`."""

    def task(self, description: str, total: int, unit: str) -> AbstractContextManager[Task]:
        """Open a task of `total` units, shown with its rate and time left."""
        ...

    def say(self, message: str) -> None:
        """Show one line to the user without breaking the bars."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """A measured figure with its 95% interval.

    Attributes:
        value: The estimate on the whole split.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: How many samples it rests on.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of one split, in the split's order.

    Attributes:
        names: Names of the samples, length n.
        labels: True class indices, int64, shape [n].
        probabilities: Class probabilities, float32, shape [n, classes]; rows sum to 1.
        classes: Class names, in the order of the columns.
    """

    names: tuple[str, ...]
    labels: IntArray
    probabilities: FloatArray
    classes: tuple[str, ...]

    @property
    def predicted(self) -> IntArray:
        """Most probable class indices, int64, shape [n]."""
        predicted: IntArray = self.probabilities.argmax(axis=1).astype(np.int64)
        return predicted


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One line of a training history: one member, one epoch, one split.

    Attributes:
        member: Index of the sweep member (0 where there is one model).
        stage: Index of the training stage.
        epoch: 1 for the first.
        split: ``train`` or ``val``.
        loss: Mean loss over the samples of the epoch.
        accuracy: Share of right answers, in [0, 1]; for ``train`` measured while the weights move.
        learning_rate: Learning rate of the epoch's last step.
        seconds: Wall time of this epoch's work on this split, shared by all members of a batch.
    """

    member: int
    stage: int
    epoch: int
    split: str
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float


JsonDict = dict[str, Any]

"""The records that modules hand to each other: frozen, typed, needing no torch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from headstart._util.hashing import digest_bytes

JsonDict = dict[str, Any]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

Fit = Literal["crop", "resize", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Resampling = Literal["torch", "pillow"]
RESAMPLING: Resampling = "torch"
"""Whose filter resizes the pictures of whatever is trained now."""
Pairs = Literal["single", "together", "separately"]
Goal = Literal["classification", "regression"]
Noun = Literal["picture", "text", "pair", "sequence"]


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
        resampling: Whose bilinear and bicubic filter it is: ``torch``'s for 8-bit pixels, or
            ``pillow``'s, with which models of before were trained.
    """

    height: int
    width: int
    resize: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Fit = "crop"
    resampling: Resampling = RESAMPLING

    def describe(self) -> JsonDict:
        """Return it as JSON-like values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TextSpec:
    """How a text, or a pair of texts, becomes the tokens that a network expects.

    One sample's tokens are float32 [length, 2]: the token's id (exact up to 2^24), and its segment,
    which is 1 for the first text and 2 for the second. Zeros are padding.

    Attributes:
        tokenizer: The whole tokenizer, as the JSON of the library `tokenizers`.
        max_length: Tokens of a sequence at most, special tokens included; more are cut off at the
            end, of the longer text first where a sequence holds two.
        pairs: ``single``: samples are one text; ``together``: both texts of a pair are one
            sequence; ``separately``: two sequences, one after the other, that never see each other.
        strip_markup: Whether tags such as ``<br />`` are taken out of the text first.
    """

    tokenizer: str
    max_length: int
    pairs: Pairs = "single"
    strip_markup: bool = False

    @property
    def longest(self) -> int:
        """Tokens of one sample at most."""
        return self.max_length * (2 if self.pairs == "separately" else 1)

    def describe(self) -> JsonDict:
        """Return it as JSON-like values; the tokenizer by its digest."""
        return {
            "tokenizer": digest_bytes(self.tokenizer.encode()),
            "max_length": self.max_length,
            "pairs": self.pairs,
            "strip_markup": self.strip_markup,
        }


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """Sequences of numbers: one sample is float32 [length, channels + 1], the last channel 1.

    Zeros are padding. A sample's bytes are its numbers, float32 [length, channels], little-endian.

    Attributes:
        channels: Numbers at each step.
        max_length: Steps at most.
    """

    channels: int
    max_length: int

    @property
    def longest(self) -> int:
        """Steps of one sample at most."""
        return self.max_length

    def describe(self) -> JsonDict:
        """Return it as JSON-like values."""
        return asdict(self)


Spec = InputSpec | TextSpec | SeriesSpec
"""How a sample becomes the array that a backbone expects."""


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
class Estimates:
    """What a regression says of one split, in the split's order.

    Attributes:
        names: Names of the samples, length n.
        targets: What is true, float32, shape [n].
        values: What is predicted, float32, shape [n].
    """

    names: tuple[str, ...]
    targets: FloatArray
    values: FloatArray


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One line of a training history: one member, one epoch, one split.

    Attributes:
        member: Index of the sweep member (0 where there is one model).
        stage: Index of the training stage.
        epoch: 1 for the first.
        split: ``train`` or ``val``; or ``steps`` for a line that is written within an epoch.
        loss: Mean loss over the samples of the epoch, or since the line before; cross-entropy in
            nats, or the squared error of a regression.
        accuracy: Share of right answers, in [0, 1]; for ``train`` measured while the weights move;
            not a number for a regression.
        learning_rate: Learning rate of the epoch's last step.
        seconds: Wall time of this epoch's work on this split, shared by all members of a batch.
        step: Optimiser steps that were done by then, from the stage's beginning.
    """

    member: int
    stage: int
    epoch: int
    split: str
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float
    step: int = 0

"""The samples that a bundle brings along, and how far other answers are from those stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.errors import BundleError
from headstart.predict.bundle_info import SAMPLES_RECORD
from headstart.predict.strict_json import parse_json
from headstart.types import FloatArray, JsonDict


@dataclass(frozen=True, slots=True)
class StoredSample:
    """A sample that a bundle brings along, and what it said of it when it was written.

    Attributes:
        name: What it was called in its data set.
        data: Its bytes.
        label: What is true: a class, or a number; None where it is not known.
        probabilities: Of each class; of a regression the one value.
    """

    name: str
    data: bytes
    label: str | float | None
    probabilities: tuple[float, ...]


def read_samples(folder: Path) -> tuple[StoredSample, ...]:
    """Return the samples that lie in a bundle's verified folder.

    Args:
        folder: The folder.

    Returns:
        The samples.

    Raises:
        BundleError: Their record is damaged.
    """
    try:
        entries = parse_json((folder / SAMPLES_RECORD).read_bytes())
        if not isinstance(entries, list):
            raise TypeError(f"expected a list, got {type(entries).__name__}")
        return tuple(_stored(folder, entry) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise BundleError(f"{folder}: {SAMPLES_RECORD} is damaged: {error!r}") from error


def _stored(folder: Path, entry: JsonDict) -> StoredSample:
    name = str(entry["file"])
    if name not in _inside(folder):
        raise BundleError(f"{folder}: {SAMPLES_RECORD} names {name!r:.80}, which is not in there")
    said = entry["probabilities"] if "probabilities" in entry else [entry["value"]]
    if not all(isinstance(value, float | int) for value in said):
        raise TypeError(f"expected numbers: {said!r:.80}")
    label = entry["label"]
    if not isinstance(label, str | float | int | None):
        raise TypeError(f"label: {label!r:.40}")
    return StoredSample(
        str(entry["name"]), (folder / name).read_bytes(), label, tuple(map(float, said))
    )


def _inside(folder: Path) -> set[str]:
    samples = (folder / SAMPLES_RECORD).parent
    return {path.relative_to(folder).as_posix() for path in samples.iterdir()}


def largest_difference(said: FloatArray, samples: Sequence[StoredSample]) -> float:
    """Return how far answers are from those that were stored.

    Args:
        said: From `Bundle.predict`, [n, classes] or [n].
        samples: What was stored, n samples.

    Returns:
        The largest difference of a probability; of values beyond 1 relative to the value; infinite
        where an answer is of another shape or not finite.
    """
    stored = np.array([sample.probabilities for sample in samples], dtype=np.float64)
    got = np.asarray(said, dtype=np.float64).reshape(len(samples), -1)
    if got.shape != stored.shape or not np.isfinite(got).all():
        return float("inf")
    return float((np.abs(got - stored) / np.maximum(1, np.abs(stored))).max(initial=0))

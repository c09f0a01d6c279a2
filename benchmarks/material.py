"""What all contenders work on: photographs, who of them trains, weights."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contest import Contender, run_fresh
from benchmarks.photos import make_photos

TRAINING_SHARE = 0.8
_TEST = (
    10  # more photographs, for Headstart's studies: without a test split they would divide train
)
_ENDINGS = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class Material:
    """Files.

    Attributes:
        folder: Holds ``train`` and ``val``, each with a folder of photographs for each class.
        count: How many photographs there are in both.
        classes: How many classes.
        weights: Folder of weights and features.
        made: Whether the photographs are made ones.
    """

    folder: Path
    count: int
    classes: int
    weights: Path
    made: bool

    @property
    def train(self) -> Path:
        return self.folder / "train"

    @property
    def val(self) -> Path:
        return self.folder / "val"


def gather(
    data: Path | None, work: Path, count: int, threads: int, wanted: Sequence[str]
) -> Material:
    """Make, or choose, photographs and what belongs to them.

    Args:
        data: A folder of photographs for each class; None: made ones.
        work: Where everything is put.
        count: How many photographs.
        threads: For computing features.
        wanted: Files of weights and features, from `benchmarks.ours.prepare`.

    Returns:
        The files.

    Raises:
        RuntimeError: Weights or features could not be made.
    """
    source = data
    if source is None:
        source = make_photos(work / f"photos-{count}", count + _TEST)
    place = work / (f"made-{count}" if data is None else f"given-{data.name}-{count}")
    photos = chosen(source, count + _TEST)
    classes = len({path.parent.name for path in photos})
    found = Material(place / "split", len(photos) - _TEST, classes, place / "weights", data is None)
    share_out(photos, found.folder)
    job = {
        "train": str(found.train),
        "val": str(found.val),
        "folder": str(found.weights),
        "wanted": list(wanted),
        "threads": threads,
    }
    answer = run_fresh(Contender("weights", "benchmarks.ours.prepare", job), 0)
    if "error" in answer:
        raise RuntimeError(f"weights and features: {answer['error']}")
    return found


def chosen(folder: Path, count: int) -> list[Path]:
    """Return photographs in an order that is drawn once.

    Args:
        folder: With a folder for each class.
        count: How many at most.

    Returns:
        Paths.

    Raises:
        RuntimeError: There are fewer than two classes.
    """
    paths = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in _ENDINGS)
    if len({path.parent for path in paths}) < 2:
        raise RuntimeError(f"{folder}: expected a folder of photographs for each of two classes")
    order = np.random.default_rng(0).permutation(len(paths))[:count]
    return [paths[i] for i in order]


def share_out(photos: Sequence[Path], folder: Path) -> None:
    """Copy the photographs into ``train``, ``val`` and ``test``; write who went where."""
    if folder.exists():
        return
    half_made = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(half_made, ignore_errors=True)
    count = len(photos) - _TEST
    cut = round(count * TRAINING_SHARE)
    who = {"train": photos[:cut], "val": photos[cut:count], "test": photos[count:]}
    for split, paths in who.items():
        for path in paths:
            place = half_made / split / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    named = {split: [f"{p.parent.name}/{p.name}" for p in paths] for split, paths in who.items()}
    (half_made / "split.json").write_text(json.dumps(named, indent=1))
    half_made.rename(folder)

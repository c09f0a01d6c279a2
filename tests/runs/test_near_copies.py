"""Near-copies across splits: found where the contents agree, and only there."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart._util.progress import SilentProgress
from headstart.data.checks import scan
from headstart.data.dataset import Dataset, prepare
from headstart.data.source import open_source
from headstart.runs.near_copies import NearCopy, candidates, confirmed, near_copies_record
from headstart.types import Predictions


class Table:
    """Features in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def gather(self, rows: Sequence[int]) -> np.ndarray:
        return self.values[np.asarray(rows)]


def scene(seed: int) -> Image.Image:
    """A smooth picture with blobs, as photos are smooth."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, size=(6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Dataset:
    """Six training pictures, two test pictures: the first a training picture saved again."""
    for split, seeds in (("train", range(6)), ("val", (20, 21)), ("test", (100, 101))):
        for place, seed in enumerate(seeds):
            folder = tmp_path / split / ("a" if place % 2 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            scene(seed).save(folder / f"{seed}.png")
    buffer = io.BytesIO()
    scene(100).resize((200, 150)).save(buffer, "JPEG", quality=70)
    (tmp_path / "train" / "b" / "again.jpg").write_bytes(buffer.getvalue())
    source = open_source("auto", str(tmp_path))
    found = scan(source, workers=1, progress=SilentProgress(), cache_dir=None)
    return prepare(source, found, fractions=None, seed=0)


def place(dataset: Dataset, ending: str) -> int:
    (found,) = [i for i, name in enumerate(dataset.names) if name.endswith(ending)]
    return found


def test_features_propose_the_nearest_first() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(30, 16)).astype(np.float32)
    values[25] = values[3] + 0.05 * random.normal(size=16)
    values[26] = values[7] + 0.2 * random.normal(size=16)
    with SilentProgress().task("", 10, "") as task:
        pairs = candidates(Table(values), np.arange(20), np.arange(20, 30), task)
    assert [(p.learnt, p.test) for p in pairs] == [(3, 25), (7, 26)]
    assert pairs[0].similarity > pairs[1].similarity > 0.9


def test_a_picture_that_was_saved_again_counts_and_another_does_not(photos: Dataset) -> None:
    again, test = place(photos, "again.jpg"), place(photos, "100.png")
    other = place(photos, "101.png")
    proposed = [NearCopy(again, test, 0.99), NearCopy(again, other, 0.98)]
    with SilentProgress().task("", 2, "") as task:
        assert confirmed(proposed, photos, task) == proposed[:1]


def test_the_record_gives_the_accuracy_without_what_is_touched(photos: Dataset) -> None:
    again, test = place(photos, "again.jpg"), place(photos, "100.png")
    rows = photos.splits["test"]
    right = photos.labels[rows]
    probabilities = np.eye(2, dtype=np.float32)[right]
    # Right on the copy, wrong on the other.
    wrong = [i for i, row in enumerate(rows) if row != test]
    probabilities[wrong] = probabilities[wrong][:, ::-1]
    said = Predictions(tuple(photos.names[i] for i in rows), right, probabilities, photos.classes)
    split_of = {int(i): s for s in ("train", "val", "test") for i in photos.splits[s]}
    record = near_copies_record([NearCopy(again, test, 0.99)], photos, split_of, {"m": said})
    (model,) = record["models"]
    assert model["accuracy"]["value"] == 0.5
    assert (model["without"]["value"], model["without"]["n"]) == (0.0, 1)
    assert record["test_samples"] == 1
    assert record["checked"] == {"train": 7, "val": 2, "test": 2}
    assert record["pairs"][0]["train_split"] == "train"

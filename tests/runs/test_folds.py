"""Folds keep what belongs together together, or say that they cannot."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart._util.progress import SilentProgress
from headstart.data.checks import scan
from headstart.data.dataset import Dataset, prepare
from headstart.data.source import open_source
from headstart.runs.folds import make_folds


def grouped(folder: Path, groups: list[tuple[str, str, int]]) -> Dataset:
    """Pictures by (group, class, how many); all of them train."""
    random = np.random.default_rng(0)
    rows = []
    for group, label, count in groups:
        for number in range(count):
            name = f"{group}-{label}-{number}.png"
            pixels = random.integers(0, 256, size=(8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name)
            rows.append((name, label, group, "train"))
    for split in ("val", "test"):
        for label in sorted({g[1] for g in groups}):
            pixels = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{split}-{label}.png")
            rows.append((f"{split}-{label}.png", label, split, split))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", "split"])
        writer.writerows(rows)
    source = open_source("manifest", str(folder / "table.csv"))
    found = scan(source, workers=1, progress=SilentProgress(), cache_dir=None)
    return prepare(source, found, fractions=None, seed=0, val_samples=None)


def learnt(dataset: Dataset) -> np.ndarray:
    return dataset.splits["train"]


def test_a_group_is_never_parted(tmp_path: Path) -> None:
    groups = [(f"g{i}", "ab"[i % 2], 4) for i in range(14)]
    dataset = grouped(tmp_path, groups)
    rows = learnt(dataset)
    folds = make_folds(dataset, rows)
    assert folds is not None
    of = {}
    for row, fold in zip(rows, folds, strict=True):
        of.setdefault(dataset.names[row].split("-")[0], set()).add(int(fold))
    assert all(len(found) == 1 for found in of.values())
    assert len({fold for found in of.values() for fold in found}) == 5


@pytest.mark.parametrize(
    "groups",
    [
        # Class b is in one group: whoever is tested on it has never seen it.
        [*((f"g{i}", "a", 4) for i in range(6)), ("h", "b", 12), ("i", "a", 3), ("j", "a", 3)],
        # Three groups, one class in one of them alone.
        [("g", "a", 6), ("h", "a", 6), ("i", "b", 6)],
    ],
)
def test_where_a_class_cannot_be_learnt_there_are_no_folds(
    tmp_path: Path, groups: list[tuple[str, str, int]]
) -> None:
    dataset = grouped(tmp_path, groups)
    rows = learnt(dataset)
    assert make_folds(dataset, rows) is None


def test_few_groups_make_few_folds(tmp_path: Path) -> None:
    dataset = grouped(tmp_path, [(g, c, 5) for g in ("g", "h", "i") for c in ("a", "b")])
    rows = learnt(dataset)
    folds = make_folds(dataset, rows)
    assert folds is not None
    assert len(np.unique(folds)) == 3

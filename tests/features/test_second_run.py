"""A second run over a folder: what is read again, and what is extracted again."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_backbone import Listener, TinyBackbone

from headstart._util.progress import SilentProgress
from headstart.data import facts
from headstart.data.checks import scan
from headstart.data.dataset import Dataset, prepare
from headstart.data.source import open_source
from headstart.data.tree import DirectoryTree
from headstart.features.extract import Extraction, extract
from headstart.features.store import FeatureStore


def opened(root: Path, cache: Path) -> Dataset:
    source = open_source("auto", str(root))
    found = scan(source, workers=2, progress=SilentProgress(), cache_dir=cache)
    return prepare(source, found, fractions=None, seed=0)


def extracted(dataset: Dataset, store: FeatureStore, listener: Listener) -> Extraction:
    return extract(
        dataset,
        range(len(dataset)),
        TinyBackbone(),
        "pooled",
        store=store,
        engine="torch",
        device=torch.device("cpu"),
        workers=0,
        progress=listener,
    )


def test_one_changed_pixel_is_one_picture_to_extract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_SETTLED_NS", 0)  # as if the pictures had lain there for a while
    random = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{index}.bmp")
    store, cache = FeatureStore(tmp_path / "store"), tmp_path / "cache"
    before = extracted(opened(tmp_path / "pictures", cache), store, Listener())
    assert before.extracted == 40

    time.sleep(0.05)  # more than a step of the file system's clock
    path = tmp_path / "pictures" / "b" / "7.bmp"
    status = path.stat()
    with Image.open(path) as picture:
        picture.load()
    red, *others = picture.getpixel((3, 3))  # type: ignore[misc]
    picture.putpixel((3, 3), (red ^ 1, *others))
    picture.save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size

    read: list[str] = []
    real = DirectoryTree.read
    monkeypatch.setattr(
        DirectoryTree, "read", lambda self, name: (read.append(name), real(self, name))[1]
    )
    listener = Listener()
    dataset = opened(tmp_path / "pictures", cache)
    after = extracted(dataset, store, listener)
    assert "1 of 40 pictures to extract, 39 reused" in listener.said[0]
    assert set(read) == {"b/7.bmp"}
    assert (after.extracted, after.reused) == (1, 39)
    changed = np.flatnonzero((before.features.load() != after.features.load()).any(axis=1))
    assert [dataset.names[i] for i in changed] == ["b/7.bmp"]

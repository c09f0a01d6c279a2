"""Pictures made on the spot: small, encoded, different from each other."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """Return a function that encodes a PIL image or an array: encoded(image, "PNG", **options)."""

    def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def noise(encoded: Callable[..., bytes]) -> Callable[..., bytes]:
    """Return a function that makes a PNG that no other seed gives: noise(seed, size=(w, h))."""

    def make(seed: int, size: tuple[int, int] = (12, 9)) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        return encoded(pixels)

    return make


@pytest.fixture
def folder(tmp_path: Path, noise: Callable[..., bytes]) -> Callable[..., Path]:
    """Return a function that writes a class-per-folder data set: folder({"cat": 4}, "name")."""
    made = iter(range(10**6))

    def make(classes: Mapping[str, int], name: str = "pictures") -> Path:
        root = tmp_path / name
        for label, count in classes.items():
            (root / label).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                (root / label / f"{index}.png").write_bytes(noise(next(made)))
        return root

    return make

"""Photographs that the benchmarks make: 500×375 JPEGs of five textures, told apart by degree.

They decode at the cost of real photographs (about 60 KB each), and no network gets all of them
right, so that a contender that computes something else shows in its accuracy.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.types import FloatArray

WIDTH, HEIGHT = 500, 375
CLASSES = 5
_QUALITY = 90
_COARSE, _FINE = 20, 4  # pixels that one value of the two noises covers


def make_photos(folder: Path, count: int, classes: int = CLASSES, seed: int = 0) -> Path:
    """Write photographs into one folder per class, unless they are there.

    Args:
        folder: Where; made whole or not at all.
        count: How many, of all classes together.
        classes: How many classes.
        seed: Decides all pixels.

    Returns:
        The folder.
    """
    if folder.exists():
        return folder
    half_made = folder.with_name(f"{folder.name}.part")
    for number in range(count):
        label = number % classes
        place = half_made / f"texture-{label:03d}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{number:06d}.jpg"
        path.write_bytes(encode(photo(label, classes, np.random.default_rng([seed, number]))))
    half_made.rename(folder)
    return folder


def photo(label: int, classes: int, rng: np.random.Generator) -> FloatArray:
    """Return pixels from 0 to 255, [375, 500, 3]: clouds of colour under bars of one direction."""
    turn = np.pi * label / classes + rng.normal(0, 0.25)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    period = rng.uniform(18, 40)
    bars = np.sin(
        (x * np.cos(turn) + y * np.sin(turn)) * (2 * np.pi / period) + rng.uniform(0, 2 * np.pi)
    )
    hues = label / classes + np.arange(3) / 3
    colour = 0.5 + 0.12 * np.cos(2 * np.pi * hues)
    clouds = _noise(rng, _COARSE, 3) * 0.16 + _noise(rng, _FINE, 3) * 0.07
    grain = rng.normal(0, 0.02, size=(HEIGHT, WIDTH, 1))
    shade = colour + rng.normal(0, 0.12, size=3) + bars[..., None] * rng.uniform(0.03, 0.12)
    return np.clip((shade + clouds + grain) * 255, 0, 255)


def encode(pixels: FloatArray) -> bytes:
    """Return a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _noise(rng: np.random.Generator, scale: int, channels: int) -> FloatArray:
    """Return smooth noise of unit variance where its values are, [375, 500, channels]."""
    small = rng.normal(size=(HEIGHT // scale + 2, WIDTH // scale + 2, channels))
    planes = [
        Image.fromarray(small[..., k].astype(np.float32)).resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC
        )
        for k in range(channels)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)

"""Photos that are told apart by their colours."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def write_photos(folder: Path, each: int = 8, spread: float = 0.0) -> Path:
    """Write a folder for each of 3 classes, with pictures of noise around a colour.

    With a spread (standard deviation) of the pictures' colours nobody gets all of them right.
    """
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            noise = rng.integers(-35, 36, size=(40, 50, 3))
            moved = np.array(colour) + (spread * rng.normal(size=3) if spread else 0)
            pixels = np.clip(moved + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder

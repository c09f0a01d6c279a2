"""Little pictures of three kinds, and a classifier that is quick."""

from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.estimators import HeadstartClassifier

KINDS = np.array(["blue", "red", "stripes"])


def little_pictures(n: int, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.str_]]:
    """Noisy pictures, uint8 [n, 20, 20, 3], and what is on them."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    pixels = rng.integers(0, 200, (n, 20, 20, 3))
    pixels[kinds == 0, :, :, 2] += 55
    pixels[kinds == 1, :, :, 0] += 55
    pixels[kinds == 2, ::4] += 55
    return pixels.astype(np.uint8), KINDS[kinds]


def quick(**settings: Any) -> HeadstartClassifier:
    """A small random network on the CPU."""
    given = {"weights": "random", "engine": "torch", "device": "cpu", "workers": 0, **settings}
    return HeadstartClassifier("headstart/resnet20", **given)

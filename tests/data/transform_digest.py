"""What `transform` makes of some made pictures, as one digest; also run on a lesser processor."""

import hashlib

import numpy as np
from PIL import Image

from headstart.data.image import transform
from headstart.types import InputSpec


def transform_digest():
    numbers, found = np.random.default_rng(0), hashlib.sha256()
    for number in range(60):
        width, height, columns, rows = (int(v) for v in numbers.integers(1, 90, 4))
        columns = 1 if number % 5 == 0 else columns  # see `headstart.data.resample`
        pixels = numbers.integers(0, 256, (height, width, 3), np.uint8)
        kind = ("bilinear", "bicubic")[number % 2]
        spec = InputSpec(rows, columns, 0, kind, (0, 0, 0), (1, 1, 1), "resize")
        found.update(transform(Image.fromarray(pixels), spec).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    import torch

    print(transform_digest(), torch.backends.cpu.get_cpu_capability())

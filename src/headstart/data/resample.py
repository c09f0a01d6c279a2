"""Pictures of other sizes: torch's operator for 8-bit pixels, on the memory that Pillow holds."""

from typing import Any, final

import numpy as np
import numpy.typing as npt
from PIL import Image

from headstart.types import InputSpec

Pixels = npt.NDArray[np.uint8]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resample(image: Image.Image, size: tuple[int, int], spec: InputSpec) -> Pixels:
    """Return the pixels of an image in another size (see docs/decisions/0009-resizing.md).

    Args:
        image: An image of mode RGB. Where it has this size already, its pixels are lent.
        size: Width and height.
        spec: The filter, and whose it is.

    Returns:
        Array of uint8, shape [height, width, 3], or [height, width, 4] with numbers of no meaning
        in the last place.
    """
    if image.size == size:
        return _pixels(image)
    # A picture one pixel wide goes to Pillow because torch's operator for processors without AVX2
    # gets it wrong (seen in 2.14); everything else it computes alike on all of them.
    by_torch = spec.resampling == "torch" and spec.interpolation in ("bilinear", "bicubic")
    if not by_torch or size[0] == 1:
        return np.asarray(image.resize(size, _FILTERS[spec.interpolation]))
    import torch

    # Channels last, as the operator is fastest: one thread, no copy on its way in or out.
    x = torch.from_numpy(_pixels(image)).permute(2, 0, 1)[None]
    y = torch.nn.functional.interpolate(
        x, size=(size[1], size[0]), mode=spec.interpolation, align_corners=False, antialias=True
    )
    pixels: Pixels = y[0].permute(1, 2, 0).numpy()
    return pixels


@final
class _Lent:
    """Memory of another object, as NumPy takes it; it lives as long as an array of it does."""

    def __init__(self, owner: object, address: int, shape: tuple[int, ...]) -> None:
        self._owner = owner
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            # Called writable, though nobody writes: torch would warn of an array that is not.
            "data": (address, False),
        }


def _pixels(image: Image.Image) -> Pixels:
    """Return an image's pixels: its own memory of 4 bytes a pixel, the last of them without use."""
    import pyarrow as pa

    try:
        lent = pa.array(image)
    except (TypeError, ValueError):
        # Pillow keeps a large image in several pieces of memory, which it does not lend (nor does
        # a kind of image that is not its own): it is copied, 3 bytes a pixel.
        copied = np.asarray(image)
        return np.asarray(_Lent(copied, copied.ctypes.data, copied.shape))
    address = lent.flatten().buffers()[1].address
    return np.asarray(_Lent(lent, address, (image.height, image.width, 4)))

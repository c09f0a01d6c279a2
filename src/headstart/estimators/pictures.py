"""Pictures in memory or in files, as users of scikit-learn hand them over.

A picture may be a path, a Pillow image, an array of pixels, or the bytes of an encoded file. What
is not a file already is encoded without loss, so that its features are stored under its content
like those of any other picture: the same pixels are extracted once.
"""

import io
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from headstart._util.hashing import digest_bytes
from headstart.data.image import decode, fit_pixels
from headstart.data.resample import Pixels
from headstart.errors import DataError
from headstart.types import InputSpec

KEPT_BYTES = 128 * 1024**2
"""Memory for pictures that are decoded before they are used: 891 of 224 x 224 pixels."""


_EXPECTED = (
    "a path, a Pillow image, a uint8 array [height, width, 3] or [height, width], or encoded bytes"
)
_NAMED = 5  # bad pictures that a message lists

# Modes that a PNG file holds as they are; others are converted to RGB, as for a file of that mode.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"})


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures that can be read by position: an `ImageSet` over what the user gave.

    Attributes:
        items: What the user gave.
        names: ``X[3]``, or ``X[3] (cats/3.jpg)`` where it is a path.
        digests: SHA-256 of each picture's encoded bytes.
    """

    items: Sequence[Any]
    names: Sequence[str]
    digests: Sequence[str]

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of one picture; safe to call in threads."""
        return encode(self.items[index])


def open_pictures(X: Any, workers: int) -> Pictures:
    """Look at every picture once, without decoding it.

    Args:
        X: A sequence of pictures, or uint8 pixels [n, height, width, 3] or [n, height, width].
        workers: Threads that read and encode.

    Returns:
        The pictures.

    Raises:
        DataError: It is no sequence of pictures; or one or several are missing or not pictures:
            the first is named with the reason.
    """
    items = _items(X)
    names = [_name(position, item) for position, item in enumerate(items)]
    digests = _each(names, partial(_digest_of, items), workers)
    return Pictures(items, names, digests)


def decode_all(
    pictures: Pictures, known: Collection[str], spec: InputSpec, workers: int
) -> dict[str, Pixels]:
    """Decode every picture that nobody has decoded before, and keep what fits into the memory.

    Args:
        pictures: The pictures.
        known: Digests of pictures that need not be looked at.
        spec: The backbone's input.
        workers: Threads that decode.

    Returns:
        Of the first pictures, by digest, what `headstart.data.image.fit_pixels` makes of them, in
        `KEPT_BYTES` at most. Of a large number of pictures the others are decoded again, one by
        one as they are used.

    Raises:
        DataError: One or several cannot be decoded, or are too long and thin: the first is named
            with the reason.
    """
    first = {digest: i for i, digest in enumerate(pictures.digests) if digest not in known}
    digests, positions = list(first), list(first.values())
    names = [pictures.names[i] for i in positions]
    room = KEPT_BYTES // (3 * spec.height * spec.width)

    def look(place: int) -> Pixels | None:
        data = pictures.read(positions[place])
        pixels = fit_pixels(decode(data), spec)
        # What changed since its digest was taken is found by whoever reads it next.
        if place >= room or digest_bytes(data) != digests[place]:
            return None
        # By colour, as it is used; and a copy, for it may be a part of something larger.
        return pixels.transpose(2, 0, 1).copy().transpose(1, 2, 0)

    found = _each(names, look, workers)
    return {d: p for d, p in zip(digests, found, strict=True) if p is not None}


def encode(item: Any) -> bytes:
    """Return the encoded bytes of one picture.

    Args:
        item: A path, a Pillow image, an array or encoded bytes.

    Returns:
        The file's bytes; for pixels a PNM or PNG file that holds exactly these.

    Raises:
        DataError: It is none of these, or has no pixels, or pixels of a type that has no range.
        OSError: The file cannot be read.
    """
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, str | os.PathLike):
        return Path(item).expanduser().read_bytes()
    if isinstance(item, Image.Image):
        return _encode_image(item)
    if isinstance(item, np.ndarray):
        return _encode_array(item)
    raise DataError(f"expected {_EXPECTED}, got {type(item).__name__}")


def _items(X: Any) -> Sequence[Any]:
    if isinstance(X, str | os.PathLike | bytes | bytearray | memoryview | Image.Image):
        raise DataError(
            f"X: expected a sequence of pictures, got one {type(X).__name__}: put it into a list"
        )
    if isinstance(X, np.ndarray) and X.ndim != 1:
        stacked = X.ndim == 4 or (X.ndim == 3 and X.shape[2] != 3)
        if not stacked or X.dtype == object:
            raise DataError(
                "X: expected pictures stacked as [n, height, width, 3] or [n, height, width], or "
                f"a list of them, got {X.dtype} {list(X.shape)}: put a single picture into a list"
            )
    try:
        items = list(X)
    except TypeError as error:
        raise DataError(
            f"X: expected a sequence of pictures, got {type(X).__name__}; a picture is {_EXPECTED}"
        ) from error
    if not items:
        raise DataError("X: expected at least one picture, got none")
    return items


def _name(position: int, item: Any) -> str:
    path = isinstance(item, str | os.PathLike)
    return f"X[{position}] ({os.fspath(item)})" if path else f"X[{position}]"


def _digest_of(items: Sequence[Any], position: int) -> str:
    return digest_bytes(encode(items[position]))


def _each(names: Sequence[str], work: Callable[[int], Any], workers: int) -> list[Any]:
    """Return what `work` gives for each position, or raise one error for all that fail."""

    def attempt(position: int) -> Any:
        try:
            return work(position)
        # The last two are Pillow's, of an image that was closed or opened from a damaged file.
        except (DataError, OSError, ValueError, SyntaxError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return _Bad(names[position], reason)

    positions = range(len(names))
    if workers == 0 or len(names) == 1:
        results = [attempt(position) for position in positions]
    else:
        with ThreadPoolExecutor(workers, thread_name_prefix="headstart-read") as pool:
            results = list(pool.map(attempt, positions))
    bad = [result for result in results if isinstance(result, _Bad)]
    if bad:
        others = ", ".join(other.name for other in bad[1:_NAMED])
        dots = ", …" if len(bad) > _NAMED else ""
        more = f"; {len(bad) - 1:,} more cannot be used: {others}{dots}" if len(bad) > 1 else ""
        raise DataError(f"{bad[0].name}: {bad[0].reason}{more}")
    return results


@dataclass(frozen=True, slots=True)
class _Bad:
    name: str
    reason: str


def _encode_array(array: npt.NDArray[Any]) -> bytes:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    colour = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (colour or array.ndim == 2):
        raise DataError(
            "expected an array of uint8 from 0 to 255, [height, width, 3] or [height, width], "
            f"got {array.dtype} {list(array.shape)}"
        )
    return _pnm(array.shape[1], array.shape[0], array.tobytes(), colour)


def _encode_image(image: Image.Image) -> bytes:
    # As for a file: turned upright first.
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("floating-point pixels (mode F) have no known range: convert them to L")
    if image.mode == "I":
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise DataError(
                f"grey values from {values.min()} to {values.max()} (mode I): expected 0 to 65535"
            )
        image = Image.fromarray(values.astype(np.uint16))
    elif image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        return _pnm(image.width, image.height, image.tobytes(), image.mode == "RGB")
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=1)
    return file.getvalue()


def _pnm(width: int, height: int, pixels: bytes, colour: bool) -> bytes:
    # A header and the pixels themselves: nothing to compress, and no version of any library has a
    # say in the bytes, so the key of the features stays the same for ever.
    if not pixels:
        raise DataError(f"expected a picture, got one of {width} x {height} pixels")
    return f"P{6 if colour else 5}\n{width} {height}\n255\n".encode() + pixels

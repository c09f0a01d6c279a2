"""Random changes to pictures that are not random twice: a view always shows a picture alike."""

import math
from dataclasses import replace

from PIL import Image, ImageEnhance

from headstart._util.seeding import generator
from headstart.data.image import transform
from headstart.types import FloatArray, InputSpec, View

AUGMENT_VERSION = 1
"""Goes up when the same view would show a picture otherwise: stored features then do not count."""

_CROP_ASPECTS = (3 / 4, 4 / 3)
_ERASE_ASPECTS = (3 / 10, 10 / 3)
_ERASE_SHARES = (0.02, 0.33)


def augment(
    image: Image.Image, spec: InputSpec, view: View, digest: str, out: FloatArray | None = None
) -> FloatArray:
    """Change a picture at random, fit it to a backbone's input and normalise it.

    The changes come in the order of the attributes of `headstart.types.Augmentation`, all of them
    on the decoded picture but the last: erasing happens on the input, so that what is erased is
    exactly the mean colour. Each change has random numbers of its own: switching one on or off
    leaves the others as they were. Without any, the result is that of `transform`.

    Args:
        image: An image of mode RGB, as `headstart.data.image.decode` returns it.
        spec: The backbone's input.
        view: What may happen, and the seed and number of the draw.
        digest: SHA-256 of the picture's encoded bytes: the rest of the name of its random stream.
        out: Where to write the result; None makes an array.

    Returns:
        Array of float32, shape [3, height, width]: `out`, where it was given.

    Raises:
        DataError: The picture is too long and thin for `transform`.
    """
    change = view.augmentation
    numbers = generator("augment", view.seed, view.number, digest).random(17).tolist()
    angle, mirror, overturn, brighten, stretch, colour, erase = numbers[:7]
    crop, shift, hole = numbers[7:11], numbers[11:13], numbers[13:]
    if change.rotate:
        degrees = _between(-change.rotate, change.rotate, angle)
        image = image.rotate(degrees, Image.Resampling.BILINEAR)
    if change.crop is not None:
        image = _crop(image, spec, change.crop, crop)
        spec = replace(spec, fit="resize")  # it has its size now
    if change.shift:
        image = _shift(image, change.shift, shift)
    if change.flip and mirror < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if change.vertical_flip and overturn < 0.5:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if change.brightness:
        image = ImageEnhance.Brightness(image).enhance(_factor(change.brightness, brighten))
    if change.contrast:
        image = ImageEnhance.Contrast(image).enhance(_factor(change.contrast, stretch))
    if change.saturation:
        image = ImageEnhance.Color(image).enhance(_factor(change.saturation, colour))
    array = transform(image, spec, out)
    if erase < change.erase:
        _erase(array, hole)
    return array


def _between(low: float, high: float, number: float) -> float:
    return low + (high - low) * number


def _factor(strength: float, number: float) -> float:
    return max(0.0, _between(1 - strength, 1 + strength, number))


def _crop(image: Image.Image, spec: InputSpec, least: float, numbers: list[float]) -> Image.Image:
    share, aspect, across, down = numbers
    width, height = _rectangle(image.size, _between(least, 1.0, share), _CROP_ASPECTS, aspect)
    left, top = across * (image.width - width), down * (image.height - height)
    kind = Image.Resampling[spec.interpolation.upper()]
    # Cut out and stretched in one call, at fractions of pixels.
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    return image.resize((spec.width, spec.height), kind, box)


def _shift(image: Image.Image, most: float, numbers: list[float]) -> Image.Image:
    across, down = (_between(-most, most, number) for number in numbers)
    left, top = -round(across * image.width), -round(down * image.height)
    # What a crop takes from outside of the picture is black.
    return image.crop((left, top, left + image.width, top + image.height))


def _erase(array: FloatArray, numbers: list[float]) -> None:
    share, aspect, across, down = numbers
    rows, columns = array.shape[1:]
    wanted = _between(*_ERASE_SHARES, share)
    exact, _ = _rectangle((columns, rows), wanted, _ERASE_ASPECTS, aspect)
    width = min(max(round(exact), 1), columns)
    height = min(max(round(wanted * rows * columns / width), 1), rows)
    left, top = int(across * (columns - width + 1)), int(down * (rows - height + 1))
    array[:, top : top + height, left : left + width] = 0.0


def _rectangle(
    size: tuple[int, int], share: float, aspects: tuple[float, float], number: float
) -> tuple[float, float]:
    """Return width and height of a rectangle of a share of an area, and no larger than the whole.

    The aspect ratio is drawn, uniform in its logarithm, from those of `aspects` with which a
    rectangle of that area fits. In a picture so long that none of them does, it is as large as the
    nearest of them allows.
    """
    width, height = size
    area = share * width * height
    low = max(aspects[0], area / height**2)
    high = min(aspects[1], width**2 / area)
    if low > high:
        ratio = min(max(width / height, aspects[0]), aspects[1])
        return min(float(width), height * ratio), min(float(height), width / ratio)
    ratio = math.exp(_between(math.log(low), math.log(high), number))
    return min(float(width), math.sqrt(area * ratio)), min(float(height), math.sqrt(area / ratio))

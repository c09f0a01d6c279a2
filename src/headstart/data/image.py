"""From encoded bytes to RGB pixels, and from pixels to the array that a backbone expects."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from headstart.data.resample import Pixels, resample
from headstart.errors import DataError, HeadstartError
from headstart.types import FloatArray, InputSpec

MAX_PIXELS = 100_000_000
"""A picture with more pixels than this is refused before it is decoded."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".ppm", ".pgm", ".pbm"}
    | {".pnm", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".j2k"}
)
"""File name endings, in lower case, by which a file counts as a picture."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Formats whose files may hold several frames or pages. (A JPEG of several pictures, "MPO", holds
# previews and stereo views of the first one: it counts as one picture.)
_SEVERAL_FRAMES = frozenset({"GIF", "PNG", "TIFF", "WEBP", "AVIF"})

# Formats whose files Pillow lets go of when it has loaded them: what it gives needs no copy.
_ONE_PICTURE = frozenset({"JPEG", "PPM", "BMP"})


@dataclass(frozen=True, slots=True)
class Probe:
    """What one picture is, found by decoding it once.

    Attributes:
        width: Columns after turning it upright, in pixels.
        height: Rows after turning it upright, in pixels.
        mode: Pillow's mode of the file's pixels: ``RGB``, ``L``, ``P``, ``CMYK``, ``I;16`` …
        format: ``JPEG``, ``PNG`` …
        frames: How many frames or pages the file holds; only the first is used.
        turned: Whether an EXIF orientation other than "upright" was applied.
        deep: Whether the file holds more than 8 bits per channel; they are scaled to 8.
        alpha: Whether the file holds transparency; it is laid over white.
        content: SHA-256 of the size and the RGB pixels: equal for pictures that look the same.
    """

    width: int
    height: int
    mode: str
    format: str
    frames: int
    turned: bool
    deep: bool
    alpha: bool
    content: str


def decode(data: bytes) -> Image.Image:
    """Decode one picture to upright RGB pixels of 8 bits.

    The EXIF orientation is applied; palettes, grey, 1-bit and CMYK are converted; transparency
    is laid over white; 16-bit grey is scaled by 255/65535 (Pillow's own conversion would clip it)
    and 16-bit colour cut to its high bytes;
    of an animation the first frame is taken.

    Args:
        data: The encoded file: JPEG, PNG, GIF, BMP, PNM, TIFF, WebP, AVIF or JPEG 2000.

    Returns:
        An image of mode RGB.

    Raises:
        DataError: The bytes are no picture, are cut off or damaged, or hold more than
            `MAX_PIXELS` pixels. The message is a short reason without the picture's name.
        HeadstartError: Not the picture's fault: memory is short, or other code in this process
            has told Pillow to accept cut-off files.
    """
    return _decode(data)[0]


def probe(data: bytes) -> Probe:
    """Decode one picture and say what it is.

    Args:
        data: The encoded file.

    Returns:
        Size, mode, flags and a digest of the pixels that `decode` gives.

    Raises:
        DataError: As for `decode`.
    """
    rgb, source, turned, deep = _decode(data)
    hasher = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    hasher.update(rgb.tobytes())
    kind = source.format or "unknown"
    return Probe(
        width=rgb.width,
        height=rgb.height,
        mode=source.mode,
        format=kind,
        frames=_count_frames(data) if kind in _SEVERAL_FRAMES else 1,
        turned=turned,
        deep=deep,
        alpha=source.has_transparency_data,
        content=hasher.hexdigest(),
    )


def dimensions(data: bytes) -> tuple[int, int]:
    """Read a picture's size from its first bytes, without decoding it.

    Args:
        data: The encoded file.

    Returns:
        Width and height in pixels, as stored: not turned upright.

    Raises:
        DataError: The bytes are no picture, or their header is damaged.
    """
    opener = _opener(data)
    try:
        return opener(data).size
    except Exception as error:  # as in `_decode`: Pillow's readers raise almost anything
        raise DataError(f"damaged or cut off: {_first_line(error)}") from error


def transform(image: Image.Image, spec: InputSpec, out: FloatArray | None = None) -> FloatArray:
    """Fit a picture to a backbone's input and normalise it.

    ``fit="crop"`` is, to the bit, torchvision's ``Resize(resize)`` and ``CenterCrop((height,
    width))``, by its v2 on a uint8 tensor, then ``ToTensor``'s division by 255 and
    ``Normalize(mean, std)``. ``fit="resize"`` is ``Resize((height, width))`` in place of the first
    two. With ``resampling="pillow"``, for the filters ``nearest`` and ``lanczos``, and where it
    becomes one pixel wide, it is what these make of a PIL image, as timm does for a square input.

    Of photographs, torch's bilinear and bicubic differ from Pillow's by at most 2 of 255 levels, in
    less than 1% of the values (docs/decisions/0009-resizing.md). Either is the same on every
    processor.

    Args:
        image: An image of mode RGB, as `decode` returns it.
        spec: The backbone's input.
        out: Where to write the result, float32 [3, height, width]; None makes an array.

    Returns:
        Array of float32, shape [3, height, width]: `out`, where it was given.

    Raises:
        DataError: The picture is so long and thin that resizing its shorter edge would make more
            than `MAX_PIXELS` pixels.
    """
    return normalise(fit_pixels(image, spec), spec, out)


def fit_pixels(image: Image.Image, spec: InputSpec) -> Pixels:
    """Fit a picture to a backbone's input: the first half of `transform`.

    Args:
        image: An image of mode RGB, as `decode` returns it.
        spec: The backbone's input.

    Returns:
        Array of uint8, shape [height, width, 3]; it may be a part of a larger one.

    Raises:
        DataError: As for `transform`.
    """
    assert image.mode == "RGB", f"transform takes what decode returns, not mode {image.mode}"
    fits: dict[str, Callable[[Image.Image, InputSpec], Pixels]] = {
        "crop": _crop,
        "resize": _stretch,
        "pad": _pad,
    }
    return fits[spec.fit](image, spec)[..., :3]


def normalise(pixels: Pixels, spec: InputSpec, out: FloatArray | None = None) -> FloatArray:
    """Turn pixels into the numbers that a backbone expects: the second half of `transform`.

    Args:
        pixels: From `fit_pixels`.
        spec: The backbone's input.
        out: Where to write the result; None makes an array.

    Returns:
        As for `transform`.
    """
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    # The same operations in the same order and precision as ToTensor and Normalize.
    array = np.divide(planes, np.float32(255), out=out, dtype=np.float32)
    array -= np.asarray(spec.mean, dtype=np.float32)[:, None, None]
    array /= np.asarray(spec.std, dtype=np.float32)[:, None, None]
    return array


def _crop(image: Image.Image, spec: InputSpec) -> Pixels:
    width, height = image.size
    shorter = spec.resize
    # torchvision truncates the longer edge; it does not round it.
    if width <= height:
        size = (shorter, int(shorter * height / width))
    else:
        size = (int(shorter * width / height), shorter)
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"too long and thin: {width}x{height} pixels would become {size[0]}x{size[1]} "
            f"when the shorter edge is resized to {shorter}; use fit 'resize' or 'pad'"
        )
    pixels = resample(image, size, spec)
    missing_rows = max(spec.height - pixels.shape[0], 0)
    missing_columns = max(spec.width - pixels.shape[1], 0)
    if missing_rows or missing_columns:
        # As CenterCrop does with a picture smaller than the crop: black around it, the odd
        # row or column at the bottom or right.
        rows = (missing_rows // 2, missing_rows - missing_rows // 2)
        columns = (missing_columns // 2, missing_columns - missing_columns // 2)
        pixels = np.pad(pixels, (rows, columns, (0, 0)))
    # Python's round sends halves to the even neighbour, and so does CenterCrop.
    top = round((pixels.shape[0] - spec.height) / 2)
    left = round((pixels.shape[1] - spec.width) / 2)
    return pixels[top : top + spec.height, left : left + spec.width]


def _stretch(image: Image.Image, spec: InputSpec) -> Pixels:
    return resample(image, (spec.width, spec.height), spec)


def _pad(image: Image.Image, spec: InputSpec) -> Pixels:
    width, height = size = image.size
    if width > spec.width or height > spec.height:
        # Whole numbers, so that the longer side fits exactly.
        if width * spec.height >= height * spec.width:
            size = (spec.width, max(1, round(height * spec.width / width)))
        else:
            size = (max(1, round(width * spec.height / height)), spec.height)
    pixels = resample(image, size, spec)[..., :3]
    canvas = np.zeros((spec.height, spec.width, 3), dtype=np.uint8)
    top = (spec.height - pixels.shape[0]) // 2
    left = (spec.width - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def _decode(data: bytes) -> tuple[Image.Image, ImageFile.ImageFile, bool, bool]:
    """Return upright RGB, the file's own image, whether it was turned, whether it was deep."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise HeadstartError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is switched on by other code in this process: "
            "cut-off pictures would be read as grey areas and not be noticed; set it to False"
        )
    opener = _opener(data)
    try:
        image = opener(data)
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise DataError(
                f"too large: {image.width}x{image.height} = {pixels:,} pixels, "
                f"the limit is {MAX_PIXELS:,}"
            )
        bits = _bits(image)
        # Asked before and after: a PNG's EXIF may follow its pixels, and Pillow turns a TIFF
        # upright by itself while loading.
        before = _orientation(image)
        image.load()
        after = _orientation(image)
        rgb = _to_rgb(image, bits)
        if after in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[after])
    except DataError:
        raise
    except MemoryError as error:
        # Not the picture's fault: were it left out, the data would depend on the machine's load.
        raise HeadstartError(
            f"not enough memory to decode a picture of {len(data):,} bytes: use fewer workers, or "
            "close other programs"
        ) from error
    except Exception as error:
        # A damaged file makes Pillow's readers raise almost anything (struct.error, KeyError,
        # zlib.error …); all of it means that this picture cannot be read.
        raise DataError(f"damaged or cut off: {_first_line(error)}") from error
    return rgb, image, before in _UPRIGHT or after in _UPRIGHT, bits > 8


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines and lines[0] else type(error).__name__


def _opener(data: bytes) -> Callable[[bytes], ImageFile.ImageFile]:
    """Return what opens these bytes, told by their first bytes and never by a file name.

    The readers are called directly. Image.open would also try formats that hand the file to
    other programs (EPS), and would warn or raise according to a limit that any code in this
    process may have changed.
    """
    if not data:
        raise DataError("empty: 0 bytes")
    head = data[:32]
    reader: Callable[..., ImageFile.ImageFile]
    if head.startswith(b"\xff\xd8\xff"):
        reader = JpegImagePlugin.JpegImageFile
    elif head.startswith(b"\x89PNG\r\n\x1a\n"):
        reader = PngImagePlugin.PngImageFile
    elif head.startswith((b"GIF87a", b"GIF89a")):
        reader = GifImagePlugin.GifImageFile
    elif head[:1] == b"P" and head[1:2] in b"123456" and len(head) > 2:
        reader = PpmImagePlugin.PpmImageFile
    elif head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        reader = TiffImagePlugin.TiffImageFile
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        reader = WebPImagePlugin.WebPImageFile
    elif head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        reader = AvifImagePlugin.AvifImageFile
    elif head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        reader = Jpeg2KImagePlugin.Jpeg2KImageFile
    elif head.startswith(b"BM"):
        reader = BmpImagePlugin.BmpImageFile
    elif not data.strip(b"\0"):
        raise DataError(f"not a picture: {len(data):,} bytes, all zero")
    else:
        raise DataError(f"not a picture of a known format: it begins with {data[:12]!r}")
    return lambda content: reader(io.BytesIO(content))


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1  # a damaged EXIF block says nothing; the pixels can still be read
    return value if isinstance(value, int) else 1


def _count_frames(data: bytes) -> int:
    try:
        return int(getattr(_opener(data)(data), "n_frames", 1))
    except Exception:
        return 1  # the first frame was read; a damaged later one is of no use to us


def _bits(image: ImageFile.ImageFile) -> int:
    """Return the bits per channel that the file holds: 8, 12 or 16, before it is loaded."""
    # Pillow reads 16-bit colour into 8-bit modes; what the decoder was told knows better.
    told = image.mode + str(image.tile)
    if ";12" in told:
        return 12
    if image.mode == "I" or ";16" in told:
        return 16
    arguments = image.tile[0].args if image.tile and image.format == "PPM" else None
    largest = arguments[-1] if isinstance(arguments, tuple) else None
    return 16 if isinstance(largest, int) and largest > 255 else 8


def _to_rgb(image: Image.Image, bits: int) -> Image.Image:
    if image.mode == "F":
        raise DataError(
            "floating-point pixels (mode F) have no known range: save it with 8 or 16 bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image, top=4095 if bits == 12 else 65535)
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        opaque = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(opaque, mask=opaque.getchannel("A"))
        return white
    if image.mode == "RGB" and image.format in _ONE_PICTURE:
        return image
    return image.convert("RGB")  # a copy, free of the file, where it is RGB already


def _deep_grey_to_rgb(image: Image.Image, top: int) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > top):
        raise DataError(
            f"grey values from {values.min()} to {values.max()} (mode {image.mode}): expected "
            f"0 to {top}; save it with 8 or 16 bits"
        )
    grey = ((values * 255 + top // 2) // top).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")

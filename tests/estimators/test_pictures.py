"""Whatever a picture comes as, its pixels are what counts; a bad one is named before any work."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from little_pictures import little_pictures
from PIL import Image

from headstart.data.encode import encoder
from headstart.data.image import decode
from headstart.errors import DataError
from headstart.estimators import pictures as pictures_module
from headstart.estimators.pictures import Pictures, decode_all, encode, open_pictures
from headstart.types import InputSpec

PIXELS = little_pictures(4)[0]
SPEC = InputSpec(12, 16, 18, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.3))


def seen(item: object) -> np.ndarray:
    """What the network will see of a picture."""
    return np.asarray(decode(encode(item)))


def file_bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def test_pixels_are_kept_to_the_bit() -> None:
    colour, grey = PIXELS[0], PIXELS[1, :, :, 0]
    for item in (colour, Image.fromarray(colour), file_bytes(Image.fromarray(colour))):
        np.testing.assert_array_equal(seen(item), colour)
    for item in (grey, grey[:, :, None], Image.fromarray(grey), np.asfortranarray(grey)):
        np.testing.assert_array_equal(seen(item), np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(seen(colour[::-1, ::2]), colour[::-1, ::2])
    assert encode(colour) == encode(Image.fromarray(colour))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "HSV"])
def test_an_opened_image_is_seen_as_its_file_is(mode: str) -> None:
    ramp = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100
    colour = np.asarray(Image.fromarray(PIXELS[0]).resize((30, 20)))
    if mode in ("I;16", "I"):
        image = Image.fromarray(ramp)
        if mode == "I":
            image = image.convert("I")
    else:
        image = Image.fromarray(colour).convert("RGBA" if mode in ("LA", "RGBA") else "RGB")
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray((ramp // 256).astype(np.uint8)))
        image = image.convert(mode)
    if mode == "HSV":  # no file holds it
        np.testing.assert_array_equal(seen(image), np.asarray(image.convert("RGB")))
        return
    kind = {"CMYK": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    data = file_bytes(image, kind)
    np.testing.assert_array_equal(seen(Image.open(io.BytesIO(data))), seen(data))


def test_a_turned_photo_and_one_transparent_colour_are_seen_as_in_the_file() -> None:
    image = Image.fromarray(PIXELS[0]).resize((30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_bytes(image, "JPEG", exif=exif, quality=95)
    assert seen(data).shape == (30, 20, 3)
    np.testing.assert_array_equal(seen(Image.open(io.BytesIO(data))), seen(data))
    see_through = file_bytes(image, "PNG", transparency=image.getpixel((3, 3)))
    assert seen(see_through)[3, 3].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(seen(Image.open(io.BytesIO(see_through))), seen(see_through))


def test_many_pictures_come_in_many_ways(tmp_path: Path) -> None:
    paths = []
    for index, pixels in enumerate(PIXELS):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    loose = np.empty(4, dtype=object)
    loose[:] = list(PIXELS)
    in_memory = [PIXELS, list(PIXELS), loose, [Image.fromarray(p) for p in PIXELS]]
    in_files = [
        paths, [str(p) for p in paths], np.array([str(p) for p in paths]),
        pd.Series([str(p) for p in paths], index=[7, 3, 9, 1]), [p.read_bytes() for p in paths],
    ]  # fmt: skip
    for ways in (in_memory, in_files):
        sets = [open_pictures(way, workers) for way in ways for workers in (0, 2)]
        assert all(some.digests == sets[0].digests for some in sets)
        assert [np.asarray(decode(sets[-1].read(i))).tolist() for i in range(4)] == PIXELS.tolist()
    assert open_pictures(paths, 0).names[2] == f"X[2] ({paths[2]})"
    assert open_pictures(PIXELS, 0).names == ["X[0]", "X[1]", "X[2]", "X[3]"]
    assert len(open_pictures(PIXELS[:, :, :, 0], 0)) == 4


def damaged() -> bytes:
    return file_bytes(Image.fromarray(PIXELS[0]))[:-40]


def muddled() -> bytes:
    """A PNG whose second chunk has no name: Pillow raises SyntaxError when it is loaded."""
    whole = file_bytes(Image.fromarray(PIXELS[0]))
    start = whole.index(b"IDAT") + 4
    few = b"IDAT" + whole[start : start + 10]
    chunk = struct.pack(">I", 10) + few + struct.pack(">I", zlib.crc32(few))
    return whole[: start - 8] + chunk + b"\0\0\0\x05\1\2\3\4hello"


def closed() -> Image.Image:
    image = Image.open(io.BytesIO(file_bytes(Image.fromarray(PIXELS[0]))))
    image.load()
    image.close()
    return image


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("nowhere/cat.jpg", r"X\[1\] \(nowhere/cat.jpg\): No such file"),
        (PIXELS[0] / 255, r"X\[1\]: expected an array of uint8 .* got float64 \[20, 20, 3\]"),
        (PIXELS[0][:, :, :2], r"X\[1\]: expected an array of uint8 .* got uint8 \[20, 20, 2\]"),
        (PIXELS[0][:0], r"X\[1\]: expected a picture, got one of 20 x 0 pixels"),
        (None, r"X\[1\]: expected a path, a Pillow image, .* got NoneType"),
        (Image.new("F", (3, 3)), r"X\[1\]: floating-point pixels"),
        (Image.fromarray(np.full((3, 3), 70000, np.int32)), r"X\[1\]: grey values from 70000"),
        (Image.open(io.BytesIO(damaged())), r"X\[1\]: "),
        (Image.open(io.BytesIO(muddled())), r"X\[1\]: broken PNG file"),
        (closed(), r"X\[1\]: Operation on closed image"),
    ],
    ids=[
        "path",
        "floats",
        "shape",
        "empty",
        "none",
        "mode F",
        "mode I",
        "cut off",
        "muddled",
        "closed",
    ],
)
def test_what_is_no_picture_is_named(item: object, reason: str) -> None:
    with pytest.raises(DataError, match=f"^{reason}"):
        open_pictures([PIXELS[0], item], 0)


def test_all_bad_pictures_are_counted_and_some_named() -> None:
    with pytest.raises(DataError, match=r"^X\[1\]: .*; 2 more cannot be used: X\[2\], X\[4\]$"):
        open_pictures([PIXELS[0], 1, 2, PIXELS[1], 3], 2)
    with pytest.raises(DataError, match=r"; 7 more cannot be used: X\[1\], .*X\[4\], …$"):
        open_pictures([None] * 8, 2)


def test_bytes_that_are_no_picture_are_found_unless_they_are_known() -> None:
    pictures = open_pictures([PIXELS[0], b"not a picture", PIXELS[1], damaged()], 2)
    with pytest.raises(DataError, match=r"^X\[1\]: .*; 1 more cannot be used: X\[3\]$"):
        decode_all(pictures, set(), SPEC, 2)
    known = {pictures.digests[1], pictures.digests[3]}
    assert set(decode_all(pictures, known, SPEC, 0)) == set(pictures.digests) - known


def test_what_is_kept_is_what_decoding_again_would_give(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = open_pictures([*PIXELS, PIXELS[0]], 2)
    rows = encoder(pictures, SPEC)
    kept = decode_all(pictures, set(), SPEC, 2)
    assert list(kept) == list(dict.fromkeys(pictures.digests))
    no_files = Pictures([None] * len(pictures), pictures.names, pictures.digests)
    again = encoder(no_files, SPEC, fitted=kept)
    for index in range(len(pictures)):
        np.testing.assert_array_equal(again(index), rows(index))
    assert sum(one.nbytes for one in kept.values()) == 4 * 3 * 12 * 16
    for one in kept.values():  # not a view of something larger
        base = one if one.base is None else one.base
        assert base.nbytes == one.nbytes
    monkeypatch.setattr(pictures_module, "KEPT_BYTES", 3 * 3 * 12 * 16 - 1)
    assert list(decode_all(pictures, set(), SPEC, 2)) == list(kept)[:2]


def test_of_a_file_that_changes_after_its_digest_was_taken_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    Image.fromarray(PIXELS[0]).save(path)
    pictures = open_pictures([path], 0)
    Image.fromarray(PIXELS[1]).save(path)
    assert decode_all(pictures, set(), SPEC, 0) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cat.jpg", "got one str: put it into a list"),
        (b"123", "got one bytes"),
        (Image.new("L", (2, 2)), "got one Image"),
        (PIXELS[0], r"got uint8 \[20, 20, 3\]: put a single picture"),
        (PIXELS.astype(object), r"got object \[4, 20, 20, 3\]"),
        (np.zeros((5, 64)), r"got float64 \[5, 64\]"),
        ([], "at least one picture"),
        (5, "a sequence of pictures, got int"),
    ],
    ids=["path", "bytes", "image", "pixels", "objects", "features", "nothing", "number"],
)
def test_what_is_no_sequence_of_pictures_is_refused(given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_pictures(given, 0)

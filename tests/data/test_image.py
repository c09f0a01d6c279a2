"""Decoding and transforms, against Pillow's own files, hand-computed pixels and torchvision."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile
from torchvision import transforms as tv
from torchvision.transforms import v2
from transform_digest import transform_digest

from headstart.data import image as module
from headstart.data.image import decode, fit_pixels, normalise, probe, transform
from headstart.errors import DataError, HeadstartError
from headstart.types import InputSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spec(height, width, resize, interpolation="bilinear", fit="crop", resampling="torch"):
    return InputSpec(height, width, resize, interpolation, MEAN, STD, fit, resampling)


def pixel(picture, x=0, y=0):
    return picture.getpixel((x, y))


# --- transforms ---------------------------------------------------------------------------------


PICTURES = {
    "seed": st.integers(0, 10**6),
    "size": st.tuples(st.integers(1, 90), st.integers(1, 90)),
    "crop": st.tuples(st.integers(1, 60), st.integers(1, 60)),
    "resize": st.integers(1, 70),
}
NORMALISED = [tv.Lambda(lambda x: x.float().div(255)), tv.Normalize(MEAN, STD)]


def noise(seed, size):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def on_tensor(picture, *steps):
    """What torchvision's own transforms make of a uint8 tensor."""
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return tv.Compose([*steps, *NORMALISED])(tensor).numpy()


@given(**PICTURES, interpolation=st.sampled_from(["bilinear", "bicubic"]))
@settings(max_examples=120, deadline=None)
def test_crop_equals_torchvision_on_a_uint8_tensor_to_the_bit(
    seed, size, crop, resize, interpolation
):
    picture = noise(seed, size)
    kind = tv.InterpolationMode(interpolation)
    resize = max(resize, 2)  # what is one pixel wide is Pillow's
    expected = on_tensor(picture, v2.Resize(resize, kind), v2.CenterCrop(crop))
    ours = transform(picture, spec(crop[0], crop[1], resize, interpolation))
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, expected)


@given(
    **PICTURES,
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)
@settings(max_examples=120, deadline=None)
def test_pillows_crop_equals_torchvision_on_a_picture_to_the_bit(
    seed, size, crop, resize, interpolation
):
    picture = noise(seed, size)
    reference = tv.Compose(
        [
            tv.Resize(resize, interpolation=tv.InterpolationMode(interpolation)),
            tv.CenterCrop(crop),
            tv.ToTensor(),
            tv.Normalize(MEAN, STD),
        ]
    )(picture)
    by_pillow = spec(crop[0], crop[1], resize, interpolation, resampling="pillow")
    np.testing.assert_array_equal(transform(picture, by_pillow), reference.numpy())
    if interpolation in ("nearest", "lanczos"):
        ours = transform(picture, spec(crop[0], crop[1], resize, interpolation))
        np.testing.assert_array_equal(ours, reference.numpy())


def test_crop_equals_timms_evaluation_transform():
    from timm import create_model
    from timm.data import create_transform, resolve_data_config

    model = create_model("tf_efficientnet_b1", pretrained=False)
    config = resolve_data_config({}, model=model)
    assert (config["input_size"], config["crop_pct"]) == ((3, 240, 240), 0.882)
    reference = create_transform(**config, is_training=False)
    size = int(240 / 0.882)
    for shape in [(400, 300), (127, 301), (99, 100)]:
        picture = noise(0, shape)
        statistics = tuple(config["mean"]), tuple(config["std"])
        by_pillow = InputSpec(240, 240, size, "bicubic", *statistics, resampling="pillow")
        np.testing.assert_array_equal(transform(picture, by_pillow), reference(picture).numpy())


def test_resize_equals_torchvisions_stretch():
    picture = noise(1, (57, 31))
    ours = transform(picture, spec(20, 33, 99, "bilinear", "resize"))
    np.testing.assert_array_equal(ours, on_tensor(picture, v2.Resize((20, 33))))
    reference = tv.Compose([tv.Resize((20, 33)), tv.ToTensor(), tv.Normalize(MEAN, STD)])(picture)
    by_pillow = spec(20, 33, 99, "bilinear", "resize", resampling="pillow")
    np.testing.assert_array_equal(transform(picture, by_pillow), reference.numpy())


def smooth(seed, size):
    """A picture with the frequencies of a photograph."""
    small = noise(seed, (size[0] // 8, size[1] // 8)).resize(size, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(seed).normal(0, 4, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (1024, 768), (160, 120), (3000, 2000)])
def test_of_pictures_torchs_filters_are_at_most_two_levels_from_pillows(interpolation, size):
    picture = smooth(0, size)
    as_is = InputSpec(224, 224, 256, interpolation, (0, 0, 0), (1 / 255, 1 / 255, 1 / 255))
    ours = transform(picture, as_is)
    pillows = transform(picture, replace(as_is, resampling="pillow"))
    levels = np.abs(ours - pillows).round()
    assert levels.max() <= 2
    # Pillow 13 takes the rows first where the height shrinks more, torch always the columns.
    assert (levels > 0).mean() < (0.01 if size[0] >= size[1] else 0.2)


def test_pixels_do_not_depend_on_the_processor():
    """Torch has several operators for 8-bit pixels; all compute alike, in whole numbers."""
    lesser = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, transform_digest.__code__.co_filename]
    done = subprocess.run(command, env=lesser, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [transform_digest(), "DEFAULT"]


def test_a_large_picture_in_several_pieces_of_memory_is_resized_like_a_small_one():
    spec_of_all = spec(40, 40, 48, "bicubic")
    pixels = np.asarray(smooth(5, (3200, 2400)))
    picture = Image.fromarray(pixels)
    with pytest.raises(ValueError, match="not contiguous"):
        pa.array(picture)
    expected = on_tensor(
        picture, v2.Resize(48, tv.InterpolationMode.BICUBIC), v2.CenterCrop((40, 40))
    )
    np.testing.assert_array_equal(transform(picture, spec_of_all), expected)


def test_the_pixels_that_a_picture_lends_outlive_it():
    pixels = pixels_of_a_picture_that_is_gone()
    ballast = [np.full((16, 16, 4), 7, np.uint8) for _ in range(200)]
    np.testing.assert_array_equal(pixels, np.asarray(noise(7, (16, 16))))
    assert len(ballast) == 200


def pixels_of_a_picture_that_is_gone():
    return fit_pixels(noise(7, (16, 16)), spec(16, 16, 16))


def test_a_transform_leaves_the_picture_as_it_was():
    picture = noise(8, (50, 40))
    before = picture.tobytes()
    transform(picture, spec(30, 30, 32))
    transform(picture, spec(40, 50, 0, fit="resize"))
    assert picture.tobytes() == before


def test_what_is_written_elsewhere_is_what_is_returned():
    picture = noise(9, (50, 40))
    batch = np.full((2, 3, 30, 30), np.nan, np.float32)
    returned = transform(picture, spec(30, 30, 32), batch[1])
    assert returned.base is batch
    np.testing.assert_array_equal(batch[1], transform(picture, spec(30, 30, 32)))
    assert np.isnan(batch[0]).all()
    two_steps = normalise(fit_pixels(picture, spec(30, 30, 32)), spec(30, 30, 32))
    np.testing.assert_array_equal(two_steps, batch[1])


def test_pad_keeps_small_pixels_and_puts_black_around_before_normalising():
    pixels = np.full((2, 3, 3), 255, np.uint8)
    ours = transform(Image.fromarray(pixels), spec(6, 6, 0, "bilinear", "pad"))
    black = (0 - np.float32(MEAN)) / np.float32(STD)
    white = (1 - np.float32(MEAN)) / np.float32(STD)
    expected = np.broadcast_to(black[:, None, None], (3, 6, 6)).copy()
    expected[:, 2:4, 1:4] = white[:, None, None]  # 2 rows of 6: top 2; 3 columns of 6: left 1
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_pad_shrinks_what_is_larger_and_keeps_its_aspect():
    as_is = InputSpec(8, 20, 0, "bilinear", (0, 0, 0), (1, 1, 1), "pad")
    ours = transform(Image.new("RGB", (40, 10), "white"), as_is)
    rows = np.flatnonzero(ours[0].any(axis=1))
    columns = np.flatnonzero(ours[0].any(axis=0))
    assert (len(rows), len(columns)) == (5, 20)  # 40x10 -> 20x5, which just fits


def test_a_thread_of_a_picture_is_refused_before_it_becomes_gigabytes():
    with pytest.raises(DataError, match="too long and thin"):
        transform(Image.new("RGB", (30_000, 1)), spec(224, 224, 256))


# --- modes --------------------------------------------------------------------------------------


def test_sixteen_bit_grey_is_scaled_not_clipped(encoded):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        data = encoded(values, kind)
        assert [pixel(decode(data), x) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]
        assert probe(data).deep


def test_sixteen_bit_pgm_is_scaled(encoded):
    data = b"P5 2 1 65535 " + struct.pack(">2H", 65535, 25700)
    assert [pixel(decode(data), x)[0] for x in range(2)] == [255, 100]


def test_twelve_bit_tiff_is_scaled_by_its_own_range():
    """Made by hand: little-endian, 2x1 pixels, 12 bits, black is zero."""
    entries = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
    entries.append((279, 3))
    tags = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    strip = b"\xff\xf0\x00\0"  # 0xfff, 0x000, and a byte to make the offset even
    data = b"II*\0" + struct.pack("<I", 12) + strip
    data += struct.pack("<H", len(entries)) + tags + struct.pack("<I", 0)
    assert [pixel(decode(data), x)[0] for x in range(2)] == [255, 0]
    assert probe(data).deep


def test_sixteen_bit_colour_is_flagged():
    """Pillow cannot write it, so the file is made by hand."""
    line = b"\0" + struct.pack(">3H", 65535, 0, 32768)
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(line)),
        (b"IEND", b""),
    ]:
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    assert pixel(decode(data)) == (255, 0, 128)
    assert probe(data).deep


def test_an_eight_bit_picture_sixteen_pixels_wide_is_not_called_deep(encoded):
    assert not probe(encoded(Image.new("RGB", (16, 16)))).deep


def test_floating_point_pixels_are_refused_with_a_reason(encoded):
    with pytest.raises(DataError, match="no known range"):
        decode(encoded(np.zeros((2, 2), np.float32), "TIFF"))


def test_cmyk_jpeg_has_the_colours_a_person_sees(encoded):
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = pixel(decode(data), 8, 8)
    assert red > 250
    assert green < 5
    assert blue < 5
    assert probe(data).mode == "CMYK"


def test_transparency_is_laid_over_white(encoded):
    half = encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert pixel(decode(half)) == (127, 127, 127)  # 255 * (255 - 128) / 255
    grey = encoded(Image.new("LA", (1, 1), (0, 0)))
    assert pixel(decode(grey)) == (255, 255, 255)
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    data = encoded(palette, transparency=0)
    assert [pixel(decode(data), x) for x in range(2)] == [(255, 255, 255), (0, 0, 255)]
    sixteen = encoded(np.array([[7, 65535]], np.uint16), transparency=7)
    assert pixel(decode(sixteen)) == (255, 255, 255)
    assert probe(half).alpha
    assert probe(data).alpha


def test_palette_and_one_bit_become_rgb(encoded):
    palette = Image.new("P", (1, 1))
    palette.putpalette([1, 2, 3])
    assert pixel(decode(encoded(palette))) == (1, 2, 3)
    assert pixel(decode(encoded(Image.new("1", (1, 1), 1)))) == (255, 255, 255)
    assert probe(encoded(palette)).mode == "P"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(encoded, kind, orientation):
    # The corner of the stored picture that must be at the top left when it is upright.
    corner = {
        1: (0, 0),
        2: (1, 0),
        3: (1, 1),
        4: (0, 1),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    stored = Image.new("RGB", (48, 32), "black")
    x, y = corner[orientation]
    stored.paste("white", (x * 32, y * 16, x * 32 + 16, y * 16 + 16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(stored, kind, exif=exif, quality=95)
    upright = decode(data)
    assert upright.size == ((48, 32) if orientation < 5 else (32, 48))
    assert min(pixel(upright, 4, 4)) > 240
    assert max(pixel(upright, upright.width - 4, upright.height - 4)) < 15
    found = probe(data)
    assert found.turned == (orientation > 1)
    assert (found.width, found.height) == upright.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_cost_the_picture(encoded):
    data = encoded(Image.new("RGB", (8, 8), "white"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert decode(data).size == (8, 8)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(encoded, kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert pixel(decode(data)) == (255, 0, 0)
    assert probe(data).frames == 3


def test_the_pixel_digest_sees_pixels_and_not_files(encoded):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8))
    same = {probe(encoded(picture, kind)).content for kind in ("PNG", "BMP", "PPM", "TIFF")}
    assert len(same) == 1
    picture.putpixel((0, 0), (1, 1, 1))
    assert probe(encoded(picture)).content not in same
    wide, high = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    assert probe(encoded(wide)).content != probe(encoded(high)).content


# --- what cannot be read ------------------------------------------------------------------------


def test_what_is_no_picture_is_refused_with_a_reason(encoded):
    for data, reason in [
        (b"", "0 bytes"),
        (b"hello, this is text", "begins with b'hello"),
        (b"\0" * 500, "all zero"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not a picture"),
    ]:
        with pytest.raises(DataError, match=reason):
            decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"])
def test_a_cut_off_file_is_refused_wherever_it_is_cut(encoded, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    data = encoded(pixels, kind)
    decode(data)
    for share in (0.02, 0.3, 0.6, 0.9):
        with pytest.raises(DataError):
            decode(data[: int(share * len(data))])


@given(st.binary(max_size=60), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]))
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of some damage; a warning is no failure
def test_garbage_after_a_valid_head_never_raises_anything_else(garbage, kind):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(buffer, kind)
    data = buffer.getvalue()
    for damaged in (data[:20] + garbage, data[:60] + garbage + data[60 + len(garbage) :]):
        with contextlib.suppress(DataError):
            assert decode(damaged).mode == "RGB"


def huge_png():
    body = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + chunk + empty


@pytest.mark.parametrize("pillows_own_limit", [None, 10, 10**12])
def test_the_limit_of_pixels_is_our_own(monkeypatch, encoded, pillows_own_limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_own_limit)
    with pytest.raises(DataError, match=r"too large: 20000x20000 = 400,000,000 pixels"):
        decode(huge_png())
    assert decode(encoded(Image.new("RGB", (50, 50)))).size == (50, 50)
    transform(Image.new("RGB", (50, 50)), spec(40, 40, 44))


def test_the_limit_counts_the_pixels_in_the_header(monkeypatch, encoded):
    monkeypatch.setattr(module, "MAX_PIXELS", 99)
    decode(encoded(Image.new("RGB", (9, 11))))
    with pytest.raises(DataError, match="too large"):
        decode(encoded(Image.new("RGB", (10, 10))))


def test_pillow_told_to_accept_cut_off_files_is_an_error_not_a_grey_picture(monkeypatch, encoded):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(HeadstartError, match="LOAD_TRUNCATED_IMAGES") as caught:
        decode(encoded(Image.new("RGB", (9, 9))))
    assert not isinstance(caught.value, DataError)  # no picture may be left out because of it

"""What a report shows of a sample is small, upright and can be shown by any browser."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ExifTags, Image

from headstart.data.text import pair_bytes
from headstart.runs.excerpts import excerpt, grey, shingles


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(data: bytes, noun: str, folder: Path) -> dict:
    dataset = SimpleNamespace(noun=noun, read=lambda _: data)
    return excerpt(dataset, 0, folder, "analysis/mistake-1")


def small(data: bytes, folder: Path) -> Image.Image:
    """Return the picture that is shown, and check that nothing else is."""
    found = shown(data, "picture", folder)
    assert found == {"image": "analysis/mistake-1.jpg", "text": None, "second": None}
    with Image.open(folder / found["image"]) as picture:
        picture.load()
    assert (picture.format, picture.mode) == ("JPEG", "RGB")
    return picture


def test_a_large_picture_is_made_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1500, 3000, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels))
    assert small(data, tmp_path).size == (160, 80)
    assert (tmp_path / "analysis" / "mistake-1.jpg").stat().st_size < 20_000 < len(data)


@pytest.mark.parametrize(
    ("size", "expected"), [((30, 20), (30, 20)), ((160, 160), (160, 160)), ((5000, 2), (160, 1))]
)
def test_sizes_keep_their_proportions_and_none_grows(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert small(encoded(Image.new("RGB", size)), tmp_path).size == expected


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (400, 400), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (200, 0, 400, 400))
    found = np.asarray(small(encoded(picture), tmp_path)).astype(int)
    assert found.shape == (160, 160, 3)
    assert found[:, :70].min() > 240
    assert np.abs(found[:, 90:] - [0, 0, 255]).max() < 16


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 320).astype(np.uint16), (320, 1))
    found = np.asarray(small(encoded(Image.fromarray(ramp)), tmp_path)).astype(int)
    assert found.shape == (160, 160, 3)
    middle = found[80, :, 0]
    assert np.abs(middle - np.linspace(0, 255, 160)).max() < 8


def test_a_photo_is_shown_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(Image.new("RGB", (320, 160)), "JPEG", exif=exif)
    assert small(data, tmp_path).size == (80, 160)


def test_texts_are_one_line_and_not_long(tmp_path: Path) -> None:
    short = shown(b"  A\n\n short\ttext. ", "text", tmp_path)
    assert short == {"image": None, "text": "A short text.", "second": None}
    words = " ".join(f"word{n}" for n in range(1000))
    long = shown(words.encode(), "text", tmp_path)["text"]
    assert 380 < len(long) <= 400
    assert long.endswith("…")
    assert words.startswith(long[:-1])
    exact = "x" * 400
    assert shown(exact.encode(), "text", tmp_path)["text"] == exact
    assert list(tmp_path.iterdir()) == []


def test_both_texts_of_a_pair_are_shown(tmp_path: Path) -> None:
    found = shown(pair_bytes("it\nrains", "y" * 900), "pair", tmp_path)
    assert found["text"] == "it rains"
    assert len(found["second"]) == 400


def test_series_of_numbers_have_nothing_to_show(tmp_path: Path) -> None:
    assert set(shown(b"", "sequence", tmp_path).values()) == {None}


def overlap(a: str, b: str) -> float:
    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)


def test_copies_of_a_text_share_most_runs_of_words() -> None:
    random = np.random.default_rng(0)
    words = [f"w{n}" for n in random.permutation(100)]
    text = " ".join(words)
    assert overlap(text, text.upper().replace(" ", "\n ")) == 1
    # One word in a hundred is in three of the 98 runs.
    other = " ".join([*words[:50], "else", *words[51:]])
    assert overlap(text, other) == pytest.approx(95 / 101)
    # The same words in another order are another text.
    assert overlap(text, " ".join(random.permutation(words))) < 0.05
    assert overlap("Very good", "very  good") == 1
    assert overlap("very good", "very bad") == 0
    assert overlap("", "some text") == 0


def test_grey_values_know_a_picture_again() -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 200, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
    values = grey(encoded(picture))
    assert (values.shape, values.dtype) == ((1024,), np.float32)
    assert np.linalg.norm(values) == pytest.approx(1, abs=1e-5)
    brighter = Image.fromarray((np.asarray(picture) * 0.7 + 60).astype(np.uint8))
    for same in (encoded(picture, "JPEG", quality=40), encoded(brighter.resize((100, 90)))):
        assert values @ grey(same) > 0.98
    inverted = Image.fromarray(255 - np.asarray(picture))
    assert values @ grey(encoded(inverted)) == pytest.approx(-1, abs=1e-2)
    # Of one colour: like nothing, not even itself.
    assert not grey(encoded(Image.new("RGB", (50, 50), "red"))).any()

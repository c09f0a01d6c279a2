"""Random changes do what they say, and the same view always shows a picture alike."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torchvision.transforms import functional

from headstart.data.augment import augment
from headstart.data.image import transform
from headstart.types import Augmentation, InputSpec, View

SPEC = InputSpec(24, 32, 32, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), fit="resize")
EVERYTHING = Augmentation(
    rotate=20.0,
    crop=0.5,
    shift=0.1,
    flip=True,
    vertical_flip=True,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    erase=0.5,
)


def picture(width=32, height=24, seed=0):
    """Make a smooth coloured picture without symmetry and without black."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(0.11 * (seed + 1 + c) * x + 0.07 * (c + 2) * y + c) for c in range(3)]
    return Image.fromarray((150 + 90 * np.stack(waves, axis=-1)).astype(np.uint8))


def digest(number):
    return f"{number:064x}"


def pixels(array, spec=SPEC):
    """Undo the normalisation: values in [0, 255], [height, width, 3]."""
    mean, std = np.float32(spec.mean)[:, None, None], np.float32(spec.std)[:, None, None]
    return ((array * std + mean) * 255).transpose(1, 2, 0)


def shown(change, number=0, image=None, spec=SPEC, seed=0, of=0):
    view = View(change, seed=seed, number=number)
    return augment(picture() if image is None else image, spec, view, digest(of))


@pytest.mark.parametrize("fit", ["crop", "resize", "pad"])
@pytest.mark.parametrize("size", [(32, 24), (57, 41), (20, 64)])
def test_without_changes_it_is_the_plain_picture(fit, size):
    spec, image = replace(SPEC, fit=fit), picture(*size)
    np.testing.assert_array_equal(
        shown(Augmentation(), image=image, spec=spec), transform(image, spec)
    )


@pytest.mark.parametrize("fit", ["crop", "resize", "pad"])
def test_the_input_has_its_size_whatever_happens(fit):
    for size in [(32, 24), (300, 20), (9, 70), (1, 1)]:
        array = shown(EVERYTHING, image=picture(*size), spec=replace(SPEC, fit=fit))
        assert array.shape == (3, 24, 32)
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


def test_a_view_is_decided_by_its_seed_its_number_and_the_bytes_and_by_nothing_else():
    first = shown(EVERYTHING)
    shown(EVERYTHING, number=7, of=3)
    np.random.random(3)
    np.testing.assert_array_equal(shown(EVERYTHING), first)
    for other in (
        shown(EVERYTHING, number=1),
        shown(EVERYTHING, seed=1),
        shown(EVERYTHING, of=1),
        shown(replace(EVERYTHING, rotate=21.0)),
    ):
        assert not np.array_equal(other, first)


def test_the_picture_itself_is_left_alone():
    image = picture()
    before = image.tobytes()
    shown(EVERYTHING, image=image)
    assert image.tobytes() == before


@pytest.mark.parametrize(("name", "axis"), [("flip", 2), ("vertical_flip", 1)])
def test_flips_mirror_half_of_the_pictures(name, axis):
    change, plain = Augmentation(**{name: True}), transform(picture(), SPEC)
    mirrored = 0
    for number in range(200):
        array = shown(change, number)
        if np.array_equal(array, np.flip(plain, axis)):
            mirrored += 1
        else:
            np.testing.assert_array_equal(array, plain)
    assert 70 <= mirrored <= 130  # more than 4 standard deviations from 100


def test_each_change_has_random_numbers_of_its_own():
    # Whether a picture is mirrored does not depend on what else may happen to it.
    plain = transform(picture(), SPEC)
    for number in range(20):
        mirrored = not np.array_equal(shown(Augmentation(flip=True), number), plain)
        bright = shown(Augmentation(brightness=0.4), number)
        both = shown(Augmentation(flip=True, brightness=0.4), number)
        np.testing.assert_array_equal(both, np.flip(bright, 2) if mirrored else bright)


def recovered_factor(name, array, strength):
    """Find the factor with which torchvision gives the same picture."""
    adjust = getattr(functional, f"adjust_{name}")
    factors = np.linspace(1 - strength, 1 + strength, 801)
    errors = [
        np.abs(np.asarray(adjust(picture(), float(f)), np.float32) - pixels(array)).max()
        for f in factors
    ]
    best = int(np.argmin(errors))
    return factors[best], errors[best]


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_change_as_in_torchvision_by_a_factor_in_the_range(name):
    found = []
    for number in range(4):
        array = shown(Augmentation(**{name: 0.4}), number)
        factor, error = recovered_factor(name, array, 0.4)
        assert error <= 1.01, f"no factor gives this picture: {error}"
        found.append(factor)
    assert len(set(found)) == 4


def test_brightness_multiplies():
    array = pixels(shown(Augmentation(brightness=0.3), 2))
    plain = np.asarray(picture(), np.float32)
    unclipped = array < 254
    ratios = (array / plain)[unclipped]
    assert 0.7 <= ratios.mean() <= 1.3
    assert ratios.std() < 0.02


def test_a_strength_above_one_never_turns_a_picture_into_its_negative():
    plain = np.asarray(picture(), np.float32).mean(axis=2)
    for number in range(30):
        got = pixels(shown(Augmentation(contrast=3.0), number)).mean(axis=2)
        assert ((got - got.mean()) * (plain - plain.mean())).sum() >= -1


def test_the_order_is_that_of_the_attributes():
    # Contrast moves away from the mean grey: that of the picture that is brightened already.
    both = shown(Augmentation(brightness=0.4, contrast=0.4), 5)
    bright = shown(Augmentation(brightness=0.4), 5)
    image = Image.fromarray(np.rint(pixels(bright)).astype(np.uint8))
    factor = recovered_factor("contrast", shown(Augmentation(contrast=0.4), 5), 0.4)[0]
    expected = np.asarray(ImageEnhance.Contrast(image).enhance(factor), np.float32)
    assert np.abs(pixels(both) - expected).max() <= 1.01


def test_rotation_turns_about_the_centre_and_brings_black_into_the_corners():
    size = 48
    spec = replace(SPEC, height=size, width=size, resize=size)
    y, x = np.mgrid[0:size, 0:size]
    # A white spot to the right of the centre of a grey disc.
    values = np.full((size, size, 3), 100, np.uint8)
    values[(x - 38) ** 2 + (y - 23.5) ** 2 < 16] = 255
    angles = []
    for number in range(12):
        got = pixels(shown(Augmentation(rotate=45.0), number, Image.fromarray(values), spec), spec)
        bright = got[:, :, 0] > 200
        row, column = y[bright].mean() - 23.5, x[bright].mean() - 23.5
        assert np.hypot(row, column) == pytest.approx(14.5, abs=0.7)  # as far out as before
        angles.append(np.degrees(np.arctan2(-row, column)))
        if abs(angles[-1]) > 10:
            assert got[0, 0].max() < 1
            assert got[-1, -1].max() < 1
        assert got[20:28, 16:24].min() > 90  # the middle stays covered
    assert -46 <= min(angles) < -15
    assert 15 < max(angles) <= 46


def test_a_shift_moves_and_brings_black_in():
    most = 0.25
    plain = np.asarray(picture())
    moves = []
    for number in range(12):
        got = np.rint(pixels(shown(Augmentation(shift=most), number))).astype(int)
        black = (got == 0).all(axis=2)
        rows, columns = np.flatnonzero(~black.all(axis=1)), np.flatnonzero(~black.all(axis=0))
        down = rows[0] if rows[0] else rows[-1] + 1 - 24
        right = columns[0] if columns[0] else columns[-1] + 1 - 32
        assert abs(down) <= round(most * 24)
        assert abs(right) <= round(most * 32)
        kept = got[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        source = plain[max(-down, 0) : 24 - max(down, 0), max(-right, 0) : 32 - max(right, 0)]
        np.testing.assert_array_equal(kept, source)
        moves.append((down, right))
    assert len(set(moves)) > 8
    assert min(m[0] for m in moves) < 0 < max(m[0] for m in moves)
    assert min(m[1] for m in moves) < 0 < max(m[1] for m in moves)


@pytest.mark.parametrize("size", [(200, 200), (300, 150), (100, 400)])
def test_a_crop_is_a_rectangle_of_the_share_and_the_aspect_that_it_says(size):
    width, height = size
    # Two ramps: the values at the edges of the result tell where the rectangle was.
    y, x = np.mgrid[0:height, 0:width]
    ramps = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 0 * x + 128], axis=-1)
    image = Image.fromarray(np.rint(ramps).astype(np.uint8))
    shares, aspects, centres = [], [], []
    for number in range(60):
        got = pixels(shown(Augmentation(crop=0.2), number, image))
        # From the centre of the first pixel to that of the last.
        wide = (got[:, -1, 0] - got[:, 0, 0]).mean() / 255 * (width - 1) * 32 / 31
        high = (got[-1, :, 1] - got[0, :, 1]).mean() / 255 * (height - 1) * 24 / 23
        shares.append(wide * high / (width * height))
        aspects.append(wide / high)
        centres.append((got[:, :, 0].mean(), got[:, :, 1].mean()))
    # At the edges a filter has less of the picture to see: a tolerance of a few percent.
    assert 0.18 <= min(shares) < 0.35
    # In a long picture no rectangle of all of the area is at most 4/3 as long as wide.
    largest = min(1.0, 4 / 3 * min(size) / max(size))
    assert 0.6 * largest < max(shares) <= 1.03 * largest
    assert min(aspects) >= 0.72
    assert max(aspects) <= 1.38
    assert np.ptp(aspects) > 0.2
    assert np.ptp([c[0] for c in centres]) > 60 if width > 150 else True
    assert np.ptp([c[1] for c in centres]) > 60


def test_a_crop_of_everything_is_the_picture_stretched():
    image, spec = picture(50, 50), replace(SPEC, fit="crop")
    got = shown(Augmentation(crop=1.0), image=image, spec=spec)
    # A random crop lies between pixels: Pillow alone can cut there.
    stretched = transform(image, replace(spec, fit="resize", resampling="pillow"))
    np.testing.assert_allclose(got, stretched, atol=1e-6)


def test_a_crop_is_what_torchvision_cuts_out_and_stretches():
    # A picture so wide that the rectangle is as high as it is and 4/3 as wide as that: 120 x 90.
    image = picture(30, 11).resize((240, 90), Image.Resampling.BICUBIC)
    got = np.rint(pixels(shown(Augmentation(crop=0.9), 3, image)))
    errors = {
        (left, wide): np.abs(
            got - np.asarray(functional.resized_crop(image, 0, left, 90, wide, [24, 32]))
        ).mean()
        for wide in range(110, 131, 2)
        for left in range(0, 240 - wide, 2)
    }
    best = min(errors, key=lambda place: errors[place])
    assert abs(best[1] - 120) <= 2
    assert errors[best] < 1.0  # the place is a fraction of a pixel, torchvision's is whole


@settings(max_examples=60, deadline=None)
@given(height=st.integers(8, 64), width=st.integers(8, 64), number=st.integers(0, 10**6))
def test_what_is_erased_is_a_rectangle_of_2_to_33_percent_in_the_mean_colour(height, width, number):
    spec = replace(SPEC, height=height, width=width)
    image = picture(width, height, seed=1)
    got = shown(Augmentation(erase=1.0), number, image, spec)
    plain = transform(image, spec)
    erased = (got != plain).any(axis=0)
    rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
    box = got[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(box, 0)
    outside = np.ones_like(erased)
    outside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    np.testing.assert_array_equal(got[:, outside], plain[:, outside])
    area = box[0].size
    # Sides are whole pixels: the area is as near as a half of the longer side allows.
    slack = max(box.shape[1:]) / 2 + 1
    assert 0.02 * height * width - slack <= area <= 0.33 * height * width + slack
    high, wide = box.shape[1:]
    if area > 0.02 * height * width + slack:
        assert (wide - 1) / (high + 1) <= 10 / 3
        assert (wide + 1) / (high - 1) >= 3 / 10


def test_so_many_pictures_are_erased_as_the_probability_says():
    plain = transform(picture(), SPEC)
    erased = sum(not np.array_equal(shown(Augmentation(erase=0.3), n), plain) for n in range(300))
    assert 60 <= erased <= 120  # 90 and about 4 standard deviations
    places = {
        tuple(np.argwhere((shown(Augmentation(erase=1.0), n) == 0).all(axis=0))[0])
        for n in range(20)
    }
    assert len(places) > 15

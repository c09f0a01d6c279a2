"""Batches come in order, whatever the threads do, and threads never outlive their use."""

import gc
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from headstart.data import loader as loader_module
from headstart.data.augment import augment
from headstart.data.encode import encoder
from headstart.data.image import decode, fit_pixels, transform
from headstart.data.loader import load_batches
from headstart.errors import DataError
from headstart.types import Augmentation, InputSpec, View

SPEC = InputSpec(6, 7, 8, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


class Images:
    """Pictures in memory; the first ones take longest, so that threads finish out of order."""

    def __init__(self, contents, delay=0.0):
        self.contents = contents
        self.names = [f"picture-{index}" for index in range(len(contents))]
        self.digests = [""] * len(contents)
        self.delay = delay
        self.reads = 0

    def __len__(self):
        return len(self.contents)

    def read(self, index):
        self.reads += 1
        time.sleep(self.delay * (len(self) - index) / len(self))
        return self.contents[index]


@pytest.fixture
def images(noise):
    return Images([noise(seed, (9 + seed, 12)) for seed in range(23)], delay=0.01)


def threads():
    return [one for one in threading.enumerate() if one.name.startswith("headstart-decode")]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 23, 50])
def test_pictures_come_in_the_order_asked_for(images, workers, batch_size):
    order = np.random.default_rng(0).permutation(23)
    batches = list(load_batches(images, order, SPEC, batch_size, workers=workers, prefetch=2))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    expected = np.stack([transform(decode(images.contents[index]), SPEC) for index in order])
    np.testing.assert_array_equal(np.concatenate(batches), expected)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_view_shows_a_picture_alike_in_every_order_and_batch(images, workers):
    images.digests = [f"{index:064x}" for index in range(23)]
    change = Augmentation(rotate=20.0, crop=0.5, flip=True, brightness=0.3, erase=0.5)
    view = View(change, seed=3, number=1)
    expected = np.stack(
        [
            augment(decode(data), SPEC, view, digest)
            for data, digest in zip(images.contents, images.digests, strict=True)
        ]
    )
    for order, size in [(np.arange(23), 23), (np.random.default_rng(1).permutation(23), 5)]:
        batches = load_batches(images, order, SPEC, size, workers=workers, view=view)
        np.testing.assert_array_equal(np.concatenate(list(batches)), expected[order])
    other = next(load_batches(images, [0], SPEC, 1, workers=0, view=replace(view, number=2)))
    assert not np.array_equal(other[0], expected[0])


def test_a_batch_belongs_to_the_caller(images):
    first, *rest = load_batches(images, range(12), SPEC, 4, workers=2)
    before = [batch.copy() for batch in rest]
    first[:] = 0
    assert all(np.array_equal(a, b) for a, b in zip(rest, before, strict=True))


def test_what_was_fitted_before_is_neither_read_nor_decoded(images):
    images.digests = [f"{index:064x}" for index in range(23)]
    expected = np.concatenate(list(load_batches(images, range(23), SPEC, 5, workers=0)))
    places = range(0, 23, 2)
    fitted = {
        images.digests[index]: fit_pixels(decode(images.contents[index]), SPEC) for index in places
    }
    for workers in (0, 2):
        images.reads = 0
        batches = load_batches(images, range(23), SPEC, 5, workers=workers, fitted=fitted)
        np.testing.assert_array_equal(np.concatenate(list(batches)), expected)
        assert images.reads == 23 - len(places)


def test_pictures_are_written_where_they_belong_without_another_copy(images, monkeypatch):
    made = []

    def watched(index, out=None):
        made.append(out)
        return encoder(images, SPEC)(index, out)

    monkeypatch.setattr(loader_module, "encoder", lambda *_: watched)
    (batch,) = load_batches(images, range(5), SPEC, 5, workers=2)
    assert all(out.base is batch for out in made)


def test_repeats_and_nothing_at_all_are_allowed(images):
    (batch,) = load_batches(images, [3, 3], SPEC, 4, workers=1)
    np.testing.assert_array_equal(batch[0], batch[1])
    assert list(load_batches(images, [], SPEC, 4, workers=1)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_the_picture(images, workers):
    images.contents[5] = images.contents[5][:60]
    with pytest.raises(DataError, match=r"^picture-5: damaged or cut off"):
        list(load_batches(images, range(23), SPEC, 4, workers=workers))
    assert not threads()


def test_a_file_that_vanished_is_named_too(images):
    def read(index):
        raise FileNotFoundError("no such file")

    images.read = read
    with pytest.raises(DataError, match=r"^picture-0: no such file"):
        list(load_batches(images, range(2), SPEC, 1, workers=1))


def test_closing_early_stops_the_threads(images):
    batches = load_batches(images, range(23), SPEC, 2, workers=3)
    next(batches)
    assert threads()
    batches.close()
    assert not threads()


def test_forgetting_the_generator_stops_the_threads(images):
    batches = load_batches(images, range(23), SPEC, 2, workers=3)
    next(batches)
    del batches
    gc.collect()
    assert not threads()


def test_decoding_runs_ahead_only_as_far_as_told(noise):
    images = Images([noise(seed) for seed in range(40)])
    batches = load_batches(images, range(40), SPEC, 2, workers=2, prefetch=3)
    next(batches)
    time.sleep(0.2)
    assert images.reads == 2 * (3 + 1)  # the batch in hand, and three ahead
    batches.close()


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}, {"prefetch": 0}])
def test_senseless_numbers_are_refused(images, wrong):
    options = {"batch_size": 2, "workers": 1, "prefetch": 1} | wrong
    with pytest.raises(ValueError, match="expected batch_size"):
        next(load_batches(images, [0], SPEC, **options))

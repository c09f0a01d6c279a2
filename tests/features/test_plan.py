"""Whether to store features is decided by figures that are measured before anything is done."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_backbone import Pictures, TinyBackbone, pictures
from torch import nn

from headstart._util.progress import SilentProgress
from headstart.errors import DataError
from headstart.features import engine_torch
from headstart.features import plan as plan_module
from headstart.features import store as store_module
from headstart.features.extract import extract
from headstart.features.plan import (
    READ_BYTES_PER_SECOND,
    Estimate,
    choose_storage,
    estimate,
    seconds_saved,
)
from headstart.features.store import FeatureStore
from headstart.types import Augmentation, View

CPU = torch.device("cpu")
VIEWS = [View(Augmentation(flip=True), seed=0, number=number) for number in range(3)]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def plan(
    images: Pictures, backbone: TinyBackbone, cut: str, store: FeatureStore, **options: object
) -> Estimate:
    chosen = {"dtype": "float32", "device": CPU, **options}
    every = list(range(len(images)))
    return estimate(images, every, backbone, cut, store=store, **chosen)  # type: ignore[arg-type]


def fill(
    images: Pictures,
    backbone: TinyBackbone,
    cut: str,
    store: FeatureStore,
    view: View | None = None,
) -> int:
    return extract(
        images,
        range(len(images)),
        backbone,
        cut,
        store=store,
        engine="torch",
        device=CPU,
        workers=0,
        progress=SilentProgress(),
        view=view,
    ).bytes_written


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_disk_that_is_needed_is_about_what_is_written(store: FeatureStore, dtype: str) -> None:
    backbone, images = TinyBackbone(), pictures(40)
    planned = plan(images, backbone, "conv", store, dtype=dtype, views=VIEWS)
    assert not store.root.exists()  # nothing is written
    assert (planned.pictures, planned.samples, planned.replay_from) == (40, 120, None)
    rows = 120 * 4 * 8 * 8 * np.dtype(dtype).itemsize
    assert rows < planned.disk_bytes < rows + 120 * 100 + 3 * 5000
    if dtype == "float32":
        written = sum(fill(images, backbone, "conv", store, view) for view in VIEWS)
        assert abs(planned.disk_bytes - written) < 0.1 * written
        done = plan(images, backbone, "conv", store, views=VIEWS)
        assert (done.pictures, done.samples, done.disk_bytes) == (40, 0, 0)


def test_free_disk_is_that_of_the_store(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = store_module.shutil.disk_usage("/")._replace(free=12345)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage)
    assert plan(pictures(2), TinyBackbone(), "pooled", store).free_bytes == 12345


def test_the_same_bytes_twice_are_one_picture(store: FeatureStore) -> None:
    images = pictures(3)
    planned = plan(Pictures(images.encoded * 2), TinyBackbone(), "pooled", store)
    assert (planned.pictures, planned.samples) == (3, 3)


def test_it_says_where_a_replay_would_begin(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(4)
    fill(images, backbone, "conv", store, VIEWS[0])
    fill(images, backbone, "conv", store, VIEWS[1])
    assert plan(images, backbone, "pooled", store, views=VIEWS[:2]).replay_from == "conv"
    assert plan(images, backbone, "pooled", store, views=VIEWS).replay_from is None
    assert plan(images, backbone, "pooled", store).replay_from is None


def test_reading_costs_what_a_plain_disk_needs(store: FeatureStore) -> None:
    planned = plan(pictures(2), TinyBackbone(), "conv", store)
    assert planned.seconds_per_sample_read == 4 * 4 * 8 * 8 / READ_BYTES_PER_SECOND
    half = plan(pictures(2), TinyBackbone(), "conv", store, dtype="float16")
    assert half.seconds_per_sample_read == planned.seconds_per_sample_read / 2


class Slow(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        return x


def test_times_are_measured(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_torch, "cpu_threads", lambda: 1)

    class SlowPictures(Pictures):
        def read(self, index: int) -> bytes:
            time.sleep(0.01)
            return super().read(index)

    backbone, images = TinyBackbone(), SlowPictures(pictures(50).encoded)
    quick = plan(images, backbone, "conv", store)
    assert 0.01 < quick.seconds_per_sample_decode < 0.1
    assert len(images.reads) <= 4
    backbone._conv.append(Slow())
    slow = plan(images, backbone, "conv", store)
    # Four pictures go through the network at a time.
    assert 0.05 / 4 <= slow.seconds_per_sample_prefix < 0.05 * 3 / 4
    assert quick.seconds_per_sample_prefix < 0.05 / 4
    assert plan(images, backbone, "input", store).seconds_per_sample_prefix == 0.0


def test_the_network_is_left_as_it_was(store: FeatureStore) -> None:
    backbone = TinyBackbone()
    backbone._conv.train()
    before = backbone.digest("pooled")
    plan(pictures(3), backbone, "pooled", store)
    assert all(part.training for part in backbone._conv.modules())
    assert all(p.requires_grad for p in backbone._conv.parameters())
    assert backbone.digest("pooled") == before


def test_a_picture_that_cannot_be_read_is_named(store: FeatureStore) -> None:
    images = Pictures([b"no picture"])
    with pytest.raises(DataError, match=r"picture-0\.png"):
        plan(images, TinyBackbone(), "pooled", store)


# 1,000 pictures; 6 ms to compute each, 2 ms to read it back.
USUAL = Estimate(
    pictures=1000,
    samples=1000,
    disk_bytes=500_000_000,
    free_bytes=10_000_000_000,
    replay_from=None,
    seconds_per_sample_decode=0.001,
    seconds_per_sample_prefix=0.005,
    seconds_per_sample_read=0.002,
)


def test_time_saved_is_that_of_the_passes_less_the_one_and_the_reading() -> None:
    assert seconds_saved(USUAL, 20) == pytest.approx(20 * 6 - 6 - 20 * 2)
    assert seconds_saved(USUAL, 1) == pytest.approx(-2)
    assert seconds_saved(replace(USUAL, samples=0), 20) == pytest.approx(20 * 6 - 20 * 2)
    assert seconds_saved(replace(USUAL, samples=4000), 20) == pytest.approx(20 * 6 - 24 - 20 * 2)


def test_features_are_stored_where_that_saves_time() -> None:
    choice, reason = choose_storage(USUAL, passes=20, views=1)
    assert choice == "stored"
    assert reason == "each picture is computed once in place of 20 times, which saves about 74 s"
    choice, reason = choose_storage(replace(USUAL, samples=4000), passes=200, views=4)
    assert choice == "stored"
    assert "computed 4 times in place of 200 times, which saves about 13 min" in reason
    assert choose_storage(USUAL, passes=1, views=1)[0] == "stored"


@pytest.mark.parametrize(
    ("changes", "passes", "views", "reason"),
    [
        ({"disk_bytes": 9_100_000_000}, 20, 1, "needs 8.5 GiB of disk, and of the 9.3 GiB"),
        ({"seconds_per_sample_read": 0.0061}, 20, 1, "computing takes 6 ms per picture, reading"),
        ({}, 3, 4, "3 passes would use fewer features than the 4 stored views"),
    ],
)
def test_features_are_recomputed_where_storing_cannot_be_or_cannot_save(
    changes: dict[str, float], passes: int, views: int, reason: str
) -> None:
    choice, said = choose_storage(replace(USUAL, **changes), passes, views)
    assert choice == "recomputed"
    assert reason in said


@pytest.mark.parametrize(
    ("changes", "passes", "views"),
    [
        ({"disk_bytes": 8_900_000_000}, 20, 1),
        ({"seconds_per_sample_read": 0.0059}, 20, 1),
        ({}, 4, 4),
        # What is there already takes no room and no time.
        ({"samples": 0, "disk_bytes": 0, "free_bytes": 0}, 2, 4),
    ],
)
def test_just_below_the_limits_features_are_stored(
    changes: dict[str, float], passes: int, views: int
) -> None:
    assert choose_storage(replace(USUAL, **changes), passes, views)[0] == "stored"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.123, "0.12 s"), (74, "74 s"), (300, "5 min"), (7200, "2.0 h")]
)
def test_durations_are_said_for_people(seconds: float, said: str) -> None:
    assert plan_module._duration(seconds) == said

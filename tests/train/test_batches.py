"""Where batches come from: the same ones from the start, in the middle, stored and recomputed."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from train_tools import CLASSES, CPU, SPEC, Pictures, tiny_network

from headstart._util.progress import SilentProgress
from headstart.data.loader import load_batches
from headstart.heads import HeadSpec, build_head
from headstart.runs.training import Watched
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    FeatureSource,
    Hyperparameters,
    Mixing,
    ScheduleSpec,
    StandardSource,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
    loop,
)
from headstart.train.linear import LinearGradients
from headstart.train.order import epoch_order
from headstart.types import Augmentation, View

COUNT, TRAIN, BATCH = 40, 23, 5
LABELS = np.random.default_rng(2).integers(0, CLASSES, COUNT)
# In no order, as a study's splits are.
ROWS = np.random.default_rng(1).permutation(COUNT)
SPLITS = {"train": ROWS[:TRAIN], "val": ROWS[TRAIN:34], "test": ROWS[34:]}
AUGMENTATION = Augmentation(flip=True, rotate=15, contrast=0.3, crop=0.5)
Pairs = list[tuple[Tensor, Tensor]]


def numbered(shape: tuple[int, ...], first: float = 0.0, count: int = COUNT) -> ArrayFeatures:
    """Make features that say which sample they are of."""
    size = int(np.prod(shape))
    table = first + np.arange(count)[:, None] * np.ones(size) + np.arange(size) / 1000
    return ArrayFeatures(table.reshape(count, *shape).astype(np.float32))


def cached(
    seeds=(0,), shape=(3,), views: int = 0, flat: bool = True, split_rows=SPLITS
) -> CachedSource:
    return CachedSource(
        numbered(shape),
        LABELS,
        split_rows,
        seeds=seeds,
        batch_size=BATCH,
        device=CPU,
        flat=flat,
        views=[numbered(shape, 1000.0 * (v + 1), TRAIN) for v in range(views)],
    )


def standard(seed: int = 0, views: int | None = None, **options) -> StandardSource:
    fields = {"augmentation": None, "mixing": None, "flat": False, "workers": 0, **options}
    return StandardSource(
        Pictures(COUNT),
        LABELS,
        SPLITS,
        prefix=tiny_network().prefix("stem"),
        spec=SPEC,
        width=64,
        seed=seed,
        batch_size=BATCH,
        device=CPU,
        views=views,
        **fields,
    )


@pytest.mark.parametrize(("source", "threads"), [(standard(flat=True), 2), (cached(), 1)])
def test_a_network_that_computes_each_batch_has_all_threads_and_a_small_step_one(
    source: CachedSource | StandardSource, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    shown = Watched(source, SilentProgress().task("", 1, "").__enter__())
    if isinstance(source, StandardSource):
        source._prefix.register_forward_hook(lambda *_: found.append(torch.get_num_threads()))
    head = build_head(HeadSpec(), source.width, CLASSES, [0])
    optimizer = build_optimizer("sgd", list(head.parameters()), [Hyperparameters(0.1)])
    real = LinearGradients.__call__

    def step(self: LinearGradients, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(source, CachedSource):
            found.append(torch.get_num_threads())
        return real(self, z, y)

    monkeypatch.setattr(LinearGradients, "__call__", step)
    monkeypatch.setattr(loop, "epochs_at_once", lambda *_: None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        drain(fit(head, optimizer, shown, TrainPlan(2, ScheduleSpec(), (0.1,))))
    finally:
        torch.set_num_threads(before)
    assert set(found) == {threads}
    assert len(found) > 8


def same(a: Pairs, b: Pairs) -> bool:
    return len(a) == len(b) and all(
        torch.equal(z, other) and torch.equal(y, labels)
        for (z, y), (other, labels) in zip(a, b, strict=True)
    )


MIXING = Mixing(0.5, 1.0, CLASSES)
STORED = {
    "one seed": cached,
    "three of one seed": lambda: cached((1, 1, 1)),
    "three seeds": lambda: cached((0, 1, 2)),
    "maps": lambda: cached(shape=(2, 3, 3), flat=False),
    "views": lambda: cached(views=2),
    "views, three seeds": lambda: cached((0, 1, 2), views=2),
    "views of maps": lambda: cached(shape=(2, 3, 3), flat=False, views=3),
}
RECOMPUTED = {
    "pictures": standard,
    "pictures, new views": lambda: standard(augmentation=AUGMENTATION),
    "pictures, two views": lambda: standard(augmentation=AUGMENTATION, views=2),
    "pictures, mixed": lambda: standard(mixing=MIXING),
    "pictures, views, mixed": lambda: standard(augmentation=AUGMENTATION, mixing=MIXING),
    "pictures, threads": lambda: standard(augmentation=AUGMENTATION, mixing=MIXING, workers=2),
}
SOURCES = {**STORED, **RECOMPUTED}


@pytest.mark.parametrize(
    ("name", "resident"), [*((n, True) for n in SOURCES), *((n, False) for n in STORED)]
)
def test_skipping_gives_the_rest_of_the_same_epoch(name, resident, monkeypatch) -> None:
    if not resident:
        monkeypatch.setattr("headstart.train.source.RESIDENT_BYTES", 0)
    source: FeatureSource = SOURCES[name]()
    assert source.steps_per_epoch == 5
    epochs = []
    for epoch in (1, 2):
        whole = list(source.train(epoch))
        assert len(whole) == 5
        for skip in range(6):
            assert same(list(SOURCES[name]().train(epoch, skip)), whole[skip:])
        epochs.append(whole)
    assert not same(*epochs)


@pytest.mark.parametrize("name", STORED)
def test_features_in_memory_and_out_of_it_are_the_same(name, monkeypatch) -> None:
    inside = SOURCES[name]()
    monkeypatch.setattr("headstart.train.source.RESIDENT_BYTES", 0)
    outside = SOURCES[name]()
    assert same(list(inside.train(1)), list(outside.train(1)))
    for split in SPLITS:
        (a, ya), (b, yb) = (
            [torch.cat(parts) for parts in zip(*source.split(split), strict=True)]
            for source in (inside, outside)
        )
        assert torch.equal(a, b)
        assert torch.equal(ya, yb)


@pytest.mark.parametrize("views", [0, 3])
def test_an_epoch_visits_every_training_sample_once_in_its_seeds_order(views: int) -> None:
    source = cached(views=views)
    for epoch in range(1, 8):
        z, y = (torch.cat(parts) for parts in zip(*source.train(epoch), strict=True))
        order = epoch_order(TRAIN, 0, epoch)
        if views:
            number = (epoch - 1) % views
            expected = 1000.0 * (number + 1) + order  # views hold the training samples alone
        else:
            expected = SPLITS["train"][order]
        np.testing.assert_allclose(z[:, 0].numpy(), expected)
        assert np.array_equal(y.numpy(), LABELS[SPLITS["train"]][order])


def test_members_of_different_seeds_have_orders_of_their_own() -> None:
    together = list(cached((4, 9, 4)).train(2))
    for member, seed in enumerate((4, 9, 4)):
        alone = list(cached((seed,)).train(2))
        for (z, y), (own, labels) in zip(together, alone, strict=True):
            assert z.shape == (3, len(labels), 3)
            assert torch.equal(z[member], own)
            assert torch.equal(y[member], labels)


@pytest.mark.parametrize("name", ["one seed", "three seeds", "maps", "views", "pictures, mixed"])
def test_a_split_is_read_in_order_and_as_it_is(name: str) -> None:
    source = SOURCES[name]()
    plain = SOURCES["pictures"]()
    for split, rows in SPLITS.items():
        z, y = (torch.cat(parts) for parts in zip(*source.split(split), strict=True))
        assert np.array_equal(y.numpy(), LABELS[rows])
        if name.startswith("pictures"):
            assert torch.equal(z, torch.cat([z for z, _ in plain.split(split)]))
        else:
            np.testing.assert_allclose(z.flatten(1)[:, 0].numpy(), rows)


def test_maps_keep_their_shape_with_channels_last_and_flat_features_do_not() -> None:
    for source in (cached(shape=(4, 3, 3), flat=False), standard()):
        for z, _ in (next(source.train(1)), next(source.split("val"))):
            assert z.shape[1] == 4
            assert z.is_contiguous(memory_format=torch.channels_last)
    maps, flat = cached(shape=(4, 3, 3), flat=False), cached(shape=(4, 3, 3))
    assert maps.width == flat.width == 36
    (z, _), (flat_z, _) = next(maps.train(1)), next(flat.train(1))
    assert torch.equal(z.flatten(1), flat_z)
    (z, _), (flat_z, _) = next(standard().train(1)), next(standard(flat=True).train(1))
    assert torch.equal(z.flatten(1), flat_z)


def stored_views(augmentation: Augmentation, seed: int, count: int) -> list[ArrayFeatures]:
    """Compute what the feature store holds of augmented views of the training pictures."""
    prefix = tiny_network().prefix("stem")
    tables = []
    for number in range(count):
        view = View(augmentation, seed, number)
        batches = load_batches(Pictures(COUNT), SPLITS["train"], SPEC, 8, workers=0, view=view)
        tables.append(
            ArrayFeatures(torch.cat([prefix(torch.from_numpy(b)) for b in batches]).numpy())
        )
    return tables


def test_stored_views_and_recomputed_ones_are_the_same_batches() -> None:
    prefix = tiny_network().prefix("stem")
    pixels = load_batches(Pictures(COUNT), np.arange(COUNT), SPEC, 8, workers=0)
    plain = ArrayFeatures(torch.cat([prefix(torch.from_numpy(batch)) for batch in pixels]).numpy())
    stored = CachedSource(
        plain,
        LABELS,
        SPLITS,
        seeds=[6],
        batch_size=BATCH,
        device=CPU,
        flat=False,
        views=stored_views(AUGMENTATION, 6, 2),
    )
    recomputed = standard(6, views=2, augmentation=AUGMENTATION)
    for epoch in (1, 2, 3, 4):
        for (z, y), (own, labels) in zip(stored.train(epoch), recomputed.train(epoch), strict=True):
            torch.testing.assert_close(z, own, rtol=1e-5, atol=1e-6)
            assert torch.equal(y, labels)
    for (z, y), (own, labels) in zip(stored.split("val"), recomputed.split("val"), strict=True):
        torch.testing.assert_close(z, own, rtol=1e-5, atol=1e-6)
        assert torch.equal(y, labels)


def in_order(source: StandardSource, epoch: int, seed: int = 0) -> Tensor:
    """Return an epoch's features in the order of the training samples."""
    z = torch.cat([z for z, _ in source.train(epoch)])
    return z[torch.from_numpy(np.argsort(epoch_order(TRAIN, seed, epoch)))]


def test_without_a_number_of_views_every_epoch_draws_anew() -> None:
    source = standard(augmentation=AUGMENTATION)
    epochs = [in_order(source, epoch) for epoch in range(1, 5)]
    for a, b in itertools.combinations(epochs, 2):
        assert not torch.allclose(a, b)
    again = standard(augmentation=AUGMENTATION, views=3)
    assert torch.equal(in_order(again, 4), in_order(again, 1))
    for epoch in (1, 2, 3):
        assert torch.equal(in_order(again, epoch), epochs[epoch - 1])
    other = standard(7, augmentation=AUGMENTATION)
    assert not torch.allclose(in_order(other, 1, 7), epochs[0])


def test_blending_follows_seed_epoch_and_step() -> None:
    def shares(seed: int, epoch: int) -> list[tuple[float, ...]]:
        targets = [y for _, y in standard(seed, mixing=MIXING).train(epoch)]
        assert all(y.shape[1] == CLASSES and y.is_floating_point() for y in targets)
        return [tuple(sorted({round(v, 5) for v in y.flatten().tolist()})) for y in targets]

    base = shares(0, 1)
    assert len(set(base)) == len(base)  # each step its own share
    assert base == shares(0, 1)
    assert not set(base) & set(shares(0, 2))
    assert not set(base) & set(shares(1, 1))

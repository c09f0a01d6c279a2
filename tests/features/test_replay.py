"""What is stored at an earlier cut is gone on from, without a picture being decoded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_backbone import Listener, Pictures, TinyBackbone, pictures, png, truth, with_spec
from torch import nn

from headstart._util.progress import SilentProgress
from headstart.backbones.base import Backbone
from headstart.backbones.registry import load_backbone
from headstart.features import extract as extract_module
from headstart.features import passes
from headstart.features.extract import Extraction, extract
from headstart.features.key import feature_key
from headstart.features.store import FeatureStore
from headstart.types import Augmentation, Progress, View

CPU = torch.device("cpu")
VIEW = View(Augmentation(rotate=30.0, crop=0.5, flip=True), seed=1, number=0)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


class Unreadable(Pictures):
    """Pictures that are known and may not be looked at."""

    def read(self, index: int) -> bytes:
        raise AssertionError(f"picture {index} was read")


def run(
    images: Pictures,
    backbone: Backbone,
    cut: str,
    store: FeatureStore,
    *,
    progress: Progress | None = None,
    **options: object,
) -> Extraction:
    chosen = {"engine": "torch", "device": CPU, "workers": 0, **options}
    shown = SilentProgress() if progress is None else progress
    every = range(len(images))
    return extract(images, every, backbone, cut, store=store, progress=shown, **chosen)  # type: ignore[arg-type]


CHAINS = [
    ("headstart/resnet20", 16, ("stem", "layer1", "layer3.0", "pooled")),
    ("headstart/dcnn", 16, ("block1.0", "block2", "block4", "pooled")),
    ("torchvision/alexnet", 64, ("features.2", "avgpool", "classifier.2", "pooled")),
    ("timm/test_vit", 32, ("patch_embed", "blocks.1", "norm", "pooled")),
]


@pytest.mark.parametrize(("name", "size", "cuts"), CHAINS, ids=[case[0] for case in CHAINS])
def test_replayed_features_are_those_of_the_pictures(
    store: FeatureStore, tmp_path: Path, name: str, size: int, cuts: tuple[str, ...]
) -> None:
    backbone = load_backbone(name, weights="random", image_size=size)
    images = pictures(5, size=size)
    hidden = Unreadable(images.encoded)
    first = run(images, backbone, cuts[0], store)
    assert (first.replayed_from, first.extracted) == (None, 5)
    previous = backbone.resolve(cuts[0])
    for cut in cuts[1:]:
        replayed = run(hidden, backbone, cut, store)
        assert (replayed.replayed_from, replayed.extracted) == (previous, 5)
        plain = run(images, backbone, cut, FeatureStore(tmp_path / cut)).features.load()
        assert plain.std() > 1e-4
        got = replayed.features.load()
        np.testing.assert_allclose(got, plain, rtol=0, atol=2e-6 * np.abs(plain).max())
        # They are stored under the cut's own key: the next time nothing is done.
        again = run(hidden, backbone, cut, store)
        assert (again.extracted, again.replayed_from) == (0, None)
        np.testing.assert_array_equal(again.features.load(), got)
        previous = backbone.resolve(cut)


def test_only_what_is_between_the_cuts_runs(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(7)
    run(images, backbone, "conv", store)
    backbone.calls.clear()
    listener = Listener()
    result = run(Unreadable(images.encoded), backbone, "pooled", store, progress=listener)
    assert backbone.calls == []
    np.testing.assert_allclose(
        result.features.load(), truth(backbone, "pooled", images), rtol=1e-5, atol=1e-6
    )
    assert len(listener.said) == 1
    assert listener.said[0].startswith(
        "Features of tiny at pooled: replayed from conv: only 1 of 2 stages run for 7 of 7 "
        "pictures, 0 reused; needs 4."
    )
    assert listener.tasks == [("replaying", 7, "pictures")]
    assert listener.advanced == 7
    assert result.engine == "torch"
    assert result.engine_report == ()
    assert result.images_per_second > 0
    assert result.bytes_written > 7 * 6 * 4


def test_the_nearest_earlier_cut_is_gone_on_from(store: FeatureStore) -> None:
    backbone = load_backbone("headstart/resnet20", weights="random", image_size=16)
    images = pictures(2)
    for cut in ("layer1", "stem", "layer3.0"):
        run(images, backbone, cut, store, replay=False)
    hidden, listener = Unreadable(images.encoded), Listener()
    found = [
        run(hidden, backbone, cut, store, progress=listener).replayed_from
        for cut in ("layer3.1", "layer2")
    ]
    assert found == ["layer3.0", "layer1.2"]
    # The stem and nine blocks: layer3.1 is the ninth stage, layer2.2 the seventh.
    assert "only 1 of 9 stages run" in listener.said[0]
    assert "only 3 of 7 stages run" in listener.said[1]


def test_one_missing_sample_is_enough_to_start_from_the_pictures(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(6)
    run(Pictures(images.encoded[:5]), backbone, "conv", store)
    assert run(images, backbone, "pooled", store).replayed_from is None
    assert sorted(images.reads) == list(range(6))


def test_what_is_stored_at_the_cut_is_not_computed_again(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(6)
    run(Pictures(images.encoded[:2]), backbone, "pooled", store)
    run(Pictures(images.encoded[2:]), backbone, "conv", store)
    listener = Listener()
    result = run(Unreadable(images.encoded), backbone, "pooled", store, progress=listener)
    assert (result.extracted, result.reused, result.replayed_from) == (4, 2, "conv")
    assert "only 1 of 2 stages run for 4 of 6 pictures, 2 reused" in listener.said[0]


def test_the_pictures_are_used_where_that_is_asked_for(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(3)
    run(images, backbone, "conv", store)
    images.reads.clear()
    assert run(images, backbone, "pooled", store, replay=False).replayed_from is None
    assert images.reads == [0, 1, 2]


@pytest.mark.parametrize(
    ("stored", "wanted", "replayed"),
    [
        ("float32", "float32", True),
        ("float32", "float16", True),
        ("float16", "float16", True),
        ("float16", "float32", False),
    ],
)
def test_features_are_never_less_exact_than_was_asked_for(
    store: FeatureStore, stored: str, wanted: str, replayed: bool
) -> None:
    backbone, images = TinyBackbone(), pictures(4)
    run(images, backbone, "conv", store, dtype=stored)
    result = run(images, backbone, "pooled", store, dtype=wanted)
    assert result.replayed_from == ("conv" if replayed else None)
    exact = truth(backbone, "pooled", images)
    np.testing.assert_allclose(
        result.features.load(), exact, atol=1e-6 if wanted == "float32" else 4e-3
    )


def test_the_more_exact_of_two_is_taken(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(4)
    for dtype in ("float16", "float32"):
        run(images, backbone, "conv", store, dtype=dtype)
    got = run(images, backbone, "pooled", store, dtype="float16").features.load()
    np.testing.assert_array_equal(
        got, run(images, backbone, "pooled", store, replay=True).features.load().astype(np.float16)
    )


def test_other_pictures_are_not_taken_for_these(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(3)
    run(images, backbone, "conv", store)
    padded = TinyBackbone(spec=with_spec(fit="pad"))
    retrained = TinyBackbone(seed=1)
    assert run(images, padded, "pooled", store).replayed_from is None
    assert run(images, retrained, "pooled", store).replayed_from is None
    assert run(images, backbone, "pooled", store, view=VIEW).replayed_from is None
    other = View(VIEW.augmentation, seed=1, number=1)
    run(images, backbone, "conv", store, view=VIEW)
    assert run(images, backbone, "pooled", store, view=other).replayed_from is None
    hidden = Unreadable(images.encoded)
    with torch.no_grad():
        backbone._pool[2].bias += 1
    assert run(hidden, backbone, "pooled", store, view=VIEW).replayed_from == "conv"


def test_a_damaged_earlier_cut_counts_as_missing(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(3)
    run(images, backbone, "conv", store)
    (data,) = store.folder(feature_key(backbone, "conv", "float32")).glob("*.npy")
    data.write_bytes(data.read_bytes()[:-1])
    assert run(images, backbone, "pooled", store).replayed_from is None


def test_after_training_a_slice_the_part_before_it_is_not_run_again(
    store: FeatureStore, tmp_path: Path
) -> None:
    # The way of a training in stages: what lies before the slice stays frozen, the slice learns,
    # is frozen in turn, and its features are those of its new weights.
    backbone = load_backbone("headstart/resnet20", weights="random", image_size=16)
    images = pictures(6)
    early, late = "layer2", "layer3.0"
    shallow = run(images, backbone, early, store)
    before = run(images, backbone, late, store).features.load()
    old_key = feature_key(backbone, late, "float32")

    sliced = nn.Sequential(*(module for _, module in backbone.modules(early, late))).train()
    free = backbone.releasable(sliced)
    for parameter in free:
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(free, lr=0.5)
    sliced(torch.from_numpy(shallow.features.load())).square().mean().backward()
    optimizer.step()

    assert feature_key(backbone, late, "float32") != old_key
    assert feature_key(backbone, early, "float32").digest() in {e.key for e in store.ls()}
    result = run(Unreadable(images.encoded), backbone, late, store)
    assert result.replayed_from == "layer2.2"
    got = result.features.load()
    assert np.abs(got - before).max() > 1e-2
    fresh = backbone.clone()  # in eval mode
    whole = run(images, fresh, late, FeatureStore(tmp_path / "whole")).features.load()
    np.testing.assert_allclose(got, whole, rtol=0, atol=2e-6 * np.abs(whole).max())
    # The network is left as it was: the slice in train mode and free, and nobody's batch
    # statistics have moved.
    assert all(part.training for part in sliced.modules())
    assert all(parameter.requires_grad for parameter in free)


def test_memory_is_bounded_by_the_size_of_the_activations(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, images = TinyBackbone(), pictures(11)
    run(images, backbone, "conv", store)
    monkeypatch.setattr(passes, "_REPLAYED_BYTES", 4 * 4 * 8 * 8 * 5)  # of five pictures
    asked: list[int] = []
    gather = extract_module.Features.gather

    def watched(features: extract_module.Features, positions: np.ndarray) -> np.ndarray:
        asked.append(len(positions))
        return gather(features, positions)

    monkeypatch.setattr(extract_module.Features, "gather", watched)
    result = run(Unreadable(images.encoded), backbone, "pooled", store)
    assert asked == [4, 4, 3]
    monkeypatch.undo()
    np.testing.assert_allclose(
        result.features.load(), truth(backbone, "pooled", images), rtol=1e-5, atol=1e-6
    )


def test_the_engines_of_both_parts_are_named(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(4)
    rows = truth(backbone, "conv", images)
    key = feature_key(backbone, "conv", "float32")
    with store.writer(key, engine="openvino", about={}) as writer:
        writer.write(images.digests[:3], rows[:3])
    run(images, backbone, "conv", store)
    run(Pictures(pictures(1, seed=9).encoded), backbone, "pooled", store)
    assert run(images, backbone, "pooled", store).engine == "openvino+torch"
    both = Pictures(images.encoded + pictures(1, seed=9).encoded)
    assert run(both, backbone, "pooled", store).engine == "openvino+torch"


def test_a_group_and_its_last_stage_share_their_features(store: FeatureStore) -> None:
    backbone = load_backbone("headstart/resnet20", weights="random", image_size=16)
    images = pictures(2)
    run(images, backbone, "layer1", store)
    assert run(Unreadable(images.encoded), backbone, "layer1.2", store).extracted == 0


def test_views_are_stored_each_for_itself_and_beside_the_plain_pictures(
    store: FeatureStore,
) -> None:
    backbone, images = TinyBackbone(), pictures(4)
    plain = run(images, backbone, "pooled", store).features.load()
    listener = Listener()
    tables = [plain]
    for number in (0, 1):
        view = View(VIEW.augmentation, seed=1, number=number)
        result = run(images, backbone, "pooled", store, view=view, progress=listener)
        assert result.extracted == 4
        tables.append(result.features.load())
    assert listener.said[0].startswith("Features of tiny at pooled, view 0: 4 of 4 pictures")
    for one in range(3):
        for other in range(one):
            assert np.abs(tables[one] - tables[other]).max() > 1e-3
    assert {entry.view for entry in store.ls()} == {None, 0, 1}
    # The same draw is found again.
    assert run(Unreadable(images.encoded), backbone, "pooled", store, view=VIEW).extracted == 0


def test_features_of_a_view_are_those_of_the_changed_pictures(store: FeatureStore) -> None:
    # A picture that is its own mirror image but for one side, and changes that only mirror.
    values = np.full((16, 16, 3), 40, np.uint8)
    values[:, :8] = 220
    backbone = TinyBackbone()
    both = Pictures([png(values), png(values[:, ::-1])])
    left, right = run(both, backbone, "conv", store).features.load()
    assert np.abs(left - right).max() > 1e-2
    seen = set()
    for number in range(12):
        view = View(Augmentation(flip=True), seed=0, number=number)
        (got,) = run(Pictures([png(values)]), backbone, "conv", store, view=view).features.load()
        mirrored = np.array_equal(got, right)
        assert mirrored or np.array_equal(got, left)
        seen.add(mirrored)
    assert seen == {True, False}

"""Frozen features are computed once, and are right whatever way they came about."""

import hashlib
import io
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_backbone import Listener, Pictures, TinyBackbone, pictures, png, truth, with_spec

from headstart._util.progress import SilentProgress
from headstart.backbones.registry import load_backbone
from headstart.errors import DataError, EngineError, StoreError
from headstart.features import engine_torch
from headstart.features import extract as extract_module
from headstart.features import store as store_module
from headstart.features import work as work_module
from headstart.features.engine import EngineName
from headstart.features.extract import Extraction, extract
from headstart.features.key import FeatureKey, feature_key
from headstart.features.share import ShareWorker
from headstart.features.store import FeatureStore
from headstart.features.trials import EngineTrial
from headstart.features.upkeep import leftovers
from headstart.types import Progress

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def run(
    images: Pictures,
    backbone: TinyBackbone,
    store: FeatureStore,
    indices: list[int] | None = None,
    *,
    cut: str = "pooled",
    progress: Progress | None = None,
    **options: object,
) -> Extraction:
    chosen = {"engine": "torch", "device": CPU, "workers": 0, **options}
    order = list(range(len(images))) if indices is None else indices
    shown = SilentProgress() if progress is None else progress
    return extract(images, order, backbone, cut, store=store, progress=shown, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino", "auto"])
@pytest.mark.parametrize("cut", ["conv", "pooled"])
def test_features_are_what_the_network_computes(store: FeatureStore, engine: str, cut: str) -> None:
    backbone, images = TinyBackbone(), pictures(11)
    result = run(images, backbone, store, cut=cut, engine=engine, workers=2)
    assert result.features.shape == backbone.shape(cut)
    np.testing.assert_allclose(
        result.features.load(), truth(backbone, cut, images), rtol=1e-5, atol=1e-6
    )
    assert (result.extracted, result.reused) == (11, 0)
    assert [trial.name for trial in result.engine_report if trial.chosen] == [result.engine]
    assert result.images_per_second > 0
    assert result.wall_seconds >= 11 / result.images_per_second


def test_the_second_time_nothing_is_done(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(7)
    first = run(images, backbone, store)
    images.reads.clear()
    backbone.calls.clear()
    listener = Listener()
    second = run(images, backbone, store, progress=listener, engine="auto")
    assert (images.reads, backbone.calls) == ([], [])
    assert listener.said == ["Features of tiny at pooled: all 7 already extracted: nothing to do"]
    np.testing.assert_array_equal(second.features.load(), first.features.load())
    assert (second.extracted, second.reused, second.bytes_written) == (0, 7, 0)
    assert (second.engine, second.engine_report) == ("torch", ())
    assert second.images_per_second == 0.0


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_one_pixel_of_one_picture_makes_exactly_that_one_run(
    store: FeatureStore, engine: str
) -> None:
    backbone, images = TinyBackbone(), pictures(20)
    run(images, backbone, store)
    pixels = np.asarray(Image.open(io.BytesIO(images.encoded[13]))).copy()
    pixels[3, 4, 1] ^= 1
    touched = Pictures([*images.encoded[:13], png(pixels), *images.encoded[14:]])
    backbone.calls.clear()
    result = run(touched, backbone, store, engine=engine)
    assert touched.reads == [13]
    assert len(backbone.calls) == 1
    assert (result.extracted, result.reused) == (1, 19)
    np.testing.assert_allclose(
        result.features.load(), truth(backbone, "pooled", touched), rtol=1e-5, atol=1e-6
    )


def test_the_same_picture_in_two_data_sets_is_extracted_once(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(6)
    run(images, backbone, store)
    other = Pictures(images.encoded[3:] + pictures(2, seed=9).encoded, prefix="elsewhere")
    assert run(other, backbone, store).extracted == 2
    assert other.reads == [3, 4]


def test_the_same_bytes_twice_in_a_request_are_extracted_once(store: FeatureStore) -> None:
    images = pictures(3)
    twice = Pictures(images.encoded + images.encoded)
    result = run(twice, TinyBackbone(), store, [0, 3, 1, 1, 5, 4])
    assert twice.reads == [0, 1, 5]
    assert (result.extracted, result.reused) == (3, 3)
    got = result.features.load()
    np.testing.assert_array_equal(got, got[[1, 0, 2, 5, 4, 2]])


def test_another_cut_type_or_network_shares_nothing(store: FeatureStore) -> None:
    images = pictures(4)
    for cut, dtype, seed in [
        ("pooled", "float32", 0),
        ("conv", "float32", 0),
        ("pooled", "float16", 0),
        ("pooled", "float32", 1),
    ]:
        assert run(images, TinyBackbone(seed), store, cut=cut, dtype=dtype).extracted == 4
    assert len(store.ls()) == 4


def test_float16_is_float32_rounded(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(9)
    whole = run(images, backbone, store).features.load()
    half = run(images, backbone, store, dtype="float16").features
    assert half.dtype == np.float16
    assert half.load().dtype == np.float32
    np.testing.assert_array_equal(half.load(), whole.astype(np.float16))


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Features of twelve pictures, each extracted alone into a store of its own."""
    rows = []
    for data in pictures(12).encoded:
        store = FeatureStore(tmp_path_factory.mktemp("one"))
        rows.append(run(Pictures([data]), TinyBackbone(), store).features.load())
    return np.concatenate(rows)


@settings(max_examples=10, deadline=None)
@given(
    batch_size=st.integers(1, 40),
    workers=st.integers(0, 2),
    orders=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=14), min_size=1, max_size=3),
)
def test_nothing_but_the_picture_decides_its_features(
    one_by_one: np.ndarray, batch_size: int, workers: int, orders: list[list[int]]
) -> None:
    backbone, images = TinyBackbone(), pictures(12)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder))
        for order in orders:
            got = run(images, backbone, store, order, batch_size=batch_size, workers=workers)
            np.testing.assert_array_equal(got.features.load(), one_by_one[order])


def test_what_is_going_to_happen_is_said_before(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(10)
    run(images, backbone, store, [0, 1, 2])
    listener = Listener()
    run(images, backbone, store, progress=listener)
    assert listener.said[0].startswith(
        "Features of tiny at pooled: 7 of 10 pictures to extract, 3 reused; needs 4."
    )
    assert "of disk" in listener.said[0]
    assert listener.said[1] == "  engine torch: asked for"
    assert listener.tasks == [("extracting", 7, "pictures")]
    assert listener.advanced == 7


def test_auto_says_how_the_engines_did(store: FeatureStore) -> None:
    backbone, images = TinyBackbone(), pictures(9)
    listener = Listener()
    result = run(images, backbone, store, engine="auto", progress=listener)
    assert result.engine == "torch"  # nine small pictures are not worth building another
    (trial,) = result.engine_report
    assert trial.images_per_second is not None
    assert any("too little for trying others" in line for line in listener.said)


def test_too_little_room_is_said_before_anything_is_read(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = store_module.shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage)
    images = pictures(5)
    with pytest.raises(StoreError, match="only 100 bytes are free"):
        run(images, TinyBackbone(), store)
    assert images.reads == []


def test_a_picture_that_cannot_be_decoded_is_named_and_the_others_are_kept(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_torch, "cpu_threads", lambda: 1)
    images = pictures(10)
    broken = Pictures([*images.encoded[:6], images.encoded[6][:60], *images.encoded[7:]])
    with pytest.raises(DataError, match=r"picture-6\.png"):
        run(broken, TinyBackbone(), store, batch_size=4)
    assert run(images, TinyBackbone(), store).reused == 4


def test_a_picture_that_changed_after_the_scan_is_never_stored(store: FeatureStore) -> None:
    images = pictures(5)
    scanned = images.digests
    images.encoded[2] = pictures(1, seed=5).encoded[0]

    class Changed(Pictures):
        digests = scanned

    with pytest.raises(DataError, match=r"picture-2\.png: has changed since"):
        run(Changed(images.encoded), TinyBackbone(), store)
    assert all(scanned[2] not in index for index in [store_rows(store)])


def store_rows(store: FeatureStore) -> str:
    return "".join(path.read_text() for path in store.root.rglob("*.json"))


def test_features_that_are_not_numbers_are_an_error_that_names_the_picture(
    store: FeatureStore,
) -> None:
    backbone, images = TinyBackbone(), pictures(6)
    with torch.no_grad():
        backbone._pool[2].bias[0] = torch.inf
    with pytest.raises(EngineError, match=r"'picture-0\.png': tiny at pooled gives .* not finite"):
        run(images, backbone, store, engine="auto")
    assert store.ls()[0].samples == 0


def test_an_engine_that_dies_half_way_is_one_clear_error(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, images = TinyBackbone(), pictures(12)

    class Dying:
        name, micro_batch, left = "torch", 4, 2

        def run(self, batch: np.ndarray) -> np.ndarray:
            self.left -= 1
            if self.left < 0:
                raise MemoryError("CUDA out of memory")
            return np.ones((len(batch), 6), dtype=np.float32)

    monkeypatch.setattr(work_module, "use_torch", lambda *_: work_module.Choice(Dying(), ()))
    with pytest.raises(EngineError, match=r"'torch' failed on 4 pictures, the first 'picture-8"):
        run(images, backbone, store, batch_size=4)
    monkeypatch.undo()
    assert run(images, backbone, store).extracted == 4


def share_worker(
    images: Pictures,
    backbone: TinyBackbone,
    store: FeatureStore,
    engine: EngineName,
    key: FeatureKey,
) -> ShareWorker:
    return ShareWorker(
        images=images,
        backbone=backbone,
        key=key,
        engine=engine,
        store=store,
        device=CPU,
        batch_size=2,
        workers=0,
        lengths=None,
        progress=SilentProgress(),
    )


def test_rests_of_shares_that_were_killed_are_gone_before_others_are_shared_out(
    store: FeatureStore,
) -> None:
    backbone, images = TinyBackbone(), pictures(7)
    key = feature_key(backbone, "pooled", "float32")
    run(images, backbone, store, [0, 1])
    (store.folder(key) / "0123.tmp").write_bytes(b"half")
    rests: list[Path] = []

    def spread(positions: tuple[int, ...], engine: EngineName, key: FeatureKey) -> None:
        rests.extend(leftovers(store.folder(key)))
        worker = share_worker(images, backbone, store, engine, key)
        assert [worker.extract(some) for some in (positions[:3], positions[3:])] == [3, 2]

    result = run(images, backbone, store, spread=spread)
    assert rests == []
    assert (result.extracted, result.reused) == (5, 2)
    np.testing.assert_allclose(
        result.features.load(), truth(backbone, "pooled", images), rtol=1e-5, atol=1e-6
    )


def test_an_engine_that_worked_once_and_does_not_any_more_is_chosen_anew_for_shares(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, images = TinyBackbone(), pictures(7)
    earlier = EngineTrial("openvino", 0.0, 100.0, 0.0, True, "the fastest in an earlier trial")
    monkeypatch.setattr(extract_module, "engine_for_others", lambda *_: earlier)
    asked: list[EngineName] = []

    def spread(positions: tuple[int, ...], engine: EngineName, key: FeatureKey) -> None:
        asked.append(engine)
        if engine == "openvino":
            raise EngineError("the engine 'openvino' cannot be built")
        share_worker(images, backbone, store, engine, key).extract(positions)

    result = run(images, backbone, store, engine="auto", spread=spread)
    assert asked == ["openvino", "torch"]  # for so few pictures it is torch
    assert result.features.engines == ("torch",)


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    backbone = TinyBackbone(spec=with_spec(height=32, width=32, resize=32))

    def peak(count: int) -> int:
        images = pictures(count, size=32)
        digests = [hashlib.sha256(data).hexdigest() for data in images.encoded]

        class Scanned(Pictures):
            pass

        Scanned.digests = digests  # type: ignore[assignment, method-assign]
        Scanned.names = [str(i) for i in range(count)]  # type: ignore[assignment, method-assign]
        scanned = Scanned(images.encoded)
        store = FeatureStore(tmp_path / str(count))
        tracemalloc.start()
        run(scanned, backbone, store, cut="conv", batch_size=8)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(40)
    # 400 more pictures have 1.6 MB of features and 4.9 MB of pixels; their digests, as keys of
    # the index and lines of the sidecar, take 0.2 MB.
    assert peak(480) - peak(80) < 500_000


def test_a_real_network_through_the_registry(store: FeatureStore) -> None:
    backbone = load_backbone("packaged/efficientnet-lite0")
    images = pictures(3, size=240)
    cut = backbone.stages[-1]
    results = [
        extract(
            images,
            [0, 1, 2],
            backbone,
            cut,
            store=FeatureStore(store.root / engine),
            engine=engine,
            device=CPU,
            progress=SilentProgress(),
        ).features.load()
        for engine in ("torch", "openvino")
    ]
    assert results[0].shape == (3, 1280)
    np.testing.assert_allclose(results[1], results[0], atol=1e-5 * np.abs(results[0]).max())

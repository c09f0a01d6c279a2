"""A store shared by machines: whole shards or none, fetched before anything is computed."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from tiny_backbone import TinyBackbone, pictures

from headstart._util.progress import SilentProgress
from headstart.config import load_experiment
from headstart.errors import ConfigError, SharedStoreError, StoreError
from headstart.features import store as store_module
from headstart.features.extract import Extraction, extract
from headstart.features.key import feature_key
from headstart.features.plan import estimate
from headstart.features.remote import Remote
from headstart.features.shard import Shard, read_shard
from headstart.features.share import ShareWorker
from headstart.features.store import FeatureStore
from headstart.runs.stage_features import StageFeatures

IMAGES = pictures(20)
KEY = feature_key(TinyBackbone(), "pooled", "float32")
CPU = torch.device("cpu")


@pytest.fixture(params=["memory", "file"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    if request.param == "file":
        return Remote((tmp_path / "shared").as_uri())
    fsspec.filesystem("memory").store.clear()
    return Remote("memory://shared/features")


def extracted(root: Path, remote: Remote | None, some: range = range(20)) -> Extraction:
    return extract(
        IMAGES,
        some,
        TinyBackbone(),
        "pooled",
        store=FeatureStore(root, remote),
        device=CPU,
        progress=SilentProgress(),
    )


def test_what_one_machine_computed_another_fetches(remote: Remote, tmp_path: Path) -> None:
    first = extracted(tmp_path / "one", remote)
    second = extracted(tmp_path / "two", remote)
    assert (first.extracted, second.extracted) == (20, 0)
    np.testing.assert_array_equal(second.features.load(), first.features.load())


def test_each_adds_what_it_has_and_both_end_with_the_same(remote: Remote, tmp_path: Path) -> None:
    assert extracted(tmp_path / "one", remote, range(12)).extracted == 12
    assert extracted(tmp_path / "two", remote, range(5, 20)).extracted == 8
    assert extracted(tmp_path / "one", remote).extracted == 0
    alone = extracted(tmp_path / "alone", None)
    digests = {
        FeatureStore(tmp_path / name, remote if name != "alone" else None).contents(KEY)
        for name in ("one", "two", "alone")
    }
    assert len(digests) == 1
    assert alone.extracted == 20


def test_a_shard_without_its_sidecar_does_not_exist(remote: Remote, tmp_path: Path) -> None:
    extracted(tmp_path / "one", remote)
    system, root = fsspec.core.url_to_fs(remote.url)
    sidecars = [p for p in system.find(root) if p.endswith(".json") and "key.json" not in p]
    for path in sidecars:
        system.rm(path)
    assert extracted(tmp_path / "two", remote).extracted == 20


def test_nothing_half_written_is_left_there(remote: Remote, tmp_path: Path) -> None:
    extracted(tmp_path / "one", remote)
    system, root = fsspec.core.url_to_fs(remote.url)
    assert not [path for path in system.find(root) if path.endswith(".tmp")]


@pytest.mark.parametrize("url", ["nowhere://bucket", "file:///proc/headstart"])
def test_a_home_that_cannot_be_used_is_one_clear_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the shared feature store at"):
        extracted(tmp_path / "one", Remote(url))


def there(remote: Remote) -> Any:
    """Return the class of a second home's file system, to be watched or broken."""
    return type(fsspec.core.url_to_fs(remote.url)[0])


@pytest.fixture
def moved(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count by name what is moved into its place in the second home."""
    names: Counter[str] = Counter()
    real = there(remote).mv

    def counted(self: Any, old: str, new: str, **options: Any) -> None:
        names[Path(new).name] += 1
        real(self, old, new, **options)

    monkeypatch.setattr(there(remote), "mv", counted)
    return names


@pytest.fixture
def looked(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each listing of the key's folder in the second home."""
    paths: list[str] = []
    real = there(remote).ls

    def noted(self: Any, path: str, *args: Any, **options: Any) -> Any:
        if KEY.digest() in path:
            paths.append(path)
        return real(self, path, *args, **options)

    monkeypatch.setattr(there(remote), "ls", noted)
    return paths


class Unreachable(Remote):
    """A second home that can be read, until something is to be put there."""

    __slots__ = ()

    def fetch(self, folder: Path) -> int:  # noqa: ARG002
        return 0

    def put(self, sidecar: Path) -> None:  # noqa: ARG002
        raise SharedStoreError("gone")


def test_a_shard_that_cannot_be_copied_is_kept_and_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_SHARD_SAMPLES", 5)
    with pytest.raises(SharedStoreError, match="gone"):
        extracted(tmp_path / "one", Unreachable("memory://nowhere"))
    (shard,) = FeatureStore(tmp_path / "one").index(KEY).shards
    assert len(shard.digests) == 5
    assert extracted(tmp_path / "one", None).extracted == 15


def test_what_was_stored_before_there_was_a_second_home_is_put_there(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_SHARD_SAMPLES", 5)
    extracted(tmp_path / "one", None, range(10))
    extracted(tmp_path / "one", None, range(10, 20))
    extracted(tmp_path / "one", remote, range(10))
    # Only what was asked for: another study may never want the rest.
    assert extracted(tmp_path / "two", remote).extracted == 10


def test_what_was_stored_in_part_is_put_there_with_the_rest(remote: Remote, tmp_path: Path) -> None:
    extracted(tmp_path / "one", None, range(12))
    assert extracted(tmp_path / "one", remote).extracted == 8
    assert extracted(tmp_path / "two", remote).extracted == 0


def worker(root: Path, remote: Remote | None) -> ShareWorker:
    return ShareWorker(
        images=IMAGES,
        backbone=TinyBackbone(),
        key=KEY,
        engine="torch",
        store=FeatureStore(root, remote),
        device=CPU,
        batch_size=32,
        workers=0,
        lengths=None,
        progress=SilentProgress(),
    )


def test_a_share_goes_on_where_an_earlier_attempt_at_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_SHARD_SAMPLES", 5)
    with pytest.raises(SharedStoreError, match="gone"):
        worker(tmp_path, Unreachable("memory://nowhere")).extract(range(20))
    assert worker(tmp_path, None).extract(range(20)) == 15


def test_a_share_reads_no_sidecar_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noted(sidecar: Path) -> Shard:
        read.append(sidecar)
        return read_shard(sidecar)

    monkeypatch.setattr(store_module, "read_shard", noted)
    for start in (0, 5, 10, 15):
        assert worker(tmp_path, None).extract(range(start, start + 5)) == 5
    assert not read
    assert worker(tmp_path, None).extract(range(5)) == 0
    assert len(read) == 1
    alone = extracted(tmp_path / "alone", None)
    np.testing.assert_array_equal(extracted(tmp_path, None).features.load(), alone.features.load())


def test_a_share_that_is_asked_for_again_puts_what_it_finds_there(
    remote: Remote, tmp_path: Path
) -> None:
    killed = worker(tmp_path / "one", None)  # on the way there
    assert killed.extract(range(20)) == 20
    again = worker(tmp_path / "one", remote)
    assert again.extract(range(20)) == 0
    assert extracted(tmp_path / "two", remote).extracted == 0


def test_where_everything_is_in_both_homes_the_second_is_looked_at_once(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[str]
) -> None:
    monkeypatch.setattr(store_module, "MAX_SHARD_SAMPLES", 4)
    extracted(tmp_path / "one", remote)
    looked.clear()
    extracted(tmp_path / "one", remote)
    assert len(looked) == 1


def test_an_estimate_leaves_the_second_home_alone(
    remote: Remote, tmp_path: Path, looked: list[str]
) -> None:
    extracted(tmp_path / "one", remote)
    looked.clear()
    store = FeatureStore(tmp_path / "two", remote)
    estimate(IMAGES, range(20), TinyBackbone(), "pooled", store=store, dtype="float32", device=CPU)
    assert looked == []
    assert not store.folder(KEY).exists()


def test_nothing_there_is_moved_to_its_place_twice(
    remote: Remote, tmp_path: Path, moved: Counter[str]
) -> None:
    extracted(tmp_path / "one", remote, range(12))
    extracted(tmp_path / "one", remote)
    extracted(tmp_path / "two", remote)
    assert moved["key.json"] == 1
    assert set(moved.values()) == {1}
    assert len(moved) == 5  # and two shards, each of two files


def test_two_machines_may_put_the_same_there_at_the_same_time(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, root = fsspec.core.url_to_fs(remote.url)

    def late(self: Any, old: str, new: str, **options: Any) -> None:
        self.cp_file(old, new)  # by the other one
        raise OSError(f"{new} is there already")

    with monkeypatch.context() as patched:
        patched.setattr(there(remote), "mv", late)
        extracted(tmp_path / "one", remote)
    assert not [path for path in system.find(root) if path.endswith(".tmp")]
    assert extracted(tmp_path / "two", remote).extracted == 0


class OddError(Exception):
    """As botocore's: no OSError."""


def test_errors_of_whatever_library_an_address_brings_are_told(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **options: Any) -> None:
        raise OddError("no credentials")

    monkeypatch.setattr(there(remote), "ls", fails)
    with pytest.raises(SharedStoreError, match="OddError: no credentials"):
        extracted(tmp_path / "one", remote)


@contextlib.contextmanager
def refused(url: str) -> Iterator[None]:
    with pytest.raises(ConfigError) as caught:
        yield
    told = str(caught.value)
    assert "(1 problem)" in told
    assert "cache.shared: expected a URL such as s3://bucket/folder, or a path that" in told
    assert repr(url) in told


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("s3://bucket/features", True),
        ("memory://features", True),
        ("file:///mnt/features", True),
        ("/mnt/features", True),
        ("simplecache::s3://bucket/features", True),
        ("features", False),
        ("../features", False),
        ("file://features", False),
        ("local://features", False),
        ("", False),
    ],
)
def test_a_second_home_is_the_same_from_every_folder(tmp_path: Path, url: str, good: bool) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "{name: study, title: A study, data: {kind: auto, path: photos},"
        " backbones: {main: {name: timm/resnet18}}, parts: {a: {kind: model}},"
        f" cache: {{shared: '{url}'}}}}"
    )
    with contextlib.nullcontext() if good else refused(url):
        assert load_experiment(path).cache.shared == url


def test_a_second_home_that_does_not_answer_changes_no_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*args: object) -> None:
        raise SharedStoreError("no answer")

    monkeypatch.setattr(StageFeatures, "_stored_source", fails)
    features = StageFeatures.__new__(StageFeatures)
    stage: Any = SimpleNamespace(
        storage="stored", name="head", config=SimpleNamespace(features="auto")
    )
    with pytest.raises(SharedStoreError, match="no answer"):
        features.source(stage, [stage])

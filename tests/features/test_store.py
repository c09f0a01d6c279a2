"""What is in the store is whole and right, or it is not there."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import filelock
import numpy as np
import pytest
from tiny_backbone import SPEC, Listener, all_files, environment_with_helpers

from headstart._util.progress import SilentProgress
from headstart.errors import StoreError
from headstart.features import shard as shard_module
from headstart.features import store as store_module
from headstart.features.key import FeatureKey
from headstart.features.store import FeatureStore
from headstart.features.table import Features
from headstart.features.upkeep import lock_path

KEY = FeatureKey(backbone="ab" * 32, cut="pooled", input=SPEC, dtype="float32")
HALF = FeatureKey(backbone="ab" * 32, cut="pooled", input=SPEC, dtype="float16")


def digests_of(numbers: range) -> list[str]:
    return [f"{number:064x}" for number in numbers]


def rows_of(numbers: range, width: int = 5) -> np.ndarray:
    start = np.array(numbers, dtype=np.float32)[:, None]
    return start + np.arange(width, dtype=np.float32) / 8


def put(store: FeatureStore, numbers: range, key: FeatureKey = KEY, width: int = 5) -> int:
    with store.writer(key, engine="torch", about={"backbone": "tiny"}) as writer:
        writer.write(digests_of(numbers), rows_of(numbers, width))
    return writer.bytes_written


def get(store: FeatureStore, numbers: range, key: FeatureKey = KEY) -> np.ndarray:
    return Features(store.index(key), digests_of(numbers), (5,), key.dtype).load()


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def shard_files(store: FeatureStore, key: FeatureKey = KEY) -> list[Path]:
    return sorted(store.folder(key).glob("*.npy"))


def test_rows_come_back_bit_for_bit_from_any_order_of_writing(store: FeatureStore) -> None:
    put(store, range(5, 9))
    put(store, range(5))
    np.testing.assert_array_equal(get(store, range(9)), rows_of(range(9)))


def test_a_shard_is_a_plain_npy_file_that_numpy_reads_without_us(store: FeatureStore) -> None:
    put(store, range(7))
    (path,) = shard_files(store)
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), rows_of(range(7)))


def test_the_figure_of_bytes_written_is_what_the_disk_says(store: FeatureStore) -> None:
    written = put(store, range(100))
    files = [p for p in store.folder(KEY).iterdir() if p.name != "key.json"]
    assert written == sum(path.stat().st_size for path in files)


def test_float16_comes_back_as_float32_rounded_to_11_bits(store: FeatureStore) -> None:
    put(store, range(2000, 2003), HALF)
    got = get(store, range(2000, 2003), HALF)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, rows_of(range(2000, 2003)).astype(np.float16))


def test_numbers_too_large_for_float16_are_refused_not_made_infinite(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match=r"7e\+04 do not fit float16.*float32"):
        put(store, range(70_000, 70_001), HALF)
    assert shard_files(store, HALF) == []


def test_shards_are_of_bounded_size(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_SHARD_SAMPLES", 4)
    put(store, range(10))
    assert sorted(len(np.load(p)) for p in shard_files(store)) == [2, 4, 4]
    monkeypatch.setattr(store_module, "MAX_SHARD_BYTES", 3 * 20)
    put(store, range(10, 15))
    assert sorted(len(np.load(p)) for p in shard_files(store)) == [2, 2, 3, 4, 4]
    np.testing.assert_array_equal(get(store, range(15)), rows_of(range(15)))


def test_a_shard_ends_after_a_minute_so_that_slow_networks_lose_little(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_SHARD_SECONDS", -1.0)
    with store.writer(KEY, engine="torch", about={}) as writer:
        writer.write(digests_of(range(2)), rows_of(range(2)))
        assert len(shard_files(store)) == 1


def test_what_was_written_before_a_failure_is_kept(store: FeatureStore) -> None:
    def fail() -> None:
        with store.writer(KEY, engine="torch", about={}) as writer:
            writer.write(digests_of(range(3)), rows_of(range(3)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    np.testing.assert_array_equal(get(store, range(3)), rows_of(range(3)))


def test_data_without_a_sidecar_does_not_exist_and_is_swept_up(store: FeatureStore) -> None:
    put(store, range(3))
    next(store.folder(KEY).glob("[!k]*.json")).unlink()
    (store.folder(KEY) / "0123.tmp").write_bytes(b"half")
    assert store.index(KEY).rows == {}
    put(store, range(4))
    assert len(all_files(store.folder(KEY))) == 3  # key.json, one shard, its sidecar


@pytest.mark.parametrize("moment", ["sync", "rename", "sidecar"])
def test_a_full_disk_leaves_nothing_half_written(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    put(store, range(3))
    before = all_files(store.root)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target, name = {
        "sync": (shard_module.os, "fsync"),
        "rename": (shard_module.os, "replace"),
        "sidecar": (shard_module.files, "write_json"),
    }[moment]
    monkeypatch.setattr(target, name, full)
    with pytest.raises(StoreError, match=r"disk of .* is full.*cache prune.*HEADSTART_CACHE"):
        put(store, range(3, 6))
    monkeypatch.undo()
    assert all_files(store.root) == before
    np.testing.assert_array_equal(get(store, range(3)), rows_of(range(3)))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_real_write_that_the_kernel_refuses_leaves_nothing_half_written(tmp_path: Path) -> None:
    # A limit on the size of files makes the kernel refuse to write on in the middle of the data,
    # as a full disk does, and needs no file system of our own.
    script = """
        import resource, signal, sys
        from pathlib import Path
        import test_store
        from headstart.errors import StoreError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = test_store.FeatureStore(Path(sys.argv[1]))
        test_store.put(store, range(3))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            test_store.put(store, range(3, 20_003))
        except StoreError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "store")],
        env=environment_with_helpers(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is full" in done.stdout
    store = FeatureStore(tmp_path / "store")
    # Complete shards of 4,096 rows (80 kB) were kept; of the broken one there is nothing.
    assert all(path.suffix in {".npy", ".json"} for path in store.folder(KEY).iterdir())
    assert store.verify() == ()
    assert len(store.index(KEY).rows) < 20_003
    np.testing.assert_array_equal(get(store, range(3)), rows_of(range(3)))


def test_too_little_room_is_said_before_any_work(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed, free = store.check_room(1000, (1280,), KEY)
    assert needed == pytest.approx(1000 * 1280 * 4, rel=0.05)
    assert free > needed
    with pytest.raises(StoreError, match=r"need 4722\.1 TiB, but only .* are free.*float16"):
        store.check_room(10**12, (1280,), KEY)
    assert not store.root.exists()


def test_a_cut_off_shard_is_an_error_that_says_how_to_mend_it(store: FeatureStore) -> None:
    put(store, range(3))
    (path,) = shard_files(store)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"expected 188 bytes, found 184.*cache prune --damaged"):
        store.index(KEY)
    pruned = store.prune(damaged=True)
    assert len(pruned.shards) == 1
    assert store.index(KEY).rows == {}


@pytest.mark.parametrize("sidecar", ["", "{}", '{"samples": 3}', "\x00\x01"])
def test_a_sidecar_that_cannot_be_read_is_an_error_that_says_how_to_mend_it(
    store: FeatureStore, sidecar: str
) -> None:
    put(store, range(3))
    shard_files(store)[0].with_suffix(".json").write_text(sidecar)
    with pytest.raises(StoreError, match=r"cache prune --damaged"):
        store.index(KEY)
    assert store.ls()[0].damaged == 1
    assert len(store.prune(damaged=True).shards) == 1
    assert store.index(KEY).rows == {}


def test_a_shard_that_vanishes_while_a_table_is_in_use_is_an_error(store: FeatureStore) -> None:
    put(store, range(3))
    table = Features(store.index(KEY), digests_of(range(3)), (5,), "float32")
    shard_files(store)[0].unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        table.load()


@pytest.mark.parametrize("place", ["first", "last", "header"])
def test_one_flipped_bit_is_found_by_verify_and_mended_by_prune(
    store: FeatureStore, place: str
) -> None:
    put(store, range(3))
    put(store, range(3, 8))
    assert store.verify() == ()
    path = next(p for p in shard_files(store) if len(np.load(p)) == 5)
    data = bytearray(path.read_bytes())
    data[{"first": 128, "last": -1, "header": 11}[place]] ^= 1
    path.write_bytes(data)
    (damage,) = store.verify()
    assert (damage.key, damage.sidecar) == (KEY.digest(), path.with_suffix(".json"))
    assert "checksum" in damage.reason
    assert store.prune(damaged=True).shards == (damage.sidecar,)
    assert store.verify() == ()
    assert sorted(store.index(KEY).rows) == digests_of(range(3))


def test_ls_tells_people_what_is_there(store: FeatureStore) -> None:
    assert store.ls() == ()
    put(store, range(3))
    put(store, range(2, 6))
    put(store, range(3), HALF)
    os.utime(store.folder(KEY) / "key.json", (9e9, 9e9))
    entry, half = store.ls()
    assert (entry.key, entry.backbone, entry.cut) == (KEY.digest(), "tiny", "pooled")
    assert (entry.samples, entry.shards, entry.dtype, entry.damaged) == (6, 2, "float32", 0)
    assert entry.input == "16×16 (crop)"
    assert entry.size_bytes == sum(p.stat().st_size for p in store.folder(KEY).iterdir())
    assert half.dtype == "float16"


def age(store: FeatureStore, key: FeatureKey, days: float) -> None:
    for path in store.folder(key).iterdir():
        then = path.stat().st_mtime - days * 86400
        os.utime(path, (then, then))


def test_prune_by_age_removes_what_was_not_used(store: FeatureStore) -> None:
    put(store, range(3))
    put(store, range(3), HALF)
    graph = store.root / "graphs" / "old.onnx"
    graph.parent.mkdir()
    graph.write_bytes(b"graph")
    os.utime(graph, (0, 0))
    age(store, KEY, 40)
    age(store, HALF, 40)
    store.index(KEY)  # reading is using
    trial = store.prune(unused_days=30, dry_run=True)
    assert (trial.keys, trial.graphs) == ((HALF.digest(),), (graph,))
    assert len(store.ls()) == 2
    done = store.prune(unused_days=30)
    assert done == trial
    assert done.freed_bytes > 0
    assert [entry.key for entry in store.ls()] == [KEY.digest()]
    assert not graph.exists()


def test_prune_by_size_removes_the_longest_unused_first(store: FeatureStore) -> None:
    keys = [KEY, HALF, FeatureKey("ef" * 32, "conv", SPEC, "float32")]
    for days, key in enumerate(keys):
        put(store, range(100), key)
        age(store, key, days)
    sizes = {entry.key: entry.size_bytes for entry in store.ls()}
    kept = sizes[keys[0].digest()] + sizes[keys[1].digest()]
    assert store.prune(max_bytes=kept).keys == (keys[2].digest(),)
    assert store.prune(max_bytes=kept).keys == ()
    assert len(store.prune(max_bytes=0).keys) == 2
    assert store.ls() == ()


def test_prune_by_key_takes_the_first_digits_of_one_key(store: FeatureStore) -> None:
    put(store, range(3))
    put(store, range(3), HALF)
    with pytest.raises(StoreError, match=r"got 'zz', with which 0 begin; stored: .*"):
        store.prune(key="zz")
    with pytest.raises(StoreError, match="with which 0 begin"):
        store.prune(key="")
    assert store.prune(key=KEY.digest()[:10]).keys == (KEY.digest(),)
    assert [entry.key for entry in store.ls()] == [HALF.digest()]
    put(store, range(3))  # a pruned key can be written again
    assert len(store.ls()) == 2


def test_prune_leaves_alone_what_somebody_is_writing(store: FeatureStore) -> None:
    with store.lock(KEY, SilentProgress()):
        put(store, range(3))
        pruned = store.prune(max_bytes=0)
        assert (pruned.keys, pruned.busy) == ((), (KEY.digest(),))
    np.testing.assert_array_equal(get(store, range(3)), rows_of(range(3)))


def test_waiting_for_another_writer_is_said(store: FeatureStore) -> None:
    listener = Listener()
    path = lock_path(store.root, KEY.digest())
    path.parent.mkdir(parents=True)
    other = filelock.FileLock(path)
    other.acquire()

    class Releasing(Listener):
        def say(self, message: str) -> None:
            listener.say(message)
            other.release()

    with store.lock(KEY, Releasing()):
        pass
    assert listener.said == ["Another process is extracting the same features: waiting for it"]


def test_a_store_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = FeatureStore(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match=r"cannot write to the feature store.*HEADSTART_CACHE"):
        put(store, range(3))

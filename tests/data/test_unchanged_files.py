"""Files that are taken as unchanged without being read, and everything that must be read again."""

import os
import tarfile
import time
import zipfile

import pytest

from headstart._util.progress import SilentProgress
from headstart.data import checks, facts, tree
from headstart.data.checks import scan
from headstart.data.excluded import without_classes
from headstart.data.source import open_source
from headstart.data.tree import DirectoryTree


def scanned(root, cache, **options):
    source = open_source("auto", str(root))
    return scan(source, workers=2, progress=SilentProgress(), cache_dir=cache, **options)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, as if they had been written a while ago."""
    monkeypatch.setattr(facts, "_SETTLED_NS", 0)


@pytest.fixture
def same_change_time(monkeypatch):
    """No time of change, as on file systems that have none: the other signs must do."""
    real = checks.file_status

    def without(path):
        found = real(path)
        return None if found is None else found._replace(changed_ns=found.modified_ns)

    monkeypatch.setattr(checks, "file_status", without)


@pytest.fixture
def reads(monkeypatch):
    """Names of the pictures that are read, as they are read."""
    calls = []
    real = DirectoryTree.read

    def counted(self, path):
        calls.append(path)
        return real(self, path)

    monkeypatch.setattr(tree.DirectoryTree, "read", counted)
    return calls


def times(path):
    found = path.stat()
    return found.st_atime_ns, found.st_mtime_ns


def other_content(path):
    """Return other bytes of the same number that decode all the same: what follows is ignored."""
    data = path.read_bytes()
    return data[:-1] + bytes([data[-1] ^ 1])


def assert_found(root, cache, reads, first, name):
    """The one file is read again, and its new content is what the scan says."""
    reads.clear()
    second = scanned(root, cache)
    assert reads == [name]
    changed = [
        row.name
        for row, a, b in zip(first.rows, first.digests, second.digests, strict=True)
        if a != b
    ]
    assert changed == [name]
    # And so it stays, read or not.
    assert scanned(root, cache).digests == second.digests


@pytest.fixture
def root(folder, noise):
    made = folder({"a": 5, "b": 5})
    for path in made.rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"behind the end")
    return made


def test_files_that_did_not_change_are_not_read(root, cache, settled, reads):
    (root / "a" / "broken.png").write_bytes(b"no picture")
    first = scanned(root, cache)
    assert len(reads) == 11
    reads.clear()
    second = scanned(root, cache)
    assert reads == []
    assert (second.decoded, second.reused) == (0, 11)
    for field in ("rows", "digests", "probes", "quarantined", "copies"):
        assert getattr(second, field) == getattr(first, field)


def test_a_file_written_just_before_it_was_read_is_not_trusted(root, cache, reads):
    scanned(root, cache)
    reads.clear()
    scanned(root, cache)
    assert len(reads) == 10


def test_a_write_within_one_step_of_the_clock_is_found(root, cache, reads, same_change_time):
    # Same size, same inode, same time: nothing but the content tells.
    first = scanned(root, cache)
    path = root / "a" / "3.png"
    before = times(path)
    path.write_bytes(other_content(path))
    os.utime(path, ns=before)
    assert scanned(root, cache).digests != first.digests


def test_a_time_in_the_future_is_not_trusted(root, cache, settled, reads):
    path = root / "a" / "3.png"
    ahead = time.time_ns() + 3_600_000_000_000
    os.utime(path, ns=(ahead, ahead))
    scanned(root, cache)
    reads.clear()
    scanned(root, cache)
    assert reads == ["a/3.png"]


def test_a_touched_file_is_read_and_not_decoded(root, cache, settled, reads, monkeypatch):
    first = scanned(root, cache)
    reads.clear()
    os.utime(root / "a" / "3.png", ns=(1, 1))
    monkeypatch.setattr(checks, "probe", None)
    second = scanned(root, cache)
    assert reads == ["a/3.png"]
    assert second.digests == first.digests
    assert second.reused == 10
    reads.clear()
    scanned(root, cache)
    assert reads == []  # its new times are known now


def test_a_replaced_file_is_found_by_its_inode(root, cache, settled, reads, same_change_time):
    first = scanned(root, cache)
    path, new = root / "a" / "3.png", root / "new"
    new.write_bytes(other_content(path))
    os.utime(new, ns=times(path))
    os.replace(new, path)
    assert_found(root, cache, reads, first, "a/3.png")


def test_another_size_is_found_though_the_time_was_restored(
    root, cache, settled, reads, same_change_time
):
    first = scanned(root, cache)
    path = root / "a" / "3.png"
    before = times(path)
    with path.open("ab") as file:
        file.write(b"!")
    os.utime(path, ns=before)
    assert_found(root, cache, reads, first, "a/3.png")


def test_another_time_is_found_though_size_and_inode_are_the_same(
    root, cache, settled, reads, same_change_time
):
    first = scanned(root, cache)
    path = root / "a" / "3.png"
    data = other_content(path)
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(1, 1))
    assert_found(root, cache, reads, first, "a/3.png")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no time of change")
def test_a_write_of_the_same_size_is_found_though_its_time_was_set_back(
    root, cache, settled, reads
):
    first = scanned(root, cache)
    time.sleep(0.05)  # more than a step of the file system's clock
    path = root / "a" / "3.png"
    before, data = times(path), other_content(path)
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=before)
    assert_found(root, cache, reads, first, "a/3.png")


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    root, cache, settled, reads, monkeypatch
):
    real = DirectoryTree.read

    def written_meanwhile(self, path):
        data = real(self, path)
        if path == "b/2.png":
            (root / path).write_bytes(other_content(root / path) + b"longer")
        return data

    with monkeypatch.context() as patch:
        patch.setattr(tree.DirectoryTree, "read", written_meanwhile)
        first = scanned(root, cache)
    assert_found(root, cache, reads, first, "b/2.png")


def test_a_file_that_is_gone_is_in_quarantine_whatever_is_remembered(root, cache, settled, reads):
    scanned(root, cache)
    source = open_source("auto", str(root))
    (root / "a" / "3.png").unlink()
    found = scan(source, workers=2, progress=SilentProgress(), cache_dir=cache)
    assert [one.name for one in found.quarantined] == ["a/3.png"]


def test_a_folder_whose_name_is_no_unicode_is_scanned_and_not_remembered(
    root, cache, settled, tmp_path
):
    strange = os.fsdecode(os.fsencode(str(tmp_path)) + b"/caf\xe9")
    try:
        os.rename(root, strange)
    except OSError:  # macOS has no such names
        pytest.skip("this file system has only names in Unicode")
    first, again = scanned(strange, cache), scanned(strange, cache)
    assert first.digests == again.digests
    assert all(first.digests)


def test_times_may_be_distrusted(root, cache, settled, reads):
    first = scanned(root, cache)
    reads.clear()
    assert scanned(root, cache, trust_times=False).digests == first.digests
    assert len(reads) == 10


def test_facts_of_another_version_of_pillow_are_not_believed_by_file_either(
    root, cache, settled, reads, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr("PIL.__version__", "0.0")
        scanned(root, cache)
    assert scanned(root, cache).decoded == 10


def test_a_manifest_and_left_out_classes_know_their_files(root, cache, settled, monkeypatch):
    (root / "table.csv").write_text("path,label\na/1.png,a\na/2.png,a\nb/../b/1.png,b\nb/0.png,c\n")
    for place in (root / "table.csv", root):
        source = without_classes(open_source("manifest", str(place)), ["c"])
        assert [source.file(i) for i in range(2)] == [str(root / f"a/{i}.png") for i in (1, 2)]
    scanned(root / "table.csv", cache)
    monkeypatch.setattr("headstart.data.manifest._read_file", None)
    scanned(root / "table.csv", cache)


def test_what_lies_in_an_archive_is_no_file_of_its_own(root, cache, tmp_path):
    with (
        tarfile.open(tmp_path / "all.tar", "w") as tar,
        zipfile.ZipFile(tmp_path / "all.zip", "w") as zipped,
    ):
        for path in sorted(root.rglob("*.png")):
            tar.add(path, path.relative_to(root))
            zipped.write(path, path.relative_to(root))
    for name in ("all.tar", "all.zip"):
        source = open_source("auto", str(tmp_path / name))
        assert source.file(0) is None
        source.close()


def test_a_relative_path_is_found_from_another_folder(root, cache, settled, reads, monkeypatch):
    monkeypatch.chdir(root.parent)
    scanned(root.name, cache)
    reads.clear()
    monkeypatch.chdir(root)
    scanned(root, cache)
    assert reads == []


def test_a_link_followed_by_two_dots_is_where_it_leads(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(root / "a")
    source = open_source("auto", str(tmp_path / "elsewhere" / "link" / ".."))
    assert os.path.samefile(source.file(0), root / source.rows[0].name)


def test_a_pipe_in_a_table_of_pictures_has_no_status(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert facts.file_status(str(tmp_path / "pipe")) is None
    assert facts.file_status(str(tmp_path / "nothing")) is None

"""Archives are trees of files: the same as the folder they were made of, or refused."""

import io
import os
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from headstart._util.files import cache_root
from headstart.data import unpack
from headstart.data.archive import Limits, open_tree, safe_path
from headstart.data.source import open_source
from headstart.data.tree import natural_key, without_single_top
from headstart.errors import DataError, UnsafeArchiveError

KINDS = ["zip", "zip-stored", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def pack(root, kind, target):
    """Pack a folder under one top folder, as people do."""
    if kind.startswith("zip"):
        method = zipfile.ZIP_STORED if kind == "zip-stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(target, "w", method) as archive:
            for path in sorted(root.rglob("*")):
                archive.write(path, f"top/{path.relative_to(root)}")
    else:
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}[kind]
        with tarfile.open(target, mode) as archive:
            archive.add(root, "./top")
    return target


def tar_of(target, members, mode="w"):
    """Write a tar of (name, content) pairs, where a tuple (type,) stands for a link or device."""
    with tarfile.open(target, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                (info.type,) = content
                info.linkname = "/etc/passwd"
                archive.addfile(info)
    return target


def zip_of(target, members):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target


@pytest.fixture
def pictures(folder):
    root = folder({"cat": 3, "dog": 12})
    (root / "cat" / "empty.png").write_bytes(b"")
    (root / "dog" / "notes.txt").write_text("not a picture")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.png").write_bytes(b"x")
    (root / "__MACOSX" / "cat").mkdir(parents=True)
    (root / "__MACOSX" / "cat" / "._0.png").write_bytes(b"x")
    (root / "cat" / "Thumbs.db").write_bytes(b"x")
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_gives_the_rows_and_bytes_of_its_folder(pictures, kind, tmp_path):
    archive = pack(pictures, kind, tmp_path / f"pictures.{kind}")
    plain, packed = open_source("auto", str(pictures)), open_source("auto", str(archive))
    assert packed.rows == plain.rows
    assert packed.classes == plain.classes == ("cat", "dog")
    assert len(plain.rows) == 16
    order = range(len(plain.rows))
    with ThreadPoolExecutor(8) as pool:  # in threads, as the loader reads
        assert list(pool.map(packed.read, order)) == [plain.read(index) for index in order]
    packed.close()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_reading_in_place_writes_nothing(pictures, kind, tmp_path):
    open_source("auto", str(pack(pictures, kind, tmp_path / f"p.{kind}"))).close()
    assert not (cache_root() / "unpacked").exists()


def test_a_compressed_tar_is_unpacked_once(pictures, tmp_path, monkeypatch):
    archive = pack(pictures, "tar.gz", tmp_path / "p.tgz")
    first = open_source("auto", str(archive))
    assert len(list((cache_root() / "unpacked").iterdir())) == 1
    monkeypatch.setattr(unpack, "_extract", None)  # a second time would fail
    again = open_source("auto", str(archive.rename(tmp_path / "renamed.tgz")))
    assert again.rows == first.rows
    assert again.origin == str(tmp_path / "renamed.tgz")


def test_what_an_archive_is_its_content_says(pictures, tmp_path):
    archive = pack(pictures, "zip", tmp_path / "misnamed.tar")
    assert len(open_source("auto", str(archive)).rows) == 16


EVIL_NAMES = [
    "/etc/cron.d/x.png",
    "a/../../x.png",
    "..",
    "C:\\x.png",
    "\\\\host\\x.png",
    "a\\..\\x",
]


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_paths_that_lead_outside_are_refused_by_name(name, tmp_path):
    for archive in (
        tar_of(tmp_path / "evil.tar", [("cat/0.png", b"x"), (name, b"x")]),
        tar_of(tmp_path / "evil.tar.gz", [("cat/0.png", b"x"), (name, b"x")], "w:gz"),
        zip_of(tmp_path / "evil.zip", [("cat/0.png", b"x"), (name, b"x")]),
    ):
        with pytest.raises(UnsafeArchiveError) as caught:
            open_tree(archive)
        assert name.replace("\\", "/").rpartition("/")[2] in str(caught.value)
    assert not list((cache_root() / "unpacked").iterdir())


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_links_and_devices_in_a_tar_are_refused(kind, mode, tmp_path):
    archive = tar_of(tmp_path / "evil.tar", [("cat/0.png", b"x"), ("cat/trap.png", (kind,))], mode)
    with pytest.raises(UnsafeArchiveError, match=r"cat/trap\.png"):
        open_tree(archive)


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("cat/trap.png")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeArchiveError, match=r"cat/trap\.png"):
        open_tree(tmp_path / "evil.zip")


def test_a_link_then_a_file_through_it_writes_nothing_outside(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("cat")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("cat/x.png"))
    with pytest.raises(UnsafeArchiveError):
        open_tree(archive)
    assert not list(outside.iterdir())


SMALL = Limits(total_bytes=10**6, members=50, ratio=20, ratio_from_bytes=10**5)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_bombs_are_refused_and_leave_nothing(kind, tmp_path):
    def archive(size, count=1):
        members = [(f"cat/{index}.png", b"\0" * size) for index in range(count)]
        target = tmp_path / f"bomb.{kind}"
        if kind == "zip":
            return zip_of(target, members)
        return tar_of(target, members, f"w:{kind[4:]}")

    with pytest.raises(UnsafeArchiveError, match="20 times its packed size"):
        open_tree(archive(200_000), SMALL)
    with pytest.raises(UnsafeArchiveError, match="more than 1,000,000 bytes"):
        open_tree(archive(2_000_000), Limits(total_bytes=10**6, ratio=1e9))
    with pytest.raises(UnsafeArchiveError, match="more than 50 entries"):
        open_tree(archive(1, count=60), SMALL)
    assert not list((cache_root() / "unpacked").glob("*")) or kind == "zip"
    open_tree(archive(2000), SMALL)  # repetitive but small: normal


def test_a_hidden_member_cannot_smuggle_a_bomb(tmp_path):
    archive = tar_of(tmp_path / "b.tar.gz", [(".x", b"\0" * 10**6), ("a/0.png", b"")], "w:gz")
    with pytest.raises(UnsafeArchiveError, match="times its packed size"):
        open_tree(archive, Limits(ratio=20, ratio_from_bytes=10**5))


def test_overlapping_members_count_against_the_whole_archive(tmp_path):
    """Many directory entries for one member: each is modest, together they are not."""
    target = zip_of(tmp_path / "b.zip", [("cat/0.png", os.urandom(1000) * 15)])
    with zipfile.ZipFile(target, "a") as archive:
        first = archive.infolist()[0]
        for index in range(1, 40):
            copy = zipfile.ZipInfo(f"cat/{index}.png")
            for field in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(copy, field, getattr(first, field))
            archive.filelist.append(copy)
        archive._didModify = True
    with pytest.raises(UnsafeArchiveError, match="times its packed size"):
        open_tree(target, SMALL)


def test_a_file_that_is_also_a_folder_is_refused(tmp_path):
    archive = tar_of(tmp_path / "b.tar.gz", [("a", b"x"), ("a/b.png", b"x")], "w:gz")
    with pytest.raises(UnsafeArchiveError, match="a file and a folder at once"):
        open_tree(archive)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_off_archive_is_an_error_and_not_fewer_pictures(pictures, kind, tmp_path):
    archive = pack(pictures, kind, tmp_path / f"p.{kind}")
    whole = archive.read_bytes()
    for share in (0.3, 0.6, 0.9):
        archive.write_bytes(whole[: int(len(whole) * share) // 512 * 512])
        with pytest.raises(DataError):
            open_tree(archive)


def test_a_tar_cut_between_two_members_is_noticed(tmp_path):
    archive = tar_of(tmp_path / "p.tar", [("cat/0.png", b"x"), ("dog/0.png", b"y")])
    archive.write_bytes(archive.read_bytes()[:1024])  # one header and one block of data
    with pytest.raises(DataError, match="end mark is missing"):
        open_tree(archive)


def test_a_damaged_zip_member_is_noticed_when_read(tmp_path):
    target = zip_of(tmp_path / "p.zip", [("cat/0.png", os.urandom(400))])
    data = bytearray(target.read_bytes())
    data[100] ^= 0xFF
    target.write_bytes(data)
    tree = open_tree(target)
    with pytest.raises(DataError, match="damaged zip member"):
        tree.read("cat/0.png")
    tree.close()


def test_encrypted_and_oddly_packed_zips_say_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat/0.png", b"x")
    with pytest.raises(DataError, match="expected stored or deflate"):
        open_tree(tmp_path / "p.zip")


def test_no_thread_needs_another_ones_file_position(pictures, tmp_path):
    tree = open_tree(pack(pictures, "tar", tmp_path / "p.tar"))
    expected = {path: tree.read(path) for path in tree.sizes}
    wrong = []

    def read():
        for _ in range(30):
            wrong.extend(path for path in tree.sizes if tree.read(path) != expected[path])

    many = [threading.Thread(target=read) for _ in range(6)]
    for one in many:
        one.start()
    for one in many:
        one.join()
    tree.close()
    assert not wrong


def test_single_top_folders_are_passed_over_but_not_splits(tmp_path):
    for path in ("a/b/train/cat/0.png", "a/b/train/dog/0.png"):
        (tmp_path / "x" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / path).write_bytes(b"x")
    tree = without_single_top(open_tree(tmp_path / "x"), keep=["train"])
    assert list(tree.sizes) == ["train/cat/0.png", "train/dog/0.png"]
    assert list(without_single_top(open_tree(tmp_path / "x")).sizes) == ["cat/0.png", "dog/0.png"]


def test_a_link_in_a_circle_is_walked_once(tmp_path):
    (tmp_path / "x" / "cat").mkdir(parents=True)
    (tmp_path / "x" / "cat" / "0.png").write_bytes(b"x")
    (tmp_path / "x" / "cat" / "up").symlink_to(tmp_path / "x")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "linked.png").write_bytes(b"y")
    (tmp_path / "x" / "dog").symlink_to(tmp_path / "y")
    assert list(open_tree(tmp_path / "x").sizes) == ["cat/0.png", "dog/linked.png"]


def test_natural_order_counts_as_people_do():
    names = ["b/img10", "b/img2", "a10/x", "a2/x", "B/img1", "img", "2", "10", "b/img02"]
    assert sorted(names, key=natural_key) == [
        "2", "10", "a2/x", "a10/x", "B/img1", "b/img02", "b/img2", "b/img10", "img"
    ]  # fmt: skip


def test_a_plain_member_path_is_tidied():
    assert safe_path("x", "./a//b/./c.png") == "a/b/c.png"
    assert safe_path("x", "a/..b/c...png") == "a/..b/c...png"


def test_a_missing_path_names_its_neighbours(tmp_path):
    (tmp_path / "flowers").mkdir()
    with pytest.raises(DataError, match="did you mean 'flowers'"):
        open_source("auto", str(tmp_path / "flower"))
    with pytest.raises(DataError, match="did you mean 'flowers'"):
        open_source("auto", str(tmp_path / "flower" / "deep" / "er"))


def test_a_file_that_is_no_archive_says_what_was_expected(tmp_path):
    (tmp_path / "x.dat").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"expected a folder, or a \.zip"):
        open_source("auto", str(tmp_path / "x.dat"))

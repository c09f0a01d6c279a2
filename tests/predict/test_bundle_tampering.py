"""A bundle that was changed, cut off or made to do harm is refused, and nothing of it is read."""

import io
import json
import os
import pickle
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_bundles import picture, trained, write_tiny

from headstart._util.hashing import digest_bytes
from headstart.errors import BundleError, WeightsError
from headstart.predict import load_bundle, verify_bundle
from headstart.predict.bundle_files import MANIFEST, SEAL

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``b`` and a zip ``b.headstart`` of the same bundle."""
    place = tmp_path_factory.mktemp("whole")
    network = trained()
    for name in ("b", "b.headstart"):
        write_tiny(place / name, [picture(0)], network)
    return place


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole / "b", tmp_path / "b"))


def refused(path: Path, match: str) -> None:
    """Both ways of opening refuse it, with one error that names the bundle."""
    for opened in (verify_bundle, load_bundle):
        with pytest.raises(BundleError, match=match) as caught:
            opened(path)
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, WeightsError)


def sealed_again(folder: Path, change: Callable[[dict], object] | None = None) -> None:
    """What somebody does who knows the format: list and seal what is there now."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {
            "sha256": digest_bytes(path.read_bytes()),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, SEAL)
    }
    if change is not None:
        change(manifest)
    data = json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(data)
    (folder / SEAL).write_text(digest_bytes(data) + "\n")


def rezip(folder: Path, path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for one in sorted(folder.rglob("*")):
            if one.is_file():
                archive.write(one, one.relative_to(folder).as_posix())
    return path


def test_one_changed_byte_in_any_file_is_found(folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert {p.name for p in files} >= {MANIFEST, SEAL, "README.md", "model.json", "samples.json"}
    for path in files:
        kept = path.read_bytes()
        for place in {0, len(kept) // 2, len(kept) - 2}:
            path.write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
            with pytest.raises(BundleError, match=r"damaged or was changed|no JSON"):
                verify_bundle(folder)
        path.write_bytes(kept[:-1])
        with pytest.raises(BundleError):
            verify_bundle(folder)
        path.unlink()
        with pytest.raises(BundleError, match=r"missing|there is no bundle\.json"):
            verify_bundle(folder)
        path.write_bytes(kept)
    verify_bundle(folder)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_zip_with_any_byte_changed_or_cut_off_is_refused_or_holds_the_same(
    whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    kept = (whole / "b.headstart").read_bytes()
    # The last kilobytes are the zip's directory: half of the changes go there.
    directory = data.draw(st.booleans())
    at = data.draw(st.integers(len(kept) - 1500 if directory else 0, len(kept) - 1))
    changed = kept[:at] + bytes([kept[at] ^ data.draw(st.integers(1, 255))]) + kept[at + 1 :]
    if data.draw(st.integers(0, 4)) == 0:
        changed = kept[:at]
    path = tmp_path / "changed.headstart"
    path.write_bytes(changed)
    try:
        info = verify_bundle(path)  # a date in the directory, say, is no content
    except BundleError:
        return
    assert info == verify_bundle(whole / "b.headstart")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("weights.pkl", pickle.dumps({"a": 1})),
        ("model.pth", pickle.dumps({"a": 1})),
        ("code.py", b"print(1)"),
        ("run", b"#!/bin/sh"),
        ("samples/a.SVG", b"<svg/>"),
    ],
)
def test_a_kind_of_file_that_no_bundle_holds_is_refused_though_it_is_listed(
    folder: Path, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    refused(folder, "is not in bundle.json")
    sealed_again(folder)
    refused(folder, "of a kind that no bundle holds")


class Exploit:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("victim", ["model.safetensors", "model.json", "samples/samples.json"])
def test_a_pickle_under_another_name_is_never_run(
    folder: Path, tmp_path: Path, victim: str
) -> None:
    (folder / victim).write_bytes(pickle.dumps(Exploit(tmp_path / "ran")))
    sealed_again(folder)
    with pytest.raises(BundleError), load_bundle(folder) as bundle:
        bundle.stored_samples()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "/etc/out.txt", "a/../../out.txt", "a\\b.txt", "C:x.txt", "a//b.txt", "./a.txt"],
)
def test_a_listed_path_that_leads_out_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "out.txt").write_text("x")
    about = {"sha256": digest_bytes(b"x"), "bytes": 1}
    sealed_again(folder, lambda manifest: manifest["files"].update({name: about}))
    refused(folder, "is no path inside a bundle")


@pytest.mark.parametrize("target", ["model.safetensors", "outside"])
def test_links_are_refused_wherever_they_lead(folder: Path, target: str) -> None:
    if target == "outside":
        shutil.move(folder / "model.json", folder.parent / "model.json")
        (folder / "model.json").symlink_to(folder.parent / "model.json")
    else:
        (folder / "more.safetensors").symlink_to(target)
    refused(folder, "is a link")


def test_a_linked_folder_is_refused(folder: Path) -> None:
    shutil.move(folder / "samples", folder.parent / "samples")
    (folder / "samples").symlink_to(folder.parent / "samples")
    refused(folder, "samples is a link")


def test_a_zip_whose_own_checksums_fit_what_was_changed_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    """Zipped again after the change: only the manifest knows."""
    for name in ("model.safetensors", "model.json", "samples/000.png"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept[:-3] + bytes([kept[-3] ^ 1]) + kept[-2:])
        refused(rezip(folder, tmp_path / "changed.headstart"), f"{name} is damaged or was changed")
        (folder / name).write_bytes(kept)


def test_a_zip_that_would_write_elsewhere_writes_nothing(folder: Path, tmp_path: Path) -> None:
    for name in ("../evil.txt", "/tmp/evil-headstart.txt", "a\\..\\evil.txt"):
        path = rezip(folder, tmp_path / "slip.headstart")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"evil")
        refused(path, "is no path inside a bundle")
    assert not (tmp_path / "evil.txt").exists()
    assert not Path("/tmp/evil-headstart.txt").exists()


def test_a_zip_with_a_link_or_a_name_twice_is_refused(folder: Path, tmp_path: Path) -> None:
    path = rezip(folder, tmp_path / "link.headstart")
    link = zipfile.ZipInfo("samples/link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(path, "is a link")
    path = rezip(folder, tmp_path / "twice.headstart")
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(path, "a") as archive,
    ):
        archive.writestr("model.json", b"{}")
    refused(path, "is there twice")


def test_a_zip_bomb_is_refused_before_it_fills_the_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 200 * 2**20
    (folder / "more.txt").write_bytes(bytes(size))
    sealed_again(folder)
    (folder / "model.safetensors").write_bytes(b"")  # so that the zip is small
    path = rezip(folder, tmp_path / "bomb.headstart", zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    shutil.rmtree(folder)
    written = []
    monkeypatch.setattr("headstart.predict.bundle_files._copy", lambda *a: written.append(a))
    refused(path, "made to fill the disk")
    assert not written


def test_a_member_that_holds_more_than_it_says_stops_there(folder: Path, tmp_path: Path) -> None:
    """The manifest says 10 bytes, and the zip's directory too; the stream holds a megabyte."""
    (folder / "more.txt").write_bytes(b"0" * 2**20)
    sealed_again(
        folder,
        lambda m: m["files"].update({"more.txt": {"sha256": digest_bytes(b"0" * 10), "bytes": 10}}),
    )
    path = rezip(folder, tmp_path / "liar.headstart", zipfile.ZIP_DEFLATED)
    refused(path, "damaged or was changed")
    data = path.read_bytes()
    # Both of the zip's own records of the size are made to say 10.
    path.write_bytes(data.replace(struct.pack("<L", 2**20), struct.pack("<L", 10)))
    refused(path, "damaged")


def test_a_folder_zipped_by_hand_opens_too(folder: Path, tmp_path: Path, whole: Path) -> None:
    path = rezip(folder, tmp_path / "by-hand.headstart", zipfile.ZIP_DEFLATED)
    assert verify_bundle(path) == verify_bundle(whole / "b")


def test_newer_and_unknown_formats_say_what_to_do(folder: Path) -> None:
    sealed_again(folder, lambda m: m.update({"format_version": 2, "headstart": "9.9.0"}))
    refused(folder, "written by Headstart 9.9.0 in format 2, .*: update Headstart")
    sealed_again(folder, lambda m: m.update({"format_version": "1"}))
    refused(folder, "has no format_version")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a", "b"]},
        {"goal": "regression"},
        {"task": "text"},
        {"network": {"engine": "python", "precision": "float32"}},
        {"network": None},
        {"metrics": 3},
        {"tolerance": "large"},
        {"voting": {"voting": "soft", "members": ["../a", "b"], "weights": [1, 1]}},
        {"voting": {"voting": "soft", "members": ["a"], "weights": []}},
        {"backbones": None},
        {"files": {}},
        {"files": {"model.json": {"sha256": "x", "bytes": 1}}},
    ],
)
def test_a_manifest_that_says_what_is_not_so_is_one_clear_error(
    folder: Path, change: dict[str, object]
) -> None:
    sealed_again(folder, lambda manifest: manifest.update(change))
    refused(folder, "bundle.json|model.json")


def test_a_manifest_that_is_no_json_is_one_clear_error(folder: Path) -> None:
    for content in (b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format_version": true}'):
        (folder / MANIFEST).write_bytes(content)
        (folder / SEAL).write_text(digest_bytes(content) + "\n")
        with pytest.raises(BundleError, match=r"bundle\.json"):
            verify_bundle(folder)


def test_other_weights_than_the_network_has_are_refused(folder: Path) -> None:
    import safetensors.torch

    path = folder / "model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    first = next(name for name in sorted(tensors) if tensors[name].ndim)
    for changed in (
        {k: t for k, t in tensors.items() if k != first},
        {**tensors, first: tensors[first][..., :1].contiguous()},
        {k: t for k, t in tensors.items() if not k.startswith("head.")},
    ):
        path.write_bytes(safetensors.torch.save(changed))
        sealed_again(folder)
        with pytest.raises(BundleError, match="the network cannot be built"):
            load_bundle(folder)


def test_what_lies_around_a_zip_is_no_zip(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.headstart"
    path.write_bytes((whole / "b.headstart").read_bytes()[:-200])
    refused(path, "no zip, or cut off")
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    path.write_bytes(buffer.getvalue())
    refused(path, "headstart bundle RUN")

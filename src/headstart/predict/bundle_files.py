"""The files of a bundle: a folder or a zip that holds what its manifest lists, and nothing else.

    bundle.json     the manifest; lists every other file with its size and SHA-256
    bundle.sha256   SHA-256 of bundle.json

Nothing of a bundle is believed before it has been compared with the manifest. That says that the
files belong together and arrived whole, not who made them.
"""

import hashlib
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from headstart._util import files
from headstart._util.hashing import digest_bytes, digest_file
from headstart.errors import BundleError
from headstart.predict.placing import new_file
from headstart.predict.strict_json import parse_json
from headstart.types import JsonDict

FORMAT_VERSION = 1
_READS = (1,)  # versions that this Headstart reads

MANIFEST = "bundle.json"
SEAL = "bundle.sha256"
ZIP_SUFFIX = ".headstart"

_SUFFIXES = (
    *(".json", ".md", ".safetensors", ".onnx", ".xml", ".bin", ".txt"),
    *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
    *(".pgm", ".ppm", ".pbm", ".pnm"),
)
_MANIFEST_BYTES = 64 * 2**20
_MOST_FILES = 10_000
_CHUNK = 2**20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Weights hardly shrink: what grows more than this when unpacked was made to fill the disk.
_MOST_GROWTH = 20
_SMALL = 16 * 2**20  # bytes that are no danger whatever they grew from
_DIGEST = re.compile(r"[0-9a-f]{64}")
_AGAIN = "get it again, or write it again with `headstart bundle`"


@dataclass(frozen=True, slots=True)
class Listed:
    """What a manifest says of one file.

    Attributes:
        sha256: Digest of its content, 64 hex digits.
        size: Bytes.
    """

    sha256: str
    size: int


def check_folder(folder: Path) -> JsonDict:
    """Make sure that a folder is a bundle and that nothing in it was changed.

    Args:
        folder: The folder.

    Returns:
        The manifest.

    Raises:
        BundleError: A file is missing, was changed or does not belong there; it is named.
    """
    try:
        if not (folder / MANIFEST).is_file():
            raise BundleError(_no_bundle(folder))
        found = dict(_walk(folder))
        manifest = _manifest(folder, _read(folder, MANIFEST, found), _read(folder, SEAL, found))
        listed = listed_files(folder, manifest)
        _check_names(folder, set(found), set(listed))
        for name, one in listed.items():
            if found[name] != one.size:
                raise _changed(folder, name, f"{one.size:,} bytes", f"{found[name]:,}")
            got = digest_file(folder / name)
            if got != one.sha256:
                raise _changed(folder, name, f"SHA-256 {one.sha256[:12]}…", f"{got[:12]}…")
    except OSError as error:
        raise BundleError(f"{folder}: expected a bundle, but {error}") from error
    return manifest


def unpack(path: Path, folder: Path) -> JsonDict:
    """Unpack a zipped bundle into an empty folder, checking everything on the way.

    Args:
        path: The zip.
        folder: Where to; it is there and empty.

    Returns:
        The manifest.

    Raises:
        BundleError: The zip is damaged or not a bundle, or holds what no bundle may.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            head = {name: _small(path, archive, members, name) for name in (MANIFEST, SEAL)}
            manifest = _manifest(path, head[MANIFEST], head[SEAL])
            listed = listed_files(path, manifest)
            _check_names(path, set(members), set(listed))
            _check_growth(path, sum(one.size for one in listed.values()))
            for name, data in head.items():
                (folder / name).write_bytes(data)
            for name, one in listed.items():
                if members[name].file_size != one.size:
                    got = f"{members[name].file_size:,}"
                    raise _changed(path, name, f"{one.size:,} bytes", got)
                target = folder.joinpath(*name.split("/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(members[name]) as source, target.open("xb") as file:
                    _copy(path, name, source, file, one)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise BundleError(f"{path}: damaged or cut off ({error}): {_AGAIN}") from error
    except (OSError, RuntimeError, ValueError, zlib.error) as error:
        # What zipfile and zlib raise for fields and streams that no zip has.
        raise BundleError(f"{path}: expected a bundle, but {error}: {_AGAIN}") from error
    return manifest


def is_zip(path: Path) -> bool:
    """Return whether a path is a zipped bundle, and no folder.

    Args:
        path: The path that a user named.

    Returns:
        Whether to unpack it.

    Raises:
        BundleError: It is neither a file nor a folder.
    """
    if path.is_dir():
        return False
    if not path.is_file():
        raise BundleError(
            f"{path}: expected a bundle (a folder with {MANIFEST}, or a {ZIP_SUFFIX} file), and "
            "there is nothing of that name"
        )
    if not zipfile.is_zipfile(path):
        raise BundleError(
            f"{path}: expected a zipped bundle, and it is no zip, or cut off: {_AGAIN}"
        )
    return True


def seal(folder: Path, manifest: JsonDict) -> None:
    """List a folder's files in a manifest and write it: what is a bundle from then on.

    Args:
        folder: Everything but the manifest and its digest.
        manifest: All keys but ``files`` and ``format_version``.
    """
    listed = {
        name: {"sha256": digest_file(folder / name), "bytes": size}
        for name, size in sorted(_walk(folder))
    }
    whole = {"format_version": FORMAT_VERSION, **manifest, "files": listed}
    listed_files(folder, whole)
    data = (json.dumps(whole, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    files.write_bytes(folder / MANIFEST, data)
    files.write_bytes(folder / SEAL, f"{digest_bytes(data)}\n".encode())


def pack(folder: Path, target: Path) -> None:
    """Zip a bundle's folder, the manifest first: the same files give the same bytes.

    Args:
        folder: The bundle.
        target: The zip; it is there whole, or not at all.

    Raises:
        ConfigError: There is something of that name, which is left as it is.
    """
    names = sorted(name for name, _ in _walk(folder))
    order = [MANIFEST, SEAL, *(name for name in names if name not in (MANIFEST, SEAL))]
    with new_file(target) as file, zipfile.ZipFile(file, "w") as archive:
        for name in order:
            about = zipfile.ZipInfo(name)  # of 1980, stored: weights do not shrink
            about.external_attr = 0o644 << 16
            about.file_size = (folder / name).stat().st_size  # says whether it needs zip64
            with (folder / name).open("rb") as source, archive.open(about, "w") as member:
                while chunk := source.read(_CHUNK):
                    member.write(chunk)


def listed_files(origin: Path, manifest: JsonDict) -> dict[str, Listed]:
    """Return what a manifest lists.

    Args:
        origin: The bundle, for messages.
        manifest: Its content.

    Returns:
        Each file by its path inside the bundle.

    Raises:
        BundleError: A path leads out of the bundle or is of a kind that no bundle holds.
    """
    raw = manifest.get("files")
    if not isinstance(raw, Mapping) or not 0 < len(raw) <= _MOST_FILES:
        raise BundleError(f"{origin}: {MANIFEST} lists no files, or far too many: {_AGAIN}")
    listed = {}
    for name, about in raw.items():
        _check_name(origin, name)
        match about:
            case {"sha256": str(digest), "bytes": int(size)} if _DIGEST.fullmatch(digest):
                listed[name] = Listed(digest, size)
            case _:
                raise BundleError(
                    f"{origin}: {MANIFEST}: expected sha256 and bytes of {name}, got {about!r:.80}"
                )
    return listed


def _manifest(origin: Path, data: bytes, sealed: bytes) -> JsonDict:
    got = digest_bytes(data)
    if sealed != f"{got}\n".encode():
        expected = ascii(sealed.decode("ascii", "replace"))
        raise _changed(origin, MANIFEST, f"SHA-256 {expected:.12}… ({SEAL})", f"{got[:12]}…")
    try:
        manifest = parse_json(data)
    except ValueError as error:
        raise BundleError(f"{origin}: {MANIFEST} is no JSON ({error}): {_AGAIN}") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or not isinstance(version, int):
        raise BundleError(f"{origin}: {MANIFEST} has no format_version: it is no bundle's manifest")
    if version not in _READS:
        writer = f"Headstart {manifest.get('headstart', '')}".strip()
        raise BundleError(
            f"{origin}: written by {writer} in format {version}, and this one reads format "
            f"{', '.join(map(str, _READS))}: "
            + ("update Headstart" if version > max(_READS) else "use the version that wrote it")
        )
    return manifest


def _check_name(origin: Path, name: str) -> None:
    parts = name.split("/")
    plain = not any(part in ("", ".", "..") or part[-1] in ". " for part in parts)
    if not plain or "\\" in name or ":" in name or not name.isprintable() or len(name) > 300:
        raise BundleError(
            f"{origin}: {name!r:.80} is no path inside a bundle: do not use this bundle, it was "
            "made to write or read elsewhere"
        )
    if name in (MANIFEST, SEAL) or PurePosixPath(name).suffix.lower() not in _SUFFIXES:
        raise BundleError(
            f"{origin}: {name} is of a kind that no bundle holds ({', '.join(_SUFFIXES)}): "
            "nothing of it was read"
        )


def _check_names(origin: Path, found: set[str], listed: set[str]) -> None:
    missing = sorted(listed - found)
    if missing:
        raise BundleError(f"{origin}: {missing[0]} is missing: {_AGAIN}")
    more = sorted(found - listed - {MANIFEST, SEAL})
    if more:
        raise BundleError(
            f"{origin}: {more[0]!r} is not in {MANIFEST}: a bundle holds nothing else; remove the "
            "file if you put it there, or get the bundle again"
        )


def _walk(folder: Path, inside: str = "") -> Iterator[tuple[str, int]]:
    """Yield path and size of each file; nothing is followed out of the folder."""
    with os.scandir(folder / inside) as entries:
        for entry in entries:
            name = f"{inside}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, f"{name}/")
            elif entry.is_file(follow_symlinks=False):
                yield name, entry.stat(follow_symlinks=False).st_size
            else:
                raise BundleError(
                    f"{folder}: {name} is a link or a special file, which no bundle holds: copy "
                    "the file itself"
                )


def _read(folder: Path, name: str, found: Mapping[str, int]) -> bytes:
    if name not in found:
        raise BundleError(f"{folder}: {name} is missing: {_AGAIN}")
    if found[name] > _MANIFEST_BYTES:
        raise BundleError(f"{folder}: {name} has {found[name]:,} bytes, far too many: {_AGAIN}")
    return (folder / name).read_bytes()


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.orig_filename
        if name not in (MANIFEST, SEAL):
            _check_name(path, name)
        if name in members:
            raise BundleError(f"{path}: {name} is there twice: do not use this bundle")
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise BundleError(f"{path}: {name} is a link or a special file: do not use this bundle")
        if member.flag_bits & 0x1:
            raise BundleError(f"{path}: {name} is encrypted: unpack it and use the folder")
        if member.compress_type not in _PACKED:
            raise BundleError(
                f"{path}: {name} is packed in a way that no bundle is (stored and deflated are "
                "read): unpack it and use the folder"
            )
        members[name] = member
        if len(members) > _MOST_FILES + 2:
            raise BundleError(f"{path}: more than {_MOST_FILES:,} files: this is no bundle")
    return members


def _small(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str
) -> bytes:
    if name not in members:
        raise BundleError(_no_bundle(path))
    with archive.open(members[name]) as file:
        data = file.read(_MANIFEST_BYTES + 1)
    if len(data) > _MANIFEST_BYTES:
        raise BundleError(f"{path}: {name} is far too large for a manifest: do not use this bundle")
    return data


def _check_growth(path: Path, total: int) -> None:
    packed = path.stat().st_size
    if total > max(_MOST_GROWTH * packed, _SMALL):
        raise BundleError(
            f"{path}: {packed:,} bytes that would become {total:,} when unpacked: that is no "
            "bundle of weights but made to fill the disk"
        )


def _copy(path: Path, name: str, source: IO[bytes], target: IO[bytes], one: Listed) -> None:
    """Copy a member that has exactly the bytes that were listed."""
    hasher, left = hashlib.sha256(), one.size
    while chunk := source.read(min(_CHUNK, left + 1)):  # one byte more tells of all more
        left -= len(chunk)
        hasher.update(chunk)
        target.write(chunk)
    if left or hasher.hexdigest() != one.sha256:
        raise _changed(path, name, f"SHA-256 {one.sha256[:12]}…", "other content")


def _changed(origin: Path, name: str, expected: str, got: str) -> BundleError:
    return BundleError(
        f"{origin}: {name} is damaged or was changed: expected {expected}, got {got}: {_AGAIN}"
    )


def _no_bundle(path: Path) -> str:
    return (
        f"{path}: expected a bundle, and there is no {MANIFEST} at its top: make one of a finished "
        "run with `headstart bundle RUN`"
    )

"""Archives read in place as trees of files, after a check that they are harmless."""

import binascii
import contextlib
import os
import re
import stat
import struct
import tarfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from headstart.data.tree import DirectoryTree, Tree, ignored, in_natural_order
from headstart.errors import DataError, UnsafeArchiveError, nearest

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
"""How compressed files begin."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may cost before it is taken for a bomb.

    Attributes:
        total_bytes: All files together, unpacked.
        members: Entries of any kind.
        ratio: Unpacked bytes per packed byte …
        ratio_from_bytes: … once this many bytes are unpacked: small repetitive files are normal.
    """

    total_bytes: int = 50 * 2**30
    members: int = 5_000_000
    ratio: float = 200.0
    ratio_from_bytes: int = 100 * 2**20

    def check(self, archive: str, name: str, unpacked: int, packed: int) -> None:
        """Refuse an archive that has grown too large.

        Args:
            archive: The archive, for the message.
            name: The member at which the sum was reached.
            unpacked: Bytes unpacked so far, or as announced.
            packed: Bytes they take in the archive.

        Raises:
            UnsafeArchiveError: The total or the ratio is above its limit.
        """
        if unpacked > self.total_bytes:
            raise UnsafeArchiveError(
                f"{archive}: more than {self.total_bytes:,} bytes when unpacked (reached at "
                f"{name!r}); if you trust it, unpack it yourself and give the folder"
            )
        if unpacked > self.ratio_from_bytes and unpacked > self.ratio * max(packed, 1):
            raise UnsafeArchiveError(
                f"{archive}: {name!r} unpacks to more than {self.ratio:.0f} times its packed size, "
                "as an archive made to fill a disk does; if you trust it, unpack it yourself and "
                "give the folder"
            )

    def check_count(self, archive: str, count: int) -> None:
        """Refuse an archive with too many entries.

        Args:
            archive: The archive, for the message.
            count: Entries so far.

        Raises:
            UnsafeArchiveError: There are more than `members`.
        """
        if count > self.members:
            raise UnsafeArchiveError(
                f"{archive}: more than {self.members:,} entries; if you trust it, unpack it "
                "yourself and give the folder"
            )


def open_tree(path: Path, limits: Limits | None = None) -> Tree:
    """Open a folder or an archive as a tree of files.

    Zip files and uncompressed tar files are read in place; ``.tar.gz``, ``.tar.bz2`` and
    ``.tar.xz`` are unpacked once into Headstart's cache. What a file is, its first bytes say.

    Args:
        path: The folder or the archive.
        limits: When to take an archive for a bomb; the defaults of `Limits` where None.

    Returns:
        The tree; close it when done.

    Raises:
        DataError: There is nothing at `path`, or it is no folder and no archive, or a damaged
            one; an `UnsafeArchiveError` if it holds absolute paths, ``..``, links, devices or
            far too much.
    """
    limits = limits or Limits()
    if path.is_dir():
        return DirectoryTree(path)
    if not path.is_file():
        raise missing(path)
    with path.open("rb") as file:
        head = file.read(512)
    if any(head.startswith(magic) for magic in COMPRESSED):
        from headstart.data.unpack import unpacked

        return DirectoryTree(unpacked(path, limits), origin=str(path))
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZipTree(path, limits)
    if head[257:262] == b"ustar" or path.suffix.lower() == ".tar":
        return TarTree(path, limits)
    raise DataError(
        f"{path}: expected a folder, or a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive; "
        f"this file begins with {head[:12]!r}"
    )


def missing(path: Path) -> DataError:
    """Return the error for a path that is not there, with the nearest names that are."""
    message = f"{path}: there is no such folder or file"
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    wanted = path.relative_to(parent).parts[0] if path != parent else path.name
    with contextlib.suppress(OSError):
        names = sorted(entry.name for entry in parent.iterdir() if not ignored(entry.name))
        hint = nearest(wanted, names)
        if hint:
            message += f"; in {parent}: {hint}"
    return DataError(message)


def safe_path(archive: str, name: str) -> str:
    """Return a member's path in plain form, or refuse it.

    Args:
        archive: The archive, for the message.
        name: The member's name as the archive has it.

    Returns:
        The path with single slashes and without ``.`` parts; empty for the root itself.

    Raises:
        UnsafeArchiveError: The path is absolute, has a drive letter, or holds ``..``.
    """
    # Backslashes count as separators for the check, since they are on Windows.
    if re.match(r"[/\\]|[A-Za-z]:", name) or "\0" in name:
        raise UnsafeArchiveError(f"{archive}: the member {name!r} has an absolute path")
    if ".." in re.split(r"[/\\]", name):
        raise UnsafeArchiveError(f"{archive}: the member {name!r} points outside with '..'")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{archive}: the member name {name!a} is not valid UTF-8") from error
    return "/".join(part for part in name.split("/") if part not in ("", "."))


class ZipTree:
    """A zip file, read in place; each member's CRC is checked."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.origin = str(path)
        self._members: dict[str, zipfile.ZipInfo] = {}
        packed = path.stat().st_size
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise DataError(f"{path}: damaged zip file: {error}") from error
        limits.check_count(self.origin, len(entries))
        total = 0
        for entry in entries:
            name = safe_path(self.origin, entry.filename.replace("\\", "/"))
            self._refuse(entry)
            total += entry.file_size
            # Against the whole archive too: members may overlap each other.
            limits.check(self.origin, entry.filename, total, packed)
            limits.check(self.origin, entry.filename, entry.file_size, entry.compress_size)
            if not entry.is_dir() and not ignored(name):
                self._members[name] = entry
        self.sizes: Mapping[str, int] = in_natural_order(
            {name: entry.file_size for name, entry in self._members.items()}
        )
        self._file = _SharedFile(path)

    def _refuse(self, entry: zipfile.ZipInfo) -> None:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeArchiveError(
                f"{self.origin}: the member {entry.filename!r} is a link or a device"
            )
        if entry.flag_bits & 0x1:
            raise DataError(f"{self.origin}: the member {entry.filename!r} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{self.origin}: the member {entry.filename!r} is packed with method "
                f"{entry.compress_type}; expected stored or deflate: pack it again, or unpack it"
            )

    def read(self, path: str) -> bytes:
        """Return one file's content."""
        entry = self._members[path]
        # The local header repeats the name, and may have another extra field than the directory.
        header = self._file.read_at(entry.header_offset, 30)
        if not header.startswith(b"PK\x03\x04"):
            raise DataError("damaged zip file: no member where its directory says")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        start = entry.header_offset + 30 + name_length + extra_length
        data = self._file.read_at(start, entry.compress_size)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            try:
                # Not a byte more than announced: the announced size was checked.
                data = zlib.decompressobj(-15).decompress(data, entry.file_size + 1)
            except zlib.error as error:
                raise DataError(f"damaged zip member: {error}") from error
        if len(data) != entry.file_size or binascii.crc32(data) != entry.CRC:
            raise DataError("damaged zip member: its length or checksum is wrong")
        return data

    def place(self, path: str) -> str | None:
        """Return None: what lies in an archive is no file of its own."""
        del path
        return None

    def close(self) -> None:
        """Close the zip file."""
        self._file.close()


class TarTree:
    """An uncompressed tar file, read in place by the members' offsets."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.origin = str(path)
        self._spans: dict[str, tuple[int, int]] = {}
        end = path.stat().st_size
        with contextlib.closing(_open_tar(path)) as archive:
            for count, member in enumerate(tar_members(archive, self.origin), start=1):
                limits.check_count(self.origin, count)
                name = safe_path(self.origin, member.name)
                if member.isdir() or not name or ignored(name):
                    continue
                if member.offset_data + member.size > end:
                    raise DataError(f"{path}: the archive is cut off inside {member.name!r}")
                self._spans[name] = (member.offset_data, member.size)
        self.sizes: Mapping[str, int] = in_natural_order(
            {name: size for name, (_, size) in self._spans.items()}
        )
        self._file = _SharedFile(path)
        # tarfile takes a file that was cut between two members for whole; the two blocks of
        # zeros at every tar's end would be missing.
        if end < 1024 or self._file.read_at(end - 1024, 1024).strip(b"\0"):
            self.close()
            raise DataError(f"{path}: the archive is cut off: its end mark is missing")

    def read(self, path: str) -> bytes:
        """Return one file's content."""
        return self._file.read_at(*self._spans[path])

    def place(self, path: str) -> str | None:
        """Return None: what lies in an archive is no file of its own."""
        del path
        return None

    def close(self) -> None:
        """Close the tar file."""
        self._file.close()


def _open_tar(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: damaged tar file: {error}") from error


def tar_members(archive: tarfile.TarFile, origin: str) -> Iterator[tarfile.TarInfo]:
    """Go through the members of an open tar file, refusing what is neither file nor folder.

    Args:
        archive: The open archive.
        origin: Its path, for messages.

    Yields:
        Plain files and folders.

    Raises:
        DataError: The archive is damaged or cut off; an `UnsafeArchiveError` for a link, a
            device, a pipe or a sparse file.
    """
    while True:
        try:
            member = archive.next()
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
            raise DataError(f"{origin}: damaged tar file: {error}") from error
        if member is None:
            return
        if not (member.isreg() or member.isdir()) or member.issparse():
            raise UnsafeArchiveError(
                f"{origin}: the member {member.name!r} is a link, a device or a sparse file; "
                "only plain files and folders are read"
            )
        yield member
        # tarfile remembers every member; a long archive would fill the memory for nothing.
        archive.members = []  # type: ignore[attr-defined]


class _SharedFile:
    """Reads at any offset from several threads at once; closed with its owner at the latest."""

    def __init__(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._handle = handle
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, os.close, handle)

    def read_at(self, offset: int, size: int) -> bytes:
        if not self.close.alive:
            raise DataError("the archive was closed")
        parts: list[bytes] = []
        while size > 0:  # one call may give less than was asked for
            if hasattr(os, "pread"):
                data = os.pread(self._handle, size, offset)
            else:
                with self._lock:
                    os.lseek(self._handle, offset, os.SEEK_SET)
                    data = os.read(self._handle, size)
            if not data:
                raise DataError("the archive is cut off")
            parts.append(data)
            offset += len(data)
            size -= len(data)
        return b"".join(parts)

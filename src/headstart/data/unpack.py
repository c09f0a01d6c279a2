"""Compressed tar files, unpacked once into Headstart's cache."""

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO

from headstart._util.files import cache_root
from headstart._util.hashing import digest_file
from headstart.data.archive import COMPRESSED, Limits, safe_path, tar_members
from headstart.data.tree import ignored
from headstart.errors import DataError, UnsafeArchiveError

_CHUNK_BYTES = 2**20
# tarfile reads a header extension (a long name) in one go: none that is honest is this long.
_LONGEST_READ = 16 * 2**20


def unpacked(path: Path, limits: Limits) -> Path:
    """Return the folder of a compressed tar's files, unpacking it if that was not done before.

    The folder is named by the archive's content, appears only when it is complete, and holds
    plain files only: everything is written by this function, nothing by the archive's wishes.

    Args:
        path: A ``.tar.gz``, ``.tar.bz2`` or ``.tar.xz`` file.
        limits: When to take it for a bomb.

    Returns:
        A folder under ``unpacked/`` in Headstart's cache.

    Raises:
        DataError: The archive is damaged, or there is no room; an `UnsafeArchiveError` if it
            holds what it must not.
    """
    target = cache_root() / "unpacked" / digest_file(path)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
    try:
        with contextlib.closing(_Counted(path, limits)) as stream:
            _extract(path, stream, temporary / "files", limits)
        try:
            os.rename(temporary / "files", target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same content
                raise
    except OSError as error:
        raise DataError(f"{path}: cannot be unpacked into {target.parent}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _extract(path: Path, stream: "_Counted", folder: Path, limits: Limits) -> None:
    origin = str(path)
    folder.mkdir()
    with contextlib.closing(_open_tar(path, stream)) as archive:
        for count, member in enumerate(tar_members(archive, origin), start=1):
            limits.check_count(origin, count)
            stream.member = member.name
            name = safe_path(origin, member.name)
            if member.isdir() or not name or ignored(name):
                continue
            target = folder / name
            content = archive.extractfile(member)
            assert content is not None, "tar_members gives plain files and folders only"
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file, _CHUNK_BYTES)
            except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
                raise UnsafeArchiveError(
                    f"{path}: the member {member.name!r} is a file and a folder at once"
                ) from error
            except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
                raise DataError(f"{path}: damaged inside {member.name!r}: {error}") from error


def _open_tar(path: Path, stream: "_Counted") -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload, no-any-return]
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: expected a compressed tar archive: {error}") from error


class _Counted:
    """A decompressed stream that stops when more comes out than the limits allow."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._packed = path.stat().st_size
        self._stream = _decompressed(path)
        self.member = "the first member"

    def read(self, size: int) -> bytes:
        if size > _LONGEST_READ:
            raise UnsafeArchiveError(
                f"{self._path}: a header of {size:,} bytes near {self.member!r}"
            )
        data = self._stream.read(size)
        self._check()
        return data

    def seek(self, position: int) -> int:
        # Forwards, in steps: a skipped member of hidden files is decompressed too.
        while (left := position - self._stream.tell()) > _CHUNK_BYTES:
            if not self._stream.read(_CHUNK_BYTES):
                return self._stream.tell()
            self._check()
            del left
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()

    def _check(self) -> None:
        self._limits.check(str(self._path), self.member, self._stream.tell(), self._packed)


def _decompressed(path: Path) -> BinaryIO | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    with path.open("rb") as file:
        head = file.read(8)
    kind = next(name for magic, name in COMPRESSED.items() if head.startswith(magic))
    if kind == "gzip":
        return gzip.open(path, "rb")
    if kind == "bzip2":
        return bz2.open(path, "rb")
    return lzma.open(path, "rb")

"""One shard: a plain ``.npy`` file of rows, and a JSON sidecar that makes it count.

    <id>.npy    the rows, C order, [rows, *shape], float32 or float16; can be memory-mapped
    <id>.json   digests of the samples in the order of the rows, checksum, engine, versions

The sidecar is written last. A data file without one is the rest of an interrupted write: it does
not exist for readers, and the next writer removes it.
"""

import contextlib
import datetime
import hashlib
import io
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart._util import files
from headstart.errors import StoreError
from headstart.features.key import Dtype
from headstart.types import FloatArray

MEND = (
    "run 'headstart cache prune --damaged', then repeat your command: "
    "only this shard's pictures are extracted again"
)

_VERSIONED = ("headstart", "numpy", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class Shard:
    """What a sidecar says of its data file.

    Attributes:
        path: The ``.npy`` file.
        digests: SHA-256 of the encoded bytes of each row's picture.
        shape: Shape of one row.
        dtype: How numbers are stored.
        size_bytes: Size of the whole ``.npy`` file.
        sha256: Checksum of the whole ``.npy`` file.
        engine: Name of the engine that computed the rows.
        created: ISO time, UTC.
    """

    path: Path
    digests: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: Dtype
    size_bytes: int
    sha256: str
    engine: str
    created: str


def read_shard(sidecar: Path) -> Shard:
    """Read a sidecar, and check that its data file is there and has the right size.

    Args:
        sidecar: The ``.json`` file.

    Returns:
        The shard; its data has not been read.

    Raises:
        StoreError: The sidecar cannot be understood, or the data file is missing, cut off or has
            grown; the message says how to mend it.
    """
    path = sidecar.with_suffix(".npy")
    try:
        record = files.read_json(sidecar)
        shard = Shard(
            path=path,
            digests=tuple(record["samples"]),
            shape=tuple(int(size) for size in record["shape"]),
            dtype=record["dtype"],
            size_bytes=int(record["size_bytes"]),
            sha256=str(record["sha256"]),
            engine=str(record["engine"]),
            created=str(record["created"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{sidecar} is damaged ({type(error).__name__}: {error}): {MEND}"
        ) from error
    try:
        found = path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path} is missing, its sidecar is there: {MEND}") from error
    if found != shard.size_bytes:
        raise StoreError(
            f"{path} is damaged: expected {shard.size_bytes:,} bytes, found {found:,}: {MEND}"
        )
    return shard


def open_rows(shard: Shard) -> npt.NDArray[Any]:
    """Map a shard's rows into memory, read-only.

    Args:
        shard: What the sidecar says.

    Returns:
        Array of the stored dtype, shape [rows, *shape]; pages are read when they are used.

    Raises:
        StoreError: The file is gone, or is not the array that the sidecar describes.
    """
    try:
        size = shard.path.stat().st_size
        rows: npt.NDArray[Any] = np.load(shard.path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{shard.path} cannot be read ({error}): {MEND}") from error
    expected = (len(shard.digests), *shard.shape)
    if size != shard.size_bytes or rows.shape != expected or rows.dtype != np.dtype(shard.dtype):
        raise StoreError(
            f"{shard.path} is damaged: expected {shard.dtype} {expected} in "
            f"{shard.size_bytes:,} bytes, found {rows.dtype} {rows.shape} in {size:,}: {MEND}"
        )
    return np.asarray(rows)  # a plain view: the memmap class is slow to index


def checksum_is_right(shard: Shard) -> bool:
    """Return whether the data file's bytes are those that were written."""
    with shard.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256


class ShardWriter:
    """Streams rows into a temporary file, and makes it a shard when it is complete.

    Rows go to the file as they come: memory does not grow with the shard.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, ...], dtype: Dtype, engine: str, share: str = ""
    ) -> None:
        """Open a temporary file.

        Args:
            folder: The key's folder.
            shape: Shape of one row.
            dtype: How to store numbers.
            engine: Name of the engine that computes the rows.
            share: What the shard's name begins with.
        """
        # A random name: a reader that still holds an index of a pruned shard must never find
        # other rows under the old name.
        self._path = folder / f"{share}{secrets.token_hex(8)}.npy"
        self._temporary = self._path.with_suffix(".tmp")
        self._shape, self._dtype, self._engine = shape, dtype, engine
        self._digests: list[str] = []
        self._file = self._temporary.open("wb")
        try:
            self._file.write(self._header())
        except BaseException:
            self.abort()
            raise

    def __len__(self) -> int:
        return len(self._digests)

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, digests: Sequence[str], rows: FloatArray) -> None:
        """Append rows.

        Args:
            digests: One per row.
            rows: Shape [n, *shape].

        Raises:
            StoreError: A number is too large for float16.
        """
        assert rows.shape == (len(digests), *self._shape)
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(rows, dtype=self._dtype)
        if self._dtype == "float16" and not np.isfinite(stored).all():
            raise StoreError(
                f"features as large as {np.abs(rows).max():.4g} do not fit float16 "
                "(largest 65504): store them as float32"
            )
        self._file.write(stored.data)
        self._digests.extend(digests)

    def commit(self) -> Shard:
        """Flush everything to the disk and give the shard its name.

        Returns:
            The shard, readable from now on by everybody.
        """
        # The first header held zero rows. NumPy pads headers so that the number of rows may
        # grow without moving the data.
        self._file.seek(0)
        self._file.write(self._header())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        with self._temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        shard = Shard(
            path=self._path,
            digests=tuple(self._digests),
            shape=self._shape,
            dtype=self._dtype,
            size_bytes=self._temporary.stat().st_size,
            sha256=sha256,
            engine=self._engine,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        os.replace(self._temporary, self._path)
        files.write_json(
            self._path.with_suffix(".json"),
            {
                "samples": list(shard.digests),
                "shape": list(shard.shape),
                "dtype": shard.dtype,
                "size_bytes": shard.size_bytes,
                "sha256": shard.sha256,
                "engine": shard.engine,
                "created": shard.created,
                "versions": _versions(),
            },
        )
        return shard

    def abort(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._file.close()  # flushes what is buffered, which fails again on a full disk
        self._temporary.unlink(missing_ok=True)
        if not self._path.with_suffix(".json").exists():
            self._path.unlink(missing_ok=True)

    def _header(self) -> bytes:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {
                "descr": np.lib.format.dtype_to_descr(np.dtype(self._dtype)),
                "fortran_order": False,
                "shape": (len(self._digests), *self._shape),
            },
        )
        return header.getvalue()


def _versions() -> dict[str, str]:
    versions = {}
    for package in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions

"""Stored features as one table, read from the disk as they are asked for."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.features.key import Dtype
from headstart.features.shard import open_rows
from headstart.features.store import Index
from headstart.types import FloatArray, IntArray

_MAX_OPEN_SHARDS = 256  # each holds a file descriptor, of which a process has 1,024 by default


class Features:
    """The features of n samples, in the order they were asked for; whatever the shape of one.

    Where they are sequences, each has a length of its own; those that are asked for together are
    filled up with zeros to the longest of them.

    Numbers stay on the disk, memory-mapped, until `gather` or `load` copies them.
    """

    def __init__(
        self, index: Index, digests: Sequence[str], shape: tuple[int, ...], dtype: Dtype
    ) -> None:
        """Look up where each picture's features are.

        Args:
            index: Where the samples of the key lie.
            digests: The samples, in the table's order; all of them in the index; repeats are
                allowed.
            shape: Shape of one sample's features; of the longest possible one for sequences.
            dtype: How they are stored.
        """
        self._shards = index.shards
        places = np.array([index.rows[digest] for digest in digests], dtype=np.int64)
        self._places = places.reshape(len(digests), 2)
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._open: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample's features; of the longest possible one for sequences."""
        return self._shape

    @property
    def lengths(self) -> IntArray:
        """First axis of each sample's features as they are stored, int64, shape [n]."""
        of_shard = np.array([shard.shape[0] for shard in self._shards], dtype=np.int64)
        return of_shard[self._places[:, 0]]

    @property
    def dtype(self) -> np.dtype[Any]:
        """How the numbers are stored; what `gather` and `load` return is float32."""
        return self._dtype

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that computed these features, sorted."""
        used = np.unique(self._places[:, 0])
        # Replayed features name the engine they began with and the one that went on.
        names = [self._shards[position].engine.split("+") for position in used]
        return tuple(sorted({name for some in names for name in some}))

    def gather(self, positions: IntArray | Sequence[int]) -> FloatArray:
        """Copy the features of some pictures.

        Args:
            positions: Where they are in the table, int, shape [k]; in any order, repeats allowed.

        Returns:
            Array of float32, shape [k, *shape]; sequences are as long as the longest of them.

        Raises:
            IndexError: A position is negative or not below the length.
            StoreError: A shard has been damaged or deleted since the table was made.
        """
        wanted = np.asarray(positions, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(
                f"expected positions from 0 to {len(self) - 1}, "
                f"got some from {wanted.min()} to {wanted.max()}"
            )
        shards, rows = self._places[wanted, 0], self._places[wanted, 1]
        shapes = {self._shards[position].shape for position in set(shards.tolist())}
        equal = len(shapes) == 1
        longest = max((shape[0] for shape in shapes), default=self._shape[0])
        make = np.empty if equal else np.zeros
        out: FloatArray = make((len(wanted), longest, *self._shape[1:]), dtype=np.float32)
        # Shard by shard, and in each in the order of the file, so that pages are read once.
        order = np.lexsort((rows, shards))
        starts = np.flatnonzero(np.diff(shards[order], prepend=-1))
        for group in np.split(order, starts[1:]) if len(starts) else []:
            found = self._rows(int(shards[group[0]]))[rows[group]]
            if equal:
                out[group] = found
            else:
                out[group, : found.shape[1]] = found
        return out

    def load(self) -> FloatArray:
        """Copy everything: float32, shape [n, *shape]."""
        return self.gather(np.arange(len(self)))

    def _rows(self, position: int) -> npt.NDArray[Any]:
        found = self._open.get(position)
        if found is None:
            found = open_rows(self._shards[position])
            self._open[position] = found
            if len(self._open) > _MAX_OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(position)
        return found

"""Features by position: as the store gives them, as an array, and on the device."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from headstart.types import FloatArray, IntArray

_PIECE_BYTES = 64 << 20  # features that are on their way into a resident table at a time


class Gatherer(Protocol):
    """Rows of features by position: what the feature store returns."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample's features."""
        ...

    def __len__(self) -> int: ...

    def gather(self, positions: IntArray) -> FloatArray:
        """Return the features at `positions`, float32, [k, *shape]."""
        ...


@dataclass(frozen=True, slots=True)
class ArrayFeatures:
    """Features in memory: the `Gatherer` of whoever has no feature store.

    Attributes:
        rows: float32, shape [n, *shape].
    """

    rows: FloatArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample's features."""
        return self.rows.shape[1:]

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, positions: IntArray) -> FloatArray:
        """Return the features at `positions`, [k, *shape]."""
        return self.rows[positions]


class Table:
    """Features on the device, whole or row by row."""

    def __init__(
        self, features: Gatherer, shape: tuple[int, ...], device: torch.device, resident: bool
    ) -> None:
        self._features, self.shape, self._device = features, shape, device
        # Feature maps are held as networks read them, channels last: [n, h, w, c].
        self._maps = len(shape) == 3
        self._resident = self._held() if resident else None

    def reader(self, rows: IntArray) -> Callable[[slice], Tensor]:
        """Return what gives features by place among `rows`.

        Args:
            rows: Positions in the order of visiting, [n] or [M, n].

        Returns:
            Of a slice of b places, the features [b, *shape] or [M, b, *shape].
        """
        held = self._resident
        if held is None:
            return lambda batch: self._gathered(rows[..., batch])
        index = torch.as_tensor(rows, device=self._device)

        def read(batch: slice) -> Tensor:
            chosen = index[..., batch]
            if chosen.dim() == 1:
                found = held.index_select(0, chosen)
            else:
                found = held.index_select(0, chosen.reshape(-1))
                found = found.view(*chosen.shape, *held.shape[1:])
            return found.movedim(-1, -3) if self._maps else found

        return read

    def _held(self) -> Tensor:
        """Return all features on the device, brought there in pieces: they are held once."""
        count = len(self._features)
        shape = (*self.shape[1:], self.shape[0]) if self._maps else self.shape
        held = torch.empty(count, *shape, device=self._device)
        size = max(1, _PIECE_BYTES // (4 * math.prod(self.shape)))
        for start in range(0, count, size):
            stop = min(start + size, count)
            found = self._features.gather(np.arange(start, stop, dtype=np.int64))
            piece = torch.as_tensor(found).reshape(-1, *self.shape)
            held[start:stop] = piece.movedim(-3, -1) if self._maps else piece
        return held

    def _gathered(self, rows: IntArray) -> Tensor:
        """Return the features at `rows`, read from where they are: [*rows.shape, *shape]."""
        table = self._features.gather(rows.reshape(-1))
        if rows.ndim > 1 or len(self.shape) == 1:  # sequences keep the length that they came in
            table = table.reshape(*rows.shape, *self.shape)
        return laid_out(torch.as_tensor(table, device=self._device))


def laid_out(z: Tensor) -> Tensor:
    """Return feature maps with channels last: stored and recomputed ones meet the same code."""
    return z.contiguous(memory_format=torch.channels_last) if z.dim() == 4 else z.contiguous()

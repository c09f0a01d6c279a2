"""Where the batches of features come from: read back from the store, or run through F each time.

Both draw the same permutation from the same seed and epoch, so that "standard" training (the
frozen prefix runs at every step) and "accelerated" training (features are read) see the same
samples in the same order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from headstart._util.devices import full_float32
from headstart._util.seeding import generator
from headstart.data.loader import load_batches
from headstart.types import FloatArray, ImageSet, InputSpec, IntArray

# Features up to this size are held on the device as one tensor; larger ones are gathered per batch.
RESIDENT_BYTES = 4 << 30


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


class FeatureSource(Protocol):
    """Batches of features and labels, by epoch for training and in order for evaluation."""

    @property
    def width(self) -> int:
        """Number of features of one sample."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch of training."""
        ...

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled (z, y): [b, width], [b]; or [M, b, width], [M, b] where seeds differ."""
        ...

    def split(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a whole split in order as (z [b, width], y [b])."""
        ...


def epoch_order(count: int, seed: int, epoch: int) -> IntArray:
    """Return the order in which an epoch visits `count` training samples: int64, shape [count]."""
    return generator("order", seed, epoch).permutation(count).astype(np.int64)


class CachedSource:
    """Features that were computed before and are read back."""

    def __init__(
        self,
        features: Gatherer,
        labels: IntArray,
        splits: Mapping[str, IntArray],
        *,
        seeds: Sequence[int],
        batch_size: int,
        device: torch.device,
    ) -> None:
        """Prepare the batches.

        Args:
            features: Features of n samples.
            labels: Class indices of the same samples, shape [n].
            splits: Positions of each split; ``train`` is what training visits.
            seeds: The seed of each member; where all are equal they share each batch.
            batch_size: Samples per optimiser step.
            device: Where the batches shall be.
        """
        self._features = features
        self._labels = torch.as_tensor(labels, device=device)
        self._splits = splits
        self._seeds = tuple(seeds)
        self._batch_size = batch_size
        self._device = device
        self.width = int(np.prod(features.shape))
        self._resident: Tensor | None = None
        if len(features) * self.width * 4 <= RESIDENT_BYTES:
            table = features.gather(np.arange(len(features), dtype=np.int64))
            self._resident = torch.as_tensor(table, device=device).reshape(len(features), -1)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch of training."""
        return -(-len(self._splits["train"]) // self._batch_size)

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled (z, y): [b, width], [b]; or [M, b, width], [M, b] where seeds differ."""
        rows = self._splits["train"]
        if len(set(self._seeds)) == 1:
            yield from self._batches(rows[epoch_order(len(rows), self._seeds[0], epoch)])
            return
        orders = {s: rows[epoch_order(len(rows), s, epoch)] for s in set(self._seeds)}
        table = np.stack([orders[s] for s in self._seeds])
        for start in range(0, len(rows), self._batch_size):
            yield self._take(table[:, start : start + self._batch_size])

    def split(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a whole split in order as (z [b, width], y [b])."""
        rows = self._splits[name]
        size = max(self._batch_size, 4096) if self._resident is not None else self._batch_size
        for start in range(0, len(rows), size):
            yield self._take(rows[start : start + size])

    def _batches(self, rows: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(rows), self._batch_size):
            yield self._take(rows[start : start + self._batch_size])

    def _take(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(rows, device=self._device)
        if self._resident is not None:
            return self._resident[index], self._labels[index]
        table = self._features.gather(rows.reshape(-1)).reshape(*rows.shape, self.width)
        return torch.as_tensor(table, device=self._device), self._labels[index]


class StandardSource:
    """Pictures that go through the frozen prefix each time they are asked for, as textbooks do."""

    def __init__(
        self,
        images: ImageSet,
        labels: IntArray,
        splits: Mapping[str, IntArray],
        *,
        prefix: nn.Module,
        spec: InputSpec,
        width: int,
        seed: int,
        batch_size: int,
        workers: int,
        device: torch.device,
    ) -> None:
        """Prepare the batches.

        Args:
            images: The pictures, n of them.
            labels: Class indices of the same pictures, shape [n].
            splits: Positions of each split; ``train`` is what training visits.
            prefix: The frozen network, [b, 3, h, w] -> [b, …], in eval mode, on `device`.
            spec: How a picture becomes the network's input.
            width: Number of features that the prefix gives.
            seed: Decides the order of the training samples.
            batch_size: Samples per optimiser step.
            workers: Threads that decode.
            device: Where the network is.
        """
        self._images = images
        self._labels = torch.as_tensor(labels, device=device)
        self._splits = splits
        self._prefix = prefix.to(memory_format=torch.channels_last)
        self._spec = spec
        self.width = width
        self._seed = seed
        self._batch_size = batch_size
        self._workers = workers
        self._device = device

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch of training."""
        return -(-len(self._splits["train"]) // self._batch_size)

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled (z [b, width], y [b])."""
        rows = self._splits["train"]
        yield from self._run(rows[epoch_order(len(rows), self._seed, epoch)])

    def split(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a whole split in order as (z [b, width], y [b])."""
        yield from self._run(self._splits[name])

    def _run(self, rows: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        done = 0
        for batch in load_batches(
            self._images, rows, self._spec, self._batch_size, workers=self._workers
        ):
            x = torch.from_numpy(batch).to(self._device, memory_format=torch.channels_last)
            with torch.no_grad(), full_float32():
                z = self._prefix(x).reshape(len(batch), -1).float()
            index = torch.as_tensor(rows[done : done + len(batch)], device=self._device)
            done += len(batch)
            yield z, self._labels[index]

"""Where the batches of features come from: read back from the store, or run through F each time.

Both draw the same permutation from the same seed and epoch, so that "standard" training (the
frozen prefix runs at every step) and "accelerated" training (features are read) see the same
samples in the same order, and the same random views of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from headstart._util.devices import full_float32
from headstart._util.seeding import generator
from headstart.data.loader import load_batches
from headstart.features.lengths import filled_up, padded_length
from headstart.train.gathered import Gatherer, Table, laid_out
from headstart.train.mixing import Mixing, mix
from headstart.train.order import epoch_order, evaluation_order
from headstart.train.team import ALONE, Team, own_share
from headstart.types import Augmentation, FloatArray, ImageSet, InputSpec, IntArray, Spec, View

# Features up to this size are held on the device as one tensor; larger ones are gathered per batch.
RESIDENT_BYTES = 4 << 30

_PREFIX_BATCH = 32  # samples that go through the frozen network at a time


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

    @property
    def ready(self) -> bool:
        """Whether batches lie ready, so that nothing computes them while the model is trained."""
        ...

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled (z, y), without the first `skip` batches.

        z is [b, width] or [b, *shape] and y is [b], class indices (of a regression: targets), or
        [b, classes], shares of blended samples; where members' seeds differ z is [M, b, width] and
        y is [M, b].
        """
        ...

    def split(self, name: str, team: Team = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a split as (z [b, …], y [b]), in the order that `order` says.

        All of it, or of several processes this one's share; that may be nothing.
        """
        ...

    def order(self, name: str) -> IntArray | None:
        """Return the place in the split of each sample that `split` yields; None: as they are."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A source whose batches are worth different steps."""

    def rate(self) -> float:
        """Return the factor on the learning rate for the batch that was yielded last."""
        ...


class CachedSource:
    """Features that were computed before and are read back."""

    def __init__(
        self,
        features: Gatherer,
        labels: IntArray | FloatArray,
        splits: Mapping[str, IntArray],
        *,
        seeds: Sequence[int],
        batch_size: int,
        device: torch.device,
        flat: bool = True,
        views: Sequence[Gatherer] = (),
        lengths: IntArray | None = None,
        ragged: bool = False,
        team: Team = ALONE,
    ) -> None:
        """Prepare the batches.

        Args:
            features: Features of n samples.
            labels: Class indices, or targets, of the same samples, shape [n].
            splits: Positions of each split; ``train`` is what training visits.
            seeds: The seed of each member; where all are equal they share each batch.
            batch_size: Samples per optimiser step.
            device: Where the batches shall be.
            flat: Whether batches are [b, width]; otherwise they keep their shape, [b, *shape].
            views: Features of augmented views of the training samples alone, in the order of
                ``splits["train"]``; epoch e reads view (e - 1) modulo their number. Empty: training
                reads `features`.
            lengths: Length of each sample, [n], where batches are made by length.
            ragged: Whether features are sequences, each of its own length.
            team: Who trains: of each training batch this process gets its share.
        """
        self._labels = torch.as_tensor(labels, device=device)
        self._splits = splits
        self._seeds = tuple(seeds)
        self._batch_size = batch_size
        self.width = int(np.prod(features.shape))
        shape = (self.width,) if flat else tuple(features.shape)
        total = (len(features) + sum(len(v) for v in views)) * self.width * 4
        resident = total <= RESIDENT_BYTES and not ragged
        self._resident = resident
        self._features = Table(features, shape, device, resident)
        self._views = [Table(view, shape, device, resident) for view in views]
        self._device = device
        self._lengths = lengths
        # What the features themselves cost depends on their length only where they have one.
        self._by_length = lengths if ragged else None
        self._team = team

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch of training."""
        return -(-len(self._splits["train"]) // self._batch_size)

    @property
    def ready(self) -> bool:
        """Whether batches lie ready: they do."""
        return True

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled (z, y): [b, …], [b]; or [M, b, width], [M, b] where seeds differ."""
        read, labels = self._reader(epoch)
        count = len(self._splits["train"])
        for batch in own_share(count, self._batch_size, self._team)[skip:]:
            yield read(batch), labels[..., batch]

    def _reader(self, epoch: int) -> tuple[Callable[[slice], Tensor], Tensor]:
        """Return what reads features by place in an epoch's order, and all labels in that order."""
        rows = self._splits["train"]
        orders = self._orders(epoch)
        order = np.stack([orders[s] for s in self._seeds])
        if len(orders) == 1:
            order = order[0]
        if self._views:
            read = self._views[(epoch - 1) % len(self._views)].reader(order)
        else:
            read = self._features.reader(rows[order])
        return read, self._labels[torch.as_tensor(rows[order], device=self._device)]

    def _orders(self, epoch: int) -> dict[int, IntArray]:
        """Return the order in which an epoch visits the training split, by seed."""
        rows, size = self._splits["train"], self._batch_size
        lengths = None if self._lengths is None else self._lengths[rows]
        return {s: epoch_order(len(rows), s, epoch, lengths, size) for s in set(self._seeds)}

    @property
    def batch_size(self) -> int:
        """Samples per optimiser step."""
        return self._batch_size

    def whole(self, epoch: int, most: int) -> tuple[Tensor, Tensor] | None:
        """Return an epoch's features [n, width] and labels [n] in its order, at once.

        Args:
            epoch: Which, from 1.
            most: Numbers that they may be.

        Returns:
            They; None where they are more, not the same for all members, or not held in memory.
        """
        rows = self._splits["train"]
        if not self._is_one_table(rows, most):
            return None
        read, labels = self._reader(epoch)
        everything = slice(0, len(rows))
        return read(everything), labels

    def held(self, split: str, most: int) -> tuple[Tensor, Tensor] | None:
        """Return all features [n, width] and labels [n] of a split, in its order.

        Args:
            split: Its name.
            most: Numbers that they may be.

        Returns:
            They; None where they are more, another view in each epoch, not the same for all
            members, or not held in memory.
        """
        rows = self._splits[split]
        if self._views or not self._is_one_table(rows, most):
            return None
        labels = self._labels[torch.as_tensor(rows, device=self._device)]
        return self._features.reader(rows)(slice(0, len(rows))), labels

    def _is_one_table(self, rows: IntArray, most: int) -> bool:
        """Return whether rows are held in memory, one width for all members, and not too many."""
        fits = self._resident and len(rows) * self.width <= most
        return fits and len(set(self._seeds)) == 1 and len(self._features.shape) == 1

    def places(self, epoch: int) -> Tensor:
        """Return which training samples an epoch visits, in its order, int64, [n]."""
        return torch.as_tensor(self._orders(epoch)[self._seeds[0]], device=self._device)

    def split(self, name: str, team: Team = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a split, or a share of it, as (z [b, …], y [b]), in the order that `order` says."""
        rows = self._splits[name]
        order = self.order(name)
        rows = np.array_split(rows if order is None else rows[order], team.size)[team.rank]
        wide = self._resident and len(self._features.shape) == 1
        size = max(self._batch_size, 4096) if wide else self._batch_size
        read = self._features.reader(rows)
        labels = self._labels[torch.as_tensor(rows, device=self._device)]
        for start in range(0, len(rows), size):
            batch = slice(start, start + size)
            yield read(batch), labels[batch]

    def order(self, name: str) -> IntArray | None:
        """Return the place in the split of each sample that `split` yields; None: as they are."""
        return evaluation_order(self._splits[name], self._by_length)


class StandardSource:
    """Samples that go through the frozen prefix each time they are asked for, as textbooks do."""

    def __init__(
        self,
        images: ImageSet,
        labels: IntArray | FloatArray,
        splits: Mapping[str, IntArray],
        *,
        prefix: nn.Module,
        spec: Spec,
        width: int,
        seed: int,
        batch_size: int,
        workers: int,
        device: torch.device,
        flat: bool = True,
        augmentation: Augmentation | None = None,
        views: int | None = None,
        mixing: Mixing | None = None,
        lengths: IntArray | None = None,
        fill_up: bool = False,
        team: Team = ALONE,
    ) -> None:
        """Prepare the batches.

        Args:
            images: The samples (pictures, texts, …), n of them.
            labels: Class indices, or targets, of the same samples, shape [n].
            splits: Positions of each split; ``train`` is what training visits.
            prefix: The frozen network, [b, 3, h, w] -> [b, …], in eval mode, on `device`.
            spec: How a sample becomes the network's input.
            width: Number of features that the prefix gives.
            seed: Decides the order of the training samples, their views and their blending.
            batch_size: Samples per optimiser step.
            workers: Threads that decode.
            device: Where the network is.
            flat: Whether batches are [b, width]; otherwise they keep their shape.
            augmentation: Random changes to training pictures, or None.
            views: How many different draws there are, used in turn; None: a new one in each epoch.
            mixing: Blending of training pictures, or None.
            lengths: Length of each sample, [n], where batches are made by length.
            fill_up: Whether batches of sequences are as long as those of stored ones, which are
                filled up to a step of the ladder: what is drawn at random for each position, as
                by dropout, is then the same.
            team: Who trains: of each training batch this process gets its share.
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
        self._flat = flat
        self._augmentation = augmentation
        self._views = views
        self._mixing = mixing
        self._lengths = lengths
        self._fill_up = fill_up
        self._team = team

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch of training."""
        return -(-len(self._splits["train"]) // self._batch_size)

    @property
    def ready(self) -> bool:
        """Whether batches lie ready: each is computed when it is asked for."""
        return False

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled (z [b, …], y [b] or [b, classes])."""
        rows = self._splits["train"]
        lengths = None if self._lengths is None else self._lengths[rows]
        order = rows[epoch_order(len(rows), self._seed, epoch, lengths, self._batch_size)]
        view = None
        if self._augmentation is not None:
            number = epoch - 1 if self._views is None else (epoch - 1) % self._views
            view = View(self._augmentation, self._seed, number)
        shares = own_share(len(rows), self._batch_size, self._team)[skip:]
        if shares:
            own = np.concatenate([order[share] for share in shares])
            yield from self._run(own, shares[0].stop - shares[0].start, view, (epoch, skip))

    def split(self, name: str, team: Team = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a split, or a share of it, as (z [b, …], y [b]), in the order that `order` says."""
        rows, order = self._splits[name], self.order(name)
        rows = np.array_split(rows if order is None else rows[order], team.size)[team.rank]
        if len(rows):
            yield from self._run(rows, self._batch_size, None, None)

    def order(self, name: str) -> IntArray | None:
        """Return the place in the split of each sample that `split` yields; None: as they are."""
        return evaluation_order(self._splits[name], self._lengths)

    def _run(
        self, rows: IntArray, size: int, view: View | None, at: tuple[int, int] | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        batches = load_batches(
            self._images, rows, self._spec, size, workers=self._workers, view=view
        )
        done = 0
        for step, batch in enumerate(batches):
            filled = batch
            if self._fill_up and not isinstance(self._spec, InputSpec):
                filled = filled_up(batch, padded_length(batch.shape[1], self._spec.longest))
            x = laid_out(torch.from_numpy(filled).to(self._device))
            index = torch.as_tensor(rows[done : done + len(batch)], device=self._device)
            y = self._labels[index]
            done += len(batch)
            if at is not None and self._mixing is not None:
                x, y = mix(x, y, self._mixing, generator("mix", self._seed, at[0], at[1] + step))
            with torch.no_grad(), full_float32():
                z = torch.cat(
                    [self._prefix(piece) for piece in torch.split(x, _PREFIX_BATCH)]
                ).float()
            yield (z.reshape(len(z), -1) if self._flat else laid_out(z)), y

"""A share of an extraction, computed by one of several processes that write to one store.

Whoever shares the work out holds the key's lock until all shares are there (see the argument
`spread` of `headstart.features.extract.extract`). A share that was lost with its process is asked
for again, and finds what had been stored of it until then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from headstart._util.hashing import digest_json
from headstart.backbones.base import Backbone
from headstart.features.engine import Engine, EngineName
from headstart.features.engine_torch import TorchEngine
from headstart.features.key import FeatureKey
from headstart.features.lengths import ladder
from headstart.features.passes import Request, Unchanged, computed, computed_sequences
from headstart.features.store import FeatureStore
from headstart.features.work import choose_for, write_rows
from headstart.types import ImageSet, IntArray, Progress


@dataclass(slots=True)
class ShareWorker:
    """Computes shares of one extraction, one after the other, with one engine.

    Attributes:
        images: The encoded samples.
        backbone: The network.
        key: Of the features, as whoever shares the work out has it.
        engine: What computes: chosen once, for all shares.
        store: Where features are kept: the same for all.
        device: Where torch computes.
        batch_size: How many samples are prepared for one step.
        workers: Threads that decode.
        lengths: Length of each of `images`, or None.
        progress: Is told what happens.
    """

    images: ImageSet
    backbone: Backbone
    key: FeatureKey
    engine: EngineName
    store: FeatureStore
    device: torch.device
    batch_size: int
    workers: int
    lengths: IntArray | None
    progress: Progress
    _ready: Engine | None = field(default=None, init=False)

    def extract(self, positions: Sequence[int]) -> int:
        """Compute and store what is missing of a share.

        Args:
            positions: Which samples.

        Returns:
            How many were computed: fewer than were asked for where an earlier attempt at the same
            share had stored some.

        Raises:
            DataError: A sample cannot be decoded or has changed.
            EngineError: The engine fails here, or disagrees with torch.
            StoreError: The store cannot be written.
            SharedStoreError: Its second home cannot be written.
        """
        # Named by its samples. Only what an earlier attempt at it stored is looked up: to read all
        # sidecars for each share would take longer than to compute it where there are many.
        share = digest_json([self.images.digests[position] for position in positions])[:16] + "-"
        index = self.store.index(self.key, share)
        missing: dict[str, int] = {}
        stored: list[str] = []
        for position in positions:
            digest = self.images.digests[position]
            if digest in index.rows:
                stored.append(digest)
            else:
                missing.setdefault(digest, position)
        # By one that was killed before it had put them into the second home, it may be.
        self.store.share(index, stored)
        if not missing:
            return 0
        request = self._request()
        images = Unchanged(self.images, self.images.names, self.images.digests)
        places = list(missing.values())
        measured = ladder(images, places, self.backbone.input_spec, self.lengths)
        if measured is None:
            if self._ready is None:
                self._ready = choose_for(request, images, places).engine
            rows = computed(request, images, missing, self._ready, self.progress)
        else:
            if not isinstance(self._ready, TorchEngine):
                self._ready = TorchEngine(self.backbone, self.key.cut, self.device)
            rows = computed_sequences(
                request, images, missing, measured, self._ready, self.progress
            )
        write_rows(request, rows, self.engine, share)
        return len(missing)

    def _request(self) -> Request:
        return Request(
            images=self.images,
            backbone=self.backbone,
            cut=self.key.cut,
            key=self.key,
            shape=tuple(self.backbone.shape(self.key.cut)),
            store=self.store,
            engine=self.engine,
            device=self.device,
            batch_size=self.batch_size,
            workers=self.workers,
            replayable=None,
            lengths=self.lengths,
            fitted=None,
        )

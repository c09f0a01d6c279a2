"""Where the features of a stage come from: stored once, or recomputed at every step."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from headstart.backbones.base import INPUT, Backbone
from headstart.config import schema
from headstart.errors import SharedStoreError, StoreError
from headstart.features.extract import Extraction
from headstart.features.plan import Storage, choose_storage, estimate, seconds_saved
from headstart.runs import build
from headstart.runs.bench import Bench
from headstart.runs.notebook import Notebook
from headstart.runs.training import width_at
from headstart.train import CachedSource, FeatureSource, Mixing, StageCut, StandardSource
from headstart.types import IntArray, JsonDict, View


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, ready to run.

    Attributes:
        index: From 0.
        config: Its settings, none of them null that the part can give.
        what: What it trains, and the cut before that.
        cut: Where its features are: `what.cut`, or ``input`` where frozen stages move too.
        storage: Whether the frozen part's features are stored.
        disk_bytes: What that takes.
    """

    index: int
    config: schema.StageConfig
    what: StageCut
    cut: str
    storage: Storage
    disk_bytes: int

    @property
    def name(self) -> str:
        """What a reader sees."""
        return self.config.name if self.config.name is not None else self.what.text

    def views(self, seed: int) -> tuple[View, ...]:
        """Return the stored views of the training pictures; none where they are not augmented."""
        config = self.config.augmentation
        if config is None or config.views is None:
            return ()
        augmentation = build.augmentation(config)
        return tuple(View(augmentation, seed, number) for number in range(config.views))


@dataclass(slots=True)
class Features:
    """What getting a stage's features took."""

    storage: Storage = "recomputed"
    seconds: float = 0.0
    earlier_seconds: float = 0.0
    extracted: int = 0
    reused: int = 0
    engine: str = "torch"
    replayed_from: str | None = None
    disk_bytes: int = 0

    def add(self, extraction: Extraction, keep: bool = True) -> None:
        """Add what an extraction took; `keep` what it says of itself."""
        self.seconds += extraction.wall_seconds
        self.extracted += extraction.extracted
        if keep:
            self.reused += extraction.reused
            self.engine = extraction.engine
            self.replayed_from = extraction.replayed_from

    def add_noted(self, before: JsonDict | None) -> None:
        """Add what it took before the program was stopped."""
        if before is not None and before["extracted"]:
            self.earlier_seconds += before["seconds"]
            self.seconds += before["seconds"]
            self.extracted += before["extracted"]
            self.reused = before["reused"]
            self.replayed_from = before["replayed_from"]


class StageFeatures:
    """Chooses for each stage of a training how its features come, and brings them."""

    def __init__(
        self,
        label: str,
        part: schema.TrainedPart,
        bench: Bench,
        backbone: Backbone,
        splits: Mapping[str, IntArray],
        notes: Notebook,
    ) -> None:
        """Remember what the training is.

        Args:
            label: What messages call it.
            part: Its configuration.
            bench: What the study shares.
            backbone: Its own copy of the network.
            splits: Positions of each split in the data set.
            notes: Where choices and times are noted, so that a resumed training knows them.
        """
        self._label, self._part, self._bench = label, part, bench
        self._backbone, self._splits, self._notes = backbone, splits, notes
        # Only the pictures that the part uses: its own splits count into `rows`.
        self._rows = np.concatenate(list(splits.values()))
        bounds = np.cumsum([0, *(len(rows) for rows in splits.values())])
        self._own = {split: np.arange(bounds[i], bounds[i + 1]) for i, split in enumerate(splits)}
        self._labels = bench.answers[self._rows]
        self._lengths = bench.lengths(backbone)
        self._positions = {stage: i for i, stage in enumerate((INPUT, *backbone.stages))}

    def position(self, cut: str) -> int:
        """Return how many stages of the backbone lie before a cut."""
        return self._positions[cut]

    def storage(self, stage: Stage, before: Sequence[Stage]) -> tuple[Storage, int, str]:
        """Choose for one stage; what was chosen before the program was stopped stays chosen."""
        noted = self._notes.get(f"storage-{stage.index}")
        if noted is not None:
            return noted["storage"], noted["disk_bytes"], noted["reason"]
        storage, disk_bytes, reason = self._choose_storage(stage, before)
        self._note(stage, storage, disk_bytes, reason)
        return storage, disk_bytes, reason

    def _note(self, stage: Stage, storage: Storage, disk_bytes: int, reason: str) -> None:
        note = {"storage": storage, "disk_bytes": disk_bytes, "reason": reason}
        self._notes.put(f"storage-{stage.index}", note)

    def _choose_storage(self, stage: Stage, before: Sequence[Stage]) -> tuple[Storage, int, str]:
        config = stage.config
        augmentation = config.augmentation
        never = {
            "nothing is frozen": stage.cut == INPUT and config.batch_norm != "train",
            "BatchNorm moves in frozen stages": config.batch_norm == "train",
            "pictures are blended anew at every step": (config.mixup, config.cutmix)
            != (None, None),
            "the augmentation draws anew in every epoch": augmentation is not None
            and augmentation.views is None,
        }
        for reason, holds in never.items():
            if holds:
                return "recomputed", 0, reason
        if config.features == "recomputed":
            return "recomputed", 0, "as the experiment asks"
        views = stage.views(self._part.seed)
        bench = self._bench
        position = self._positions[stage.cut]
        planned = estimate(
            bench.dataset,
            self._rows,
            self._backbone,
            stage.cut,
            store=bench.store,
            dtype=bench.cache.dtype,
            device=bench.device,
            views=(None, *views),
            view_indices=self._splits["train"],
            visited=np.concatenate([self._splits[s] for s in ("train", "val")]),
            # An earlier stage that trains before this cut changes what is stored now.
            lengths=self._lengths,
            ignore_stored=any(self._positions[s.cut] < position for s in before),
        )
        assert config.epochs is not None
        reserved = sum(s.disk_bytes for s in before if s.storage == "stored")
        storage, reason = choose_storage(planned, config.epochs, max(len(views), 1), reserved)
        if config.features == "stored":
            saved = f"which saves about {seconds_saved(planned, config.epochs):.1f} s"
            return "stored", planned.disk_bytes, f"as the experiment asks, {saved}"
        return storage, planned.disk_bytes if storage == "stored" else 0, reason

    def source(self, stage: Stage, stages: Sequence[Stage]) -> tuple[FeatureSource, "Features"]:
        """Return the batches of a stage, with its features computed where they are stored.

        Args:
            stage: The stage.
            stages: All stages of the training.

        Returns:
            The source, and what it took.

        Raises:
            StoreError: The experiment asks to store features, and they cannot be.
            SharedStoreError: The store's second home cannot be used, whatever is asked.
        """
        if stage.storage == "stored":
            try:
                return self._stored_source(stage, stages)
            except StoreError as error:
                # That a network does not answer for a moment is no reason to train another way.
                if stage.config.features == "stored" or isinstance(error, SharedStoreError):
                    raise
                reason = f"storing failed ({error})"
                self._bench.progress.say(f"{self._label}, {stage.name}: recomputed, since {reason}")
                self._note(stage, "recomputed", 0, reason)
        return self._recomputing_source(stage), Features()

    def _recomputing_source(self, stage: Stage) -> FeatureSource:
        config, bench = stage.config, self._bench
        assert config.batch_size is not None
        augmentation = config.augmentation
        mixing = None
        if (config.mixup, config.cutmix) != (None, None):
            mixing = Mixing(config.mixup, config.cutmix, len(bench.dataset.classes))
        return StandardSource(
            bench.dataset,
            bench.answers,
            self._splits,
            prefix=self._backbone.prefix(stage.cut),
            spec=self._backbone.input_spec,
            width=width_at(self._backbone, stage.cut),
            seed=self._part.seed,
            batch_size=config.batch_size,
            workers=bench.workers,
            device=bench.device,
            flat=False,
            augmentation=None if augmentation is None else build.augmentation(augmentation),
            views=None if augmentation is None else augmentation.views,
            mixing=mixing,
            lengths=self._lengths,
            # Nothing is ever stored of what comes before the network.
            fill_up=stage.cut != INPUT and self._backbone.ragged(stage.cut),
            team=bench.team,
        )

    def _stored_source(
        self, stage: Stage, stages: Sequence[Stage]
    ) -> tuple[FeatureSource, "Features"]:
        config, bench = stage.config, self._bench
        assert config.batch_size is not None
        found = Features()
        ahead = self._ahead(stage, stages)
        if ahead != stage.cut:
            # A later stage needs these anyway, and this one can be replayed from them.
            found.add(bench.extract(self._backbone, ahead, self._rows, None), keep=False)
        plain = bench.extract(self._backbone, stage.cut, self._rows, None)
        found.add(plain)
        views = []
        train_rows = self._rows[self._own["train"]]
        for view in stage.views(self._part.seed):
            done = bench.extract(self._backbone, stage.cut, train_rows, view)
            found.add(done, keep=False)
            views.append(done.features)
        found.disk_bytes = self._stored_bytes(stage)
        found.storage = "stored"
        key = f"features-{stage.index}"
        found.add_noted(self._notes.get(key))
        self._notes.put(key, asdict(found))
        cached = CachedSource(
            plain.features,
            self._labels,
            self._own,
            seeds=[self._part.seed],
            batch_size=config.batch_size,
            device=bench.device,
            flat=False,
            views=views,
            lengths=None if self._lengths is None else self._lengths[self._rows],
            ragged=self._backbone.ragged(stage.cut),
            team=bench.team,
        )
        return cached, found

    def _ahead(self, stage: Stage, stages: Sequence[Stage]) -> str:
        """Return the earliest cut that a later stage stores and no stage until then disturbs."""
        best = stage.cut
        lowest = self._positions[stage.cut]
        for later in stages[stage.index + 1 :]:
            between = stages[stage.index : later.index]
            position = self._positions[later.cut]
            undisturbed = all(self._positions[s.cut] >= position for s in between)
            if later.storage == "stored" and undisturbed and position < lowest:
                best, lowest = later.cut, position
        return best

    def _stored_bytes(self, stage: Stage) -> int:
        views = len(stage.views(self._part.seed)) * len(self._own["train"])
        return self._bench.stored_bytes(self._backbone, stage.cut, len(self._rows) + views)

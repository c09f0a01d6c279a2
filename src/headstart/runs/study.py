"""A study in memory: data and backbones are there, everything is checked, parts can run."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from headstart._util import files
from headstart._util.stopping import Stop
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.data.language import Corpus
from headstart.errors import ConfigError
from headstart.features.passes import Spread
from headstart.features.remote import Remote
from headstart.features.store import FeatureStore
from headstart.predict import save_model
from headstart.runs import build, inputs, record
from headstart.runs.baseline import run_baseline
from headstart.runs.bench import Bench, Memory, StoppableProgress
from headstart.runs.checks import (
    Loaded,
    backbone_key,
    check_data,
    check_language_parts,
    check_stages,
    examples_of,
)
from headstart.runs.ensemble import run_ensemble
from headstart.runs.language import LanguageBench, run_language
from headstart.runs.part import run_part
from headstart.runs.result import PartResult, load_result, save_result
from headstart.runs.search import search_here
from headstart.runs.trackers import Trackers, no_trackers
from headstart.runs.zero_shot import run_zero_shot
from headstart.train import ALONE, Team
from headstart.types import JsonDict, Progress

CHECKPOINTS = "checkpoints"


@dataclass(slots=True)
class Study:
    """A study that is ready to run, and what its parts have left so far.

    Attributes:
        experiment: What is asked for.
        planned: Names of the parts that run, in order.
        device: Where torch computes.
        dataset: Labelled samples, or running text for language models.
        loaded: Backbones by key.
        show: Where to show how far it is.
        stop: Says whether somebody asked to stop.
        results: What parts left, by name.
        chosen: The swept settings that each part hands on to those that are `best_of` it.
        memory: What was computed for earlier parts.
        records: Entries of `models` in results.json, by part.
        trackers: Who is shown the records as they come.
    """

    experiment: schema.Experiment
    planned: tuple[str, ...]
    device: torch.device
    dataset: Dataset | Corpus
    loaded: dict[str, Loaded]
    show: Progress
    stop: Stop
    results: dict[str, PartResult] = field(default_factory=dict)
    chosen: dict[str, dict[str, float | int]] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    records: dict[str, JsonDict] = field(default_factory=dict)
    trackers: Trackers = field(default_factory=no_trackers)

    @classmethod
    def prepare(
        cls,
        experiment: schema.Experiment,
        planned: tuple[str, ...],
        device: torch.device,
        *,
        allow_network: bool,
        show: Progress,
        stop: Stop,
    ) -> "Study":
        """Load backbones and data, and refuse whatever could not work, before any long work.

        Args:
            experiment: What is asked for.
            planned: Names of the parts that run.
            device: Where torch computes.
            allow_network: Whether weights and data that are missing may be downloaded.
            show: Where to show how far it is.
            stop: Says whether somebody asked to stop.

        Returns:
            The study.

        Raises:
            HeadstartError: Something is not as needed.
        """
        data = experiment.data
        if isinstance(data, schema.LanguageData):
            corpus = inputs.build_corpus(data)
            check_language_parts(experiment, planned, corpus)
            return cls(experiment, planned, device, corpus, {}, show, stop)

        def opened() -> Dataset:
            return inputs.build_dataset(
                data,
                workers=experiment.workers,
                allow_network=allow_network,
                cache=files.cache_root(),
                progress=StoppableProgress(show, stop),
            )

        # Networks for texts are built for single texts or for pairs: the data say which. Pictures
        # take minutes to look at: a wrong name of a network shall be told before.
        first = None if inputs.has_pictures(data) else opened()
        samples = inputs.samples_of(data, first)
        loaded: dict[str, Loaded] = {}
        for name in planned:
            key = backbone_key(experiment, experiment.parts[name])
            if key is not None and key not in loaded:
                config = _loadable(experiment, key, planned)
                backbone, cut = inputs.build_backbone(
                    key, config, samples, allow_network=allow_network
                )
                backbone.to(device)
                loaded[key] = Loaded(backbone, cut)
        check_stages(experiment, planned, loaded)
        dataset = opened() if first is None else first
        if first is None and dataset.noun != samples.noun:
            raise ConfigError(
                f"data: expected {samples.noun}s, for no text_column is given, got "
                f"{dataset.noun}s: set data.text_column to the column with the text"
            )
        check_data(experiment, planned, loaded, dataset)
        return cls(experiment, planned, device, dataset, loaded, show, stop)

    def run_one(self, name: str, folder: Path) -> PartResult | None:
        """Run one part, write its files, and mark it as done.

        Args:
            name: The part's name; what it builds on is done.
            folder: The run folder.

        Returns:
            What it left; None where it is left out.
        """
        part = self.experiment.parts[name]
        if isinstance(part, schema.EnsemblePart):
            able = [m for m in part.members if self._can_vote(m)]
            if len(able) < 2:
                self.show.say(f"{name}: left out, since fewer than two members have predictions")
                return None
            result = run_ensemble(name, part, self.results)
        elif isinstance(part, schema.LanguageModelPart):
            result = run_language(name, part, self._language_bench(name, folder))
        elif isinstance(part, schema.BaselinePart):
            result = run_baseline(part, self.samples())
        elif isinstance(part, schema.ZeroShotPart):
            result = run_zero_shot(name, part, self.any_bench(part, folder))
        else:
            if part.best_of is not None and part.best_of not in self.chosen:
                self.show.say(f"{name}: left out, since {part.best_of} has no best member")
                return None
            part = self.part(name)
            bench = self.any_bench(part, folder)
            if isinstance(part, schema.SweepPart) and part.search is not None:
                part = search_here(name, part, bench, folder)
            result = run_part(name, part, bench)
        write_part(folder, name, result)
        return result

    def part(self, name: str) -> schema.TrainedPart:
        """Return a part that is trained, with what was chosen by the sweep that it is `best_of`."""
        part = self.experiment.parts[name]
        assert isinstance(part, schema.TrainedPart)
        return part if part.best_of is None else build.with_values(part, self.chosen[part.best_of])

    def take_done(self, folder: Path) -> None:
        """Take what parts that are done have left, so that others can build on it."""
        for name in self.planned:
            done = None if name in self.results else load_result(folder / "models" / name)
            if done is not None:
                self.take(name, done)

    def _can_vote(self, member: str) -> bool:
        return member in self.results and "val" in self.results[member].predictions

    def take(self, name: str, result: PartResult) -> None:
        """Take what a part left, so that others can build on it."""
        self.results[name] = result
        part = self.experiment.parts[name]
        if isinstance(part, schema.TrainedPart) and result.best is not None:
            # What a sweep was handed is part of what it hands on.
            handed_on = self.chosen.get(part.best_of, {}) if part.best_of is not None else {}
            self.chosen[name] = {**handed_on, **result.members[result.best].values}

    def any_bench(self, part: schema.TrainedPart | schema.ZeroShotPart, folder: Path) -> Bench:
        """Return what a part that uses a network works with, in this process."""
        study = self.experiment
        key = backbone_key(study, part)
        assert key is not None
        config = study.backbones[key]
        dataset = self.samples()
        samples = inputs.samples_of(study.data, dataset)
        return Bench(
            dataset=dataset,
            backbone=self.loaded[key].backbone,
            config=config,
            cut=self.loaded[key].cut,
            fresh=lambda seed: inputs.fresh_backbone(config, samples, seed),
            device=self.device,
            workers=study.workers,
            progress=self.show,
            store=FeatureStore(
                files.cache_root() / "features",
                None if study.cache.shared is None else Remote(study.cache.shared),
            ),
            cache=study.cache,
            checkpoints=study.checkpoints,
            checkpoint_root=folder / CHECKPOINTS,
            stop=self.stop,
            timing=study.timing,
            memory=self.memory,
            options=inputs.backbone_options(config, samples),
            examples=examples_of(study),
            trackers=self.trackers,
        )

    def bench(
        self, name: str, folder: Path, spread: Spread | None = None, team: Team = ALONE
    ) -> Bench:
        """Return what a part that is trained works with.

        Args:
            name: The part's name.
            folder: The run folder.
            spread: Has features computed by several processes; None: by this one.
            team: The processes that train one model together.

        Returns:
            The bench.
        """
        part = self.experiment.parts[name]
        assert isinstance(part, schema.TrainedPart)
        return dataclasses.replace(self.any_bench(part, folder), spread=spread, team=team)

    def samples(self) -> Dataset:
        """Return the labelled samples: there are none for language models only."""
        assert isinstance(self.dataset, Dataset), "only language models are trained on a text"
        return self.dataset

    def _language_bench(self, name: str, folder: Path) -> LanguageBench:
        assert isinstance(self.dataset, Corpus), "language models are trained on a text"
        return LanguageBench(
            corpus=self.dataset,
            device=self.device,
            progress=self.show,
            checkpoints=self.experiment.checkpoints,
            checkpoint_root=folder / CHECKPOINTS,
            stop=self.stop,
            folder=folder / "models" / name,
            trackers=self.trackers,
        )


def write_part(folder: Path, name: str, result: PartResult) -> None:
    """Write everything that a part leaves; the last file marks it as done.

    Args:
        folder: The run folder.
        name: The part's name.
        result: What it left.
    """
    own = folder / "models" / name
    if result.members:
        shown = [dataclasses.replace(r, member=0) for r in result.shown.records]
        record.write_history(own / "history.parquet", shown, members=False)
        record.write_trace(own / "trace.parquet", shown)
    for split, predictions in result.predictions.items():
        record.write_predictions(own / f"predictions-{split}.parquet", predictions)
    for split, estimates in result.estimates.items():
        record.write_estimates(own / f"predictions-{split}.parquet", estimates)
    if isinstance(result.part, schema.SweepPart):
        every = [
            dataclasses.replace(r, member=index)
            for index, member in enumerate(result.members)
            for r in member.records
        ]
        record.write_history(folder / "sweeps" / name / "history.parquet", every, members=True)
    if result.trained is not None:
        save_model(own, result.trained)
    save_result(own, result)


def _loadable(study: schema.Experiment, key: str, planned: Sequence[str]) -> schema.BackboneConfig:
    """Return a backbone's configuration; weights that no part will use are not looked for."""
    config = study.backbones[key]
    users = [study.parts[n] for n in planned if backbone_key(study, study.parts[n]) == key]
    scratch = all(isinstance(p, schema.TrainedPart) and p.from_scratch for p in users)
    return config.model_copy(update={"weights": "random"}) if scratch else config

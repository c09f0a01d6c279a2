"""A study in memory: data and backbones are there, everything is checked, parts can run."""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from headstart._util import files
from headstart._util.stopping import Stop
from headstart.backbones.base import Backbone
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.data.language import Corpus
from headstart.errors import ConfigError
from headstart.features.store import FeatureStore
from headstart.predict import save_model
from headstart.report.advice import advise
from headstart.report.load import SCHEMA_VERSION
from headstart.runs import build, inputs, record, summary
from headstart.runs.analysis import Frozen, analyse
from headstart.runs.baseline import run_baseline
from headstart.runs.bench import Bench, Memory, StoppableProgress, truncation_record
from headstart.runs.checks import (
    Loaded,
    backbone_key,
    check_data,
    check_language_parts,
    check_stages,
    examples_of,
)
from headstart.runs.ensemble import run_ensemble
from headstart.runs.evidence import tests_record, with_verdicts
from headstart.runs.language import LanguageBench, run_language
from headstart.runs.looks import look
from headstart.runs.part import run_part, train_rows
from headstart.runs.result import PartResult, load_result, save_result
from headstart.runs.trackers import Trackers, no_trackers
from headstart.runs.zero_shot import run_zero_shot
from headstart.types import JsonDict, Progress, StepRecord

CHECKPOINTS = "checkpoints"
_MOSTLY = 0.5


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

    def execute(self, folder: Path, about: JsonDict, started: float) -> JsonDict:
        """Run the parts that are not done, and write the results after each.

        Args:
            folder: The run folder.
            about: The content of its run.json.
            started: When the run began, on the clock of `time.perf_counter`.

        Returns:
            The results.

        Raises:
            StoppedError: Somebody asked to stop; what is done is kept.
        """
        header = self._header(about)
        results: JsonDict = {}
        for name in self.planned:
            done = load_result(folder / "models" / name)
            if done is None:
                self.stop.raise_if_requested()
                done = self._run(name, folder)
            else:
                self.show.say(f"{name}: done before")
            if done is not None:
                self._take(name, done)
                _remove(folder / CHECKPOINTS / name)
            results = self._write_results(folder, header, started)
            seconds = round(time.perf_counter() - started, 3)
            files.write_json(folder / record.RUN_NAME, {**about, "wall_seconds": seconds})
        _remove(folder / CHECKPOINTS)
        return self._look_into(folder, results, started)

    def _look_into(self, folder: Path, results: JsonDict, started: float) -> JsonDict:
        """Add what is known once all parts are there: tests between them, and the analysis."""
        recommended = results["recommendation"]["model"]
        results["tests"] = tests_record(self.results, recommended)
        results["comparisons"] = with_verdicts(results["comparisons"], results["tests"])
        if isinstance(self.dataset, Dataset) and self.dataset.goal == "classification":
            results["analysis"] = analyse(
                self.experiment.analysis,
                self.dataset,
                self._frozen(recommended, folder),
                self.results,
                recommended,
                folder,
            )
        results["recommendation"] = advise(results, self._histories())
        results["wall_seconds"] = round(time.perf_counter() - started, 3)
        files.write_json(folder / record.RESULTS_NAME, results)
        return results

    def _frozen(self, recommended: str | None, folder: Path) -> list[Frozen]:
        """Return the features that parts have stored at their head's cut, by backbone.

        The recommended model's network comes first. At most half of the samples are extracted for
        it: those that no part trained on.
        """
        config = self.experiment.analysis
        if not (config.near_duplicates or config.suspicious_labels or config.learning_curve):
            return []
        found: dict[str, Frozen] = {}
        order = sorted(self.results, key=lambda name: name != recommended)
        for name in order:
            part = self.experiment.parts[name]
            key = backbone_key(self.experiment, part)
            if not isinstance(part, schema.TrainedPart) or key is None or key in found:
                continue
            cut = self.loaded[key].cut
            if not part.from_scratch and any(
                s.features == "stored" and s.cut == cut for s in self.results[name].stages
            ):
                bench = self._bench(part, folder)
                if bench.stored_share() < _MOSTLY:
                    self.show.say(
                        f"the frozen features of {key} are not in the store any more: near-copies "
                        "and labels are not looked into"
                    )
                    continue
                found[key] = Frozen(key, bench, bench.features().features)
        return list(found.values())

    def _run(self, name: str, folder: Path) -> PartResult | None:
        """Run one part, write its files, and mark it as done."""
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
            result = run_baseline(part, self._samples())
        elif isinstance(part, schema.ZeroShotPart):
            result = run_zero_shot(name, part, self._bench(part, folder))
        else:
            if part.best_of is not None:
                if part.best_of not in self.chosen:
                    self.show.say(f"{name}: left out, since {part.best_of} has no best member")
                    return None
                part = build.with_values(part, self.chosen[part.best_of])
            result = run_part(name, part, self._bench(part, folder))
        write_part(folder, name, result)
        return result

    def _can_vote(self, member: str) -> bool:
        return member in self.results and "val" in self.results[member].predictions

    def _take(self, name: str, result: PartResult) -> None:
        self.results[name] = result
        part = self.experiment.parts[name]
        if isinstance(part, schema.TrainedPart) and result.best is not None:
            # What a sweep was handed is part of what it hands on.
            handed_on = self.chosen.get(part.best_of, {}) if part.best_of is not None else {}
            self.chosen[name] = {**handed_on, **result.members[result.best].values}

    def _bench(self, part: schema.TrainedPart | schema.ZeroShotPart, folder: Path) -> Bench:
        study = self.experiment
        key = backbone_key(study, part)
        assert key is not None
        config = study.backbones[key]
        dataset = self._samples()
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
            store=FeatureStore(files.cache_root() / "features"),
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

    def _samples(self) -> Dataset:
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

    def _header(self, about: JsonDict) -> JsonDict:
        """Return the part of the results that is known before training."""
        study = self.experiment
        return {
            "schema_version": SCHEMA_VERSION,
            "experiment": {
                "name": study.name,
                "title": study.title,
                "description": study.description,
                "profile": study.profile,
                "command": about["command"],
                "notes": list(study.notes),
            },
            "created": about["created"],
            "environment": record.environment(str(self.device)),
            "data": self.dataset.describe(),
            "test_looks": self._looks(about),
            "backbones": [self._backbone_record(key) for key in self.loaded],
        }

    def _looks(self, about: JsonDict) -> JsonDict | None:
        if not isinstance(self.dataset, Dataset):
            return None
        return look(files.cache_root(), self.dataset, self.experiment, about, self.show)

    def _backbone_record(self, key: str) -> JsonDict:
        record = _backbone_record(key, self.loaded[key].backbone, self.loaded[key].cut)
        spec = self.loaded[key].backbone.input_spec
        shown = StoppableProgress(self.show, self.stop)
        cut_off = truncation_record(self._samples(), spec, self.memory, shown)
        return record if cut_off is None else {**record, "truncation": cut_off}

    def _write_results(self, folder: Path, header: JsonDict, started: float) -> JsonDict:
        """Write results.json as far as it is known and return its content."""
        study = self.experiment
        models, sweeps = [], []
        for name, result in self.results.items():
            if name not in self.records:
                key = backbone_key(study, result.part)
                self.records[name] = summary.model_record(name, key, result)
            models.append(self.records[name])
            part = study.parts[name]
            if isinstance(part, schema.SweepPart):
                sweeps.append(
                    summary.sweep_record(
                        name,
                        part,
                        result,
                        len(train_rows(self._samples(), part)),
                        len(self.dataset.splits["val"]),
                    )
                )
        comparisons = summary.comparison_records(summary.pairs_of(study), self.results)
        results: JsonDict = {
            **header,
            "wall_seconds": round(time.perf_counter() - started, 3),
            "state": "complete" if len(self.results) == len(study.parts) else "partial",
            "models": models,
            "sweeps": sweeps,
            "comparisons": comparisons,
            "tests": None,
            "analysis": None,
            "recommendation": {"model": None, "sentences": []},
            "targets": [],
        }
        results["recommendation"] = advise(results, self._histories())
        results["targets"] = summary.target_records(
            study.targets, models, comparisons, results["recommendation"]["model"]
        )
        files.write_json(folder / record.RESULTS_NAME, results)
        return results

    def _histories(self) -> dict[str, tuple[StepRecord, ...]]:
        """Return the curve of each part's (best) model."""
        return {
            name: result.members[result.best].records
            for name, result in self.results.items()
            if result.best is not None
        }


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


def _backbone_record(key: str, backbone: Backbone, cut: str) -> JsonDict:
    parameters = list(backbone.prefix(backbone.stages[-1]).parameters())
    return {
        "key": key,
        "name": backbone.name,
        "weights": dataclasses.asdict(backbone.weights),
        "cut": cut,
        "input": backbone.input_spec.describe(),
        "feature_shape": list(backbone.shape(cut)),
        "parameters_total": backbone.parameters_total,
        "size_bytes": sum(p.numel() * p.element_size() for p in parameters),
        "digest": backbone.digest(cut),
    }


def _loadable(study: schema.Experiment, key: str, planned: Sequence[str]) -> schema.BackboneConfig:
    """Return a backbone's configuration; weights that no part will use are not looked for."""
    config = study.backbones[key]
    users = [study.parts[n] for n in planned if backbone_key(study, study.parts[n]) == key]
    scratch = all(isinstance(p, schema.TrainedPart) and p.from_scratch for p in users)
    return config.model_copy(update={"weights": "random"}) if scratch else config


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)

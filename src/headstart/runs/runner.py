"""A whole run: from an experiment to a folder with results and a report."""

import dataclasses
import datetime
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart._util import files, progress
from headstart._util.devices import resolve_device
from headstart.backbones.base import Backbone
from headstart.config import schema
from headstart.config.load import load_experiment
from headstart.data.dataset import Dataset
from headstart.errors import ConfigError, DataError
from headstart.features.extract import Extraction, extract
from headstart.features.store import FeatureStore
from headstart.predict import SavedModel, save_model
from headstart.report import render
from headstart.report.advice import advise
from headstart.report.load import SCHEMA_VERSION
from headstart.runs import build, record, summary
from headstart.runs.part import Bench, PartResult, run_part, train_rows
from headstart.runs.plan import plan_parts
from headstart.types import JsonDict, Progress, StepRecord


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves.

    Attributes:
        folder: The run folder.
        results: The content of its results.json.
        report_html: The report as one HTML file.
        report_pdf: The report as PDF.
    """

    folder: Path
    results: JsonDict
    report_html: Path
    report_pdf: Path


@dataclass(frozen=True, slots=True)
class _Loaded:
    backbone: Backbone
    cut: str


@dataclass(slots=True)
class _State:
    """What is known so far; written to results.json after every part."""

    experiment: schema.Experiment
    folder: Path
    header: JsonDict
    started: float
    planned: tuple[str, ...]
    results: dict[str, PartResult]
    models: list[JsonDict]
    sweeps: list[JsonDict]
    extractions: dict[str, Extraction]
    chosen: dict[str, dict[str, float | int]]


def run(
    experiment: schema.Experiment | str | Path,
    *,
    data: str | None = None,
    out: str | Path = "runs",
    profile: str | None = None,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    allow_network: bool = False,
    show: Progress | None = None,
) -> RunResult:
    """Run a study and write its results and report.

    Args:
        experiment: An `Experiment`, a shipped experiment's name, or the path of a YAML file.
        data: Where the data are; replaces `data.path`.
        out: Folder of all runs; this one gets a new folder inside.
        profile: Which of the experiment's profiles to apply.
        only: Names of parts to repeat alone; empty for all.
        overrides: Changes as ``dotted.key=value``.
        allow_network: Whether weights and data that are missing may be downloaded.
        show: Where to show how far it is; None for the terminal.

    Returns:
        The folder, the results, and where the reports are.

    Raises:
        HeadstartError: The experiment, data or weights are not as needed; nothing was trained.
    """
    show = show if show is not None else progress.for_terminal()
    if isinstance(experiment, schema.Experiment):
        if data is not None or profile is not None or overrides:
            raise ConfigError(
                "data, profile and overrides change a file while it is loaded: "
                "give them to Experiment.load, or give run a name or path"
            )
        study, source = experiment, experiment.name
    else:
        study = load_experiment(experiment, profile=profile, data=data, overrides=tuple(overrides))
        source = str(experiment)
    started = time.perf_counter()
    planned = plan_parts(study, only)
    device = resolve_device(study.device)
    loaded = _load_backbones(study, planned, allow_network)
    for one in loaded.values():
        one.backbone.to(device)
    cache = files.cache_root()
    dataset = build.build_dataset(
        study.data,
        workers=study.workers,
        allow_network=allow_network,
        cache=cache,
        progress=show,
    )
    _check_labels(study, planned, dataset)
    now = datetime.datetime.now().astimezone()
    folder = record.new_run_folder(Path(out), study, now)
    command = _command(source, data, profile, only, overrides, allow_network)
    state = _State(
        experiment=study,
        folder=folder,
        header=_header(study, command, now, str(device), dataset, loaded),
        started=started,
        planned=planned,
        results={},
        models=[],
        sweeps=[],
        extractions={},
        chosen={},
    )
    record.write_experiment(folder, study)
    files.write_json(folder / "environment.json", state.header["environment"])
    store = FeatureStore(cache / "features")
    for name in planned:
        part = study.parts[name]
        key = _backbone_key(study, part)
        bench = Bench(dataset, loaded[key].backbone, loaded[key].cut, device, study.workers, show)
        _run_one(state, name, part, key, bench, store)
        results = _write_results(state)
    html, pdf = render(folder, max_pages=study.report.max_pages)
    return RunResult(folder, results, html, pdf)


def _run_one(
    state: _State, name: str, part: schema.ModelPart, key: str, bench: Bench, store: FeatureStore
) -> None:
    """Run one part and put what it found into the state and the run folder."""
    handed_on: dict[str, float | int] = {}
    if part.best_of is not None:
        if part.best_of not in state.chosen:
            bench.progress.say(f"{name}: left out, since {part.best_of} has no best member")
            return
        handed_on = state.chosen[part.best_of]
        part = build.with_values(part, handed_on)
    extraction = None
    if part.mode == "cached":
        extraction = _extract(state, key, bench, store)
    result = run_part(name, part, bench, extraction)
    state.results[name] = result
    if result.best is not None:
        # What a sweep was handed is part of what it hands on.
        state.chosen[name] = {**handed_on, **result.members[result.best].values}
    _write_part(state, name, part, key, bench, result)


def _extract(state: _State, key: str, bench: Bench, store: FeatureStore) -> Extraction:
    """Return the features of all samples; the first part that needs them pays for them."""
    if key in state.extractions:
        done = state.extractions[key]
        return dataclasses.replace(done, extracted=0, reused=len(bench.dataset), wall_seconds=0.0)
    cache = state.experiment.cache
    done = extract(
        bench.dataset,
        np.arange(len(bench.dataset), dtype=np.int64),
        bench.backbone,
        bench.cut,
        store=store,
        dtype=cache.dtype,
        engine=cache.engine,
        device=bench.device,
        batch_size=cache.batch_size,
        workers=bench.workers,
        progress=bench.progress,
    )
    state.extractions[key] = done
    return done


def _write_part(
    state: _State,
    name: str,
    part: schema.ModelPart,
    key: str,
    bench: Bench,
    result: PartResult,
) -> None:
    folder = state.folder / "models" / name
    state.models.append(summary.model_record(name, key, bench.backbone, bench.cut, result))
    own = [dataclasses.replace(r, member=0) for r in result.shown.records]
    record.write_history(folder / "history.parquet", own, members=False)
    for split, predictions in result.predictions.items():
        record.write_predictions(folder / f"predictions-{split}.parquet", predictions)
    if isinstance(part, schema.SweepPart):
        train_count = len(train_rows(bench.dataset, part))
        val_count = len(bench.dataset.splits["val"])
        state.sweeps.append(summary.sweep_record(name, part, result, train_count, val_count))
        record.write_history(
            state.folder / "sweeps" / name / "history.parquet", _all_records(result), members=True
        )
    if result.head is not None:
        config = state.experiment.backbones[key]
        saved = SavedModel(
            backbone=config.name,
            backbone_weights=config.weights,
            backbone_seed=config.seed,
            backbone_digest=bench.backbone.digest(bench.cut),
            cut=bench.cut,
            input_spec=bench.backbone.input_spec,
            classes=bench.dataset.classes,
            head=result.head.spec,
            width=int(np.prod(bench.backbone.shape(bench.cut))),
        )
        save_model(folder, saved, result.head)


def _all_records(result: PartResult) -> list[StepRecord]:
    return [
        dataclasses.replace(r, member=index)
        for index, member in enumerate(result.members)
        for r in member.records
    ]


def _write_results(state: _State) -> JsonDict:
    """Write results.json as far as it is known and return its content."""
    comparisons = summary.comparison_records(summary.pairs_of(state.experiment), state.results)
    complete = len(state.results) == len(state.experiment.parts)
    results: JsonDict = {
        **state.header,
        "wall_seconds": round(time.perf_counter() - state.started, 3),
        "state": "complete" if complete else "partial",
        "models": state.models,
        "sweeps": state.sweeps,
        "comparisons": comparisons,
        "recommendation": {"model": None, "sentences": []},
        "targets": summary.target_records(state.experiment.targets, state.models, comparisons),
    }
    results["recommendation"] = advise(results, _histories(state))
    files.write_json(state.folder / record.RESULTS_NAME, results)
    return results


def _histories(state: _State) -> dict[str, tuple[StepRecord, ...]]:
    """Return the curve of each part's (best) model."""
    return {
        name: result.members[result.best].records
        for name, result in state.results.items()
        if result.best is not None
    }


def _header(
    study: schema.Experiment,
    command: str,
    now: datetime.datetime,
    device: str,
    dataset: Dataset,
    loaded: Mapping[str, _Loaded],
) -> JsonDict:
    """Return the part of the results that is known before training."""
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": {
            "name": study.name,
            "title": study.title,
            "description": study.description,
            "profile": study.profile,
            "command": command,
            "notes": list(study.notes),
        },
        "created": now.isoformat(timespec="seconds"),
        "environment": record.environment(device),
        "data": dataset.describe(),
        "backbones": [_backbone_record(key, one.backbone, one.cut) for key, one in loaded.items()],
    }


def _backbone_record(key: str, backbone: Backbone, cut: str) -> JsonDict:
    parameters = list(backbone.prefix(backbone.stages[-1]).parameters())
    return {
        "key": key,
        "name": backbone.name,
        "weights": dataclasses.asdict(backbone.weights),
        "cut": cut,
        "input": dataclasses.asdict(backbone.input_spec),
        "feature_shape": list(backbone.shape(cut)),
        "parameters_total": backbone.parameters_total,
        "size_bytes": sum(p.numel() * p.element_size() for p in parameters),
        "digest": backbone.digest(cut),
    }


def _check_labels(study: schema.Experiment, planned: Sequence[str], dataset: Dataset) -> None:
    """Refuse, before any training, a part that wants more labels than there are."""
    for name in planned:
        try:
            train_rows(dataset, study.parts[name])
        except DataError as error:
            raise DataError(f"parts.{name}.labels_per_class: {error}") from error


def _load_backbones(
    study: schema.Experiment, planned: Sequence[str], allow_network: bool
) -> dict[str, _Loaded]:
    keys = dict.fromkeys(_backbone_key(study, study.parts[name]) for name in planned)
    out = {}
    for key in keys:
        backbone, cut = build.build_backbone(
            study.backbones[key], fit=study.data.fit, allow_network=allow_network
        )
        out[key] = _Loaded(backbone, cut)
    return out


def _backbone_key(study: schema.Experiment, part: schema.ModelPart) -> str:
    return part.backbone if part.backbone is not None else next(iter(study.backbones))


def _command(
    source: str,
    data: str | None,
    profile: str | None,
    only: Sequence[str],
    overrides: Sequence[str],
    allow_network: bool,
) -> str:
    words = ["headstart", "run", source]
    for flag, value in (("--profile", profile), ("--data", data)):
        if value is not None:
            words += [flag, str(value)]
    for part in only:
        words += ["--only", part]
    for override in overrides:
        words += ["-s", override]
    if allow_network:
        words.append("--allow-network")
    return shlex.join(words)

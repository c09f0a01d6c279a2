"""Assembling a run: its parts in order, and the results as far as they are known after each."""

import contextlib
import dataclasses
import shutil
import time
from pathlib import Path

from headstart._util import files
from headstart.backbones.base import Backbone
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.report.advice import advise
from headstart.report.load import SCHEMA_VERSION
from headstart.runs import record, summary
from headstart.runs.analysis import Frozen, analyse
from headstart.runs.bench import StoppableProgress, truncation_record
from headstart.runs.checks import backbone_key
from headstart.runs.evidence import tests_record, with_verdicts
from headstart.runs.looks import look
from headstart.runs.part import train_rows
from headstart.runs.result import PartResult, load_result
from headstart.runs.study import CHECKPOINTS, Study
from headstart.types import JsonDict, StepRecord

_MOSTLY = 0.5


def assemble(study: Study, folder: Path, about: JsonDict, started: float) -> JsonDict:
    """Run the parts that are not done, and write the results after each.

    Args:
        study: Ready to run.
        folder: The run folder.
        about: The content of its run.json.
        started: When the run began, on the clock of `time.perf_counter`.

    Returns:
        The results.

    Raises:
        StoppedError: Somebody asked to stop; what is done is kept.
    """
    header = _header(study, about)
    results: JsonDict = {}
    for name in study.planned:
        done = load_result(folder / "models" / name)
        if done is None:
            study.stop.raise_if_requested()
            done = study.run_one(name, folder)
        else:
            study.show.say(f"{name}: done before")
            _show(study, name, done)
        if done is not None:
            study.take(name, done)
            _remove(folder / CHECKPOINTS / name)
        results = _write_results(study, folder, header, started)
        seconds = round(time.perf_counter() - started, 3)
        files.write_json(folder / record.RUN_NAME, {**about, "wall_seconds": seconds})
    _remove(folder / CHECKPOINTS)
    return _look_into(study, folder, results, started)


def _show(study: Study, name: str, done: PartResult) -> None:
    """Show trackers what others trained; they leave out what they have shown."""
    for index, member in enumerate(done.members):
        for one in member.records:
            own = dataclasses.replace(one, member=0)
            study.trackers.log(name, own, first=index, members=len(done.members))


def _look_into(study: Study, folder: Path, results: JsonDict, started: float) -> JsonDict:
    """Add what is known once all parts are there: tests between them, and the analysis."""
    recommended = results["recommendation"]["model"]
    results["tests"] = tests_record(study.results, recommended)
    results["comparisons"] = with_verdicts(results["comparisons"], results["tests"])
    if isinstance(study.dataset, Dataset) and study.dataset.goal == "classification":
        results["analysis"] = analyse(
            study.experiment.analysis,
            study.dataset,
            _frozen(study, recommended, folder),
            study.results,
            recommended,
            folder,
        )
    results["recommendation"] = advise(results, _histories(study))
    results["wall_seconds"] = round(time.perf_counter() - started, 3)
    files.write_json(folder / record.RESULTS_NAME, results)
    return results


def _frozen(study: Study, recommended: str | None, folder: Path) -> list[Frozen]:
    """Return the features that parts have stored at their head's cut, by backbone.

    The recommended model's network comes first. At most half of the samples are extracted for
    it: those that no part trained on.
    """
    config = study.experiment.analysis
    if not (config.near_duplicates or config.suspicious_labels or config.learning_curve):
        return []
    found: dict[str, Frozen] = {}
    order = sorted(study.results, key=lambda name: name != recommended)
    for name in order:
        part = study.experiment.parts[name]
        key = backbone_key(study.experiment, part)
        if not isinstance(part, schema.TrainedPart) or key is None or key in found:
            continue
        cut = study.loaded[key].cut
        if not part.from_scratch and any(
            s.features == "stored" and s.cut == cut for s in study.results[name].stages
        ):
            bench = study.any_bench(part, folder)
            if bench.stored_share() < _MOSTLY:
                study.show.say(
                    f"the frozen features of {key} are not in the store any more: near-copies "
                    "and labels are not looked into"
                )
                continue
            found[key] = Frozen(key, bench, bench.features().features)
    return list(found.values())


def _header(study: Study, about: JsonDict) -> JsonDict:
    """Return the part of the results that is known before training."""
    experiment = study.experiment
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": {
            "name": experiment.name,
            "title": experiment.title,
            "description": experiment.description,
            "profile": experiment.profile,
            "command": about["command"],
            "notes": list(experiment.notes),
        },
        "created": about["created"],
        "environment": record.environment(str(study.device)),
        "data": study.dataset.describe(),
        "test_looks": _looks(study, about),
        "backbones": [_loaded_record(study, key) for key in study.loaded],
    }


def _looks(study: Study, about: JsonDict) -> JsonDict | None:
    if not isinstance(study.dataset, Dataset):
        return None
    return look(files.cache_root(), study.dataset, study.experiment, about, study.show)


def _loaded_record(study: Study, key: str) -> JsonDict:
    backbone = study.loaded[key].backbone
    found = _backbone_record(key, backbone, study.loaded[key].cut)
    shown = StoppableProgress(study.show, study.stop)
    cut_off = truncation_record(study.samples(), backbone.input_spec, study.memory, shown)
    return found if cut_off is None else {**found, "truncation": cut_off}


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


def _write_results(study: Study, folder: Path, header: JsonDict, started: float) -> JsonDict:
    """Write results.json as far as it is known and return its content."""
    experiment = study.experiment
    models, sweeps = [], []
    for name, result in study.results.items():
        if name not in study.records:
            key = backbone_key(experiment, result.part)
            study.records[name] = summary.model_record(name, key, result)
        models.append(study.records[name])
        part = experiment.parts[name]
        if isinstance(part, schema.SweepPart):
            sweeps.append(
                summary.sweep_record(
                    name,
                    part,
                    result,
                    len(train_rows(study.samples(), part)),
                    len(study.dataset.splits["val"]),
                )
            )
    comparisons = summary.comparison_records(summary.pairs_of(experiment), study.results)
    results: JsonDict = {
        **header,
        "wall_seconds": round(time.perf_counter() - started, 3),
        "state": "complete" if len(study.results) == len(experiment.parts) else "partial",
        "models": models,
        "sweeps": sweeps,
        "comparisons": comparisons,
        "tests": None,
        "analysis": None,
        "recommendation": {"model": None, "sentences": []},
        "targets": [],
    }
    results["recommendation"] = advise(results, _histories(study))
    results["targets"] = summary.target_records(
        experiment.targets, models, comparisons, results["recommendation"]["model"]
    )
    files.write_json(folder / record.RESULTS_NAME, results)
    return results


def _histories(study: Study) -> dict[str, tuple[StepRecord, ...]]:
    """Return the curve of each part's (best) model."""
    return {
        name: result.members[result.best].records
        for name, result in study.results.items()
        if result.best is not None
    }


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)

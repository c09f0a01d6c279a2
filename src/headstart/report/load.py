"""Reads a finished run folder: results.json, and the histories and predictions beside it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.errors import RunError
from headstart.report.measures import goal
from headstart.report.pictures import Picture, inside, read_picture
from headstart.report.text import clean
from headstart.types import JsonDict, StepRecord

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        results: The content of results.json, every text fit to be shown.
        histories: Curves by model name, and by ``sweeps/NAME`` with the member of each record.
        traces: Training losses within the epochs, (optimiser steps, loss), by model name.
        estimates: What regressions predict on test, (true, predicted), by model name.
        pictures: Small pictures by the path that the analysis gives; what cannot be shown is
            left out.
    """

    results: JsonDict
    histories: Mapping[str, tuple[StepRecord, ...]]
    traces: Mapping[str, tuple[tuple[float, float], ...]]
    estimates: Mapping[str, tuple[tuple[float, float], ...]]
    pictures: Mapping[str, Picture] = field(default_factory=dict)


def read_results(run_folder: Path) -> JsonDict:
    """Read a run's results.json.

    Args:
        run_folder: The folder that a run has written.

    Returns:
        Its content.

    Raises:
        RunError: The folder holds no results.json, or one that cannot be read.
    """
    path = run_folder / "results.json"
    try:
        # NaN is not JSON and never written; a file edited by hand may hold it all the same.
        raw = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError as error:
        raise RunError(
            f"{run_folder} is not a finished run: expected the file results.json in it; "
            "give the folder that 'headstart run' printed"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as JSON: {error}") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise RunError(
            f"{path}: expected schema_version {SCHEMA_VERSION}, got {version!r}; "
            "render it with the version of Headstart that wrote it"
        )
    results: JsonDict = raw
    return results


def load_run(run_folder: Path) -> Run:
    """Read a run folder.

    Args:
        run_folder: The folder that a run has written.

    Returns:
        Its results, and what else its files hold; a file that is not there is left out.

    Raises:
        RunError: The folder holds no results.json, or one that cannot be read.
    """
    raw = read_results(run_folder)
    places = [(m.get("name"), m) for m in raw.get("models") or ()]
    places += [(f"sweeps/{s.get('name')}", s) for s in raw.get("sweeps") or ()]
    histories = {}
    for name, owner in places:
        steps = _read_history(run_folder, owner.get("history"))
        if steps:
            histories[clean(name)] = steps
    traces, estimates = {}, {}
    for model in raw.get("models") or ():
        name = clean(model.get("name"))
        traces[name] = _pairs(run_folder, model.get("trace"), "step", "loss")
        if goal(raw) == "regression":
            of = model.get("predictions")
            path = of.get("test") if isinstance(of, Mapping) else None
            estimates[name] = _pairs(run_folder, path, "target", "predicted")
    return Run(
        _cleaned(raw),
        histories,
        {name: points for name, points in traces.items() if points},
        {name: points for name, points in estimates.items() if points},
        _pictures(run_folder, raw),
    )


def _pictures(run_folder: Path, raw: JsonDict) -> dict[str, Picture]:
    """Return the small pictures of the mistakes and of the labels that are under suspicion."""
    analysis = raw.get("analysis") or {}
    entries = [
        *(analysis.get("mistakes") or ()),
        *((analysis.get("suspicious_labels") or {}).get("list") or ()),
    ]
    found = {}
    for relative in (e.get("image") for e in entries):
        if isinstance(relative, str) and (picture := read_picture(run_folder, relative)):
            found[clean(relative)] = picture
    return found


def _read_rows(run_folder: Path, relative: str | None) -> list[JsonDict]:
    """Return the rows of a Parquet file inside the run folder, or nothing where there is none."""
    path = inside(run_folder, relative)
    if path is None:
        return []
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows: list[JsonDict] = parquet.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise RunError(f"{path} cannot be read as Parquet: {error}") from error
    return rows


def _pairs(
    run_folder: Path, relative: str | None, x: str, y: str
) -> tuple[tuple[float, float], ...]:
    """Return two columns of a Parquet file; rows that lack a finite number are left out."""
    rows = _read_rows(run_folder, relative)
    pairs = ((_number(row.get(x)), _number(row.get(y))) for row in rows)
    return tuple(pair for pair in pairs if all(math.isfinite(v) for v in pair))


def _read_history(run_folder: Path, relative: str | None) -> tuple[StepRecord, ...]:
    """Return the records of a history.parquet, or nothing where there is none."""
    return tuple(
        StepRecord(
            member=int(row.get("member") or 0),
            stage=int(row.get("stage") or 0),
            epoch=int(row["epoch"]),
            split=str(row["split"]),
            loss=_number(row.get("loss")),
            accuracy=_number(row.get("accuracy")),
            learning_rate=_number(row.get("learning_rate")),
            seconds=_number(row.get("seconds")),
            step=int(row.get("step") or 0),
        )
        for row in _read_rows(run_folder, relative)
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _cleaned(value: Any) -> Any:
    """Return a JSON value whose texts and keys can all be shown."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(v) for v in value]
    if isinstance(value, dict):
        return {clean(k): _cleaned(v) for k, v in value.items()}
    return value

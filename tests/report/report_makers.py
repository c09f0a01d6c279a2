"""Small results made by hand for tests of one rule each; and readers of what a report shows."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headstart.report import ReportView, build_view
from headstart.report.records import Figure, Table
from headstart.types import JsonDict, StepRecord


def score(value: float, half: float = 0.03, n: int = 200) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def model(name: str, val: float, test: float = 0.5, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "title": name.upper(),
        "mode": "cached",
        "state": "complete",
        "hyperparameters": {},
        "metrics": {"val": {"accuracy": score(val)}, "test": {"accuracy": score(test)}},
        **more,
    }


def results(**parts: Any) -> JsonDict:
    empty = {"models": [], "sweeps": [], "comparisons": [], "data": {}, "experiment": {}}
    return {"schema_version": 1, **empty, **parts}


def texts(said: JsonDict, topic: str) -> str:
    return " ".join(s["text"] for s in said["sentences"] if s["topic"] == topic)


def steps(train: Sequence[float], val: Sequence[float], accuracy: float = 0.8) -> list[StepRecord]:
    return [
        StepRecord(0, 0, epoch, split, loss, accuracy, 0.1, 0.0)
        for split, losses in (("train", train), ("val", val))
        for epoch, loss in enumerate(losses, start=1)
    ]


def tables(view: ReportView) -> dict[str, Table]:
    return {b.key: b for s in view.sections for b in s.blocks if isinstance(b, Table)}


def plots(view: ReportView) -> dict[str, Any]:
    return {b.key: b.plot for s in view.sections for b in s.blocks if isinstance(b, Figure)}


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def changed(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> ReportView:
    results = read(source)
    target.mkdir()
    change(results)
    (target / "results.json").write_text(json.dumps(results))
    for history in source.glob("models/*/history.parquet"):
        copied = target / history.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(history.read_bytes())
    return build_view(target)

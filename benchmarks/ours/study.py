"""Headstart: `headstart run` of a study, as a call in a process that has imported everything."""

import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from benchmarks.contender import Answer, Job, answer
from benchmarks.ours import floors
from benchmarks.ours.libraries import PACKAGES, import_all
from headstart.backbones.registry import load_backbone
from headstart.types import StepRecord


def clocked(module: Any, name: str) -> list[float]:
    """Replace a function of a module by itself with a clock; return where its seconds are kept."""
    seconds: list[float] = []
    function: Callable[..., Any] = getattr(module, name)

    @wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(module, name, timed)
    return seconds


def finished(module: Any, name: str) -> list[float]:
    """Replace a function of a module by itself and a note of when it returned; return the notes."""
    ends: list[float] = []
    function: Callable[..., Any] = getattr(module, name)

    @wraps(function)
    def noted(*given: Any, **named: Any) -> Any:
        found = function(*given, **named)
        ends.append(time.perf_counter())
        return found

    setattr(module, name, noted)
    return ends


def recorded(staged: Any) -> list[StepRecord]:
    """Return where the history of each training of stages will be found."""
    records: list[StepRecord] = []
    train = staged.train

    @wraps(train)
    def noted(*given: Any, **named: Any) -> Any:
        found = train(*given, **named)
        records.extend(found[0])
        return found

    staged.train = noted
    return records


def work(job: Job) -> Answer:
    """Run the study; bundle its model where a path for it is given."""
    from headstart._util.progress import SilentProgress
    from headstart.runs import runner, staged, study

    torch.set_num_threads(job["threads"])
    if "cache" in job:
        os.environ["HEADSTART_CACHE"] = job["cache"]
    report = clocked(runner, "render")
    trained = finished(study, "run_part")
    records = recorded(staged)
    out = job.get("out", f"{os.environ['HEADSTART_CACHE']}-runs")
    start = time.perf_counter()
    result = runner.run(job["study"], out=out, show=SilentProgress())
    seconds = time.perf_counter() - start
    if job.get("bundle"):
        from headstart.runs.bundling import bundle_run

        bundle_run(result.folder, out=Path(job["bundle"]), show=SilentProgress())
    (model,) = result.results["models"]
    found: Answer = {
        "seconds": seconds if job["report_counts"] else seconds - sum(report),
        "report_seconds": sum(report),
        "trained_seconds": trained[-1] - start,
        # With the weights after each epoch, not with those of the best one, which the study keeps.
        "accuracies": [r.accuracy for r in records if r.split == "val"],
        "samples": model["metrics"]["val"]["accuracy"]["n"],
    }
    if "trained_from" in job:
        backbone = load_backbone(job["backbone"], weights="random")
        found |= floors.last_stages(backbone, job["trained_from"])
    return found


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)

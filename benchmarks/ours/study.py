"""Headstart: `headstart run` of a study, as a call in a process that has imported everything."""

import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from benchmarks.contender import Answer, Job, answer
from benchmarks.ours.libraries import PACKAGES, import_all


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


def work(job: Job) -> Answer:
    """Run the study; bundle its model where a path for it is given."""
    from headstart._util.progress import SilentProgress
    from headstart.runs import runner

    torch.set_num_threads(job["threads"])
    if "cache" in job:
        os.environ["HEADSTART_CACHE"] = job["cache"]
    report = clocked(runner, "render")
    out = job.get("out", f"{os.environ['HEADSTART_CACHE']}-runs")
    start = time.perf_counter()
    result = runner.run(job["study"], out=out, show=SilentProgress())
    seconds = time.perf_counter() - start
    if job.get("bundle"):
        from headstart.runs.bundling import bundle_run

        bundle_run(result.folder, out=Path(job["bundle"]), show=SilentProgress())
    (model,) = result.results["models"]
    score = model["metrics"]["val"]["accuracy"]
    return {
        "seconds": seconds if job["report_counts"] else seconds - sum(report),
        "report_seconds": sum(report),
        "accuracy": score["value"],
        "samples": score["n"],
    }


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)

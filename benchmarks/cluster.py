"""`python -m benchmarks.cluster STUDY`: a study on one machine and on two, of one core each.

Both are clusters of Ray's on this machine, begun in turn and each with an empty store of features,
so that nothing but the number of machines differs; which engine computes is told them where the
run in one process has tried several, since a clock decides it. A machine's processes compute on one
core of this one. Prints what extraction and the whole run take. Processes begin during the run,
which computes on the same cores: so extraction is then done three times more, with an empty store
again, by the processes that are there: they open the study anew, and build the engine. Ends with
status 1 where the results differ by anything but times, or where two machines extract less than 1.6
times as fast as one.

    python -m benchmarks.cluster flowers-mobilenetv2 --data FLOWERS --profile small
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.likeness import differences, without_times
from headstart import RunResult, run
from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop
from headstart.errors import StoppedError
from headstart.features.upkeep import engines_folder
from headstart.runs import apart
from headstart.runs.executors import Executor, executor_for

LEAST = 1.6
_AGAIN = 3  # extractions by processes that are there
_MEMORY = 200 * 1024**2  # of Ray's object store: only plain data pass through it


@contextmanager
def clocked(stop: Stop | None = None) -> Iterator[list[float]]:
    """Clock the extractions of a run, each from its start until its last shard is there.

    Args:
        stop: Is asked to stop once everything is extracted; None: the run goes on.

    Yields:
        Their seconds.
    """
    seconds: list[float] = []
    extract = apart.Apart._extract

    def timed(this: Any, study: Any) -> None:
        start = time.perf_counter()
        extract(this, study)
        seconds.append(time.perf_counter() - start)
        if stop is not None:
            stop.request()

    apart.Apart._extract = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        apart.Apart._extract = extract  # type: ignore[method-assign]


@dataclass
class Times:
    """Seconds of a run on a cluster: all of it, its extraction, and that with processes there."""

    whole: float
    first: float
    again: list[float]


def on_machines(count: int, given: argparse.Namespace, folder: Path) -> tuple[RunResult, Times]:
    """Run the study on so many machines of one core each."""
    import ray
    from ray.cluster_utils import Cluster

    cache = folder / "cache"
    known = engines_folder(folder.parent / "here" / "cache" / "features")
    if known.exists():
        shutil.copytree(known, engines_folder(cache / "features"))
    os.environ["HEADSTART_CACHE"] = str(cache)
    node = {"num_cpus": 1, "object_store_memory": _MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(count - 1):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        cores = sorted(os.sched_getaffinity(0))
        for core, machine in zip(cores[:count], cluster.list_all_nodes(), strict=True):
            keep_to(core, machine)
        with executor_for("ray", address=cluster.address) as executor:
            with clocked() as first:
                result = study(given, folder, executor)
            again: list[float] = []
            for _ in range(_AGAIN):
                for key in (cache / "features").glob("*/key.json"):
                    shutil.rmtree(key.parent)
                stop = Stop()
                with clocked(stop) as seconds, contextlib.suppress(StoppedError):
                    study(given, folder, executor, stop)
                again += seconds
    finally:
        ray.shutdown()
        cluster.shutdown()
    return result, Times(float(result.results["wall_seconds"]), first[0], again)


def keep_to(core: int, machine: Any) -> None:
    """Let the processes of a machine of Ray's compute on one core, as if it had no other."""
    pids = {process.process.pid for process in machine.all_processes["raylet"]}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in pids or int(folder.name) in pids:
                for thread in (folder / "task").iterdir():
                    os.sched_setaffinity(int(thread.name), {core})


def study(
    given: argparse.Namespace, folder: Path, executor: Executor | None, stop: Stop | None = None
) -> RunResult:
    """Run the study."""
    return run(
        given.study,
        data=given.data,
        profile=given.profile,
        overrides=given.set,
        out=folder / "runs",
        show=SilentProgress(),
        executor=executor,
        stop=stop,
    )


def here(given: argparse.Namespace, folder: Path) -> RunResult:
    """Run the study in this process, on as many threads as a machine has."""
    os.environ["HEADSTART_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    return study(given, folder, None)


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("study", help="an experiment's name or file")
    parser.add_argument("--data", help="its data")
    parser.add_argument("--profile", help="its profile")
    parser.add_argument("--set", action="append", default=[], help="an override: KEY=VALUE")
    given = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        result = here(given, Path(name) / "here")
        print(f"in one process: {result.results['wall_seconds']:.1f} s", flush=True)
        expected = without_times(result.results)
        times = []
        for count in (1, 2):
            result, taken = on_machines(count, given, Path(name) / str(count))
            times.append(taken)
            found = differences(without_times(result.results), expected)
            wrong += [f"{count} of one core: {one}" for one in found]
            again = ", ".join(f"{seconds:.1f}" for seconds in taken.again)
            print(
                f"{count} of one core: the whole run {taken.whole:.1f} s; extraction "
                f"{taken.first:.1f} s with the start of processes, then {again} s without",
                flush=True,
            )
    one, two = times
    ratio = median(one.again) / median(two.again)
    print(
        f"two machines against one: extraction {ratio:.2f} times as fast ({LEAST} wanted), "
        f"{one.first / two.first:.2f} with the start of processes; the whole run "
        f"{one.whole / two.whole:.2f} times"
    )
    print(
        "\n".join(["results differ:", *wrong]) if wrong else "results: the same as in one process"
    )
    return 1 if wrong or ratio < LEAST else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.cluster STUDY`: a study on one machine and on two, of one core each.

Both are clusters of Ray's on this machine, begun in turn and each with an empty store of features,
so that nothing but the number of machines differs. Prints what extraction and the whole run take,
and how they compare; ends with status 1 where the results differ by anything but times, or where
two machines extract less than 1.6 times as fast as one.

    python -m benchmarks.cluster flowers-mobilenetv2 --data FLOWERS --profile small
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.likeness import differences, without_times
from headstart import RunResult, run
from headstart._util.progress import SilentProgress
from headstart.runs import apart
from headstart.runs.executors import executor_for

LEAST = 1.6
_MEMORY = 200 * 1024**2  # of Ray's object store: only plain data pass through it


class Clock:
    """What the extraction of a run takes, from its start until its last shard is written.

    Attributes:
        seconds: Of all extractions, with the start of the processes that do them.
        steady: From the first share that was done to the last, without that start.
        samples: What was extracted.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.seconds, self.steady, self.samples = 0.0, 0.0, 0

    def watch(self) -> None:
        """Clock the extraction of the runs of this process."""
        extract, settled = apart.Apart._extract, apart.Apart._settled
        ends: list[tuple[float, int]] = []

        def noted(this: Any, done: Any) -> bool:
            if done.report is not None and done.job.share is not None:
                ends.append((time.perf_counter(), done.report.extracted))
            return settled(this, done)

        def timed(this: Any, study: Any) -> None:
            ends.clear()
            start = time.perf_counter()
            extract(this, study)
            self.seconds += time.perf_counter() - start
            if len(ends) > 1:
                self.steady += ends[-1][0] - ends[0][0]
                self.samples += sum(count for _, count in ends[1:])

        apart.Apart._extract = timed  # type: ignore[method-assign]
        apart.Apart._settled = noted  # type: ignore[method-assign]


def on_machines(count: int, given: argparse.Namespace, folder: Path) -> tuple[RunResult, Clock]:
    """Run the study on so many machines of one core each."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["HEADSTART_CACHE"] = str(folder / "cache")
    node = {"num_cpus": 1, "object_store_memory": _MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    clock = Clock()
    before = apart.Apart._extract, apart.Apart._settled
    clock.watch()
    try:
        for _ in range(count - 1):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        with executor_for("ray", address=cluster.address) as executor:
            result = run(
                given.study,
                data=given.data,
                profile=given.profile,
                overrides=given.set,
                out=folder / "runs",
                show=SilentProgress(),
                executor=executor,
            )
    finally:
        apart.Apart._extract, apart.Apart._settled = before  # type: ignore[method-assign]
        ray.shutdown()
        cluster.shutdown()
    return result, clock


def here(given: argparse.Namespace, folder: Path) -> RunResult:
    """Run the study in this process, on as many threads as a machine has."""
    os.environ["HEADSTART_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    return run(
        given.study,
        data=given.data,
        profile=given.profile,
        overrides=given.set,
        out=folder / "runs",
        show=SilentProgress(),
    )


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("study", help="an experiment's name or file")
    parser.add_argument("--data", help="its data")
    parser.add_argument("--profile", help="its profile")
    parser.add_argument("--set", action="append", default=[], help="an override: KEY=VALUE")
    parser.add_argument("--repeats", type=int, default=1, help="of both clusters, in turn")
    given = parser.parse_args()
    ratios, steady, wrong = [], [], []
    with tempfile.TemporaryDirectory() as name:
        expected = without_times(here(given, Path(name) / "here").results)
        for repeat in range(given.repeats):
            clocks, walls = [], []
            for count in (1, 2):
                result, clock = on_machines(count, given, Path(name) / f"{repeat}-{count}")
                clocks.append(clock)
                walls.append(float(result.results["wall_seconds"]))
                wrong += differences(without_times(result.results), expected)
                print(
                    f"{count} of one core: extraction {clock.seconds:.1f} s, of which "
                    f"{clock.samples:,} samples took {clock.steady:.1f} s once the first share "
                    f"was done; the whole run {walls[-1]:.1f} s",
                    flush=True,
                )
            one, two = clocks
            ratios.append(one.seconds / two.seconds)
            steady.append((two.samples / two.steady) / (one.samples / one.steady))
            print(
                f"two machines against one: extraction {ratios[-1]:.2f} times as fast with the "
                f"start of processes, {steady[-1]:.2f} without; the whole run "
                f"{walls[0] / walls[1]:.2f} times",
                flush=True,
            )
    print("results: " + ("; ".join(wrong[:9]) if wrong else "the same as in one process"))
    return 1 if wrong or sorted(steady)[len(steady) // 2] < LEAST else 0


if __name__ == "__main__":
    sys.exit(main())

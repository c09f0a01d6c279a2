"""One model that several processes of a Ray cluster train together, begun by Ray Train."""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed

from headstart._util import files
from headstart.runs.in_team import backends
from headstart.runs.jobs import Job, Place, Report, perform
from headstart.runs.stream_on_ray import RETRIES
from headstart.runs.study import CHECKPOINTS
from headstart.train import current_team

_PATIENCE_SECONDS = 86_400  # of processes for each other: one may be extracting features
_LOOPBACK = "127.0.0.1"


def train_together(
    job: Job, place: Place, processes: int, cpus: float, gpus: float, *, own: bool
) -> Report:
    """Drive Ray Train: the job's checkpoints are ours, so that any number of processes goes on.

    Args:
        job: The training.
        place: Where.
        processes: How many train it at most.
        cpus: Cores of each.
        gpus: Graphics processors of each.
        own: Whether the cluster is of this machine alone: then nobody else can reach them.

    Returns:
        What came of it.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    start = time.perf_counter()
    path = _report_path(job)
    path.unlink(missing_ok=True)  # of a driver that was killed
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    settings = {
        "train_loop_config": {"job": job, "place": place, "own": own},
        "scaling_config": ScalingConfig(
            # Fewer where machines were lost: the others go on from the last checkpoint.
            num_workers=(1, processes),
            use_gpu=bool(gpus),
            resources_per_worker=resources,
        ),
        "run_config": RunConfig(
            name=f"{job.part}-{job.member}",
            storage_path=str(Path(job.folder) / CHECKPOINTS / "ray-train"),
            failure_config=FailureConfig(max_failures=RETRIES),
        ),
    }
    if own:
        # Ray would have torch listen on every address: here the processes meet by themselves.
        trainer = DataParallelTrainer(_train_share, **settings)
    else:
        meeting = TorchConfig(backend=backends(), timeout_s=_PATIENCE_SECONDS)
        trainer = TorchTrainer(_train_share, torch_config=meeting, **settings)
    try:
        trainer.fit()
    except Exception:
        # What a user can mend is in the report; everything else is not ours to judge.
        if not path.exists():
            raise
    raw = files.read_json(path)
    path.unlink()
    error = tuple(raw["error"]) if raw["error"] else None
    return Report(time.perf_counter() - start, raw["extracted"], error, raw["process"])


def _train_share(given: dict[str, Any]) -> None:
    """Be one of the processes of a training."""
    job: Job = given["job"]
    path = _report_path(job)
    if path.exists():
        return  # an earlier attempt failed of what a user can mend: so would this one
    with _meeting_here() if given["own"] else contextlib.nullcontext():
        report = perform(job, given["place"])
        first = current_team().rank == 0
    if report.error is not None or first:
        told = {"extracted": report.extracted, "error": report.error, "process": report.process}
        files.write_json(path, told)
    if report.error is not None:
        raise RuntimeError(report.error[1])  # or the others would wait for this one


@contextlib.contextmanager
def _meeting_here() -> Iterator[None]:
    """Let the processes of this machine find each other over its loopback address alone."""
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    for library in ("GLOO", "NCCL"):
        os.environ[f"{library}_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    context = train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    store, port = None, 0
    if rank == 0:
        with socket.socket() as listening:
            listening.bind((_LOOPBACK, 0))
            port = listening.getsockname()[1]
            store = _store(port, listening.detach())
    port = broadcast_from_rank_zero(port)
    if store is None:
        store = _store(port, None)
    distributed.init_process_group(
        backends(),
        store=store,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=_PATIENCE_SECONDS),
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _store(port: int, listening: int | None) -> Any:
    return distributed.TCPStore(  # type: ignore[attr-defined]
        _LOOPBACK,
        port,
        is_master=listening is not None,
        timeout=timedelta(seconds=_PATIENCE_SECONDS),
        wait_for_workers=False,
        master_listen_fd=listening,
    )


def _report_path(job: Job) -> Path:
    return Path(job.folder) / CHECKPOINTS / job.part / f"together-{job.member}.json"

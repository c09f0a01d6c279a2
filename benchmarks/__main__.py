"""`make bench`: what caching, engines and batched sweeps gain on this machine.

Every ratio is of two things timed alternately in this one run, the median of the repeats. Weights
are random where only time counts. The results' equality is the business of the tests.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.stages import last_stage
from benchmarks.texts import made, texts_by_length
from headstart._util.devices import cpu_model, usable_cores
from headstart.backbones.registry import load_backbone
from headstart.features.choose import Job, choose_engine
from headstart.heads import HeadSpec, build_head
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    Hyperparameters,
    ScheduleSpec,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
)

REPEATS = 3
CPU = torch.device("cpu")


def interleaved(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of two things, run in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        for work, seconds in zip((first, second), times, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def sweep_against_singles() -> str:
    """Nine members, 50 epochs, 1,000 samples of 1,280 features, as one batch and one by one."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1000, 1280)).astype(np.float32)
    labels = rng.integers(0, 5, 1000)
    splits = {"train": np.arange(800), "val": np.arange(800, 1000)}
    members = [
        Hyperparameters(learning_rate=rate, momentum=momentum)
        for rate in (0.1, 0.01, 0.001)
        for momentum in (0.0, 0.5, 0.9)
    ]

    def train(some: list[Hyperparameters]) -> None:
        seeds = [0] * len(some)
        source = CachedSource(
            ArrayFeatures(features), labels, splits, seeds=seeds, batch_size=32, device=CPU
        )
        head = build_head(HeadSpec(), 1280, 5, seeds)
        optimizer = build_optimizer("sgd", list(head.parameters()), some)
        rates = tuple(m.learning_rate for m in some)
        drain(fit(head, optimizer, source, TrainPlan(50, ScheduleSpec(), rates)))

    batch, singles = interleaved(
        lambda: train(members), lambda: [train([member]) for member in members]
    )
    return f"| sweep of 9 as one batch, against 9 runs of the same loop | {singles / batch:.1f}× |"


def engine_against_torch(name: str) -> str:
    """The engine that `auto` chooses, against eager torch's faster memory layout at batch 32."""
    backbone = load_backbone(name, weights="random")
    cut = backbone.stages[-1]
    spec = backbone.input_spec
    x = np.random.default_rng(0).normal(size=(32, 3, spec.height, spec.width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            backbone=backbone,
            cut=cut,
            network=backbone.digest(cut),
            device=CPU,
            images=10_000,
            graphs=Path(folder) / "graphs",
            memory=Path(folder) / "engines",
        )
        engine = choose_engine(job, x).engine
        prefix = backbone.prefix(cut)
        contiguous = torch.from_numpy(x)
        layouts = (contiguous, contiguous.contiguous(memory_format=torch.channels_last))

        def eager(batch: torch.Tensor) -> float:
            start = time.perf_counter()
            with torch.inference_mode():
                prefix(batch)
            return time.perf_counter() - start

        eager(layouts[0])
        best = min(layouts, key=eager)
        fast, slow = interleaved(lambda: engine.run(x), lambda: eager(best))
    return (
        f"| frozen forward pass of {name}: {engine.name} against eager torch | {slow / fast:.1f}× |"
    )


def main() -> None:
    """Measure and print a table."""
    print(f"{cpu_model()}, {usable_cores()} cores, torch {torch.__version__}\n")
    print("| what | ratio |\n|---|---|")
    print(sweep_against_singles(), flush=True)
    for name in ("timm/mobilenetv2_100", "timm/tf_efficientnet_lite0", "timm/resnet50"):
        print(engine_against_torch(name), flush=True)
    print(last_stage("packaged/efficientnet-lite0", "pretrained", 600), flush=True)
    print(last_stage("timm/vgg16", "random", 400), flush=True)
    print(texts_by_length(made(300)), flush=True)


if __name__ == "__main__":
    main()

"""Headstart: what the prediction of one picture takes beside decoding and the network."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.contender import Answer, Job, answer, listed
from benchmarks.ours.libraries import PACKAGES, import_all
from headstart.backbones.registry import load_backbone
from headstart.features.engine import EngineName, graph_engine
from headstart.features.graph import export_graph, frozen_copy
from headstart.predict import load_bundle
from headstart.types import InputSpec


def work(job: Job) -> Answer:
    """Time the prediction, the preparation and the network in turn, a picture at a time."""
    torch.set_num_threads(job["threads"])
    photos = [Path(path).read_bytes() for path in listed(job["val"])[0][: job["pictures"]]]
    backbone = load_backbone(job["backbone"], weights=job["torch_weights"])
    spec = backbone.input_spec
    assert isinstance(spec, InputSpec)
    graph = export_graph(frozen_copy(backbone, backbone.stages[-1]), spec, 1)
    with load_bundle(Path(job["bundle"]), engine="auto") as bundle:
        rows = [bundle.prepare(photo)[np.newaxis] for photo in photos]
        names: tuple[EngineName, ...] = ("onnxruntime", "openvino")
        alone = {
            name: graph_engine(name, graph, spec, size=1, threads=job["threads"]) for name in names
        }
        found: dict[str, list[float]] = {key: [] for key in ("whole", "decode", *alone)}
        for number, (photo, row) in enumerate(zip(photos, rows, strict=True)):
            tasks: list[tuple[str, Callable[[], object]]] = [
                ("whole", lambda photo=photo: bundle.predict([photo])),  # type: ignore[misc]
                ("decode", lambda photo=photo: bundle.prepare(photo)),  # type: ignore[misc]
                *((key, lambda e=e, row=row: e.run(row)) for key, e in alone.items()),  # type: ignore[misc]
            ]
            first = number % len(tasks)
            _timed([*tasks[first:], *tasks[:first]], found)
    warm = {key: statistics.median(seconds[3:]) for key, seconds in found.items()}
    forward = min(warm[name] for name in alone)
    return {
        "forward_seconds": forward,
        "decode_seconds": warm["decode"],
        "predict_seconds": warm["whole"],
        "overhead": (warm["whole"] - warm["decode"] - forward) / forward,
    }


def _timed(
    tasks: Sequence[tuple[str, Callable[[], object]]], found: dict[str, list[float]]
) -> None:
    for name, task in tasks:
        start = time.perf_counter()
        task()
        found[name].append(time.perf_counter() - start)


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)

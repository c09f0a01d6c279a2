"""Headstart: decode, resize, forward and write, against the forward pass alone."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.contender import Answer, Job, answer, listed
from benchmarks.ours.engines import engine_for
from benchmarks.ours.floors import decode_core_seconds
from benchmarks.ours.forward import rate
from benchmarks.ours.libraries import PACKAGES, import_all
from headstart._util.progress import SilentProgress
from headstart.backbones.registry import load_backbone
from headstart.data.encode import converter
from headstart.estimators.pictures import open_pictures
from headstart.features.extract import extract
from headstart.features.store import FeatureStore
from headstart.types import InputSpec

_SAMPLES = 32


def work(job: Job) -> Answer:
    """Time the forward pass, the extraction, and the forward pass again."""
    torch.set_num_threads(job["threads"])
    photos = listed(job["train"])[0][: job["pictures"]]
    backbone = load_backbone(job["backbone"], weights="random")
    assert isinstance(backbone.input_spec, InputSpec)
    convert = converter(backbone.input_spec)
    x = np.stack([convert(Path(path).read_bytes()) for path in photos[:_SAMPLES]])
    decode_seconds = decode_core_seconds(photos, backbone.input_spec)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder) / "features")
        engine = engine_for(backbone, x[:8], Path(folder))
        engine.run(x)
        passes = max(1, job["pictures"] // (2 * len(x)))
        busy = time.process_time()
        rates = [rate(engine, x, passes)]
        forward_seconds = (time.process_time() - busy) / (passes * len(x))
        pictures = open_pictures(photos, workers=job["threads"])
        found = extract(
            pictures,
            range(len(pictures)),
            backbone,
            backbone.stages[-1],
            store=store,
            engine=engine.name,
            device=torch.device("cpu"),
            progress=SilentProgress(),
        )
        rates.append(rate(engine, x, passes))
    forward = float(np.mean(rates))
    return {
        "forward_images_per_second": forward,
        "whole_images_per_second": found.images_per_second,
        "share": found.images_per_second / forward,
        "decode_core_seconds": decode_seconds,
        "forward_core_seconds": forward_seconds,
    }


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)

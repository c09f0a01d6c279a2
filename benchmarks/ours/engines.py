"""The engine that Headstart would take for a large extraction, and pictures for it."""

from pathlib import Path

import numpy as np
import torch

from headstart.backbones.base import Backbone
from headstart.features.choose import Job, choose_engine
from headstart.features.engine import Engine
from headstart.types import FloatArray, InputSpec

_PICTURES = 10_000


def noise(backbone: Backbone, count: int, seed: int = 0) -> FloatArray:
    """Return prepared pictures of noise, float32 [count, 3, height, width]."""
    spec = backbone.input_spec
    assert isinstance(spec, InputSpec)
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 3, spec.height, spec.width), dtype=np.float32)


def engine_for(backbone: Backbone, samples: FloatArray, folder: Path) -> Engine:
    """Return the engine that `auto` chooses for 10,000 pictures.

    Args:
        backbone: The network; its last stage is the cut.
        samples: What the engines are tried on.
        folder: Where graphs and choices are kept.

    Returns:
        The engine.
    """
    cut = backbone.stages[-1]
    job = Job(
        backbone=backbone,
        cut=cut,
        network=backbone.digest(cut),
        device=torch.device("cpu"),
        images=_PICTURES,
        graphs=folder / "graphs",
        memory=folder / "engines",
    )
    return choose_engine(job, samples).engine

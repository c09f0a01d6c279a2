"""One engine tried: what it is wanted for, how it did, and whether it agrees with torch."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from headstart.backbones.base import Backbone
from headstart.features.engine import Engine, EngineName, build_engine
from headstart.features.engine_graphs import lanes_for
from headstart.features.graph import graph_path
from headstart.types import FloatArray

TOLERANCE = 1e-3
"""Largest difference from torch that an engine may have, relative to the largest feature."""


@dataclass(frozen=True, slots=True)
class EngineTrial:
    """How one engine did.

    Attributes:
        name: The engine.
        build_seconds: Time to make it ready, with imports and export where these were needed.
        images_per_second: Speed without decoding; None where it was not timed.
        max_relative_difference: Largest difference from torch's features divided by the largest
            of torch's features; None where it was not compared.
        chosen: Whether this engine was taken.
        reason: Why it was, or was not.
    """

    name: EngineName
    build_seconds: float
    images_per_second: float | None
    max_relative_difference: float | None
    chosen: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine to use, and what led to it.

    Attributes:
        engine: Ready to run.
        trials: One per engine looked at; exactly one is marked as chosen.
    """

    engine: Engine
    trials: tuple[EngineTrial, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine is wanted for.

    Attributes:
        backbone: The network.
        cut: Where it is cut.
        network: The backbone's digest at the cut.
        device: Where torch computes.
        images: How many pictures are to be extracted.
        graphs: Folder of exported graphs.
        memory: Folder where choices are remembered, per machine and network.
    """

    backbone: Backbone
    cut: str
    network: str
    device: torch.device
    images: int
    graphs: Path
    memory: Path


def use_torch(job: Job, reason: str) -> Choice:
    """Build the torch engine without a trial."""
    engine, trial = built("torch", job)
    return Choice(engine, (replace(trial, chosen=True, reason=reason),))


def built(name: EngineName, job: Job) -> tuple[Engine, EngineTrial]:
    """Build an engine; return it and how long that took."""
    start = time.perf_counter()
    size = lanes_for(job.backbone, job.cut).size
    graph = graph_path(job.graphs, job.network, job.backbone.input_spec, size)
    engine = build_engine(name, job.backbone, job.cut, device=job.device, graph=graph)
    seconds = time.perf_counter() - start
    return engine, EngineTrial(name, seconds, None, None, False, "")


def compared(trial: EngineTrial, got: FloatArray, expected: FloatArray) -> EngineTrial:
    """Return a trial with its difference from torch's features, and why it is none where it is."""
    if got.shape != expected.shape:
        reason = f"gives features of shape {got.shape[1:]}, torch {expected.shape[1:]}"
        return replace(trial, reason=reason)
    if not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return replace(trial, reason="cannot be compared: some numbers are not finite")
    largest = float(np.abs(expected).max())
    difference = float(np.abs(got - expected).max()) / (largest if largest > 0 else 1.0)
    reason = ""
    if difference > TOLERANCE:
        reason = f"differs from torch by {difference:.1e}, allowed {TOLERANCE:.0e}"
    return replace(trial, max_relative_difference=difference, reason=reason)


def agrees(trial: EngineTrial) -> bool:
    """Return whether an engine's features are torch's, within `TOLERANCE`."""
    difference = trial.max_relative_difference
    return difference is not None and difference <= TOLERANCE


def timed(engine: Engine, samples: FloatArray) -> float:
    """Return the seconds that an engine takes for some pictures."""
    start = time.perf_counter()
    engine.run(samples)
    return max(time.perf_counter() - start, 1e-9)

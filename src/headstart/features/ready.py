"""Engines that stay ready: who extracts again with the same network in a process waits for none.

A search, ten augmented views or `predict` after `fit` ask for features of one network many times,
and building an engine, and holding it to torch's features, takes as long as some fifty pictures.
"""

from dataclasses import replace
from weakref import WeakKeyDictionary

import torch

from headstart.backbones.base import Backbone
from headstart.features.engine_graphs import weights_bytes
from headstart.features.trials import Choice, Job

_MOST_BYTES = 200 << 20  # an engine has weights of its own, for as long as the network is there

_ready: WeakKeyDictionary[Backbone, tuple[tuple[object, ...], Choice]] = WeakKeyDictionary()


def ready_engine(job: Job) -> Choice | None:
    """Return the engine that was chosen for this network last, where it is still the same network.

    Args:
        job: What it is wanted for.

    Returns:
        The engine and its trial; None where another network, cut or device was meant, or the
        number of threads is another one.
    """
    meant, choice = _ready.get(job.backbone, (None, None))
    return choice if meant == _circumstances(job) else None


def keep_ready(job: Job, choice: Choice) -> None:
    """Remember an engine for as long as its backbone lives; torch needs no building.

    Args:
        job: What it was chosen for.
        choice: The engine, and how it did.
    """
    small = weights_bytes(job.backbone, job.cut) <= _MOST_BYTES
    if choice.engine.name == "torch" or not small:
        return
    (trial,) = (one for one in choice.trials if one.chosen)
    again = replace(trial, reason="built and held to torch's features before, in this process")
    _ready[job.backbone] = _circumstances(job), Choice(choice.engine, (again,))


def _circumstances(job: Job) -> tuple[object, ...]:
    # The network's digest: its weights may have changed. Folders: who looks elsewhere, asks anew.
    return (job.network, job.cut, job.device, job.graphs, job.memory, torch.get_num_threads())

"""The engine that stays ready: who extracts again with one network need not wait for it.

A search, ten augmented views or `predict` after `fit` ask for features of one network many times,
and building an engine, and holding it to torch's features, takes as long as some fifty pictures.
"""

import os
from dataclasses import replace
from weakref import WeakKeyDictionary

from headstart.backbones.base import Backbone
from headstart.features.engine_graphs import weights_bytes
from headstart.features.micro_batches import cpu_threads
from headstart.features.trials import Choice, Job

_MOST_BYTES = 200 << 20  # an engine has weights of its own

# One at most, and as long as its network is there.
_ready: WeakKeyDictionary[Backbone, tuple[tuple[object, ...], int, Choice]] = WeakKeyDictionary()


def ready_engine(job: Job) -> Choice | None:
    """Return the engine that was chosen last, where it does what is wanted now.

    Args:
        job: What it is wanted for.

    Returns:
        The engine and its trial; None where it was chosen for another network, cut or machine, or
        for a smaller job: a larger one may be worth trying more engines.
    """
    circumstances, images, choice = _ready.get(job.backbone, ((), 0, None))
    return choice if circumstances == _circumstances(job) and job.images <= images else None


def keep_ready(job: Job, choice: Choice) -> None:
    """Let an engine stay in place of the one before; torch's needs no building.

    Args:
        job: What it was chosen for.
        choice: The engine, and how it did.
    """
    _ready.clear()
    small = weights_bytes(job.backbone, job.cut) <= _MOST_BYTES
    if choice.engine.name == "torch" or not small:
        return
    (trial,) = (one for one in choice.trials if one.chosen)
    reason = "built and held to torch's features before, in this process"
    again = Choice(choice.engine, (replace(trial, build_seconds=0.0, reason=reason),))
    _ready[job.backbone] = _circumstances(job), job.images, again


def forget_ready() -> None:
    """Let go of it: it has failed, or another one is about to be chosen."""
    _ready.clear()


def _circumstances(job: Job) -> tuple[object, ...]:
    # The network's digest, for its weights may have changed; the process, for an engine's threads
    # do not survive a fork; folders, for who looks elsewhere asks anew.
    network = (job.network, job.cut, repr(job.backbone.input_spec))
    return (*network, job.device, job.graphs, job.memory, cpu_threads(), os.getpid())

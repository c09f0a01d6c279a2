"""What every extraction does besides computing: take an engine, and write what comes of it."""

from collections.abc import Sequence
from contextlib import closing

from headstart.data.loader import load_batches
from headstart.features.choose import (
    choose_engine,
    remembered_trial,
    trial_images,
    use_engine,
)
from headstart.features.passes import Request, Rows
from headstart.features.ready import forget_ready, keep_ready, ready_engine
from headstart.features.trials import Choice, EngineTrial, Job, use_torch
from headstart.features.upkeep import engines_folder, graphs_folder
from headstart.types import ImageSet


def write_rows(request: Request, computed: Rows, engine: str, share: str = "") -> int:
    """Write rows as they are computed.

    Args:
        request: What was asked for.
        computed: The rows; it is closed in any case.
        engine: What computes them.
        share: As in `headstart.features.store.FeatureStore.writer`.

    Returns:
        Bytes that were written.
    """
    about = {"backbone": request.backbone.name, "weights": request.backbone.weights.origin}
    with (
        request.store.writer(request.key, engine=engine, about=about, share=share) as writer,
        closing(computed),
    ):
        for digests, rows in computed:
            writer.write(digests, rows)
    return writer.bytes_written


def engine_for_others(request: Request, positions: Sequence[int]) -> EngineTrial | None:
    """Return the engine by which other processes are to compute, as an earlier trial found it.

    It is not built here once more: each of them holds its engine to torch's features.

    Args:
        request: What was asked for.
        positions: The samples that are to be computed.

    Returns:
        How it did then; None where an engine must be chosen.
    """
    return remembered_trial(_job(request, positions)) if request.engine == "auto" else None


def choose_for(request: Request, images: ImageSet, positions: Sequence[int]) -> Choice:
    """Return the engine that a request is computed by, and how those that were tried did.

    Args:
        request: What was asked for.
        images: The samples.
        positions: Those that are to be computed; the first of them are tried.

    Returns:
        The choice.
    """
    job = _job(request, positions)
    if request.engine == "torch":
        return use_torch(job, "asked for")
    if request.spread is not None and request.device.type != "cpu":
        # A share says which engine computes it, not whether it was compiled.
        return use_torch(job, "shares of the work are not compiled")
    tried = trial_images()
    if request.engine == "auto" and len(positions) <= tried:
        return use_torch(job, f"for {len(positions)} pictures no trial is worth while")
    ready = ready_engine(job) if request.engine == "auto" else None
    if ready is not None:
        return ready
    # Read, decoded and put away before any engine is built: what is timed then has the processor
    # to itself.
    spec = request.backbone.input_spec
    chosen = positions[:tried]
    loaded = load_batches(
        images,
        chosen,
        spec,
        tried,
        workers=request.workers,
        view=request.key.view,
        fitted=request.fitted,
    )
    with closing(loaded) as some:
        samples = next(some)
    if request.engine != "auto":
        return use_engine(request.engine, job, samples)
    forget_ready()  # or its weights would lie in memory beside those of all that are tried
    choice = choose_engine(job, samples)
    keep_ready(job, choice)
    return choice


def _job(request: Request, positions: Sequence[int]) -> Job:
    return Job(
        backbone=request.backbone,
        cut=request.cut,
        network=request.key.backbone,
        device=request.device,
        images=len(positions),
        graphs=graphs_folder(request.store.root),
        memory=engines_folder(request.store.root),
    )

"""The time, size, memory and energy of saved models at prediction, measured side by side."""

import datetime
import importlib.metadata
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from headstart._util.devices import resolve_device, usable_cores
from headstart._util.progress import SilentProgress
from headstart.errors import ConfigError
from headstart.evaluate.energy import Rapl
from headstart.features.flops import macs
from headstart.predict.saved import WEIGHTS_NAME
from headstart.predict.whole import load_whole
from headstart.runs.benchmark_measure import Loaded, Setting, measure, with_memory
from headstart.runs.benchmark_plan import Plan
from headstart.runs.benchmark_prepare import Prepared, prepare, time_preparation
from headstart.runs.benchmark_records import Benchmark, Conditions, ModelFacts
from headstart.runs.benchmark_samples import TimedSamples, gather, noun_of
from headstart.runs.record import environment
from headstart.types import InputSpec, JsonDict, Progress, Spec

__all__ = ["Benchmark", "Plan", "benchmark", "warnings_of"]

DRIFT = 0.1
"""By what share the later half of the rounds may be slower or faster without a warning."""

_IDLE_SECONDS = 1.0
_SLACK = 0.5  # of a core, that the system itself may take without a warning


def benchmark(
    folders: Sequence[Path],
    plan: Plan,
    *,
    progress: Progress | None = None,
    data: Sequence[Path] = (),
    allow_network: bool = False,
    rapl: Rapl | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Benchmark:
    """Measure how long saved models take to predict, and what they need for it.

    Args:
        folders: Folders of saved models, such as ``runs/…/models/NAME``; all take the same kind of
            samples.
        plan: What is measured, and how.
        progress: Where to show how far it is, or None.
        data: Where samples are; made up where empty (see `headstart.runs.benchmark_samples`).
        allow_network: Whether missing backbone weights may be downloaded.
        rapl: Counters of energy, from `headstart.evaluate.energy.open_rapl`.
        clock: Returns seconds.

    Returns:
        Facts, times, memory and energy; with warnings where the machine was not quiet.

    Raises:
        ConfigError: A value is not valid, or the models take different kinds of samples.
        MissingExtraError: An engine was asked for by name and is not installed.
    """
    plan.check()
    device = resolve_device(plan.device)
    when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    load_begin = _load_average()
    threads = usable_cores() if plan.threads is None else plan.threads
    shown = SilentProgress() if progress is None else progress
    setting = Setting(plan, threads, device, shown, rapl, clock)
    with tempfile.TemporaryDirectory() as scratch, _torch_threads(threads):
        models, samples = _load(folders, data, setting, Path(scratch), allow_network)
        spec = models[0].model.input_spec
        idle = None if rapl is None else _idle_watts(rapl)
        results = measure(models, plan.engines_for(isinstance(spec, InputSpec)), setting)
        preparations = time_preparation(
            {one.name: one.prepared for one in models}, plan.rounds, plan.warm_up, clock
        )
        load_end = _load_average()  # before memory is measured: those are other processes
        if plan.memory:
            results = with_memory(results, models, setting)
        found = Benchmark(
            conditions=Conditions(
                when=when,
                machine=_machine(str(device)),
                device=str(device),
                threads=threads,
                rounds=plan.rounds,
                warm_up=plan.warm_up,
                load_begin=load_begin,
                load_end=load_end,
                samples=samples.origin,
                samples_count=len(samples.data),
                noun=noun_of(spec),
            ),
            models=tuple(_facts(one) for one in models),
            preparations=preparations,
            results=results,
            energy=_energy(rapl, device),
            idle_watts=idle,
            warnings=(),
        )
    return replace(found, warnings=warnings_of(found))


def warnings_of(found: Benchmark) -> tuple[str, ...]:
    """Return what makes the times of a benchmark doubtful, one sentence each."""
    conditions, warnings = found.conditions, list[str]()
    cores = int(conditions.machine["cores"])
    begin, end = conditions.load_begin, conditions.load_end
    if begin is not None and begin + conditions.threads > cores + _SLACK:
        warnings.append(
            f"The machine was busy before it began: a load of {begin:.1f} on {cores} cores, before "
            f"the {conditions.threads} of the benchmark's own threads."
        )
    if end is not None and end > cores + _SLACK:
        warnings.append(f"The machine was busy at the end: a load of {end:.1f} on {cores} cores.")
    drifts = {
        f"{result.model} in {result.engine}, batches of {timing.latency.batch_size}": timing.drift
        for result in found.results
        for timing in result.timings
    }
    drifts |= {
        f"{step.step} for {', '.join(step.models)}": step.drift for step in found.preparations
    }
    moved = [f"{what} {share:+.0%}" for what, share in drifts.items() if abs(share) > DRIFT]
    if moved:
        warnings.append(
            "The machine was not steady: the later half of the calls took longer (+) or shorter "
            f"(-) than the earlier by more than {DRIFT:.0%}: {'; '.join(moved)}."
        )
    return tuple(warnings)


def _load(
    folders: Sequence[Path],
    data: Sequence[Path],
    setting: Setting,
    scratch: Path,
    allow_network: bool,
) -> tuple[list[Loaded], TimedSamples]:
    if not folders:
        raise ConfigError("expected at least one folder of a saved model, got none")
    wholes = []
    with setting.progress.task("loading models", len(folders), "models") as task:
        for folder in folders:
            _refuse_run(folder)
            wholes.append(load_whole(folder, device=setting.device, allow_network=allow_network))
            task.advance()
    specs = [whole.model.input_spec for whole in wholes]
    nouns = [noun_of(spec) for spec in specs]
    for folder, noun in zip(folders, nouns, strict=True):
        if noun != nouns[0]:
            raise ConfigError(
                f"{folder}: it takes {noun}s, and {folders[0]} takes {nouns[0]}s: compare models "
                "of one kind of samples"
            )
    samples = gather(data, specs[0], setting.plan.samples)
    ready: dict[Spec, Prepared] = {
        spec: prepare(spec, samples.data) for spec in dict.fromkeys(specs)
    }
    models = [
        Loaded(name, folder, whole.model, whole.network, ready[spec], scratch / str(place))
        for place, (name, folder, whole, spec) in enumerate(
            zip(_names(folders), folders, wholes, specs, strict=True)
        )
    ]
    return models, samples


def _refuse_run(folder: Path) -> None:
    inside = sorted(one.parent.name for one in folder.glob(f"models/*/{WEIGHTS_NAME}"))
    if inside:
        raise ConfigError(
            f"{folder}: this is a run; name models of it, as {folder / 'models' / inside[0]} "
            f"(it has {', '.join(inside)})"
        )


def _names(folders: Sequence[Path]) -> list[str]:
    """Return short names, unique: the folder's, with its run's where two are called the same."""
    whole = [folder.absolute() for folder in folders]
    names = [folder.name for folder in whole]
    if len(set(names)) < len(names):
        names = [f"{folder.parent.parent.name}/{folder.name}" for folder in whole]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in whole]
    if len(set(names)) < len(names):
        raise ConfigError(f"expected each model once, got {', '.join(names)}")
    return names


def _facts(one: Loaded) -> ModelFacts:
    lengths = one.prepared.lengths
    length = None if lengths is None else int(np.median(lengths))
    state = {**dict(one.network.named_parameters()), **dict(one.network.named_buffers())}
    return ModelFacts(
        name=one.name,
        folder=str(one.folder),
        backbone=one.model.backbone,
        parameters=sum(tensor.numel() for tensor in one.network.parameters()),
        network_bytes=sum(tensor.numel() * tensor.element_size() for tensor in state.values()),
        saved_bytes=(one.folder / WEIGHTS_NAME).stat().st_size,
        multiply_adds=macs(one.network, one.model.input_spec, length),
        length=length,
    )


def _energy(rapl: Rapl | None, device: torch.device) -> str:
    if device.type != "cpu":
        return f"not measured (the counters are of the processor, and {device} computes)"
    if rapl is None:
        return "not measured (no readable RAPL counter)"
    zones = ", ".join(zone.name for zone in rapl.zones)
    return f"RAPL, {zones}: all that the processor did meanwhile is in it"


def _idle_watts(rapl: Rapl) -> float:
    energy = rapl.measure(lambda: time.sleep(0.05), seconds=_IDLE_SECONDS)
    return energy.joules / energy.seconds


def _machine(device: str) -> JsonDict:
    machine = environment(device)
    for name in ("onnxruntime", "openvino"):
        with suppress(importlib.metadata.PackageNotFoundError):
            machine["packages"][name] = importlib.metadata.version(name)
    return machine


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return None


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

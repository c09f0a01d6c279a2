"""Every model in every engine: held to torch, then timed by turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from headstart._util import files
from headstart.errors import RunError
from headstart.evaluate.energy import Rapl
from headstart.evaluate.timing import drift, latency, time_interleaved
from headstart.features.engine import EngineName
from headstart.features.graph import export_graph
from headstart.predict.saved import SavedModel
from headstart.runs.benchmark_engines import Forward, graph_forward, graph_name, torch_forward
from headstart.runs.benchmark_plan import Plan
from headstart.runs.benchmark_prepare import Prepared, turns
from headstart.runs.benchmark_records import EngineResult, Timing
from headstart.runs.peak import ModelSubject, measure_peaks
from headstart.types import FloatArray, InputSpec, Progress, Task

TOLERANCE = 1e-3
"""Largest difference of a probability from torch's with which an engine still gets figures."""

_ENERGY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, and its samples as it takes them.

    Attributes:
        name: What it is called.
        folder: Where it is.
        model: Its description.
        network: Samples -> what it says; on the device.
        prepared: The samples.
        graphs: Folder for its exported networks.
    """

    name: str
    folder: Path
    model: SavedModel
    network: nn.Module
    prepared: Prepared
    graphs: Path


@dataclass(frozen=True, slots=True)
class Setting:
    """What all measurements share.

    Attributes:
        plan: What is measured, and how.
        threads: How many compute.
        device: Where torch computes.
        progress: Where to show how far it is.
        rapl: Counters of energy, or None.
        clock: Returns seconds.
    """

    plan: Plan
    threads: int
    device: torch.device
    progress: Progress
    rapl: Rapl | None
    clock: Callable[[], float]


@dataclass(slots=True)
class _Pair:
    """One model in one engine, while it is measured."""

    loaded: Loaded
    engine: EngineName
    reason: str = ""
    disagrees: bool = False
    difference: float | None = None
    timings: list[Timing] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.loaded.name} in {self.engine}"

    def result(self) -> EngineResult:
        """Return the record; a pair that is not sound has no figures, of whatever batch size."""
        state = "disagrees" if self.disagrees else "failed" if self.reason else "ok"
        return EngineResult(
            model=self.loaded.name,
            engine=self.engine,
            state=state,  # type: ignore[arg-type]  # one of the three words
            reason=self.reason,
            max_difference=self.difference,
            timings=() if self.reason else tuple(self.timings),
        )


def measure(
    models: Sequence[Loaded], engines: Sequence[EngineName], setting: Setting
) -> tuple[EngineResult, ...]:
    """Time every model in every engine, all of them by turns, one batch size after the other.

    Args:
        models: The models; their networks' memory layout is changed.
        engines: What computes.
        setting: What all measurements share.

    Returns:
        One record for each, engines within models.
    """
    pairs = [_Pair(one, engine) for one in models for engine in engines]
    if any(engine != "torch" for engine in engines):
        for one in models:
            reason = _export(one, setting.plan.batch_sizes)
            for pair in pairs:
                if pair.loaded is one and pair.engine != "torch":
                    pair.reason = reason
    torch_calls = {one.name: torch_forward(one.network, setting.device) for one in models}
    largest = max(setting.plan.batch_sizes)
    expected = {one.name: _outputs(torch_calls[one.name], one.prepared, largest) for one in models}
    total = len(setting.plan.batch_sizes) * setting.plan.rounds
    with setting.progress.task("timing predictions", total, "rounds") as task:
        for size in setting.plan.batch_sizes:
            calls = {}
            for pair in pairs:
                call = _checked_call(pair, size, torch_calls, expected, setting)
                if call is not None:
                    calls[pair.key] = call
            _time_together(pairs, calls, size, setting, task)
    return tuple(pair.result() for pair in pairs)


def _export(one: Loaded, batch_sizes: Sequence[int]) -> str:
    """Write a model's graphs, and return why that cannot be done, or an empty string."""
    spec = one.model.input_spec
    if not isinstance(spec, InputSpec):
        return "only networks that take pictures are exported: choose the engine torch"
    try:
        for size in sorted(set(batch_sizes)):
            graph = export_graph(one.network, spec, size)
            files.write_bytes(one.graphs / graph_name(size), graph)
    except Exception as error:  # the exporters have errors of their own kinds
        return f"it cannot be exported: {_first_line(error)}"
    return ""


def _checked_call(
    pair: _Pair,
    size: int,
    torch_calls: Mapping[str, Forward],
    expected: Mapping[str, FloatArray],
    setting: Setting,
) -> Forward | None:
    """Make a pair's call for a batch size, and hold its answers to torch's; None if unsound."""
    if pair.reason:
        return None
    one = pair.loaded
    try:
        if pair.engine == "torch":
            call = torch_calls[one.name]
        else:
            call = graph_forward(
                pair.engine,
                (one.graphs / graph_name(size)).read_bytes(),
                one.model.input_spec,
                batch_size=size,
                threads=setting.threads,
            )
        found = _outputs(call, one.prepared, size)
    except Exception as error:  # an engine is a foreign library
        pair.reason = _first_line(error)
        return None
    difference = difference_of(found, expected[one.name])
    pair.difference = max(difference, 0.0 if pair.difference is None else pair.difference)
    if difference <= TOLERANCE:
        return call
    pair.disagrees = True
    pair.reason = (
        f"differs from torch by {difference:.1e} with batches of {size}, allowed {TOLERANCE:.0e}"
    )
    return None


def _outputs(call: Forward, prepared: Prepared, size: int) -> FloatArray:
    """Return what a call says of every sample, in batches of one size: [n, outputs]."""
    samples = len(prepared.rows)
    said = [call(prepared.batch(first, size)).copy() for first in range(0, samples, size)]
    return np.concatenate(said)[:samples]


def difference_of(found: FloatArray, expected: FloatArray) -> float:
    """Return how far answers are from the expected ones.

    Args:
        found: float32 [n, outputs].
        expected: The same shape, or they differ infinitely.

    Returns:
        The largest difference, relative to the largest expected number where that is above 1
        (probabilities never are); infinite where a number is not finite.
    """
    if found.shape != expected.shape:
        return float("inf")
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    largest = max(float(np.abs(expected).max()), 1.0)
    return float(np.abs(found.astype(np.float64) - expected).max()) / largest


def _time_together(
    pairs: Sequence[_Pair], calls: Mapping[str, Forward], size: int, setting: Setting, task: Task
) -> None:
    plan = setting.plan
    ready = {
        pair.key: turns(calls[pair.key], pair.loaded.prepared.timed_batches(size, plan.rounds))
        for pair in pairs
        if pair.key in calls
    }
    if not ready:
        task.advance(plan.rounds)
        return
    taken = time_interleaved(
        ready,
        rounds=plan.rounds,
        warm_up=plan.warm_up,
        clock=setting.clock,
        after_round=task.advance,
    )
    for pair in pairs:
        if pair.key not in ready:
            continue
        seconds, joules = taken[pair.key], None
        if setting.rapl is not None and setting.device.type == "cpu":
            energy = setting.rapl.measure(ready[pair.key], seconds=_ENERGY_SECONDS)
            joules = 1000 * energy.joules / (energy.calls * size)
        pair.timings.append(Timing(latency(seconds, size), drift(seconds), joules))


def with_memory(
    results: Sequence[EngineResult], models: Sequence[Loaded], setting: Setting
) -> tuple[EngineResult, ...]:
    """Add the memory that each sound pair takes, each measured in a process of its own."""
    by_name = {one.name: one for one in models}
    found = []
    with setting.progress.task("measuring memory", len(results), "processes") as task:
        for result in results:
            found.append(_remembering(result, by_name[result.model], setting))
            task.advance()
    return tuple(found)


def _remembering(result: EngineResult, one: Loaded, setting: Setting) -> EngineResult:
    if result.state != "ok":
        return result
    lengths = one.prepared.lengths
    subject = ModelSubject(
        folder=one.folder.absolute(),
        engine=result.engine,
        graphs=None if result.engine == "torch" else one.graphs,
        length=None if lengths is None else max(lengths),
    )
    sizes = setting.plan.batch_sizes
    peak = measure_peaks([subject], sizes, threads=setting.threads, device=str(setting.device))[0]
    if isinstance(peak, RunError):
        return replace(result, memory_note=str(peak))
    return replace(
        result,
        loading_bytes=peak.loading_bytes,
        predicting_bytes=tuple(sorted(peak.predicting_bytes.items())),
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

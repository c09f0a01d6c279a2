"""What a benchmark finds, as records and as JSON."""

from dataclasses import asdict, dataclass
from typing import Literal

from headstart.evaluate.timing import Latency
from headstart.features.engine import EngineName
from headstart.types import JsonDict, Noun

State = Literal["ok", "disagrees", "failed"]

LEAST_CALLS_P95 = 20
"""Of fewer calls the 95th percentile is the slowest one, and not given."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Where, when and how it was measured.

    Attributes:
        when: Date and time of the beginning, ISO 8601 with the offset.
        machine: Processor, cores, system, and versions of what computes.
        device: Where torch computes; the other engines compute on the processor.
        threads: How many compute, in every engine.
        rounds: How many times each call was timed.
        warm_up: How many calls of each came before.
        load_begin: Processes that wanted to run, on average over the minute before; None where the
            system does not say.
        load_end: The same at the end.
        samples: Where the samples come from, in words.
        samples_count: How many there are.
        noun: What one sample is.
    """

    when: str
    machine: JsonDict
    device: str
    threads: int
    rounds: int
    warm_up: int
    load_begin: float | None
    load_end: float | None
    samples: str
    samples_count: int
    noun: Noun


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model without a clock.

    Attributes:
        name: Of its folder; with that of its run where two are called the same.
        folder: Where it is.
        backbone: Registry name of the network.
        parameters: Of the whole network with its head.
        network_bytes: Of all weights that prediction needs, in memory and in a file of their own.
        saved_bytes: Of the weights in the model's folder: frozen stages are not copied there.
        multiply_adds: For one sample, None where they cannot be counted.
        length: Tokens or steps of that sample; None for pictures.
    """

    name: str
    folder: str
    backbone: str
    parameters: int
    network_bytes: int
    saved_bytes: int
    multiply_adds: int | None
    length: int | None


@dataclass(frozen=True, slots=True)
class Preparation:
    """The time of a step before the network, for one sample in one thread.

    Attributes:
        step: ``decode``, ``transform``, ``tokenise`` or ``convert``.
        models: Names of the models for which it is done in this way.
        latency: Of one sample.
        drift: By what share the later half of the calls was slower.
    """

    step: str
    models: tuple[str, ...]
    latency: Latency
    drift: float


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of the network for batches of one size.

    Attributes:
        latency: Of one batch.
        drift: By what share the later half of the calls was slower.
        joules_per_1000: Energy for 1,000 samples, with all else that the processors did; None
            where it was not measured.
    """

    latency: Latency
    drift: float
    joules_per_1000: float | None


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One model in one engine.

    Attributes:
        model: Its name.
        engine: What computed.
        state: ``ok``; ``disagrees``: its answers are not torch's, so it has no figures; ``failed``.
        reason: Why it is not ``ok``; else empty.
        max_difference: Largest difference of a probability from torch's over all samples and sizes
            of batches (of a regression: of a value, relative to the largest, if that is above 1);
            None where it did not get so far.
        timings: One for each size of batches.
        loading_bytes: Memory at most while loading, above that of the imports; None where it was
            not measured.
        predicting_bytes: The same while predicting, weights included, by the size of batches.
        memory_note: Why memory was not measured; else empty.
    """

    model: str
    engine: EngineName
    state: State
    reason: str
    max_difference: float | None
    timings: tuple[Timing, ...] = ()
    loading_bytes: int | None = None
    predicting_bytes: tuple[tuple[int, int], ...] = ()
    memory_note: str = ""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All that a benchmark found.

    Attributes:
        conditions: Where, when and how.
        models: What is known of the models without a clock.
        preparations: Times of the steps before the network.
        results: One for each model and engine.
        energy: How energy was measured, or why not, in words.
        idle_watts: Power of the processors while nothing was asked of them; None where it was not
            measured.
        warnings: What makes the times doubtful, one sentence each.
    """

    conditions: Conditions
    models: tuple[ModelFacts, ...]
    preparations: tuple[Preparation, ...]
    results: tuple[EngineResult, ...]
    energy: str
    idle_watts: float | None
    warnings: tuple[str, ...]

    def as_json(self) -> JsonDict:
        """Return it as JSON-like values; times of a batch also as times of a sample."""
        record: JsonDict = {"schema_version": 1, **asdict(self)}
        timed = [*record["preparations"]]
        for result in record["results"]:
            result["predicting_bytes"] = {str(b): n for b, n in result["predicting_bytes"]}
            timed += result["timings"]
        for entry in timed:
            taken = entry["latency"]
            if taken["calls"] < LEAST_CALLS_P95:
                taken["p95_ms"] = None
            for key in ("p50_ms", "p95_ms"):
                value = taken[key]
                taken[f"{key}_per_sample"] = None if value is None else value / taken["batch_size"]
        return record

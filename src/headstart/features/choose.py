"""Choosing an engine by measurement: the fastest of those that agree with torch."""

import contextlib
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from headstart._util import files
from headstart._util.devices import cpu_model, usable_cores
from headstart._util.hashing import digest_json
from headstart.errors import EngineError
from headstart.features.choose_compiled import choose_compiled
from headstart.features.engine import Engine, EngineName, installed
from headstart.features.engine_graphs import weights_bytes
from headstart.features.flops import forward_flops, matrix_flops_per_second
from headstart.features.micro_batches import cpu_threads
from headstart.features.trials import (
    Choice,
    EngineTrial,
    Job,
    agrees,
    built,
    compared,
    timed,
    use_torch,
)
from headstart.types import FloatArray, InputSpec, JsonDict

_CANDIDATES: tuple[EngineName, ...] = ("onnxruntime", "openvino")  # what is built soonest, first
_PACKAGES = ("torch", "numpy", "onnxruntime", "openvino")
_ENGINES = 2  # one more when the engines compute in another way: what was measured is past then
_REPEATS = 3
_RUNS = 4  # of the samples, by all other engines together: compared, and timed once or twice
_CLEAR = 1.25  # as many times as fast: no further repeat would say otherwise
_TRIED_SECONDS = 0.5  # exporting and timing a small network
_BUILT_BYTES_PER_SECOND = 40e6  # weights that are exported, loaded and compiled by both engines
_SMALL = 3  # trials: another engine saves about a third of the time, rarely more than half
_LARGE = 10  # trials: whatever it finds, a trial does not matter
_SMALL_JOB_IMAGES = 150  # no export seen took longer than torch with that many pictures
_LONG_RUN_SECONDS = 1.0
_EARLIER = "the fastest in an earlier trial on this machine"
_TRIAL_SECONDS = 2.0  # no further repeats after this


def trial_images() -> int:
    """Return how many pictures to try engines on; so few themselves are not worth a trial."""
    return min(4 * max(usable_cores(), 2), 128)  # work for every thread of every engine


def use_engine(name: EngineName, job: Job, samples: FloatArray) -> Choice:
    """Build the engine that the user named, and hold it to torch's features.

    Args:
        name: The engine.
        job: What it is wanted for.
        samples: A few of the pictures, float32, shape [n, 3, height, width].

    Returns:
        The engine and its trial.

    Raises:
        MissingExtraError: The engine's package is not installed.
        EngineError: It cannot be built, or does not agree with torch.
    """
    if name == "torch":
        return use_torch(job, "asked for")
    engine, trial = built(name, job)
    reference, _ = built("torch", job)
    expected = reference.run(samples)
    try:
        trial = compared(trial, engine.run(samples), expected)
    except Exception as error:
        # A foreign library with its own errors.
        raise EngineError(
            f"the engine {name!r} fails on {job.backbone.name} at {job.cut} "
            f"({type(error).__name__}: {error}): choose the engine 'torch' or 'auto'"
        ) from error
    if not agrees(trial):
        raise EngineError(
            f"the engine {name!r} does not agree with torch: it {trial.reason}: "
            "choose the engine 'torch' or 'auto'"
        )
    return Choice(engine, (replace(trial, chosen=True, reason="asked for"),))


def choose_engine(job: Job, samples: FloatArray) -> Choice:
    """Choose the engine with which the job is done soonest, among those that agree with torch.

    On another device than the CPU that is torch (see `headstart.features.choose_compiled`), and for
    sequences, whose lengths differ. For a small job it is torch, or an engine known from before;
    else all engines that are installed are built and timed on the samples.

    Args:
        job: What the engine is wanted for.
        samples: A few of the pictures, float32, shape [n, 3, height, width].

    Returns:
        The engine, and how each that was looked at did.
    """
    if job.device.type != "cpu":
        return choose_compiled(job, samples)
    if not isinstance(job.backbone.input_spec, InputSpec):
        return use_torch(job, "other engines take inputs of one size")
    engine, trial = built("torch", job)
    start = time.perf_counter()
    expected = engine.run(samples)  # also warms it up
    first_seconds = time.perf_counter() - start
    reference = _Reference(engine, trial, samples, expected)
    remembered = _recall(job)
    if remembered is not None:
        choice = _use_remembered(job, remembered, reference)
        if choice is not None:
            return choice
    # Of a large network the first run tells enough: warming up is a small part of it.
    slow = first_seconds > _LONG_RUN_SECONDS
    rate = len(samples) / (first_seconds if slow else timed(engine, samples))
    reason = _not_worth_a_trial(job, rate, len(samples) / rate)
    if reason is not None:
        return reference.choice(rate, reason)
    choice = _try_all(job, reference, rate)
    _remember(job, choice.trials)
    return choice


def _trial_seconds(job: Job) -> float:
    """Return about what exporting the network and building the other engines takes."""
    return _TRIED_SECONDS + weights_bytes(job.backbone, job.cut) / _BUILT_BYTES_PER_SECOND


def _not_worth_a_trial(job: Job, images_per_second: float, run_seconds: float) -> str | None:
    """Say why torch, at this speed, is taken without a trial; None where others are tried.

    Args:
        job: What the engine is wanted for.
        images_per_second: Torch's speed.
        run_seconds: What it takes for the samples: the others take about as long, several times.

    Returns:
        The reason, or None.
    """
    torch_seconds = job.images / images_per_second
    trial_seconds = _trial_seconds(job) + _RUNS * run_seconds
    if torch_seconds < _SMALL * trial_seconds or job.images < _SMALL_JOB_IMAGES:
        return (
            f"needs {torch_seconds:.1f} s, too little for trying others, "
            f"which takes about {trial_seconds:.1f} s"
        )
    if torch_seconds > _LARGE * trial_seconds:
        return None
    work = forward_flops(job.backbone, job.cut)
    if not work:
        return None
    # How much of the processor's speed torch reaches already: no engine has more than all of it.
    share = min(work * images_per_second / matrix_flops_per_second(), 1.0)
    if torch_seconds * (1 - share) >= trial_seconds:
        return None
    return (
        f"computes at {share:.0%} of the speed of a plain matrix product: another "
        f"engine would hardly save more than {torch_seconds * (1 - share):.0f} s, and "
        f"trying them takes about {trial_seconds:.0f} s"
    )


@dataclass(frozen=True, slots=True)
class _Reference:
    engine: Engine
    trial: EngineTrial
    samples: FloatArray
    expected: FloatArray

    def choice(self, images_per_second: float | None, reason: str) -> Choice:
        trial = replace(
            self.trial,
            images_per_second=images_per_second,
            max_relative_difference=0.0,
            chosen=True,
            reason=reason,
        )
        return Choice(self.engine, (trial,))


def _try_all(job: Job, reference: _Reference, torch_rate: float) -> Choice:
    engines: dict[EngineName, Engine] = {"torch": reference.engine}
    trials = {"torch": replace(reference.trial, max_relative_difference=0.0)}
    rates: dict[EngineName, float] = {"torch": torch_rate}
    for name in _CANDIDATES:
        if _is_enough(job, rates):
            continue
        if not installed(name):
            reason = "not installed: pip install 'headstart[engines]'"
            trials[name] = EngineTrial(name, 0.0, None, None, False, reason)
            continue
        start = time.perf_counter()
        try:
            engine, trial = built(name, job)
            begun = time.perf_counter()
            got = engine.run(reference.samples)
            seconds = max(time.perf_counter() - begun, 1e-9)
            trial = compared(trial, got, reference.expected)
            if agrees(trial) and seconds < _LONG_RUN_SECONDS:
                seconds = timed(engine, reference.samples)  # as torch was: warm
        except Exception as error:
            # An engine is a foreign library with its own errors; whatever they are, torch works.
            seconds = time.perf_counter() - start
            trials[name] = EngineTrial(name, seconds, None, None, False, f"failed: {error}")
            continue
        trials[name] = trial
        if agrees(trial):
            engines[name] = engine
            rates[name] = len(reference.samples) / seconds
    rates = _race(engines, reference.samples, rates)
    best = max(rates, key=lambda name: rates[name])
    for name, rate in rates.items():
        reason = "the fastest that agrees with torch" if name == best else f"slower than {best}"
        trials[name] = replace(
            trials[name], images_per_second=rate, chosen=name == best, reason=reason
        )
    return Choice(engines[best], tuple(trials.values()))


def _is_enough(job: Job, rates: Mapping[EngineName, float]) -> bool:
    """Return whether the job, with what was found, is so short that nothing more is tried."""
    best = max(rates.values())
    clear = best > _CLEAR * rates["torch"]
    return clear and job.images / best < _LARGE * _trial_seconds(job)


def remembered_trial(job: Job) -> EngineTrial | None:
    """Return how the engine did that was the fastest in an earlier trial on this machine.

    Args:
        job: What it is wanted for; nothing is built.

    Returns:
        Its trial, marked as chosen; None where the job is so small that torch may do it sooner,
        or another trial is due.
    """
    remembered = _recall(job) if job.device.type == "cpu" else None
    old = None if remembered is None else _fastest_of(job, remembered)
    if remembered is None or old is None or _torch_is_sooner(job, remembered["torch"], old):
        return None
    return replace(old, build_seconds=0.0, reason=_EARLIER)


def _fastest_of(job: Job, remembered: Mapping[str, EngineTrial]) -> EngineTrial | None:
    """Return the engine that was chosen; None where that was for a smaller job."""
    known = {trial.name: trial.images_per_second or 0.0 for trial in remembered.values()}
    old = next(trial for trial in remembered.values() if trial.chosen)
    if old.name == "torch" or known.keys() >= set(_CANDIDATES) or _is_enough(job, known):
        return old
    return None


def _torch_is_sooner(job: Job, torch: EngineTrial, old: EngineTrial) -> bool:
    """Return whether torch has done the job before the other engine is built and has."""
    assert old.images_per_second is not None
    assert torch.images_per_second is not None
    built_seconds = 0.0 if old.name == "torch" else old.build_seconds
    took_seconds = built_seconds + job.images / old.images_per_second
    return job.images / torch.images_per_second < took_seconds


def _use_remembered(
    job: Job, remembered: Mapping[str, EngineTrial], reference: _Reference
) -> Choice | None:
    old = _fastest_of(job, remembered)
    if old is None:
        return None
    torch_rate = remembered["torch"].images_per_second
    if old.name == "torch":
        return reference.choice(torch_rate, _EARLIER)
    if _torch_is_sooner(job, remembered["torch"], old):
        assert torch_rate is not None
        seconds = job.images / torch_rate
        return reference.choice(
            torch_rate, f"needs {seconds:.1f} s, which is less than building {old.name} takes"
        )
    try:
        engine, trial = built(old.name, job)
        trial = compared(trial, engine.run(reference.samples), reference.expected)
    except Exception:
        return None  # it worked once and does not any more: every engine is tried again
    if not agrees(trial):
        return None
    reason = f"{_EARLIER}, and agrees with torch again"
    trial = replace(trial, images_per_second=old.images_per_second, chosen=True, reason=reason)
    return Choice(engine, (trial,))


def _race(
    engines: Mapping[EngineName, Engine], samples: FloatArray, rates: Mapping[EngineName, float]
) -> dict[EngineName, float]:
    """Time what may win again, given one warm run of each; return pictures per second of all."""
    best = dict(rates)
    start = time.perf_counter()
    # In turns, so that whatever else the machine does slows all of them alike; the best of each.
    for _ in range(_REPEATS):
        lead = max(best.values())
        racing = [name for name in engines if best[name] * _CLEAR >= lead]
        if len(racing) == 1 or time.perf_counter() - start > _TRIAL_SECONDS:
            break
        for name in racing:
            best[name] = max(best[name], len(samples) / timed(engines[name], samples))
    return best


def _circumstances(job: Job) -> JsonDict:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    spec = job.backbone.input_spec
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "threads": cpu_threads(),
        "engines": _ENGINES,
        "system": platform.platform(),
        "versions": versions,
        "network": job.network,
        "cut": job.cut,
        "input": spec.describe(),
    }


def _memory_path(job: Job) -> Path:
    return job.memory / f"{digest_json(_circumstances(job))}.json"


def _remember(job: Job, trials: tuple[EngineTrial, ...]) -> None:
    record = {
        "backbone": job.backbone.name,
        "circumstances": _circumstances(job),
        "trials": [asdict(trial) for trial in trials],
    }
    with contextlib.suppress(OSError):  # forgetting costs two seconds next time: no reason to fail
        files.write_json(_memory_path(job), record)


def _recall(job: Job) -> dict[str, EngineTrial] | None:
    try:
        record = files.read_json(_memory_path(job))
        trials = {trial["name"]: EngineTrial(**trial) for trial in record["trials"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    chosen = [trial for trial in trials.values() if trial.chosen]
    if len(chosen) != 1 or chosen[0].name not in ("torch", *_CANDIDATES) or "torch" not in trials:
        return None
    timed = chosen[0].images_per_second and trials["torch"].images_per_second
    return trials if timed else None

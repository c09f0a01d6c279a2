"""On a GPU: torch as it is, or through its compiler where the work is long enough for that.

Features stay float32 in both (`headstart._util.devices.full_float32`): bfloat16 keeps eight bits of
each number, and its features would differ from a processor's by more than any engine may.
"""

import time
from dataclasses import replace

from headstart._util.compiling import can_compile
from headstart.features.engine import Engine
from headstart.features.engine_torch import TorchEngine
from headstart.features.trials import Choice, EngineTrial, Job, agrees, built, compared, timed
from headstart.types import FloatArray, InputSpec

COMPILING_PAYS_FROM = 300.0
"""Seconds of plain torch from which a trial of the compiler, about half a minute, is made."""


def choose_compiled(job: Job, samples: FloatArray) -> Choice:
    """Choose between torch and compiled torch on a device other than the processor.

    Args:
        job: What the engine is wanted for.
        samples: A few of the inputs, float32, shape [n, *shape].

    Returns:
        The torch engine that is done sooner, if the compiled one gives the same features.
    """
    plain, trial = built("torch", job)
    device = job.device.type
    if not isinstance(job.backbone.input_spec, InputSpec):
        reason = f"the device is {device}; sequences have many shapes, each would be compiled"
        return _taken(plain, trial, reason)
    if not can_compile(job.device):
        return _taken(plain, trial, f"the device is {device}, other engines use the CPU")
    expected = plain.run(samples)  # also warms it up
    rate = len(samples) / timed(plain, samples)
    trial = replace(trial, images_per_second=rate, max_relative_difference=0.0)
    seconds = job.images / rate
    if seconds < COMPILING_PAYS_FROM:
        return _taken(plain, trial, f"needs {seconds:.0f} s, too little for compiling")
    start = time.perf_counter()
    engine = TorchEngine(job.backbone, job.cut, job.device, compiled=True)
    got = engine.run(samples)  # compiles
    other = EngineTrial("torch", time.perf_counter() - start, None, None, False, "")
    other = compared(other, got, expected)
    if not agrees(other):
        return _taken(plain, trial, f"compiled it {other.reason}")
    compiled_rate = len(samples) / timed(engine, samples)
    if compiled_rate <= rate:
        return _taken(plain, trial, f"compiled it makes {compiled_rate:,.0f} images/s")
    reason = f"compiled; as it is it makes {rate:,.0f} images/s"
    return _taken(engine, replace(other, images_per_second=compiled_rate), reason)


def _taken(engine: Engine, trial: EngineTrial, reason: str) -> Choice:
    return Choice(engine, (replace(trial, chosen=True, reason=reason),))

"""What a network costs with a linear head on it: size, arithmetic, time and memory."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from headstart._util.stopping import Stop
from headstart.backbones.base import Backbone, TextOptions
from headstart.data.dataset import Dataset
from headstart.data.loader import load_batches
from headstart.errors import RunError
from headstart.evaluate.timing import latency, time_interleaved
from headstart.features.flops import macs
from headstart.runs.bench import StoppableProgress
from headstart.runs.benchmark_engines import torch_forward
from headstart.runs.benchmark_records import LEAST_CALLS_P95
from headstart.runs.peak import BackboneSubject, measure_peaks
from headstart.runs.training import parameters_of
from headstart.types import FloatArray, InputSpec, IntArray, JsonDict, Progress, Task

BATCHES = (1, 32)
_LEAST_CALLS = {1: 12, 32: 4}
_MOST_CALLS = 100
_SECONDS = {1: 15.0, 32: 30.0}  # about what timing may take, for all networks together


@dataclass(frozen=True, slots=True)
class Contender:
    """One network that is compared.

    Attributes:
        key: What it is called in the comparison: its name, and ``(random)`` where it is.
        name: Registry name.
        random: Whether its weights are random numbers: then only its costs mean something.
        backbone: The network, on the device.
        cut: The stage that heads read.
        text: How it reads texts, or None.
        seed: Of random weights.
    """

    key: str
    name: str
    random: bool
    backbone: Backbone
    cut: str
    text: TextOptions | None = None
    seed: int = 0

    @property
    def width(self) -> int:
        """Number of features."""
        return math.prod(self.backbone.shape(self.cut))


def with_head(contender: Contender, classes: int, device: torch.device) -> nn.Sequential:
    """Return a network with a linear head of untrained weights on it, samples -> logits."""
    head = nn.Linear(contender.width, classes)
    prefix = contender.backbone.prefix(contender.cut)
    return nn.Sequential(prefix, nn.Flatten(1), head).to(device).eval()


def sizes(contender: Contender, classes: int, tokens: int | None) -> JsonDict:
    """Return parameters, bytes and multiply-adds of a network with a linear head.

    Args:
        contender: The network.
        classes: Number of classes.
        tokens: Of the text whose multiply-adds are counted, or None.

    Returns:
        ``parameters_total``, ``size_bytes`` and ``macs`` (None where they cannot be counted).
    """
    network = with_head(contender, classes, torch.device("cpu"))
    parameters, size_bytes = parameters_of(contender.backbone, contender.cut, network[2])
    return {
        "parameters_total": parameters,
        "size_bytes": size_bytes,
        "macs": macs(network, contender.backbone.input_spec, tokens),
    }


def time_all(
    contenders: Sequence[Contender],
    dataset: Dataset,
    rows: IntArray,
    lengths: Mapping[str, IntArray | None],
    *,
    device: torch.device,
    workers: int,
    progress: Progress,
    stop: Stop,
) -> dict[str, dict[str, JsonDict]]:
    """Time predictions of single samples and of batches, all networks taking turns.

    What is timed is the forward pass with a linear head, in torch, of samples in memory that are
    decoded and transformed (or tokenized) before.

    Args:
        contenders: The networks.
        dataset: The samples.
        rows: Positions of samples to predict.
        lengths: Tokens of all samples as each network reads them, by key; None for pictures.
        device: Where torch computes.
        workers: Threads that decode.
        progress: Where to show how far it is.
        stop: Says whether somebody asked to stop.

    Returns:
        By key and batch size (a text, as in JSON): latencies, the 95th percentile None of too few
        calls to have one; the slowest call; tokens of a text or None; and seconds of processors in
        a second of the timing, all networks together: on a CPU that has nothing else to do at least
        1, for nothing but calls is made then.
    """
    found: dict[str, dict[str, JsonDict]] = {one.key: {} for one in contenders}
    classes = len(dataset.classes)
    for size in BATCHES:
        calls, tokens = {}, {}
        for one in contenders:
            batch = _batch(dataset, rows, one, lengths[one.key], size, workers)
            tokens[one.key] = None if batch.ndim == 4 else int(batch.shape[1])
            forward = torch_forward(with_head(one, classes, device), device)
            calls[one.key] = lambda forward=forward, batch=batch: forward(batch)
        # Once to see how many calls there is time for, after the very first ones, which build.
        once = time_interleaved(calls, rounds=1, warm_up=int(size == BATCHES[0]))
        rounds = _rounds(size, sum(float(s[0]) for s in once.values()), len(calls))
        shown = StoppableProgress(progress, stop)
        with shown.task(f"timing batches of {size}", rounds * len(calls), "calls") as task:
            wall, busy = time.perf_counter(), time.process_time()
            seconds = time_interleaved(calls, rounds=rounds, warm_up=0, clock=_Clock(task).read)
            busy = (time.process_time() - busy) / max(time.perf_counter() - wall, 1e-9)
        for key, values in seconds.items():
            found[key][str(size)] = {
                **_latency(values, size),
                "tokens": tokens[key],
                "cores_used": round(busy, 3),
            }
    return found


def peak_memory(
    contenders: Sequence[Contender],
    tokens: Mapping[str, int | None],
    *,
    threads: int,
    device: torch.device,
) -> dict[str, JsonDict | None]:
    """Return the memory that prediction takes, measured in a process of its own.

    Args:
        contenders: The networks.
        tokens: Of a text, by key; None for pictures.
        threads: How many compute on the CPU.
        device: Where torch computes.

    Returns:
        By key: bytes by batch size (a text, as in JSON), or None where it cannot be measured.
    """
    subjects = [
        BackboneSubject(
            one.name,
            weights="random" if one.random else "pretrained",
            seed=one.seed,
            text=one.text,
            length=tokens[one.key],
        )
        for one in contenders
    ]
    peaks = measure_peaks(subjects, BATCHES, threads=threads, device=str(device))
    return {
        one.key: None
        if isinstance(peak, RunError)
        else {str(size): peak.predicting_bytes[size] for size in BATCHES}
        for one, peak in zip(contenders, peaks, strict=True)
    }


class _Clock:
    """Reads the clock, and says that a call is done after its second reading, outside the time."""

    def __init__(self, task: Task) -> None:
        self._task, self._running = task, False

    def read(self) -> float:
        if not self._running:
            self._running = True
            return time.perf_counter()
        now = time.perf_counter()
        self._running = False
        self._task.advance()
        return now


def _rounds(size: int, seconds_a_round: float, calls: int) -> int:
    """Return how many rounds there is time for; whole cycles of the orders that are rotated."""
    wanted = int(_SECONDS[size] / max(seconds_a_round, 1e-6))
    wanted = max(_LEAST_CALLS[size], min(_MOST_CALLS, wanted))
    cycle = calls if calls % 2 == 0 else 2 * calls
    return wanted if cycle > wanted else wanted - wanted % cycle


def _batch(
    dataset: Dataset,
    rows: IntArray,
    contender: Contender,
    lengths: IntArray | None,
    size: int,
    workers: int,
) -> FloatArray:
    """Return real samples; of texts those whose length is nearest to the median."""
    spec = contender.backbone.input_spec
    chosen = rows
    if lengths is not None:
        far = np.abs(lengths[rows] - np.median(lengths[rows]))
        chosen = rows[np.argsort(far, kind="stable")]
    chosen = np.resize(chosen, size)  # again from the start where there are fewer
    loaded = load_batches(dataset, chosen, spec, size, workers=workers)
    (batch,) = list(loaded)
    assert isinstance(spec, InputSpec) == (batch.ndim == 4)
    return batch


def _latency(seconds: npt.NDArray[np.float64], size: int) -> JsonDict:
    record = {**asdict(latency(seconds, size)), "slowest_ms": 1e3 * float(seconds.max())}
    if len(seconds) < LEAST_CALLS_P95:
        record["p95_ms"] = None
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()}

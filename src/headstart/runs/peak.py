"""The memory that prediction takes, measured in a process of its own.

In the process that asks, earlier work has left its marks: memory that was used once and is kept for
later. So a child imports everything, notes what it has, loads the network, and predicts. As a
program, ``python -m headstart.runs.peak``, this module is that child: a request in JSON on standard
input, the answer in JSON on standard output.
"""

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch

from headstart.backbones.base import POOLED, SeriesOptions, TextOptions
from headstart.backbones.registry import load_backbone
from headstart.errors import RunError
from headstart.features.engine import EngineName, import_engine
from headstart.predict import load_model
from headstart.predict.whole import load_whole
from headstart.runs.benchmark_engines import (
    Forward,
    example_batch,
    graph_forward,
    graph_name,
    torch_forward,
)
from headstart.types import Fit, JsonDict, Spec

_CALLS = 2  # the first builds what later ones use
_LIMIT_SECONDS = 900.0  # for each subject
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class BackboneSubject:
    """A backbone from the registry, up to its pooled features, in torch.

    Attributes:
        name: Registry name.
        weights: ``pretrained``, ``random`` or a path.
        seed: Of random weights.
        fit: How pictures are fitted to the input, where not the network's own way.
        image_size: Height and width of the input in pixels, where not the network's own.
        text: How texts are read, where not the network's own way.
        series: What sequences of numbers are read.
        length: Tokens or steps of each sample; None: as many as the network takes.
    """

    name: str
    weights: str = "pretrained"
    seed: int = 0
    fit: Fit | None = None
    image_size: int | None = None
    text: TextOptions | None = None
    series: SeriesOptions | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class ModelSubject:
    """A saved model, whole, in one engine.

    Attributes:
        folder: The model's folder in a run.
        engine: What computes.
        graphs: Folder of the exported networks, for other engines than torch (see
            `headstart.runs.benchmark_engines.graph_name`).
        length: Tokens or steps of each sample; None: as many as the network takes.
    """

    folder: Path
    engine: EngineName = "torch"
    graphs: Path | None = None
    length: int | None = None


Subject = BackboneSubject | ModelSubject


@dataclass(frozen=True, slots=True)
class Peak:
    """Memory above that of a process that has imported everything and loaded nothing.

    Attributes:
        loading_bytes: At most while the network was loaded.
        predicting_bytes: At most while batches were predicted, the weights included, by the size
            of the batches.
    """

    loading_bytes: int
    predicting_bytes: dict[int, int]


def peak_memory(
    subject: Subject, batch_size: int = 1, *, threads: int = 1, device: str = "cpu"
) -> int:
    """Return the memory that predicting batches of one size takes; see `measure_peak`.

    Args:
        subject: What predicts.
        batch_size: Samples of a batch.
        threads: How many compute on the CPU.
        device: Where torch computes.

    Returns:
        Bytes above those of the imports, weights included.
    """
    peak = measure_peaks([subject], [batch_size], threads=threads, device=device)[0]
    if isinstance(peak, RunError):
        raise peak
    return peak.predicting_bytes[batch_size]


def measure_peaks(
    subjects: Sequence[Subject],
    batch_sizes: Sequence[int],
    *,
    threads: int = 1,
    device: str = "cpu",
) -> tuple[Peak | RunError, ...]:
    """Measure in a child process how much memory loading and predicting take.

    On the CPU that is resident memory, on CUDA what torch has allocated on the device. What was
    needed for a moment while loading is not counted to predicting where the system can forget it
    (Linux); elsewhere both figures are the largest since the process began, so ask for one subject
    at a time there. One child for several subjects spares the imports, which take seconds.

    Args:
        subjects: What predicts; measured one after the other.
        batch_sizes: Samples of the batches; they are measured from the smallest to the largest.
        threads: How many compute on the CPU.
        device: Where torch computes.

    Returns:
        Bytes, or why there are none, for each subject in turn.
    """
    request = {
        "subjects": [{"kind": type(one).__name__, **asdict(one)} for one in subjects],
        "batch_sizes": sorted(set(batch_sizes)),
        "threads": threads,
        "device": device,
    }
    try:
        done = subprocess.run(
            # -P: else a file of the working folder, such as a numpy.py, is imported in place of the
            # package. PYTHONPATH counts as ever.
            [sys.executable, "-P", "-m", "headstart.runs.peak"],
            input=json.dumps(request, default=str),
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS * max(len(subjects), 1),
            check=False,
        )
        answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        # Where it was killed, most likely for want of memory, what it had measured still counts.
        end = f"it was ended by signal {-done.returncode}" if done.returncode < 0 else last
    except subprocess.TimeoutExpired:
        answers, end = [], "it took too long"
    lacking = [{"error": end}] * (len(subjects) - len(answers))
    pairs = zip(subjects, [*answers, *lacking], strict=True)
    return tuple(_peak(subject, answer) for subject, answer in pairs)


def _peak(subject: Subject, answer: JsonDict) -> Peak | RunError:
    if "error" in answer:
        what = subject.name if isinstance(subject, BackboneSubject) else subject.folder
        return RunError(f"memory of {what}: the process that measures it failed: {answer['error']}")
    predicting = {int(size): found for size, found in answer["predicting_bytes"].items()}
    return Peak(answer["loading_bytes"], predicting)


def _main() -> None:
    """Answer a request in this process, one line for each subject."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    for raw in request["subjects"]:
        try:
            answer = _measure(_subject(raw), request)
        except Exception as error:  # whatever it is, the others can still be measured
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), flush=True)


def _measure(subject: Subject, request: JsonDict) -> JsonDict:
    """Load once for the imports, and once more for the figures."""
    device = torch.device(request["device"])
    # Libraries import parts of themselves only while they build a network, and prepare others when
    # they first compute one. These are no memory of the network, so one is built, asked and dropped
    # before the counting begins.
    _ask_once(*_load(subject, device, request["threads"]), subject.length)
    meter = _meter(device)
    base = meter.settle()
    prepare, spec = _load(subject, device, request["threads"])
    loading = meter.peak()
    predicting = {}
    for size in request["batch_sizes"]:
        forward = prepare(size)
        batch = example_batch(spec, size, subject.length)
        loading = max(loading, meter.peak())
        meter.settle()
        for _ in range(_CALLS):
            forward(batch)
        predicting[size] = max(meter.peak() - base, 0)
        del forward
    return {"loading_bytes": max(loading - base, 0), "predicting_bytes": predicting}


def _ask_once(prepare: Callable[[int], Forward], spec: Spec, length: int | None) -> None:
    prepare(1)(example_batch(spec, 1, length))


def _load(
    subject: Subject, device: torch.device, threads: int
) -> tuple[Callable[[int], Forward], Spec]:
    """Return what makes the call for a batch size, and how samples are prepared."""
    if isinstance(subject, BackboneSubject):
        backbone = load_backbone(
            subject.name,
            weights=subject.weights,
            seed=subject.seed,
            fit=subject.fit,
            image_size=subject.image_size,
            text=subject.text,
            series=subject.series,
        )
        backbone.to(device)
        forward = torch_forward(backbone.prefix(POOLED), device)
        return (lambda _: forward), backbone.input_spec
    if subject.graphs is None:
        whole = load_whole(subject.folder, device=device)
        forward = torch_forward(whole.network, device)
        return (lambda _: forward), whole.model.input_spec
    import_engine(subject.engine)
    spec, engine, graphs = (
        load_model(subject.folder).model.input_spec,
        subject.engine,
        subject.graphs,
    )

    def prepare(size: int) -> Forward:
        data = (graphs / graph_name(size)).read_bytes()
        return graph_forward(engine, data, spec, batch_size=size, threads=threads)

    return prepare, spec


def _subject(raw: JsonDict) -> Subject:
    fields = {key: value for key, value in raw.items() if key != "kind"}
    if raw["kind"] == ModelSubject.__name__:
        graphs = None if raw["graphs"] is None else Path(raw["graphs"])
        return ModelSubject(**{**fields, "folder": Path(raw["folder"]), "graphs": graphs})
    text = None if raw["text"] is None else TextOptions(**raw["text"])
    series = None if raw["series"] is None else SeriesOptions(**raw["series"])
    return BackboneSubject(**{**fields, "text": text, "series": series})


class _Meter(Protocol):
    def settle(self) -> int:
        """Give back what is free, forget the peak, and return the bytes in use."""
        ...

    def peak(self) -> int:
        """Return the most bytes in use since `settle`."""
        ...


class _CudaMeter:
    def __init__(self, device: torch.device) -> None:
        self._device = device

    def settle(self) -> int:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        return int(torch.cuda.memory_allocated(self._device))

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated(self._device))


class _LinuxMeter:
    def settle(self) -> int:
        gc.collect()
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):
            # "5" sets the peak back to what is resident now: proc_pid_clear_refs(5). Where it is
            # not allowed the peak is that since the beginning, which is never less.
            _RESET.write_text("5", encoding="ascii")
        return _status_bytes("VmRSS")

    def peak(self) -> int:
        # Not getrusage: its peak of a child begins with that of the parent, copied when it starts.
        return _status_bytes("VmHWM")


class _OtherMeter:
    def settle(self) -> int:
        gc.collect()
        return self.peak()

    def peak(self) -> int:
        try:
            import resource
        except ImportError as error:
            raise RunError("this system does not say how much memory a process takes") from error
        kilo = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo


def _meter(device: torch.device) -> _Meter:
    if device.type == "cuda":
        return _CudaMeter(device)
    return _LinuxMeter() if _STATUS.exists() else _OtherMeter()


def _status_bytes(key: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return 1024 * int(value.split()[0])
    raise RunError(f"{_STATUS} has no line {key}")


if __name__ == "__main__":
    _main()

"""Engines that run a frozen prefix: torch, ONNX Runtime and OpenVINO.

All of them work in micro-batches of one fixed size, the last one filled up with zeros. That is
fast (four pictures at a time stay in a processor's cache: eager torch runs EfficientNet-Lite0 at
twice the speed it has with 32), it lets ONNX Runtime and OpenVINO fold every shape to a constant,
and it makes a picture's features independent of how many others it came with.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from headstart._util.devices import full_float32, usable_cores
from headstart._util.imports import available, optional
from headstart.backbones.base import INPUT as CUT_INPUT
from headstart.backbones.base import Backbone
from headstart.errors import EngineError
from headstart.features.graph import (
    BATCH,
    INPUT,
    frozen_copy,
    load_graph,
)
from headstart.features.lengths import rows_at_once
from headstart.types import FloatArray, InputSpec

EngineName = Literal["torch", "onnxruntime", "openvino"]

_PICTURES_IN_CACHE = 4
_PICTURES_ON_DEVICE = 32


_Map = Callable[[Callable[[FloatArray], FloatArray], Iterable[FloatArray]], Iterable[FloatArray]]


class Engine(Protocol):
    """Runs one frozen prefix."""

    @property
    def name(self) -> EngineName:
        """``torch``, ``onnxruntime`` or ``openvino``."""
        ...

    @property
    def micro_batch(self) -> int:
        """How many pictures it computes at a time; batches of a multiple of it waste nothing."""
        ...

    def run(self, batch: FloatArray) -> FloatArray:
        """Compute features: float32 [n, 3, height, width] -> float32 [n, *shape].

        Torch also takes sequences, [n, length, width + 1]: all of a batch are then of one length.
        """
        ...


def cpu_threads() -> int:
    """Return how many threads engines take: the usable cores, or fewer where torch is limited."""
    return min(usable_cores(), torch.get_num_threads())


def graph_batch_size() -> int:
    """Return the micro-batch of engines that share all threads among one: a picture for each."""
    return min(max(_PICTURES_IN_CACHE, usable_cores()), 32)


def build_engine(
    name: EngineName, backbone: Backbone, cut: str, *, device: torch.device, graph: Path
) -> Engine:
    """Make an engine ready to run.

    Args:
        name: Which one.
        backbone: The network; it is left as it is.
        cut: Where it is cut.
        device: Where torch computes; the other engines compute on the CPU.
        graph: Where the exported network is kept, from `headstart.features.graph.graph_path`.

    Returns:
        The engine.

    Raises:
        MissingExtraError: The engine's package is not installed.
        EngineError: The network cannot be exported, or the engine cannot read it.
    """
    if name == "torch":
        return TorchEngine(backbone, cut, device)
    spec = backbone.input_spec
    if not isinstance(spec, InputSpec):
        raise EngineError(
            f"the engine {name!r} takes pictures, and {backbone.name} takes sequences: choose the "
            "engine 'torch' or 'auto'"
        )
    library = import_engine(name)
    size = graph_batch_size()
    kept = graph.exists()
    try:
        try:
            return _from_graph(name, library, load_graph(backbone, cut, graph, size), spec)
        except Exception:
            if not kept:
                raise
            graph.unlink(missing_ok=True)  # perhaps damaged on the disk: export it once more
            return _from_graph(name, library, load_graph(backbone, cut, graph, size), spec)
    except Exception as error:
        # The exporters and the engines have errors of their own kinds.
        raise EngineError(
            f"the engine {name!r} cannot be built for {backbone.name} at {cut} "
            f"({type(error).__name__}: {_first_line(error)}): choose the engine 'torch'"
        ) from error


def graph_engine(
    name: EngineName, graph: bytes | Path, spec: InputSpec, *, size: int, threads: int
) -> Engine:
    """Make an engine of an exported network, for batches of one size.

    Args:
        name: ``onnxruntime`` or ``openvino``.
        graph: From `headstart.features.graph.export_graph`, or a file that the engine reads; its
            one output may have any name.
        spec: The pictures that it takes.
        size: Pictures at a time.
        threads: How many compute.

    Returns:
        The engine.

    Raises:
        MissingExtraError: The engine's package is not installed.
        EngineError: The engine cannot read the graph.
    """
    library = import_engine(name)
    try:
        return _from_graph(name, library, graph, spec, size, threads)
    except Exception as error:  # of the engine's own kind
        found = f"{type(error).__name__}: {_first_line(error)}"
        raise EngineError(f"the engine {name!r} cannot read the network ({found})") from error


def import_engine(name: EngineName) -> Any:
    """Import an engine's package, or say how to install it."""
    if name == "openvino":
        return import_openvino()
    return optional(name, "engines", f"the engine {name!r}")


def installed(name: EngineName) -> bool:
    """Return whether an engine's package is there, without importing it."""
    return name == "torch" or available(name)


class TorchEngine:
    """Eager torch, channels last, on any device: the reference that the others are held to."""

    def __init__(
        self, backbone: Backbone, cut: str, device: torch.device, start: str = CUT_INPUT
    ) -> None:
        """Copy the prefix, or a slice of it, to the device.

        Args:
            backbone: The network; it is left as it is.
            cut: Where it is cut.
            device: Where to compute.
            start: The cut at which the batches are that `run` takes: pictures, unless said.
        """
        module = frozen_copy(backbone, cut, start)
        # `nn.Module.to` has no overload for both arguments at once.
        self._module = module.to(device).to(memory_format=torch.channels_last)
        self._device = device
        on_cpu = device.type == "cpu"
        self._on_cpu, self._ragged = on_cpu, backbone.ragged(start)
        self._size = _PICTURES_IN_CACHE if on_cpu else _PICTURES_ON_DEVICE
        self._threads = cpu_threads() if on_cpu else 1
        self._pool = _one_core_each(self._threads) if on_cpu else None

    @property
    def name(self) -> EngineName:
        """The engine's name."""
        return "torch"

    @property
    def micro_batch(self) -> int:
        """How many pictures it computes at a time."""
        return self._size * self._threads

    def sequences_at_once(self, length: int) -> int:
        """Return how many sequences of a length it computes at a time, by all threads."""
        return rows_at_once(length, self._on_cpu) * self._threads

    def run(self, batch: FloatArray) -> FloatArray:
        """Compute features: float32 [n, *shape at the start] -> float32 [n, *shape]."""
        mapped = map if self._pool is None else self._pool.map
        size = rows_at_once(batch.shape[1], self._on_cpu) if self._ragged else self._size
        return in_micro_batches(self._run, batch, size, mapped)

    def _run(self, chunk: FloatArray) -> FloatArray:
        rows = torch.from_numpy(chunk)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._device.type == "cuda":
                stack.enter_context(full_float32())
                rows = rows.pin_memory()
            moved = rows.to(self._device, non_blocking=True)
            if moved.ndim == 4:  # maps; sequences and vectors have one layout
                moved = moved.contiguous(memory_format=torch.channels_last)
            out = self._module(moved)
            result: FloatArray = out.float().cpu().contiguous().numpy()
        return result


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU."""

    def __init__(
        self,
        runtime: Any,
        graph: bytes | Path,
        size: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Load a graph.

        Args:
            runtime: The module `onnxruntime`.
            graph: From `headstart.features.graph`, or a file.
            size: Pictures at a time; None: `graph_batch_size`.
            threads: How many compute; None: `cpu_threads`.
        """
        self._size = graph_batch_size() if size is None else size
        options = runtime.SessionOptions()
        options.intra_op_num_threads = cpu_threads() if threads is None else threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; it warns of harmless things on standard error
        # Idle threads would otherwise spin on the cores that decode the next pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_free_dimension_override_by_name(BATCH, self._size)
        self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @property
    def name(self) -> EngineName:
        """The engine's name."""
        return "onnxruntime"

    @property
    def micro_batch(self) -> int:
        """How many pictures it computes at a time."""
        return self._size

    def run(self, batch: FloatArray) -> FloatArray:
        """Compute features: float32 [n, 3, height, width] -> float32 [n, *shape]."""
        return in_micro_batches(self._run, batch, self._size)

    def _run(self, chunk: FloatArray) -> FloatArray:
        result: FloatArray = self._session.run(None, {INPUT: chunk})[0]
        return result


class OpenVinoEngine:
    """OpenVINO on the CPU, in float32."""

    def __init__(
        self,
        openvino: Any,
        graph: bytes | Path,
        height: int,
        width: int,
        size: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Read and compile a graph.

        Args:
            openvino: The module `openvino`.
            graph: From `headstart.features.graph`, or a file.
            height: Rows of the input.
            width: Columns of the input.
            size: Pictures at a time; None: `graph_batch_size`.
            threads: How many compute; None: `cpu_threads`.
        """
        self._size = graph_batch_size() if size is None else size
        core = openvino.Core()
        model = core.read_model(graph)
        model.reshape(openvino.PartialShape([self._size, 3, height, width]))
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                # Without it processors with AMX or AVX512_BF16 compute in bfloat16.
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "INFERENCE_NUM_THREADS": str(cpu_threads() if threads is None else threads),
                "ENABLE_CPU_PINNING": False,  # the cores are shared with the decoding threads
            },
        )

    @property
    def name(self) -> EngineName:
        """The engine's name."""
        return "openvino"

    @property
    def micro_batch(self) -> int:
        """How many pictures it computes at a time."""
        return self._size

    def run(self, batch: FloatArray) -> FloatArray:
        """Compute features: float32 [n, 3, height, width] -> float32 [n, *shape]."""
        return in_micro_batches(self._run, batch, self._size)

    def _run(self, chunk: FloatArray) -> FloatArray:
        # The output is OpenVINO's own buffer, overwritten by the next call: the caller copies.
        result: FloatArray = self._compiled(chunk)[0]
        return result


def in_micro_batches(
    run: Callable[[FloatArray], FloatArray],
    batch: FloatArray,
    size: int,
    mapped: _Map = map,
) -> FloatArray:
    """Run a function that takes exactly `size` rows over a batch of any length.

    Args:
        run: The function, [size, ...] -> [size, *shape]. With the built-in `map` its result may
            be overwritten by the next call.
        batch: Shape [n, ...].
        size: Rows per call; the last call is filled up with zeros.
        mapped: How to apply the function to the parts: `map`, or that of a pool of threads.

    Returns:
        Array of float32, shape [n, *shape].

    Raises:
        ValueError: The batch is empty, so that the shape of the result cannot be known.
    """
    if len(batch) == 0:
        raise ValueError("expected at least one picture, got an empty batch")
    out: FloatArray | None = None
    start = 0
    for result in mapped(run, _parts(batch, size)):
        if out is None:
            out = np.empty((len(batch), *result.shape[1:]), dtype=np.float32)
        stop = min(start + size, len(batch))
        out[start:stop] = result[: stop - start]
        start = stop
    assert out is not None
    return out


def _parts(batch: FloatArray, size: int) -> Iterator[FloatArray]:
    for start in range(0, len(batch), size):
        part = np.ascontiguousarray(batch[start : start + size], dtype=np.float32)
        if len(part) < size:
            whole = np.zeros((size, *batch.shape[1:]), dtype=np.float32)
            whole[: len(part)] = part
            part = whole
        yield part


def _one_core_each(threads: int) -> ThreadPoolExecutor:
    # Each thread computes micro-batches of its own on one core. The usual way, all cores at each
    # layer of one batch, waits for the slowest core after every layer: where the cores are shared
    # (with the threads that decode, with another program) that was 3 to 5 times slower.
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        threads, thread_name_prefix="headstart-torch", initializer=_use_one_core
    )
    # A thread's own setting is also the default of threads made later. So all are made now (they
    # wait for each other: none can take the place of another), and the default is put back.
    met = threading.Barrier(threads)
    for waiting in [pool.submit(met.wait) for _ in range(threads)]:
        waiting.result()
    torch.set_num_threads(before)
    return pool


def _use_one_core() -> None:
    torch.get_num_threads()  # a thread takes the default over when it first asks, and then no more
    torch.set_num_threads(1)


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    Importing `openvino` imports `openvino_telemetry`, which reports the import to its makers over
    the network. Where that package is missing OpenVINO uses an empty stand-in of its own: so it
    is hidden for as long as the import takes.

    Returns:
        The module.
    """
    hide = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if hide:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return optional("openvino", "engines", "the engine 'openvino'")
    finally:
        if hide:
            del sys.modules["openvino_telemetry"]


def _from_graph(
    name: EngineName,
    library: Any,
    graph: bytes | Path,
    spec: InputSpec,
    size: int | None = None,
    threads: int | None = None,
) -> Engine:
    if name == "onnxruntime":
        return OnnxRuntimeEngine(library, graph, size, threads)
    return OpenVinoEngine(library, graph, spec.height, spec.width, size, threads)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

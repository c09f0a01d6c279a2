"""ONNX Runtime and OpenVINO: engines that run an exported network on the CPU.

Both work in one of two ways. With several lanes each core computes pictures of its own, by one set
of weights: that is soonest for many pictures. With one lane all cores compute each picture: that is
soonest for one.
"""

import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headstart.backbones.base import INPUT as CUT_INPUT
from headstart.backbones.base import Backbone
from headstart.features.graph import BATCH, INPUT
from headstart.features.micro_batches import Mapped, cpu_threads, in_micro_batches
from headstart.types import FloatArray, InputSpec

LARGE_BYTES = 200e6
"""Weights larger than any cache."""
_PICTURES_OF_LARGE = 4
_PICTURES_AT_ONCE = 32  # of a large network, by all cores: their activations take memory


@dataclass(frozen=True, slots=True)
class Lanes:
    """How pictures are shared among cores.

    Attributes:
        size: Pictures of one call; shapes are folded to constants for it.
        threads: Cores that compute one call together.
        count: How many calls are computed at a time.
    """

    size: int
    threads: int = 1
    count: int = 1


def lanes_for(backbone: Backbone, cut: str) -> Lanes:
    """Return how a prefix is computed soonest for many pictures: one at a time on each core.

    Weights larger than any cache are read from memory at each call: of those (VGG16's fully
    connected layers, say) four pictures are computed by one call, which is 5 % faster. Of smaller
    networks a single picture is, by up to a tenth: its activations stay near the core.

    Args:
        backbone: The network.
        cut: Where it is cut.

    Returns:
        The size of a call and how many are computed at a time.
    """
    count = cpu_threads()
    size = 1
    if weights_bytes(backbone, cut) > LARGE_BYTES:
        size = max(min(_PICTURES_OF_LARGE, _PICTURES_AT_ONCE // count), 1)
    return Lanes(size, count=count)


def weights_bytes(backbone: Backbone, cut: str) -> int:
    """Return the bytes of all weights up to a cut."""
    weights = [t for _, m in backbone.modules(CUT_INPUT, cut) for t in m.parameters()]
    return sum(t.numel() * t.element_size() for t in weights)


class _InLanes(ABC):
    """An engine of a graph with batches of one size, of which lanes compute several at a time."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._mapped = _mapped(lanes)

    @property
    def micro_batch(self) -> int:
        """How many pictures it computes at a time."""
        return self._lanes.size * self._lanes.count

    def run(self, batch: FloatArray) -> FloatArray:
        """Compute features: float32 [n, 3, height, width] -> float32 [n, *shape]."""
        return in_micro_batches(self._run, batch, self._lanes.size, self._mapped)

    @abstractmethod
    def _run(self, chunk: FloatArray) -> FloatArray:
        """Compute one batch of the graph's size; several threads call it at a time."""


class OnnxRuntimeEngine(_InLanes):
    """ONNX Runtime on the CPU."""

    def __init__(self, runtime: Any, graph: bytes | Path, lanes: Lanes) -> None:
        """Load a graph.

        Args:
            runtime: The module `onnxruntime`.
            graph: From `headstart.features.graph`, or a file.
            lanes: How pictures are shared among cores.
        """
        super().__init__(lanes)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = lanes.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; it warns of harmless things on standard error
        # Idle threads would otherwise spin on the cores that decode the next pictures. Where one
        # picture is waited for, they may, so that each layer finds them awake, but not after it.
        waited_for = "1" if lanes.size == 1 and lanes.threads > 1 else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", waited_for)
        options.add_session_config_entry("session.force_spinning_stop", waited_for)
        options.add_free_dimension_override_by_name(BATCH, lanes.size)
        self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @property
    def name(self) -> Literal["onnxruntime"]:
        """The engine's name."""
        return "onnxruntime"

    def _run(self, chunk: FloatArray) -> FloatArray:
        result: FloatArray = self._session.run(None, {INPUT: chunk})[0]
        return result


class OpenVinoEngine(_InLanes):
    """OpenVINO on the CPU, in float32."""

    def __init__(self, openvino: Any, graph: bytes | Path, spec: InputSpec, lanes: Lanes) -> None:
        """Read and compile a graph.

        Args:
            openvino: The module `openvino`.
            graph: From `headstart.features.graph`, or a file.
            spec: The pictures.
            lanes: How pictures are shared among cores.
        """
        super().__init__(lanes)
        self._own = threading.local()
        core = openvino.Core()
        model = core.read_model(graph)
        model.reshape(openvino.PartialShape([lanes.size, 3, spec.height, spec.width]))
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                # Without it processors with AMX or AVX512_BF16 compute in bfloat16.
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY" if lanes.count == 1 else "THROUGHPUT",
                "NUM_STREAMS": str(lanes.count),
                "INFERENCE_NUM_THREADS": str(lanes.threads * lanes.count),
                "ENABLE_CPU_PINNING": False,  # the cores are shared with the decoding threads
            },
        )

    @property
    def name(self) -> Literal["openvino"]:
        """The engine's name."""
        return "openvino"

    def _run(self, chunk: FloatArray) -> FloatArray:
        if not hasattr(self._own, "request"):  # one of each thread: a request holds one call
            self._own.request = self._compiled.create_infer_request()
        # The output is the request's own buffer, overwritten by this thread's next call, which
        # may come before the caller has looked at this result.
        return np.array(self._own.request.infer([chunk], share_inputs=True, share_outputs=True)[0])


def _mapped(lanes: Lanes) -> Mapped:
    if lanes.count == 1:
        return map
    return ThreadPoolExecutor(lanes.count, thread_name_prefix="headstart-graph").map

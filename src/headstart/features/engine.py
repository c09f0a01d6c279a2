"""Engines that run a frozen prefix: torch, ONNX Runtime and OpenVINO.

All of them work in micro-batches of one fixed size, the last one filled up with zeros. That is
fast (a few pictures at a time stay in a processor's cache), it lets ONNX Runtime and OpenVINO fold
every shape to a constant, and it makes a picture's features independent of how many others it came
with. Each core computes micro-batches of its own (see `headstart.features.micro_batches`).
"""

import sys
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from headstart._util.imports import available, optional
from headstart.backbones.base import Backbone
from headstart.errors import EngineError
from headstart.features.engine_graphs import Lanes, OnnxRuntimeEngine, OpenVinoEngine, lanes_for
from headstart.features.engine_torch import TorchEngine
from headstart.features.graph import load_graph
from headstart.types import FloatArray, InputSpec

EngineName = Literal["torch", "onnxruntime", "openvino"]


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
    lanes = lanes_for(backbone, cut)
    kept = graph.exists()

    def made() -> Engine:
        data = load_graph(backbone, cut, graph, lanes.size)
        return _from_graph(name, library, data, spec, lanes)

    try:
        try:
            return made()
        except Exception:
            if not kept:
                raise
            graph.unlink(missing_ok=True)  # perhaps damaged on the disk: export it once more
            return made()
    except Exception as error:
        # The exporters and the engines have errors of their own kinds.
        raise EngineError(
            f"the engine {name!r} cannot be built for {backbone.name} at {cut} "
            f"({type(error).__name__}: {_first_line(error)}): choose the engine 'torch'"
        ) from error


def graph_engine(
    name: EngineName,
    graph: bytes | Path,
    spec: InputSpec,
    *,
    size: int,
    threads: int,
    lanes: int = 1,
) -> Engine:
    """Make an engine of an exported network, for batches of one size.

    Args:
        name: ``onnxruntime`` or ``openvino``.
        graph: From `headstart.features.graph.export_graph`, or a file that the engine reads; its
            one output may have any name.
        spec: The pictures that it takes.
        size: Pictures at a time.
        threads: How many compute such a batch.
        lanes: How many such batches are computed at a time, each by threads of its own.

    Returns:
        The engine.

    Raises:
        MissingExtraError: The engine's package is not installed.
        EngineError: The engine cannot read the graph.
    """
    library = import_engine(name)
    try:
        return _from_graph(name, library, graph, spec, Lanes(size, threads, lanes))
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
    name: EngineName, library: Any, graph: bytes | Path, spec: InputSpec, lanes: Lanes
) -> Engine:
    if name == "onnxruntime":
        return OnnxRuntimeEngine(library, graph, lanes)
    return OpenVinoEngine(library, graph, spec, lanes)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

"""What computes a bundle's network: torch, or a graph on ONNX Runtime or OpenVINO.

All take one batch of prepared samples and give what the model says of each; none of them is called
by two threads at once (see `headstart.predict.bundle`).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, final

import numpy as np
import torch

from headstart._util.devices import full_float32
from headstart.backbones.base import Backbone
from headstart.errors import EngineError
from headstart.features.engine import (
    Engine,
    EngineName,
    graph_engine,
    import_engine,
)
from headstart.features.engine_graphs import LARGE_BYTES
from headstart.features.engine_torch import TorchEngine
from headstart.features.micro_batches import cpu_threads
from headstart.predict.bundle_network import load_network
from headstart.predict.graphs import PIXELS, Feeds, export_network, feeds
from headstart.predict.predictor import Predictor
from headstart.predict.saved import TrainedModel
from headstart.predict.whole import whole_of
from headstart.types import FloatArray, InputSpec, Spec

GraphEngineName = Literal["onnxruntime", "openvino"]

_SEQUENCES = 32
_ROUNDS = 8  # calls of an engine that one batch of pictures is split into at most
_PICTURES_EACH = 2  # of a batch, by each core: so that none waits long for the slowest


class Runner(Protocol):
    """Computes one network."""

    @property
    def name(self) -> EngineName:
        """The engine."""
        ...

    @property
    def batch_size(self) -> int:
        """How many samples it computes best at a time."""
        ...

    @property
    def most(self) -> int:
        """How many samples it is given at once at most."""
        ...

    def run(self, x: FloatArray) -> FloatArray:
        """Compute a batch [n, *shape]: float32 [n, classes], or [n, 1] of a regression."""
        ...


@final
class TorchRunner:
    """Eager torch on any device."""

    def __init__(
        self,
        trained: TrainedModel,
        backbone: Backbone,
        device: torch.device,
        threads: int | None = None,
    ) -> None:
        """Bring the parts together.

        Args:
            trained: The model.
            backbone: Its network, with the model's weights in it.
            device: Where to compute.
            threads: How many compute on a CPU; None: as many as torch may.
        """
        model = trained.model
        before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._engine = TorchEngine(backbone, model.head_cut, device)
        finally:
            torch.set_num_threads(before)
        self._head = trained.head().requires_grad_(False).to(device)
        self._device = device
        self._temperature = model.temperature if model.goal == "classification" else None
        self._pictures = isinstance(model.input_spec, InputSpec)

    @property
    def name(self) -> EngineName:
        """The engine."""
        return "torch"

    @property
    def batch_size(self) -> int:
        """How many samples it computes best at a time."""
        return self._engine.micro_batch if self._pictures else _SEQUENCES

    @property
    def most(self) -> int:
        """How many samples it is given at once at most."""
        return self.batch_size * (_ROUNDS if self._pictures else 1)

    @torch.inference_mode()
    def run(self, x: FloatArray) -> FloatArray:
        """Compute a batch [n, *shape]: float32 [n, classes], or [n, 1] of a regression."""
        # With few pictures most cores would have none of their own.
        few = self._pictures and 2 * len(x) < self._engine.micro_batch
        features = self._engine.run_at_once(x) if few else self._engine.run(x)
        z = torch.from_numpy(features).reshape(len(x), -1).to(self._device)
        with full_float32():
            out = self._head(z)[0].float()
        if self._temperature is not None:
            out = torch.softmax(out / self._temperature, dim=-1)
        result: FloatArray = out.cpu().numpy()
        return result


@final
class PictureGraph:
    """A graph that takes prepared pictures.

    One alone is computed by all cores, several at once by a core each: the weights are held twice,
    unless they are large (then all cores compute each picture together). What is said of a picture
    is the same but for rounding.
    """

    def __init__(
        self, name: GraphEngineName, graph: bytes | Path, spec: InputSpec, threads: int | None
    ) -> None:
        """Load a graph.

        Args:
            name: The engine.
            graph: The network, or its file.
            spec: The pictures.
            threads: How many compute; None: as many as torch may.
        """
        count = cpu_threads() if threads is None else threads
        self._name = name
        # Both are of the same bytes: a file may be another one by the time that two pictures come.
        twice = count > 1 and _size_bytes(graph) < LARGE_BYTES
        if twice and isinstance(graph, Path) and name == "onnxruntime":
            graph = graph.read_bytes()
        self._one = graph_engine(name, graph, spec, size=1, threads=count)
        self._many = self._one
        self._make_many: Callable[[], Engine] | None = None
        if twice:
            make = partial(graph_engine, name, graph, spec, size=1, threads=1, lanes=count)
            if isinstance(graph, Path):  # OpenVINO's weights lie beside its graph
                self._many = make()
            else:
                self._make_many = make
        self._threads = count

    @property
    def name(self) -> EngineName:
        """The engine."""
        return self._name

    @property
    def batch_size(self) -> int:
        """How many samples it computes best at a time."""
        return self._threads * _PICTURES_EACH

    @property
    def most(self) -> int:
        """How many samples it is given at once at most."""
        return self.batch_size * _ROUNDS

    def run(self, x: FloatArray) -> FloatArray:
        """Compute a batch [n, *shape]: float32 [n, classes], or [n, 1] of a regression."""
        if len(x) == 1:
            return self._one.run(x)
        if self._make_many is not None:  # only now: many a bundle never meets two pictures at once
            self._many, self._make_many = self._make_many(), None
        return self._many.run(x)


def _size_bytes(graph: bytes | Path) -> int:
    if isinstance(graph, bytes):
        return len(graph)
    parts = (graph, graph.with_suffix(".bin"))  # OpenVINO's weights lie beside its graph
    return sum(part.stat().st_size for part in parts if part.exists())


@final
class OpenGraph:
    """A graph whose inputs have no fixed size: of sequences, or of pictures that it prepares."""

    def __init__(
        self,
        name: GraphEngineName,
        graph: bytes | Path,
        spec: Spec,
        *,
        pixels: bool,
        threads: int | None,
    ) -> None:
        """Load a graph.

        Args:
            name: The engine.
            graph: The network, or its file.
            spec: How samples are prepared.
            pixels: Whether it takes pictures as they are, uint8 [n, height, width, 3].
            threads: How many compute; None: as many as torch may.

        Raises:
            EngineError: The engine cannot read the graph.
        """
        self._name, self._spec, self._pixels = name, spec, pixels
        count = cpu_threads() if threads is None else threads
        library = import_engine(name)
        try:
            self._run = _opened(name, library, graph, count)
        except Exception as error:  # of the engine's own kind
            raise EngineError(
                f"the engine {name!r} cannot read the network ({type(error).__name__}: {error})"
            ) from error

    @property
    def name(self) -> EngineName:
        """The engine."""
        return self._name

    @property
    def batch_size(self) -> int:
        """How many samples it computes best at a time."""
        return 1 if self._pixels else _SEQUENCES

    @property
    def most(self) -> int:
        """How many samples it is given at once at most."""
        return self.batch_size

    def run(self, x: FloatArray) -> FloatArray:
        """Compute a batch [n, *shape]: float32 [n, classes], or [n, 1] of a regression."""
        return self._run({PIXELS: x} if self._pixels else feeds(x, self._spec))


def _opened(
    name: GraphEngineName, library: Any, graph: bytes | Path, threads: int
) -> Callable[[Feeds], FloatArray]:
    """Return a function from named arrays to the graph's one output."""
    content = str(graph) if isinstance(graph, Path) else graph
    if name == "onnxruntime":
        options = library.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors; it warns of harmless things on standard error
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = library.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)[0]
    core = library.Core()
    compiled = core.compile_model(
        core.read_model(content),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 on processors that have it
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(threads),
        },
    )
    # The output is OpenVINO's own buffer, overwritten by the next call.
    return lambda inputs: np.array(compiled(inputs)[0], dtype=np.float32)


def torch_runner(folder: Path, device: torch.device, threads: int | None) -> TorchRunner:
    """Load a bundle's network, or a member's, on torch.

    Args:
        folder: Where its files are.
        device: Where to compute.
        threads: How many compute on a CPU; None: as many as torch may.

    Returns:
        The runner.
    """
    trained, backbone = load_network(folder)
    return TorchRunner(trained, backbone, device, threads)


def graph_runner(
    name: GraphEngineName,
    graph: bytes | Path,
    spec: Spec,
    *,
    pixels: bool = False,
    threads: int | None = None,
) -> Runner:
    """Load a graph.

    Args:
        name: The engine.
        graph: The network with the inputs of `headstart.predict.graphs`, or its file.
        spec: How samples are prepared.
        pixels: Whether it takes pictures as they are, uint8 [n, height, width, 3].
        threads: How many compute; None: as many as torch may.

    Returns:
        The runner.
    """
    if isinstance(spec, InputSpec) and not pixels:
        return PictureGraph(name, graph, spec, threads)
    return OpenGraph(name, graph, spec, pixels=pixels, threads=threads)


def exported_runner(name: GraphEngineName, folder: Path, threads: int | None) -> Runner:
    """Export a torch network in memory and load its graph.

    Args:
        name: The engine.
        folder: Where the network's files are.
        threads: How many compute; None: as many as torch may.

    Returns:
        The runner.

    Raises:
        EngineError: The network cannot be exported, or the engine cannot read it.
    """
    import_engine(name)  # says what is missing before any work
    trained, backbone = load_network(folder)
    whole = whole_of(Predictor(trained, backbone, torch.device("cpu")))
    model = whole.model
    try:
        graph = export_network(whole.network, model.input_spec, model.goal)
    except Exception as error:  # the exporters raise of many kinds
        line = str(error).strip().partition("\n")[0]
        raise EngineError(
            f"{model.backbone} cannot be exported for the engine {name!r} "
            f"({type(error).__name__}: {line}): choose the engine 'torch'"
        ) from error
    return graph_runner(name, graph, model.input_spec, threads=threads)

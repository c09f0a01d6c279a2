"""A whole network as a graph with named inputs: what a bundle of ONNX or OpenVINO holds."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from headstart.backbones.base import example_input
from headstart.features.engine import EngineName, import_engine
from headstart.features.graph import BATCH, INPUT, export_named
from headstart.types import FloatArray, Goal, InputSpec, SeriesSpec, Spec

IMAGES = INPUT
"""The input of a network of pictures, prepared: float32 [batch, 3, height, width]."""

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
"""Inputs of a network that reads texts, int64 [batch, length], as transformers calls them."""

VALUES, LENGTHS = "values", "lengths"
"""Inputs of a network that reads series: float32 [batch, length, channels], int64 [batch]."""

PIXELS = "pixels"
"""The input of a network that prepares pictures itself: uint8 [batch, height, width, 3], RGB."""

SAMPLES, LENGTH = BATCH, "length"
"""Names of axes whose size is left open."""

Feeds = dict[str, npt.NDArray[np.generic]]


def output_name(goal: Goal) -> str:
    """Return the name of what leaves a graph: [batch, classes], or [batch, 1] of a regression."""
    return "probabilities" if goal == "classification" else "value"


def input_names(spec: Spec) -> tuple[str, ...]:
    """Return the names of a graph's inputs, in order."""
    if isinstance(spec, InputSpec):
        return (IMAGES,)
    if isinstance(spec, SeriesSpec):
        return (VALUES, LENGTHS)
    return (IDS, MASK) if spec.pairs == "single" else (IDS, MASK, TYPES)


def feeds(x: FloatArray, spec: Spec) -> Feeds:
    """Return what a graph takes for a batch.

    Args:
        x: Samples as a network takes them, float32 [n, *shape] (see `headstart.data.encode.stack`).
        spec: How they were prepared.

    Returns:
        An array for each input, by name.
    """
    if isinstance(spec, InputSpec):
        return {IMAGES: x}
    segments = x[..., -1].astype(np.int64)
    here = segments > 0
    if isinstance(spec, SeriesSpec):
        return {VALUES: np.ascontiguousarray(x[..., :-1]), LENGTHS: here.sum(axis=1)}
    found: Feeds = {IDS: x[..., 0].astype(np.int64), MASK: here.astype(np.int64)}
    if spec.pairs != "single":
        found[TYPES] = (segments == 2).astype(np.int64)
    return found


def export_network(network: nn.Module, spec: Spec, goal: Goal) -> bytes:
    """Return the ONNX graph of a whole network.

    Args:
        network: From `headstart.predict.whole`, on the CPU.
        spec: How samples are prepared.
        goal: What it tells.

    Returns:
        A model with the inputs `input_names` and the output `output_name`; how many samples there
        are is left open, and how long sequences are.
    """
    with torch.no_grad():
        example = example_input(spec, 2, torch.device("cpu"))
    named: nn.Module
    if isinstance(spec, InputSpec):
        named, axes = network, {IMAGES: {0: SAMPLES}}
    else:
        # Two samples of different lengths, so that nothing is mistaken for a constant.
        example = example[:, : max(2, min(spec.longest, 12))].clone()
        example[1, -1] = 0
        named = _Series(network) if isinstance(spec, SeriesSpec) else _Texts(network)
        axes = {name: {0: SAMPLES, 1: LENGTH} for name in input_names(spec)}
        if isinstance(spec, SeriesSpec):
            axes[LENGTHS] = {0: SAMPLES}
    inputs = {k: torch.from_numpy(v) for k, v in feeds(example.numpy(), spec).items()}
    return export_named(named.eval(), inputs, output_name(goal), axes)


def write_graph(folder: Path, graph: bytes, engine: EngineName) -> Path:
    """Write an ONNX graph as the files that an engine reads.

    Args:
        folder: Where to; it is there.
        graph: The graph.
        engine: ``onnxruntime`` (``model.onnx``) or ``openvino`` (``model.xml``, ``model.bin``).

    Returns:
        The file that is loaded.

    Raises:
        MissingExtraError: The engine's package is not installed.
    """
    library: Any = import_engine(engine)
    if engine == "onnxruntime":
        path = folder / "model.onnx"
        path.write_bytes(graph)
        return path
    path = folder / "model.xml"
    library.save_model(library.Core().read_model(graph), str(path), compress_to_fp16=False)
    return path


class _Texts(nn.Module):
    """Tokens as transformers gives them -> what the network says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        segments = mask if types is None else mask * (1 + types)
        x = torch.stack([ids.float(), segments.float()], dim=-1)
        return cast(Tensor, self.network(x))


class _Series(nn.Module):
    """Numbers, filled up, and how many steps are real -> what the network says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(values.shape[1], device=values.device)
        here = (steps < lengths.unsqueeze(1)).unsqueeze(-1).to(values.dtype)
        return cast(Tensor, self.network(torch.cat([values * here, here], dim=-1)))

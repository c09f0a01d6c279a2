"""One engine, one network, batches of one size: the call that a benchmark times."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn

from headstart._util.devices import full_float32
from headstart.backbones.base import example_input
from headstart.features.engine import EngineName, graph_engine
from headstart.types import FloatArray, InputSpec, Spec

Forward = Callable[[FloatArray], FloatArray]
"""From prepared samples, float32 [b, *shape], to what the network says, float32 [b, outputs]."""


def torch_forward(network: nn.Module, device: torch.device) -> Forward:
    """Return a call of a network in eager torch, channels last, copies to the device included.

    Args:
        network: In eval mode, on the device; its memory layout is changed.
        device: Where it is.

    Returns:
        The call; when it returns, the result is in memory.
    """
    network.to(memory_format=torch.channels_last)
    precision = full_float32 if device.type == "cuda" else nullcontext

    @torch.inference_mode()
    def forward(batch: FloatArray) -> FloatArray:
        x = torch.from_numpy(batch).to(device)
        if x.dim() == 4:  # maps; sequences have one layout
            x = x.contiguous(memory_format=torch.channels_last)
        with precision():
            result: FloatArray = network(x).float().cpu().numpy()
        return result

    return forward


def graph_name(batch_size: int) -> str:
    """Return the name of the file of a network exported for batches of one size."""
    return f"batch-{batch_size}.onnx"


def graph_forward(
    engine: EngineName, graph: bytes, spec: Spec, *, batch_size: int, threads: int
) -> Forward:
    """Return a call of an exported network in ONNX Runtime or OpenVINO.

    Args:
        engine: ``onnxruntime`` or ``openvino``.
        graph: From `headstart.features.graph.export_graph`.
        spec: The pictures that it takes.
        batch_size: Samples of every call; shapes are folded to constants for it.
        threads: How many compute.

    Returns:
        The call.
    """
    assert isinstance(spec, InputSpec), "only networks that take pictures are exported"
    return graph_engine(engine, graph, spec, size=batch_size, threads=threads).run


def example_batch(spec: Spec, batch_size: int, length: int | None) -> FloatArray:
    """Return samples of the largest shape, or sequences of a length; their values do not matter.

    Args:
        spec: How samples are prepared.
        batch_size: How many.
        length: Tokens or steps of each sample; None: as many as the network takes.

    Returns:
        float32 [batch_size, *shape].
    """
    whole = example_input(spec, batch_size, torch.device("cpu")).numpy()
    if isinstance(spec, InputSpec) or length is None:
        return np.ascontiguousarray(whole)
    return np.ascontiguousarray(whole[:, :length])

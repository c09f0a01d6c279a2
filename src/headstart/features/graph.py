"""Networks as ONNX graphs, frozen prefixes above all: what ONNX Runtime and OpenVINO read."""

import contextlib
import copy
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from headstart._util import files
from headstart._util.hashing import digest_json
from headstart.backbones.base import INPUT as CUT_INPUT
from headstart.backbones.base import Backbone
from headstart.types import InputSpec, Spec

INPUT, OUTPUT, BATCH = "images", "features", "batch"
"""Names in the graph: its input, its output, and the one axis whose size is left open."""


def frozen_copy(backbone: Backbone, cut: str, start: str = CUT_INPUT) -> nn.Sequential:
    """Return a copy of the stages after `start` up to `cut` in eval mode, without gradients.

    A copy, because the stages are shared with the backbone: what an engine does to its network
    (memory layout, device, evaluation mode) must not reach the one that is trained.
    """
    stages = nn.Sequential(*(module for _, module in backbone.modules(start, cut)))
    return copy.deepcopy(stages).eval().requires_grad_(False)


def load_graph(backbone: Backbone, cut: str, path: Path, batch: int) -> bytes:
    """Return the ONNX graph of a prefix: from a file, or exported now and kept there.

    Args:
        backbone: The network.
        cut: Where it is cut.
        path: Where the graph is kept, from `graph_path`.
        batch: Size of the batches that it will be run on. The axis is left open, but a network
            that looks at its size may come out fixed to the example's.

    Returns:
        A model with one input ``images`` [batch, 3, height, width] and one output ``features``.
    """
    with contextlib.suppress(FileNotFoundError):
        data = path.read_bytes()
        with contextlib.suppress(OSError):  # a folder that cannot be written can be read
            os.utime(path)  # "last used", for prune
        return data
    spec = backbone.input_spec
    assert isinstance(spec, InputSpec), "only networks that take pictures are exported"
    data = export_graph(frozen_copy(backbone, cut).cpu(), spec, batch)
    with contextlib.suppress(OSError):  # keeping it saves a second next time: not worth failing
        files.write_bytes(path, data)
    return data


def graph_path(folder: Path, network: str, spec: Spec, batch: int) -> Path:
    """Return where the graph of a prefix is kept, whether it is there or not.

    Args:
        folder: The folder of graphs.
        network: The backbone's digest at the cut.
        spec: Its input, of which the size counts.
        batch: Size of the batches that it will be run on.

    Returns:
        A path named by what the graph computes.
    """
    size = [spec.height, spec.width] if isinstance(spec, InputSpec) else [spec.longest]
    parts = [network, batch, *size, torch.__version__]
    return folder / f"{digest_json(parts)}.onnx"


def export_graph(module: nn.Module, spec: InputSpec, batch: int) -> bytes:
    """Return the ONNX graph of a module that takes pictures.

    Args:
        module: In eval mode, on the CPU: pictures -> one tensor.
        spec: The pictures.
        batch: Size of the batches that it will be run on; see `load_graph`.

    Returns:
        A model with one input ``images`` [batch, 3, height, width] and one output ``features``.
    """
    images = torch.zeros(batch, 3, spec.height, spec.width)
    return export_named(module, {INPUT: images}, OUTPUT, {INPUT: {0: BATCH}})


def export_named(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    output: str,
    axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    """Return the ONNX graph of a module.

    Args:
        module: In eval mode, on the CPU: tensors, in the order of `inputs` -> one tensor.
        inputs: An example of each, by the name that it gets in the graph.
        output: The name of what leaves.
        axes: By input the names of axes whose size is left open; the first of the output is
            `BATCH`.

    Returns:
        The model.
    """
    # Both exporters warn: of their own future, of every Python number they see. The filters are
    # put back when the block ends; no thread of ours runs meanwhile.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _export_by_tracing(module, inputs, output, axes)
        except Exception:
            # Whatever it was (an operator it does not know, or the exporter is gone from a newer
            # torch): the other exporter decides, and its error is the one to read.
            return _export_by_dynamo(module, inputs, output, axes)


def _export_by_tracing(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    output: str,
    axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    # Deprecated by torch, and still the first choice: for EfficientNet-Lite0 it takes 0.8 s where
    # the one below takes 7 to 10 s, as long as torch needs for the features of 1,000 pictures.
    # Its graphs compute paddings from shapes at run time, which cost ONNX Runtime a third of its
    # speed; with the batch size fixed at load time (see `engine`) they fold to constants.
    with tempfile.TemporaryDirectory() as folder, _plain_attention(), _no_dump_on_failure():
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            dynamo=False,
            verbose=False,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={name: dict(open_) for name, open_ in axes.items()} | {output: {0: BATCH}},
        )
        return path.read_bytes()


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    # In evaluation torch's MultiheadAttention calls one fused operator, which ONNX does not have.
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _no_dump_on_failure() -> Iterator[None]:
    # By a slip in torch (it tests a function instead of calling it) the tracing exporter always
    # prints the whole graph, thousands of lines, when it meets an operator it does not know.
    dump = getattr(torch._C, "_jit_onnx_log", None)
    if dump is None:
        yield
        return
    setattr(torch._C, "_jit_onnx_log", lambda *_: None)  # noqa: B010 - mypy knows no such name
    try:
        yield
    finally:
        setattr(torch._C, "_jit_onnx_log", dump)  # noqa: B010


def _export_by_dynamo(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    output: str,
    axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    names = {name for open_ in axes.values() for name in open_.values()}
    sizes = {name: torch.export.Dim(name) for name in names}
    program = torch.onnx.export(
        module,
        tuple(inputs.values()),
        dynamo=True,
        verbose=False,
        input_names=list(inputs),
        output_names=[output],
        dynamic_shapes=tuple(
            {axis: sizes[open_] for axis, open_ in axes.get(name, {}).items()} for name in inputs
        ),
    )
    assert program is not None, "the exporter returns a program where no file is named"
    data: bytes = program.model_proto.SerializeToString()
    return data

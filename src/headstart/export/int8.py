"""Networks in whole numbers of 8 bits: smaller, and faster on most processors.

Pictures: static quantisation, weights and activations, each channel of the weights with a scale of
its own; which numbers occur is seen on calibration samples. Sequences: dynamic quantisation of the
weights, the scale of the activations being found anew for each batch.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from headstart._util.imports import optional
from headstart.errors import ConfigError, EngineError
from headstart.predict.graphs import IMAGES
from headstart.types import FloatArray, InputSpec, Spec


def quantize(graph: bytes, spec: Spec, rows: Sequence[FloatArray]) -> bytes:
    """Return a graph whose weights are int8.

    Args:
        graph: From `headstart.predict.graphs.export_network`.
        spec: How samples are prepared.
        rows: Prepared samples to calibrate on; of pictures at least one.

    Returns:
        The graph, with the same inputs and output.

    Raises:
        ConfigError: There is no picture to calibrate on.
        EngineError: The network cannot be quantised.
        MissingExtraError: A package is not installed.
    """
    pictures = isinstance(spec, InputSpec)
    if pictures and not rows:
        raise ConfigError("int8: expected pictures to calibrate on, got none")
    optional("onnx", "engines", "int8")
    optional("onnxruntime", "engines", "int8")
    with TemporaryDirectory(prefix="headstart-int8-") as folder, _quiet():
        from onnxruntime import quantization
        from onnxruntime.quantization import shape_inference

        whole, ready, out = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "int8"))
        whole.write_bytes(graph)
        try:
            shape_inference.quant_pre_process(whole, ready, skip_symbolic_shape=True)
            if pictures:
                quantization.quantize_static(
                    ready,
                    out,
                    _Reader(rows),
                    quant_format=quantization.QuantFormat.QDQ,
                    per_channel=True,
                    # Processors without VNNI add pairs of products in 16 bits: with 7 bits in the
                    # weights nothing overflows, and all processors say the same.
                    reduce_range=True,
                    activation_type=quantization.QuantType.QInt8,
                    weight_type=quantization.QuantType.QInt8,
                    # Without offsets: for EfficientNet-Lite0 a third of the error.
                    extra_options={"ActivationSymmetric": True},
                )
            else:
                quantization.quantize_dynamic(
                    ready,
                    out,
                    per_channel=True,
                    nodes_to_exclude=_unusual(ready),
                    reduce_range=True,
                    weight_type=quantization.QuantType.QInt8,
                )
        except Exception as error:  # the quantiser raises of many kinds
            found = str(error).strip().partition("\n")[0]
            raise EngineError(
                f"the network cannot be written in int8 ({type(error).__name__}: {found}): leave "
                "--int8 out"
            ) from error
        return out.read_bytes()


def _unusual(path: Path) -> list[str]:
    """Return the products whose weights have three axes, as heads have them.

    ONNX Runtime multiplies these in int8 only where one scale serves all channels.
    """
    onnx = optional("onnx", "engines", "int8")
    model = onnx.load(path)
    axes = {constant.name: len(constant.dims) for constant in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and axes.get(node.input[1], 2) != 2
    ]


class _Reader:
    """Gives the calibration samples one by one, as the quantiser asks for them."""

    def __init__(self, rows: Sequence[FloatArray]) -> None:
        self._rows: Iterator[FloatArray] = iter(rows)

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the next batch by the name of the input, or None at the end."""
        row = next(self._rows, None)
        return None if row is None else {IMAGES: np.asarray(row)[None]}

    def __iter__(self) -> Any:
        return iter(self.get_next, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the quantiser logs and prints of graphs that are as they should be."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)

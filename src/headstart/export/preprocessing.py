"""Preparing pictures inside an ONNX graph: pixels of any size in, what the network takes out.

Resizing by a filter is linear, one axis after the other: y = V x Hᵀ for each colour, with a matrix
for the rows and one for the columns. The graph computes both from the size of the picture, with the
filters and supports that Pillow and torch's antialiased operator share, rounded to 8 bits after the
columns and after the rows; fitting, cropping and padding choose the rows of these matrices. So one
description serves every engine, and nothing depends on what an engine calls "bicubic".

Source of the filters: Pillow, src/libImaging/Resample.c.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart._util.imports import optional
from headstart.errors import ConfigError
from headstart.predict.graphs import IMAGES, PIXELS, SAMPLES
from headstart.types import InputSpec

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
_PREFIX = "prepare/"


class _Nodes:
    """Nodes and constants of a graph as they are written down, one line each."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(
        self, operator: str, *inputs: "str | int | float | list[int]", **attributes: Any
    ) -> str:
        """Add a node; a number among its inputs becomes a constant: int64, or float32."""
        name = f"{_PREFIX}{operator}_{len(self.nodes)}"
        names = [self._name(value) for value in inputs]
        self.nodes.append(self._onnx.helper.make_node(operator, names, [name], name, **attributes))
        return name

    def cast(self, value: str, kind: str) -> str:
        """Add a cast to ``FLOAT`` or ``INT64``."""
        return self.add("Cast", value, to=getattr(self._onnx.TensorProto, kind))

    def floats(self, values: Sequence[float], shape: Sequence[int]) -> str:
        """Add a constant of float32."""
        return self._constant(np.asarray(values, dtype=np.float32).reshape(shape))

    def _name(self, value: "str | int | float | list[int]") -> str:
        if isinstance(value, str):
            return value
        kind = np.float32 if isinstance(value, float) else np.int64
        return self._constant(np.asarray(value, dtype=kind))

    def _constant(self, value: Any) -> str:
        name = f"{_PREFIX}constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(value, name))
        return name


def with_preprocessing(graph: bytes, spec: InputSpec) -> bytes:
    """Put the preparation of pictures in front of a network.

    Args:
        graph: From `headstart.predict.graphs.export_network`, of pictures.
        spec: How these are prepared.

    Returns:
        A model with the input ``pixels``, uint8 [batch, height, width, 3]: upright RGB of any size,
        as `headstart.data.image.decode` gives it.

    Raises:
        ConfigError: The filter is not one that is made of weights.
    """
    if spec.interpolation not in _SUPPORT:
        raise ConfigError(
            f"preprocessing: expected a network whose pictures are resized by "
            f"{', '.join(_SUPPORT)}, got {spec.interpolation!r}: leave --preprocessing out"
        )
    onnx = optional("onnx", "engines", "the export as ONNX")
    model = onnx.load_model_from_string(graph)
    build = _Nodes(onnx)
    prepared = _prepared(build, spec)
    for node in model.graph.node:
        node.input[:] = [prepared if name == IMAGES else name for name in node.input]
    helper = onnx.helper
    nodes = [*build.nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(build.constants)
    del model.graph.input[:]
    shape = [SAMPLES, "height", "width", 3]
    model.graph.input.append(helper.make_tensor_value_info(PIXELS, onnx.TensorProto.UINT8, shape))
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _prepared(build: _Nodes, spec: InputSpec) -> str:
    """Add what `headstart.data.image.transform` does; return the name of the result."""
    shape = build.add("Shape", PIXELS)
    height, width = (build.add("Gather", shape, axis) for axis in (1, 2))
    rows, columns = _sizes(build, spec, height, width)
    x = build.add("Transpose", build.cast(PIXELS, "FLOAT"), perm=[0, 3, 1, 2])
    # Columns first, and 8 bits between the two, as torch does it; Pillow, from its version 13 on,
    # takes the rows first where the height shrinks more than the width.
    across = _matrix(build, spec, width, columns, spec.width)
    x = _rounded(build, build.add("MatMul", x, build.add("Transpose", across, perm=[1, 0])))
    x = _rounded(build, build.add("MatMul", _matrix(build, spec, height, rows, spec.height), x))
    x = build.add("Div", x, 255.0)
    x = build.add("Sub", x, build.floats(spec.mean, (1, 3, 1, 1)))
    return build.add("Div", x, build.floats(spec.std, (1, 3, 1, 1)))


def _sizes(build: _Nodes, spec: InputSpec, height: str, width: str) -> tuple[str, str]:
    """Return rows and columns after resizing, before what is too much is cut off."""
    if spec.fit == "resize":
        return build.add("Identity", spec.height), build.add("Identity", spec.width)
    if spec.fit == "crop":
        shorter = build.add("Min", height, width)
        rows, columns = (
            build.add("Div", build.add("Mul", size, spec.resize), shorter)
            for size in (height, width)
        )
        return rows, columns
    # "pad": what is larger than the input shrinks so that the longer side fits exactly.
    large = build.add(
        "Or",
        build.add("Greater", height, spec.height),
        build.add("Greater", width, spec.width),
    )
    wide = build.add(
        "GreaterOrEqual",
        build.add("Mul", width, spec.height),
        build.add("Mul", height, spec.width),
    )
    rows = build.add("Where", wide, _share(build, height, spec.width, width), spec.height)
    columns = build.add("Where", wide, spec.width, _share(build, width, spec.height, height))
    return build.add("Where", large, rows, height), build.add("Where", large, columns, width)


def _share(build: _Nodes, size: str, wanted: int, longer: str) -> str:
    """Return size · wanted / longer, rounded to even, at least 1."""
    twice = build.add("Mul", size, 2 * wanted)
    return build.add("Max", _rounded_half(build, build.add("Div", twice, longer), twice, longer), 1)


def _rounded_half(build: _Nodes, doubled: str, twice: str, longer: str) -> str:
    """Return a quotient rounded to a whole number, halves to even, in whole numbers.

    ``doubled`` is twice the quotient rounded down. Where it is odd, half of it is a tie or more.
    """
    below = build.add("Div", doubled, 2)
    odd = build.add("Mod", doubled, 2)
    tie = build.add("Equal", build.add("Mul", doubled, longer), twice)
    up = build.add("Where", tie, build.add("Mod", below, 2), 1)
    return build.add("Add", below, build.add("Mul", odd, up))


def _matrix(build: _Nodes, spec: InputSpec, size: str, resized: str, wanted: int) -> str:
    """Return the matrix of one axis, float32 [wanted, size]; rows beyond the picture are zero."""
    spare = build.add("Sub", resized, wanted)
    # A crop's margin is rounded half to even, a border's down: as torchvision's CenterCrop.
    half = _rounded_half(build, spare, spare, build.add("Identity", 1))
    border = build.add("Neg", build.add("Div", build.add("Sub", wanted, resized), 2))
    negative = build.add("Less", spare, 0)
    # Of a negative number half is not asked for: it may be rounded in either way there.
    offset = build.add("Where", negative, border, half)
    places = build.add("Add", build.add("Range", 0, wanted, 1), offset)
    i = build.add("Unsqueeze", places, [1])
    j = build.add("Unsqueeze", build.add("Range", 0, size, 1), [0])
    # How far input pixel j is from the centre of output pixel i, in units of the filter: exact in
    # whole numbers, ((2j + 1) resized - (2i + 1) size) / (2 max(size, resized)).
    there = build.add("Mul", build.add("Add", build.add("Mul", j, 2), 1), resized)
    centre = build.add("Mul", build.add("Add", build.add("Mul", i, 2), 1), size)
    scale = build.add("Mul", build.add("Max", size, resized), 2)
    distance = build.add(
        "Abs",
        build.add(
            "Div",
            build.cast(build.add("Sub", there, centre), "FLOAT"),
            build.cast(scale, "FLOAT"),
        ),
    )
    weights = _filter(build, spec.interpolation, distance)
    total = build.add("ReduceSum", weights, [1], keepdims=1)
    inside = build.add("And", build.add("GreaterOrEqual", i, 0), build.add("Less", i, resized))
    # A row beyond the picture is all zero; its sum may be too.
    safe = build.add("Where", build.add("Equal", total, 0.0), 1.0, total)
    return build.add("Mul", build.add("Div", weights, safe), build.cast(inside, "FLOAT"))


def _filter(build: _Nodes, name: str, x: str) -> str:
    """Return a filter's weights at distances x >= 0."""
    if name == "bilinear":
        return build.add("Max", build.add("Sub", 1.0, x), 0.0)
    if name == "lanczos":
        return _where_below(build, x, _SUPPORT[name], _lanczos(build, x))
    # Cubic convolution with a = -0.5: ((a+2)x - (a+3))x² + 1 below 1, a((x-5)x + 8)x - 4a below 2.
    near = build.add("Sub", build.add("Mul", x, 1.5), 2.5)
    near = build.add("Add", build.add("Mul", build.add("Mul", near, x), x), 1.0)
    far = build.add("Add", build.add("Mul", build.add("Sub", x, 5.0), x), 8.0)
    far = build.add("Mul", build.add("Sub", build.add("Mul", far, x), 4.0), -0.5)
    either = build.add("Where", build.add("Less", x, 1.0), near, far)
    return _where_below(build, x, _SUPPORT[name], either)


def _lanczos(build: _Nodes, x: str) -> str:
    """Return sinc(x) sinc(x / 3)."""
    small = build.add("Less", x, 1e-6)
    safe = build.add("Where", small, 1.0, x)
    factors = []
    for width in (1.0, _SUPPORT["lanczos"]):
        angle = build.add("Mul", safe, math.pi / width)
        factors.append(build.add("Div", build.add("Sin", angle), angle))
    return build.add("Where", small, 1.0, build.add("Mul", factors[0], factors[1]))


def _where_below(build: _Nodes, x: str, limit: float, value: str) -> str:
    return build.add("Where", build.add("Less", x, limit), value, 0.0)


def _rounded(build: _Nodes, x: str) -> str:
    """Return values as 8 bits hold them."""
    return build.add("Floor", build.add("Add", build.add("Clip", x, 0.0, 255.0), 0.5))

"""A bundle's network as a graph: for ONNX Runtime and OpenVINO, in float32 or int8."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

from headstart._util.imports import optional
from headstart.backbones.base import INPUT
from headstart.errors import ConfigError, EngineError, HeadstartError
from headstart.export.int8 import quantize
from headstart.export.linear import source_of
from headstart.export.preprocessing import with_preprocessing
from headstart.predict import Bundle, BundleInfo, StoredSample, load_bundle, write_bundle
from headstart.predict.bundle_engines import GraphEngineName, graph_runner
from headstart.predict.bundle_samples import largest_difference
from headstart.predict.bundle_write import check_in_clean_process
from headstart.predict.graphs import export_network, write_graph
from headstart.predict.saved import RECORD_NAME, TOKENIZER_NAME
from headstart.predict.whole import WholeNetwork
from headstart.types import FloatArray, InputSpec, JsonDict, TextSpec

AGREES = 1e-4
"""How far a graph in float32 may be from torch, in probability."""

PREPARES = 0.05
"""How far a graph that prepares pictures itself may be, in probability.

Torch and Pillow round to 8 bits between the two axes, the graph does not: single pixels are a few
steps of 255 apart.
"""

INT8_AGAIN = 0.05
"""How far int8 on another processor may be: some saturate where others do not."""


_SMALLER = 0.8  # what int8 must save at least: it costs accuracy


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export left.

    Attributes:
        path: The bundle, or the library's folder.
        difference: The largest difference from the bundle's own predictions of its stored samples.
        samples: How many these are.
        size_bytes: Of all its files.
        notes: What the user should know.
    """

    path: Path
    difference: float
    samples: int
    size_bytes: int
    notes: tuple[str, ...] = ()


def export_graph(
    bundle: Bundle,
    target: Path,
    engine: GraphEngineName,
    *,
    preprocessing: bool = False,
    calibration: Sequence[bytes] | None = None,
    check: Callable[[Path], float] = check_in_clean_process,
) -> Exported:
    """Write a bundle whose network is a graph.

    Args:
        bundle: A torch bundle.
        target: The new bundle: a folder, or a ``.headstart`` file.
        engine: ``onnxruntime`` (``model.onnx``) or ``openvino`` (``model.xml``).
        preprocessing: Whether the graph takes pictures as they are and prepares them itself.
        calibration: Samples that say which numbers occur in the network, for int8; None: float32.
        check: As for `headstart.predict.write_bundle`.

    Returns:
        What was written, and how far it is from the bundle.

    Raises:
        ConfigError: This bundle cannot be exported so.
        EngineError: The network cannot be written as a graph, or the graph says something else.
        MissingExtraError: A package is not installed.
    """
    spec, info = bundle.info.spec, bundle.info
    if preprocessing and not isinstance(spec, InputSpec):
        raise ConfigError("--preprocessing is of pictures: texts are read by the tokenizer")
    graph = whole_graph(bundle)
    if calibration is not None:
        whole = graph
        graph = quantize(graph, spec, [bundle.prepare(one) for one in calibration])
        if len(graph) > _SMALLER * len(whole):
            raise EngineError(
                f"{info.name}: int8 would make {len(graph):,} bytes of {len(whole):,}: this "
                "network has too few layers that are quantised; leave --int8 out"
            )
    if preprocessing:
        assert isinstance(spec, InputSpec)
        graph = with_preprocessing(graph, spec)
    graph = _described(graph, info)
    samples = bundle.stored_samples()
    with TemporaryDirectory(prefix="headstart-export-") as folder:
        main = write_graph(Path(folder), graph, engine)
        ours = replace(info, engine=engine, pixels=preprocessing)
        runner = graph_runner(engine, main, spec, pixels=preprocessing)
        trial = Bundle(ours, bundle.folder, [runner], lambda: None)
        said = _said(trial, samples)
        difference = largest_difference(said, samples)
        _check(info, engine, difference, preprocessing, int8=calibration is not None)
        if calibration is not None:
            # What this very graph says: that a copy of it says the same can then be checked.
            samples = tuple(_saying(one, row) for one, row in zip(samples, said, strict=True))
        tolerance = INT8_AGAIN if calibration is not None else AGREES
        manifest = _manifest(
            info,
            engine,
            sorted(path.name for path in main.parent.iterdir()),
            preprocessing=preprocessing,
            int8=calibration is not None,
            tolerance=max(tolerance, PREPARES) if preprocessing else tolerance,
        )

        def fill(place: Path) -> None:
            for path in main.parent.iterdir():
                shutil.copyfile(path, place / path.name)
            shutil.copyfile(bundle.folder / RECORD_NAME, place / RECORD_NAME)
            if isinstance(spec, TextSpec):
                shutil.copyfile(bundle.folder / TOKENIZER_NAME, place / TOKENIZER_NAME)

        path = write_bundle(target, manifest, samples, fill, check=check)
    with load_bundle(path) as written:
        size = written.info.size_bytes
    return Exported(path, difference, len(samples), size)


def whole_graph(bundle: Bundle) -> bytes:
    """Return a bundle's network as an ONNX graph, in float32.

    Args:
        bundle: A torch bundle of one network.

    Returns:
        The graph, with the inputs and the output of `headstart.predict.graphs`.

    Raises:
        ConfigError: The bundle holds several networks, or a graph.
        EngineError: The network has parts that no graph has.
    """
    source = source_of(bundle)
    inside = source.inside
    stages = nn.Sequential(*(stage for _, stage in inside.backbone.modules(INPUT, inside.head_cut)))
    network = WholeNetwork(stages, inside.head, source.goal, source.temperature)
    try:
        return export_network(network.eval().requires_grad_(False), inside.spec, source.goal)
    except Exception as error:  # the exporters raise of many kinds
        found = str(error).strip().partition("\n")[0]
        raise EngineError(
            f"{source.name} cannot be written as a graph ({type(error).__name__}: {found}): it can "
            "be used as it is, on torch"
        ) from error


def _described(graph: bytes, info: BundleInfo) -> bytes:
    """Put into the graph itself what a user of plain ONNX Runtime has to know."""
    onnx = optional("onnx", "engines", "the export as ONNX")
    model = onnx.load_model_from_string(graph)
    for key, value in _about(info).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    model.producer_name = "headstart"
    data: bytes = model.SerializeToString()
    return data


def _about(info: BundleInfo) -> dict[str, str]:
    about: JsonDict = {
        "name": info.name,
        "goal": info.goal,
        "task": info.task,
        "labels": list(info.classes),
        "input": info.spec.describe(),
    }
    return {
        f"headstart.{key}": value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
        for key, value in about.items()
    }


def _said(trial: Bundle, samples: Sequence[StoredSample]) -> FloatArray:
    try:
        return trial.predict([sample.data for sample in samples])
    except HeadstartError:
        raise
    except Exception as error:  # of the engine's own kind
        found = str(error).strip().partition("\n")[0]
        raise EngineError(
            f"{trial.info.name}: the graph cannot be computed on {trial.engine} ({found}): nothing "
            "was written"
        ) from error


def _check(
    info: BundleInfo, engine: str, difference: float, preprocessing: bool, *, int8: bool
) -> None:
    """Refuse a graph that says something else; what int8 may change is measured, not refused."""
    most = PREPARES if preprocessing else AGREES
    if not int8 and not difference <= most:
        raise EngineError(
            f"{info.name}: the graph on {engine} differs from torch by up to {difference:.2g} on "
            f"the stored samples, expected at most {most:g}: nothing was written; use the bundle "
            "as it is, or export for the other engine"
        )


def _saying(sample: StoredSample, row: FloatArray) -> StoredSample:
    return replace(sample, probabilities=tuple(map(float, np.atleast_1d(row))))


def _manifest(
    info: BundleInfo,
    engine: GraphEngineName,
    names: list[str],
    *,
    preprocessing: bool,
    int8: bool,
    tolerance: float,
) -> JsonDict:
    """Return what the new bundle says of itself: what the old one does, but for the network."""
    written = ("format_version", "headstart", "created", "files")
    manifest = {key: value for key, value in info.raw.items() if key not in written}
    manifest["network"] = {
        "engine": engine,
        "precision": "int8" if int8 else "float32",
        "files": [RECORD_NAME, *names],
        "preprocessing": preprocessing,
    }
    # Both were measured on the network as it was.
    manifest["latency"] = None
    if int8:
        manifest["metrics"] = {}
        manifest["calibration"] = {**manifest["calibration"], "ece": None}
    return {**manifest, "tolerance": tolerance}

"""A graph bundle says what its torch bundle says, in Headstart and in plain ONNX Runtime."""

import io
import json
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import pytest
from exported_texts import PAIRS, SINGLE, write_text_bundle
from PIL import Image
from tiny_bundles import picture, series, trained, write_tiny

from headstart.backbones.base import SeriesOptions, TextOptions
from headstart.data.encode import stack
from headstart.data.text import pair_bytes
from headstart.errors import ConfigError, EngineError
from headstart.export import export_graph as export_checked
from headstart.export import graphs
from headstart.export.preprocessing import with_preprocessing
from headstart.predict import bundle_engines, load_bundle
from headstart.predict.graphs import feeds, write_graph
from headstart.predict.recheck import check
from headstart.types import Fit, InputSpec, Interpolation

pytestmark = pytest.mark.usefixtures("one_thread")

Engine = Literal["onnxruntime", "openvino"]
ENGINES: tuple[Engine, ...] = ("onnxruntime", "openvino")
PICTURES = [picture(seed) for seed in range(5)]
SERIES = SeriesOptions(channels=1, max_length=12, hidden=8)

export_graph = partial(export_checked, check=check)  # a new process takes seconds


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "tiny"
    write_tiny(path, PICTURES, trained(temperature=2.5))
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_an_open_bundle_answers_as_when_it_was_opened(
    pictures: Path, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_engines, "cpu_threads", lambda: 2)  # several at once, by lanes
    with load_bundle(pictures) as bundle:
        path = export_graph(bundle, tmp_path / "out", engine).path
    assert path.is_dir()
    with load_bundle(path) as graph:
        alone = np.concatenate([graph.predict([one]) for one in PICTURES])
        assert graph.info.graph is not None
        for file in (path / graph.info.graph).parent.glob(f"{Path(graph.info.graph).stem}.*"):
            file.write_bytes(b"of the next version")
        np.testing.assert_allclose(graph.predict(PICTURES), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_pictures(pictures: Path, tmp_path: Path, engine: Engine) -> None:
    others = [picture(seed, side=50) for seed in range(20, 27)]
    with load_bundle(pictures) as bundle:
        found = export_checked(bundle, tmp_path / "out.headstart", engine)
        expected = bundle.predict(others)
        raw = bundle.info.raw
    assert found.difference < 1e-5
    with load_bundle(found.path) as graph:
        np.testing.assert_allclose(graph.predict(others), expected, rtol=0, atol=1e-5)
        assert (graph.info.engine, graph.info.precision) == (engine, "float32")
        assert graph.info.classes == ("a", "b", "c")
        assert graph.info.metrics == raw["metrics"]
        assert not list(graph.folder.glob("*.safetensors"))


def test_plain_onnxruntime_finds_labels_and_input_in_the_file(
    pictures: Path, tmp_path: Path
) -> None:
    with load_bundle(pictures) as bundle:
        export_graph(bundle, tmp_path / "out", "onnxruntime")
        rows = np.stack([bundle.prepare(one) for one in PICTURES])
        expected = bundle.predict(PICTURES)
        spec = bundle.info.spec
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    assert [one.name for one in session.get_inputs()] == ["images"]
    assert [one.name for one in session.get_outputs()] == ["probabilities"]
    for n in (1, 5):
        got = session.run(None, {"images": rows[:n]})[0]
        np.testing.assert_allclose(got, expected[:n], rtol=0, atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["headstart.labels"]) == ["a", "b", "c"]
    assert json.loads(about["headstart.input"]) == json.loads(json.dumps(spec.describe()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pairs", ["single", "together", "separately"])
def test_texts_of_any_length(
    tmp_path: Path, engine: Engine, pairs: Literal["single", "together", "separately"]
) -> None:
    path = write_text_bundle(tmp_path, text=TextOptions(pairs=pairs))
    single = [text.encode() for text in SINGLE]
    data = single if pairs == "single" else [pair_bytes(*pair) for pair in PAIRS]
    with load_bundle(path) as bundle:
        found = export_graph(bundle, tmp_path / "out", engine)
        expected = bundle.predict(data)
    assert found.difference < 1e-5
    with load_bundle(found.path) as graph:
        # Alone and together, so filled up in other ways.
        np.testing.assert_allclose(graph.predict(data), expected, rtol=0, atol=1e-5)
        apart = np.concatenate([graph.predict([one]) for one in data])
        np.testing.assert_allclose(apart, expected, rtol=0, atol=1e-5)
        rows = stack([graph.prepare(one) for one in data], graph.info.spec)
        names = set(feeds(rows, graph.info.spec))
    wanted = {"input_ids", "attention_mask", "token_type_ids"}
    assert names == (wanted if pairs != "single" else wanted - {"token_type_ids"})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_series_and_regressions(tmp_path: Path, engine: Engine, cell: str) -> None:
    data = [series(seed, steps) for seed, steps in enumerate((3, 12, 7, 1))]
    network = trained(f"headstart/{cell}", goal="regression", options=SERIES)
    write_tiny(tmp_path / "bundle", data, network)
    with load_bundle(tmp_path / "bundle") as bundle:
        export_graph(bundle, tmp_path / "out", engine)
        expected = bundle.predict(data)
    with load_bundle(tmp_path / "out") as graph:
        np.testing.assert_allclose(graph.predict(data), expected, rtol=1e-5, atol=1e-5)


def test_a_graph_that_says_something_else_is_never_written(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trained(temperature=2.6)
    write_tiny(tmp_path / "other", PICTURES, other)
    with load_bundle(tmp_path / "other") as bundle:
        graph = graphs.whole_graph(bundle)
    monkeypatch.setattr(graphs, "whole_graph", lambda _: graph)
    with load_bundle(pictures) as bundle, pytest.raises(EngineError, match="nothing was written"):
        export_graph(bundle, tmp_path / "out", "onnxruntime")
    assert not (tmp_path / "out").exists()


def photo(width: int, height: int) -> bytes:
    """A smooth picture with edges, as photos are."""
    x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 5, height))
    waves = np.stack([np.sin(x * y), np.cos(x + y), np.sin(x) > 0.3], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray((127.5 + 127.4 * waves).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


SIZES = [(40, 30), (31, 97), (200, 64), (33, 33), (5, 9), (1, 1)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fit", ["crop", "resize", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_pictures_are_prepared_in_the_graph_as_pillow_does_it(
    tmp_path: Path, engine: Engine, fit: Fit, interpolation: Interpolation
) -> None:
    import onnx
    from onnx import helper

    from headstart.data.image import decode, transform
    from headstart.predict.bundle_engines import graph_runner

    spec = InputSpec(33, 30, 36, interpolation, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), fit)
    shape = ["batch", 3, 33, 30]
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name in ("images", "out")
    ]
    nothing = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["out"])], "nothing", values[:1], values[1:]
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(nothing, opset_imports=opset, ir_version=10)
    graph = with_preprocessing(model.SerializeToString(), spec)
    runner = graph_runner(engine, write_graph(tmp_path, graph, engine), spec, pixels=True)
    for size in SIZES:
        image = decode(photo(*size))
        got = runner.run(np.asarray(image)[None])[0]
        steps = np.abs(got - transform(image, spec)) * np.reshape(spec.std, (3, 1, 1)) * 255
        # Where Pillow takes the rows first, single steps of 255 are rounded otherwise.
        assert steps.max() < 4.5, size
        assert steps.mean() < 0.15, size


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bundle_that_prepares_pictures_itself(
    pictures: Path, tmp_path: Path, engine: Engine
) -> None:
    data = [photo(70, 50), photo(32, 32), photo(33, 80)]
    with load_bundle(pictures) as bundle:
        export_graph(bundle, tmp_path / "out", engine, preprocessing=True)
        expected = bundle.predict(data)
    with load_bundle(tmp_path / "out") as graph:
        np.testing.assert_allclose(graph.predict(data), expected, rtol=0, atol=0.02)
        assert graph.info.pixels


def test_int8_is_smaller_and_near(tmp_path: Path) -> None:
    data = [photo(60 + i, 50) for i in range(8)]
    write_tiny(tmp_path / "bundle", data, trained("timm/test_efficientnet", image_size=64))
    with load_bundle(tmp_path / "bundle") as bundle:
        found = export_graph(bundle, tmp_path / "out", "onnxruntime", calibration=data)
        expected = bundle.predict(data)
        whole = bundle.info.size_bytes
    assert found.size_bytes < 0.6 * whole
    with load_bundle(tmp_path / "out") as graph:
        assert graph.info.precision == "int8"
        assert graph.info.metrics == {}  # those of the network as it was are not its own
        got = graph.predict(data)
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.1)
    assert found.difference > 0


def test_what_cannot_be_exported_so_is_refused(pictures: Path, tmp_path: Path) -> None:
    with load_bundle(pictures) as bundle:
        with pytest.raises(ConfigError, match="pictures to calibrate on"):
            export_graph(bundle, tmp_path / "out", "onnxruntime", calibration=[])
        export_graph(bundle, tmp_path / "graph", "onnxruntime")
    with load_bundle(tmp_path / "graph") as graph, pytest.raises(ConfigError, match="already"):
        export_graph(graph, tmp_path / "out", "openvino")
    write_tiny(tmp_path / "gru", [series(0)], trained("headstart/gru", options=SERIES))
    with load_bundle(tmp_path / "gru") as bundle:
        with pytest.raises(ConfigError, match="--preprocessing is of pictures"):
            export_graph(bundle, tmp_path / "out", "onnxruntime", preprocessing=True)
        with pytest.raises(EngineError, match="leave --int8 out"):
            export_graph(bundle, tmp_path / "out", "onnxruntime", calibration=[series(1)])
    assert not (tmp_path / "out").exists()

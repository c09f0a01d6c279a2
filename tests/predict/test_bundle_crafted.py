"""A bundle that is sealed as it must be and says what no bundle does is refused with one error."""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_bundle_tampering import refused, rezip, sealed_again
from tiny_bundles import CPU, manifest_of, picture, series, trained, write_tiny

from headstart._util.hashing import digest_bytes
from headstart.backbones.base import SeriesOptions
from headstart.errors import BundleError, ConfigError
from headstart.predict import Predictor, TrainedModel, load_bundle, verify_bundle
from headstart.predict.bundle_files import pack, seal
from headstart.predict.bundle_info import SAMPLES_RECORD, info_of
from headstart.predict.recheck import check

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "b", [picture(0)], trained(), check=lambda _: 0.0)
    return tmp_path / "b"


def model_says(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    sealed_again(folder)


@pytest.mark.parametrize("packed", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_is_stored_or_deflated_whatever_its_streams_hold(
    folder: Path, tmp_path: Path, packed: int
) -> None:
    path = rezip(folder, tmp_path / "packed.headstart", packed)
    refused(path, "packed in a way that no bundle is")
    data = path.read_bytes()
    middle = data.index(b"model.safetensors") + 1000
    path.write_bytes(data[:middle] + bytes(50) + data[middle + 50 :])
    refused(path, "packed in a way that no bundle is")


@pytest.mark.parametrize(
    "content",
    [b"[]", b"3", b"null", b"[" * 200_000, b'{"a":' * 100_000, b"\xff", b"{}", b'{"a": NaN}'],
)
def test_a_model_that_is_no_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    sealed_again(folder)
    refused(folder, r"model\.json|format version")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", "x"),
        ("temperature", None),
        ("temperature", 0),
        ("temperature", -1.5),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("classes", [1, 2, 3]),
        ("classes", 3),
        ("classes", []),
        ("classes", ["a", "a"]),
        ("input_spec", "nonsense"),
        ("input_spec", []),
        ("input_spec", {"height": 1}),
        ("head", {"hidden": "x", "dropout": 0.0, "normalization": "none"}),
        ("head", {"hidden": [-1], "dropout": 0.0, "normalization": "none"}),
        ("head", {"hidden": [], "dropout": 0.0, "normalization": "other"}),
        ("head", 3),
        ("width", "64"),
        ("width", 0),
        ("options", 3),
        ("options", {"text": 3}),
        ("backbone", 3),
        ("goal", "ranking"),
        ("more", 1),
    ],
)
def test_a_model_of_other_types_or_ranges_is_refused(folder: Path, key: str, value: object) -> None:
    model_says(folder, lambda record: record.update({key: value}))
    refused(folder, r"model\.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("height", "x"),
        ("height", 0),
        ("std", [1, 1]),
        ("mean", "abc"),
        ("fit", 1),
        ("resampling", "bilinear"),
    ],
)
def test_pictures_of_other_types_or_ranges_are_refused(
    folder: Path, key: str, value: object
) -> None:
    model_says(folder, lambda record: record["input_spec"].update({key: value}))
    refused(folder, r"model\.json")


def test_a_zipped_bundle_is_named_and_not_where_it_was_unpacked(
    folder: Path, tmp_path: Path
) -> None:
    model_says(folder, lambda record: record.update(temperature=0))
    refused(rezip(folder, tmp_path / "z.headstart"), "temperature")


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_record_has_a_temperature_to_divide_by(folder: Path, temperature: float) -> None:
    model = trained()[0].model
    files = {"model.json": {"bytes": 1, "sha256": "0" * 64}}
    manifest = {**manifest_of("b", [model]), "files": files}
    assert info_of(folder, manifest, (model,)).temperature == 1
    with pytest.raises(BundleError, match="temperature"):
        info_of(folder, manifest, (replace(model, temperature=temperature),))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_has_not_are_refused(folder: Path, number: str) -> None:
    marked = 0.123456
    sealed_again(folder, lambda manifest: manifest["metrics"].update(more=marked))
    manifest = (folder / "bundle.json").read_text()
    verify_bundle(folder)
    damaged = manifest.replace(str(marked), number).encode()
    (folder / "bundle.json").write_bytes(damaged)
    (folder / "bundle.sha256").write_text(digest_bytes(damaged) + "\n")
    refused(folder, "is no JSON")
    sealed_again(folder, lambda manifest: manifest.update(metrics={}))
    record = folder / "model.json"
    kept = record.read_text()
    record.write_text(kept.replace('"temperature": 1.0', f'"temperature": {number}'))
    sealed_again(folder)
    refused(folder, r"model\.json")
    record.write_text(kept)
    samples = json.loads((folder / SAMPLES_RECORD).read_text())
    samples[0]["probabilities"][0] = marked
    (folder / SAMPLES_RECORD).write_text(json.dumps(samples).replace(str(marked), number))
    sealed_again(folder)
    with pytest.raises(BundleError, match=r"samples\.json is damaged"):
        verify_bundle(folder)


@pytest.mark.parametrize("content", [{"a": 1}, [3], [{"file": 3}], "x", 3, None])
def test_samples_of_other_types_are_refused(folder: Path, content: object) -> None:
    (folder / SAMPLES_RECORD).write_text(json.dumps(content))
    sealed_again(folder)
    with pytest.raises(BundleError, match=r"samples\.json"):
        verify_bundle(folder)


@pytest.mark.parametrize(
    "name",
    [
        "run:{place}/part",
        "transformers/{place}",
        "transformers/./place",
        "transformers/somebody/network",
        "timm/hf-hub:somebody/network",
        "timm/local-dir:{place}",
        "timm/../place",
        "packaged/../x",
        "headstart/",
        "headstart/resnet20\n",
        "headstart/gru",
        "headstart/nothing",
    ],
)
def test_a_network_is_built_from_the_bundle_or_from_known_names_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = tmp_path / "place"
    (place / "models" / "part").mkdir(parents=True)
    (place / "config.json").write_text("{}")
    model_says(folder, lambda record: record.update(backbone=name.format(place=place)))
    looked: list[str] = []
    # Whatever is opened below `place` is outside the bundle.
    monkeypatch.setattr(
        "headstart.backbones.registry._of_run", lambda name, *_: looked.append(name)
    )
    monkeypatch.setattr("headstart.backbones.registry._text_adapter", looked.append)
    with pytest.raises(BundleError, match=r"none that a bundle can hold|cannot be built"):
        load_bundle(folder)
    assert not looked


def test_sequences_are_read_by_networks_for_sequences_alone(tmp_path: Path) -> None:
    options = SeriesOptions(channels=1, max_length=12, hidden=8)
    network = trained("headstart/gru", goal="regression", options=options)
    write_tiny(tmp_path / "b", [series(0)], network, check=lambda _: 0.0)
    load_bundle(tmp_path / "b").close()
    model_says(tmp_path / "b", lambda r: r.update(backbone="packaged/minilm-l6", options={}))
    with pytest.raises(BundleError, match="none that a bundle can hold"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", ["b.headstart", "b"])
@pytest.mark.parametrize("links", [True, False])
def test_what_took_the_name_meanwhile_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, links: bool
) -> None:
    target = tmp_path / name
    if not links:

        def no_links(*names: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)

    def meanwhile(folder: Path) -> float:
        if name == "b":
            target.mkdir()  # an empty folder is what renaming replaces
            target.chmod(0o700)
        else:
            target.write_bytes(b"somebody's")
        return 0.0

    with pytest.raises(ConfigError, match="is there already"):
        write_tiny(target, [picture(0)], trained(), check=meanwhile)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == "b":
        assert not list(target.iterdir())
        target.rmdir()
    else:
        assert target.read_bytes() == b"somebody's"
        target.unlink()
    write_tiny(target, [picture(0)], trained(), check=lambda _: 0.0)
    verify_bundle(target)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_packing_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_text("a")
    seal(tmp_path / "b", {})
    target = tmp_path / "z.headstart"
    pack(tmp_path / "b", target)
    kept = target.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        pack(tmp_path / "b", target)
    assert target.read_bytes() == kept
    assert len(list(tmp_path.iterdir())) == 2


def test_a_bundle_of_an_earlier_version_still_says_what_it_said(tmp_path: Path) -> None:
    pictures = [picture(seed, 70) for seed in range(4)]
    model, backbone = trained()
    spec = replace(backbone.input_spec, fit="resize")
    by_pillow = replace(spec, resampling="pillow")
    before = TrainedModel(replace(model.model, input_spec=by_pillow), model.tensors)
    said = write_tiny(tmp_path / "b", pictures, (before, backbone))

    def age(record: dict[str, Any]) -> None:
        assert record["input_spec"].pop("resampling") == "pillow"
        record["format_version"] = 4

    model_says(tmp_path / "b", age)
    assert check(tmp_path / "b") < 1e-5
    # It would not, were its pictures resized as they are today.
    now = TrainedModel(replace(model.model, input_spec=spec), model.tensors)
    assert np.abs(Predictor(now, backbone, CPU).predict(pictures) - said).max() > 1e-4

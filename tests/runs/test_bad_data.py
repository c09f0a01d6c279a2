"""Real folders are never clean: the run is right all the same, and says what it left out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart import run
from headstart._util.progress import SilentProgress
from headstart.errors import DataError

STUDY = """
name: photos
title: Photos
data: {kind: auto, split: {train: 0.5, val: 0.25, test: 0.25}, max_bad_fraction: 0.2%s}
backbones: {main: {name: timm/test_resnet.r160_in1k, weights: random}}
parts: {probe: {kind: model, head: {kind: logistic}}}
"""


def go(tmp_path: Path, photos: Path, more: str = ""):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY % more)
    return run(path, data=str(photos), out=tmp_path / "runs", show=SilentProgress())


def spoil(photos: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, size=(30, 30, 3)).astype(np.uint8)
    red = photos / "red"
    Image.fromarray(noise).save(red / "whole.jpg")
    (red / "truncated.jpg").write_bytes((red / "whole.jpg").read_bytes()[:-200])
    (red / "empty.jpg").write_bytes(b"")
    (red / "text.jpg").write_text("this is no picture")
    Image.fromarray(noise).convert("CMYK").save(photos / "green" / "cmyk.jpg")
    deep = np.arange(900, dtype=np.uint16).reshape(30, 30) * 70
    Image.fromarray(deep).save(photos / "green" / "deep.png")
    frames = [Image.fromarray(noise), Image.fromarray(255 - noise)]
    frames[0].save(photos / "blue" / "moving.gif", save_all=True, append_images=frames[1:])


def test_a_spoilt_folder_runs_and_lists_what_it_left_out(tmp_path: Path, photos: Path) -> None:
    spoil(photos)
    result = go(tmp_path, photos)
    left_out = {item["name"] for item in result.results["data"]["left_out"]}
    assert {Path(n).name for n in left_out} == {"truncated.jpg", "empty.jpg", "text.jpg"}
    total = sum(sum(c.values()) for c in result.results["data"]["counts"].values())
    assert total == 24 + 1 + 2 + 1
    html = result.report_html.read_text()
    for name in ("truncated.jpg", "empty.jpg", "text.jpg"):
        assert name in html
    kinds = {problem["kind"] for problem in result.results["data"]["problems"]}
    assert any("animated" in kind for kind in kinds)


def test_a_class_with_one_picture_is_one_clear_error(tmp_path: Path, photos: Path) -> None:
    (photos / "single").mkdir()
    shutil.copy(photos / "red" / "0.png", photos / "single" / "other.png")
    with pytest.raises(DataError, match="single") as caught:
        go(tmp_path, photos)
    assert "small_classes" in str(caught.value)
    result = go(tmp_path, photos, ", small_classes: drop")
    assert "single" not in result.results["data"]["classes"]


def test_too_many_bad_pictures_stop_the_run(tmp_path: Path, photos: Path) -> None:
    for number in range(7):
        (photos / "red" / f"{number}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="max_bad_fraction"):
        go(tmp_path, photos)


def test_one_changed_pixel_extracts_exactly_that_picture(tmp_path: Path, photos: Path) -> None:
    first = go(tmp_path, photos).results["models"][0]
    assert (first["images_extracted"], first["images_reused"]) == (24, 0)
    with Image.open(photos / "blue" / "3.png") as image:
        changed = image.copy()
    pixel = changed.getpixel((7, 7))
    changed.putpixel((7, 7), (pixel[0] ^ 1, pixel[1], pixel[2]))
    changed.save(photos / "blue" / "3.png")
    second = go(tmp_path, photos).results["models"][0]
    assert (second["images_extracted"], second["images_reused"]) == (1, 23)


def test_a_renamed_folder_extracts_nothing(tmp_path: Path, photos: Path) -> None:
    go(tmp_path, photos)
    moved = photos.rename(tmp_path / "elsewhere")
    model = go(tmp_path, moved).results["models"][0]
    assert model["images_extracted"] == 0

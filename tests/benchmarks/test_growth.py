"""The curves of `make bench`: the exponent is that of the data, the pictures are all different."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.growth import Made, draw, fitted, section, stamped, write
from benchmarks.photos import HEIGHT, WIDTH, make_photos


def test_a_power_law_is_found_though_fixed_costs_hide_it_below() -> None:
    sizes = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000]
    curve = fitted("t", "n", sizes, [0.02 + 3e-4 * n**1.5 for n in sizes])
    assert curve.exponent == pytest.approx(1.5, abs=0.01)
    assert curve.factor * 30_000**curve.exponent == pytest.approx(3e-4 * 30_000**1.5, rel=0.02)


def test_the_fit_reads_the_upper_half_only() -> None:
    sizes = [1, 2, 4, 8, 16, 32]
    flat_then_linear = [5.0, 5.0, 5.0, 8.0, 16.0, 32.0]
    assert fitted("t", "n", sizes, flat_then_linear).exponent == pytest.approx(1.0)


def test_made_pictures_differ_by_number_so_that_none_is_extracted_for_another() -> None:
    made = Made(70_000)
    chosen = [0, 1, 250, 251, 256, 502, 65_536, 69_999]
    assert len({made.read(number) for number in chosen}) == len(chosen)
    assert opened(io.BytesIO(made.read(65_536))).shape == (32, 32, 3)
    assert len(set(Made(600).digests)) == 600


def test_a_drawing_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    curves = [fitted("time", "pictures", [1, 10, 100, 1_000], [0.1, 0.2, 1.0, 10.0])]
    draw(curves, tmp_path / "a.svg")
    draw(curves, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_photographs_are_made_once_balanced_and_reproducible(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", 10, classes=5)
    files = sorted(folder.glob("*/*.jpg"))
    assert [len(list(place.iterdir())) for place in sorted(folder.iterdir())] == [2] * 5
    assert {opened(file).shape for file in files} == {(HEIGHT, WIDTH, 3)}
    before = {file: file.stat().st_mtime_ns for file in files}
    make_photos(folder, 10, classes=5)
    assert {file: file.stat().st_mtime_ns for file in files} == before
    again = make_photos(tmp_path / "again", 10, classes=5)
    assert [f.read_bytes() for f in sorted(again.glob("*/*.jpg"))] == [
        f.read_bytes() for f in files
    ]
    assert opened(files[0]).std() > 20, "a photograph, not a flat colour"


def opened(file: Path | io.BytesIO) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


def test_the_page_names_each_curve_and_nothing_where_none_was_measured(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
    curve = fitted("features extracted", "pictures", [10, 100, 1_000], [0.1, 1.0, 10.0])
    stamp = {"commit": "abc", "threads": 2, "date": "today", "load": [0.5, 2.0]}
    write([curve], tmp_path, stamp)
    said = section(tmp_path)
    assert "Commit abc, 2 threads, today; load average when it began and ended 0.5 and 2.0." in said
    assert "| features extracted | 10 pictures: 0.1 s | 1,000 pictures: 10 s | 1.00 |" in said
    assert f"({tmp_path.name}/growth.svg)" in said


def test_curves_without_a_stamp_are_none(tmp_path: Path) -> None:
    (tmp_path / "growth.json").write_text("[]")
    assert stamped(tmp_path) is None
    assert section(tmp_path) == ""

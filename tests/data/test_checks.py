"""The preflight scan: what it finds, what it remembers, how it is shown."""

import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from headstart._util.progress import SilentProgress
from headstart.data import checks
from headstart.data.checks import scan
from headstart.data.page import render
from headstart.data.source import open_source


def scanned(root, cache=None, kind="auto", **options):
    source = open_source(kind, str(root), **options)
    return scan(source, workers=2, progress=SilentProgress(), cache_dir=cache)


@pytest.fixture
def difficult(folder, noise, encoded):
    """Return a folder with one of everything that goes wrong."""
    root = folder({"cat": 6, "dog": 6, "lone": 1})
    cat, dog = root / "cat", root / "dog"
    jpeg = encoded(np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8), "JPEG")
    (cat / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (cat / "zero.png").write_bytes(b"")
    (dog / "text.jpg").write_text("this is text")
    (cat / "cmyk.jpg").write_bytes(encoded(Image.new("CMYK", (8, 8), (9, 9, 9, 9)), "JPEG"))
    (cat / "deep.png").write_bytes(encoded(np.arange(20, dtype=np.uint16).reshape(4, 5) * 99))
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    (dog / "moving.gif").write_bytes(
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    )
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (dog / "turned.jpg").write_bytes(encoded(Image.new("RGB", (16, 8)), "JPEG", exif=exif))
    (dog / "clear.png").write_bytes(encoded(Image.new("RGBA", (4, 4), (1, 2, 3, 4))))
    return root


def by_kind(preflight):
    return {problem["kind"]: problem for problem in preflight.problems()}


def test_everything_difficult_is_found(difficult):
    found = scanned(difficult)
    reasons = {one.name: one.reason for one in found.quarantined}
    assert set(reasons) == {"cat/truncated.jpg", "cat/zero.png", "dog/text.jpg"}
    assert "0 bytes" in reasons["cat/zero.png"]
    assert "not a picture" in reasons["dog/text.jpg"]
    problems = by_kind(found)
    assert problems["unreadable"]["count"] == 3
    assert problems["unreadable"]["severity"] == "error"
    for kind, name in [
        ("cmyk", "cat/cmyk.jpg"),
        ("16-bit", "cat/deep.png"),
        ("animated", "dog/moving.gif"),
        ("exif-rotated", "dog/turned.jpg"),
        ("alpha", "dog/clear.png"),
    ]:
        assert problems[kind]["examples"] == [name]
        assert problems[kind]["severity"] == "note"
    assert problems["small-class"]["examples"] == ["lone: 1"]
    assert found.counts() == {"all": {"cat": 8, "dog": 9, "lone": 1}}
    assert found.modes()["RGB"] == 14
    assert found.modes()["CMYK"] == 1


def test_problems_are_plain_json_the_gravest_first(difficult):
    problems = scanned(difficult).problems()
    json.dumps(problems, allow_nan=False)
    severities = [problem["severity"] for problem in problems]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert set(problems[0]) == {"kind", "severity", "count", "text", "examples"}


def test_sizes_are_of_the_upright_pictures(tmp_path, encoded):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for label, size, options in [
        ("a", (10, 40), {}),
        ("b", (20, 30), {}),
        ("c", (50, 30), {"exif": exif}),  # upright: 30 wide, 50 high
    ]:
        (tmp_path / "d" / label).mkdir(parents=True)
        picture = encoded(Image.new("RGB", size), "JPEG", **options)
        (tmp_path / "d" / label / "0.jpg").write_bytes(picture)
    assert scanned(tmp_path / "d").sizes() == {"min": [10, 30], "median": [20, 40], "max": [30, 50]}


def test_copies_are_found_by_pixels_whatever_the_file(folder, encoded):
    root = folder({"train/cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 2})
    pixels = np.random.default_rng(9).integers(0, 256, (9, 9, 3), np.uint8)
    for path, kind in [
        ("train/cat/a.png", "PNG"),
        ("test/cat/b.bmp", "BMP"),  # across splits
    ]:
        (root / path).write_bytes(encoded(pixels, kind))
    other = Image.fromarray(pixels[::-1].copy())
    (root / "train/cat/c.png").write_bytes(encoded(other))
    (root / "train/dog/c.png").write_bytes(encoded(other, optimize=True))  # and labels differ
    found = scanned(root)
    names = [[found.rows[i].name for i in same] for same in found.copies]
    assert names == [
        ["test/cat/b.bmp", "train/cat/a.png"],
        ["train/cat/c.png", "train/dog/c.png"],
    ]
    problems = by_kind(found)
    assert problems["duplicate-across-splits"]["severity"] == "error"
    assert problems["duplicate-across-splits"]["count"] == 2
    assert "test/cat/b.bmp (cat) = train/cat/a.png (cat)" in str(problems)
    assert problems["conflicting-labels"]["count"] == 2
    assert problems["duplicate"]["count"] == 1


def test_groups_that_declared_splits_part_are_named(folder, tmp_path):
    folder({"pictures": 4})
    table = tmp_path / "pictures" / "table.csv"
    lines = [f"pictures/{i}.png,{label},{split},{group}" for i, (label, split, group) in enumerate(
        [("a", "train", "anna"), ("b", "train", "bob"), ("a", "test", "anna"), ("b", "test", "c")]
    )]  # fmt: skip
    table.write_text("\n".join(["path,label,split,group", *lines]))
    problem = by_kind(scanned(table))["group-across-splits"]
    assert problem["examples"] == ["anna"]


def test_imbalance_and_notes_of_the_source_are_told(folder, noise):
    root = folder({"many": 40, "few": 3})
    (root / "cover.png").write_bytes(noise(7777))
    problems = by_kind(scanned(root))
    assert problems["imbalance"]["examples"] == ["many: 40", "few: 3"]
    assert "13 times" in problems["imbalance"]["text"]
    assert "at the top" in problems["source"]["text"]


def test_a_clean_data_set_has_no_problems(folder):
    assert scanned(folder({"a": 4, "b": 4})).problems() == []


# --- the cache ----------------------------------------------------------------------------------


@pytest.fixture
def decodings(monkeypatch):
    """Count what is decoded."""
    calls = []
    real = checks.probe

    def counted(data):
        calls.append(data)
        return real(data)

    monkeypatch.setattr(checks, "probe", counted)
    return calls


def test_a_second_scan_decodes_nothing_and_finds_the_same(difficult, tmp_path, decodings):
    first = scanned(difficult, tmp_path / "cache")
    assert (first.decoded, first.reused) == (len(first.rows), 0)
    assert len(decodings) == len(first.rows)
    decodings.clear()
    second = scanned(difficult, tmp_path / "cache")
    assert decodings == []
    assert (second.decoded, second.reused) == (0, len(first.rows))
    for field in ("rows", "digests", "probes", "quarantined", "copies"):
        assert getattr(second, field) == getattr(first, field)


def test_a_touched_picture_alone_is_decoded_again(folder, noise, tmp_path, decodings):
    root = folder({"a": 5, "b": 5})
    first = scanned(root, tmp_path / "cache")
    decodings.clear()
    (root / "a" / "3.png").write_bytes(noise(4444))
    second = scanned(root, tmp_path / "cache")
    assert decodings == [(root / "a" / "3.png").read_bytes()]
    changed = [a != b for a, b in zip(first.digests, second.digests, strict=True)]
    assert [row.name for row, one in zip(first.rows, changed, strict=True) if one] == ["a/3.png"]


def test_the_cache_goes_by_content_and_not_by_place(folder, tmp_path, decodings):
    root = folder({"a": 3, "b": 3})
    scanned(root, tmp_path / "cache")
    decodings.clear()
    root.rename(tmp_path / "elsewhere")
    scanned(tmp_path / "elsewhere", tmp_path / "cache")
    assert decodings == []


def test_without_a_cache_folder_nothing_is_written(folder, tmp_path):
    root = folder({"a": 3, "b": 3})
    before = sorted(tmp_path.rglob("*"))
    scanned(root)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_cache_costs_time_and_not_the_run(folder, tmp_path):
    lines = []

    class Said(SilentProgress):
        def say(self, message):
            lines.append(message)

    root = folder({"a": 3, "b": 3})
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "preflight.sqlite").write_bytes(b"this is no database" * 100)
    source = open_source("auto", str(root))
    found = scan(source, workers=1, progress=Said(), cache_dir=tmp_path / "cache")
    assert found.decoded == 6
    assert "preflight.sqlite" in lines[0]


def test_facts_of_another_version_of_pillow_are_not_believed(folder, tmp_path, monkeypatch):
    root = folder({"a": 3, "b": 3})
    with monkeypatch.context() as patch:
        patch.setattr("PIL.__version__", "0.0")
        scanned(root, tmp_path / "cache")
    assert scanned(root, tmp_path / "cache").decoded == 6


def test_a_picture_that_cannot_even_be_read_is_quarantined(folder, tmp_path):
    folder({"pictures": 2})
    table = tmp_path / "pictures" / "table.csv"
    table.write_text("path,label\npictures/0.png,a\npictures/1.png,b\npictures/gone.png,b\n")
    found = scanned(table)
    assert [one.name for one in found.quarantined] == ["pictures/gone.png"]
    assert "cannot be read: there is no file" in found.quarantined[0].reason
    assert found.digests[2] == ""


def test_the_number_of_threads_changes_nothing(difficult):
    source = open_source("auto", str(difficult))
    one, many = (scan(source, workers=n, progress=SilentProgress()) for n in (1, 7))
    assert one == many


# --- the page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_page_shows_what_matters_within_its_width(difficult, width):
    text = render(scanned(difficult), width)
    assert all(len(line) <= width for line in text.splitlines())
    for part in ("3 cannot be read", "cat/zero.png", "lone", "CMYK 1", "ERROR", "median"):
        assert part in text


def test_many_classes_still_fit_one_page(folder):
    text = render(scanned(folder({f"class {index}": 1 + index % 3 for index in range(60)})))
    assert len(text.splitlines()) < 60
    assert "44 classes of a size between" in text


def test_the_page_of_a_clean_or_an_unreadable_folder(folder):
    assert "No problems were found." in render(scanned(folder({"a": 4, "b": 4})))
    root = folder({"a": 0, "b": 0}, "bad")
    for label in "ab":
        (root / label / "0.png").write_bytes(b"")
    assert "No picture can be read." in render(scanned(root))

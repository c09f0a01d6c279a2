"""What data are is found out by looking at them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from headstart.data.guess import guess_kind
from headstart.errors import DataError


def pictures(folder: Path) -> Path:
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        Image.new("RGB", (9, 9), "red").save(folder / kind / "1.png")
    return folder


def texts(folder: Path) -> Path:
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "1.txt").write_text(f"a {kind}")
    return folder


def table(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def test_pictures_and_texts_are_told_apart(tmp_path: Path) -> None:
    assert guess_kind(str(pictures(tmp_path / "photos"))) == "auto"
    assert guess_kind(str(texts(tmp_path / "reviews"))) == "text"
    paths = table(tmp_path / "photos" / "t.csv", "path,label", "cat/1.png,cat", "dog/1.png,dog")
    assert guess_kind(str(paths)) == "auto"
    reviews = table(tmp_path / "r.csv", "text,label", "fine,good", "poor,bad")
    assert guess_kind(str(reviews)) == "text"
    lines = [{"premise": "a", "hypothesis": b, "label": b} for b in "bc"]
    pairs = table(tmp_path / "p.jsonl", *map(json.dumps, lines))
    assert guess_kind(str(pairs)) == "text"


def test_a_column_of_texts_is_not_opened_as_pictures(tmp_path: Path) -> None:
    # Paths of pictures as words: only whoever owns the table knows what they are for.
    pictures(tmp_path)
    paths = table(tmp_path / "t.csv", "path,label", "cat/1.png,cat", "dog/1.png,dog")
    assert guess_kind(str(paths)) == "auto"
    assert guess_kind(str(paths), {"text": "path"}) == "text"


def test_what_is_neither_is_refused_with_what_is_wrong_as_both(tmp_path: Path) -> None:
    numbers = table(tmp_path / "numbers.csv", "height,width", "1,2", "3,4")
    with pytest.raises(DataError) as caught:
        guess_kind(str(numbers))
    first, *reasons = str(caught.value).splitlines()
    assert first == f"{numbers}: neither pictures nor texts with labels."
    assert [r.split(":")[0] for r in reasons] == ["  as pictures", "  as texts"]
    pictures, texts = reasons
    assert "no column 'path'" in pictures
    assert "which column of numbers.csv is the text" in texts


def test_what_is_not_there_is_said_once(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    with pytest.raises(DataError) as caught:
        guess_kind(str(missing))
    assert str(caught.value).count(str(missing)) == 1
    assert "as texts" not in str(caught.value)

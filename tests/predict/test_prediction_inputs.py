"""What a person names becomes samples: in order, each read by itself or with its own error."""

import contextlib
import csv
import io
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.data.text import pair_of
from headstart.errors import DataError
from headstart.predict import fetch, input_lines
from headstart.predict.input_lines import numbered_lines
from headstart.predict.inputs import Reading, is_countable, open_inputs
from headstart.predict.samples import read_file, sequence_bytes

IMAGE, TEXT, PAIR = Reading("image"), Reading("text"), Reading("pair")


@contextlib.contextmanager
def pipe(data: bytes) -> Iterator[int]:
    """Give the descriptor of a pipe that says this and ends."""
    ours, theirs = os.pipe()

    def feed() -> None:
        with open(theirs, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield ours
    finally:
        os.close(ours)
        thread.join()


def found(words: list[str], reading: Reading, stdin: bytes = b"") -> list[tuple[str, object]]:
    """Read all inputs: each with its bytes, or with the reason why there are none."""
    results: list[tuple[str, object]] = []
    with pipe(stdin) as descriptor:
        for one in open_inputs(words, reading, descriptor):
            try:
                results.append((one.name, one.read()))
            except DataError as error:
                results.append((one.name, str(error)))
    return results


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b/10.jpg", "b/9.JPG", "a.png", "notes.txt", ".hidden.png", "__MACOSX/x.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def test_a_folder_gives_its_pictures_at_any_depth_in_natural_order(photos: Path) -> None:
    names = [f"{photos}/a.png", f"{photos}/b/9.JPG", f"{photos}/b/10.jpg"]
    results = found([str(photos)], IMAGE)
    assert [name for name, _ in results] == names
    assert results[1][1] == b"b/9.JPG"


def test_links_in_circles_end_and_other_links_are_followed(photos: Path, tmp_path: Path) -> None:
    (photos / "b" / "up").symlink_to(photos)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "c.png").touch()
    (photos / "z").symlink_to(tmp_path / "else")
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    names = [os.path.relpath(name, photos) for name, _ in found([str(photos)], IMAGE)]
    assert names == ["a.png", "b/9.JPG", "b/10.jpg", "gone.png", "z/c.png"]


def test_a_pattern_that_the_shell_did_not_replace_is_replaced(photos: Path) -> None:
    assert [n for n, _ in found([f"{photos}/**/*.jpg"], IMAGE)] == [f"{photos}/b/10.jpg"]
    assert [n for n, _ in found([f"{photos}/b*"], IMAGE)] == [
        f"{photos}/b/9.JPG",
        f"{photos}/b/10.jpg",
    ]
    odd = photos / "[1].png"  # a file of that very name comes first
    odd.touch()
    assert found([str(odd)], IMAGE) == [(str(odd), b"")]


def test_what_is_missing_says_so_and_the_others_go_on(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ["gone.jpg", f"{photos}/*.gif", str(tmp_path / "empty"), f"{photos}/a.png"]
    errors = [said for _, said in found(words, IMAGE)]
    assert errors[:2] == ["no such file", "no file matches this pattern"]
    assert "no file ends in" in str(errors[2])
    assert errors[3] == b"a.png"


def test_a_word_that_is_no_path_is_the_text_itself(tmp_path: Path) -> None:
    texts = ["Was it good?", "**well** [sic] …", "x" * 5000, "good.", "/no/such/folder here"]
    assert found(texts, TEXT) == [(text, text.encode()) for text in texts]
    path = tmp_path / "one.txt"
    path.write_bytes(b"a text\r\nof two lines")
    assert found([str(path)], TEXT) == [(str(path), b"a text\r\nof two lines")]
    # A name that was mistyped is no film review.
    assert found(["revews.csv"], TEXT) == [("revews.csv", "no such file")]
    assert found([" "], TEXT) == [(" ", "empty: no words")]


LINES = "\ufeffgood film\r\n\r\nbad – film\n  \nnext\u2028line\u0085here\nlast"
READ = [
    ("good film", b"good film"),
    ("", "line 2: empty: no words"),
    ("bad – film", "bad – film".encode()),
    ("  ", "line 4: empty: no words"),
    ("next\u2028line\u0085here", "next\u2028line\u0085here".encode()),
    ("last", b"last"),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lines_of_standard_input_and_of_files(tmp_path: Path, encoding: str) -> None:
    text = LINES if encoding == "utf-8" else LINES.removeprefix("\ufeff")
    assert found(["-"], TEXT, text.encode(encoding)) == READ
    path = tmp_path / "texts.txt"
    path.write_bytes(text.encode(encoding))
    assert found([str(path)], Reading("text", lines=True)) == READ
    assert found(["-"], TEXT, b"caf\xe9\n") == [("café", "café".encode())]


def test_standard_input_of_pictures_is_a_list_of_paths(photos: Path) -> None:
    said = found(["-"], IMAGE, f"{photos}/a.png\r\n\n{photos}/none.png\n\x89PNG\0\0\n".encode())
    assert said[0] == (f"{photos}/a.png", b"a.png")
    assert said[1] == ("", "line 2: empty: expected the path of a picture")
    assert said[2] == (f"{photos}/none.png", "No such file or directory")
    assert "the bytes of a picture" in str(said[3][1])
    (photos / "list.txt").write_text("list.jpg\n")
    assert [n for n, _ in found([f"{photos}/list.txt"], Reading("image", lines=True))] == [
        "list.jpg"
    ]


def test_a_line_without_end_is_refused_and_the_next_one_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(input_lines, "MAX_LINE", 10)
    data = b"short\n" + b"x" * 35 + b"\nnine char\n" + b"y" * 10
    lines = list(numbered_lines(io.BufferedReader(io.BytesIO(data))))  # type: ignore[arg-type]
    assert [number for number, _ in lines] == [1, 2, 3, 4]
    assert [one for _, one in lines if isinstance(one, bytes)] == [b"short", b"nine char"]


def test_pairs_are_json_or_have_a_tab_between_them(tmp_path: Path) -> None:
    path = tmp_path / "pair.txt"
    path.write_text("a\tb\n")
    lines = b'["x, y", "z"]\nfirst\tsecond\nalone\n["x"]\n["x", " "]\n\n["x",\n'
    results = found(["-", str(path)], PAIR, lines)
    said = [pair_of(r) if isinstance(r, bytes) else r for _, r in results]
    assert said[0] == ("x, y", "z")
    assert said[1] == ("first", "second")
    assert said[7] == ("a", "b")
    assert "line 3: expected two texts" in str(said[2])
    assert "line 4: expected two texts" in str(said[3])
    assert said[4] == "line 5: empty: no words in the second text"
    assert said[5] == "line 6: empty: no words"
    assert "line 7: expected JSON" in str(said[6])


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1))
def test_a_sequence_is_its_float32_numbers(steps: list[list[float]]) -> None:
    back = np.frombuffer(sequence_bytes(json.loads(json.dumps(steps)), 2), "<f4").reshape(-1, 2)
    assert back.tolist() == steps
    flat = [a for a, _ in steps]
    assert sequence_bytes(flat, 1) == sequence_bytes({"values": [[a] for a in flat]}, 1)


@pytest.mark.parametrize(
    "value",
    [[], {}, 1, "1", None, [True], ["1"], [[1, 2]], [[]], [1e39], [10**400], [math.nan], [1, None]],
    ids=str,
)
def test_what_is_no_sequence_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="expected a JSON array of numbers"):
        sequence_bytes(value, 1)


def test_sequences_come_as_words_files_and_lines(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("[1, 2]")
    (tmp_path / "two.jsonl").write_text('[3]\n{"values": [4]}\n[x]\n')
    words = ["[0.5]", str(tmp_path), "-"]
    said = [r for _, r in found(words, Reading("sequence"), b"[5]\n" + b"[" * 100_000)]
    values = [np.frombuffer(r, "<f4").tolist() for r in said if isinstance(r, bytes)]
    assert values == [[0.5], [1, 2], [3], [4], [5]]
    assert "line 3: expected JSON" in str(said[4])
    assert "line 2: expected JSON" in str(said[6])
    assert "lists of 2 numbers, got [2] at step 2" in str(
        found(["[[1, 1], [2]]"], Reading("sequence", 2))[0][1]
    )


def test_a_device_without_end_is_refused_and_a_pipe_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("headstart.predict.samples.MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_file("/dev/zero")
    (tmp_path / "large.jpg").write_bytes(bytes(1001))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_file(str(tmp_path / "large.jpg"))
    with pipe(b"some") as descriptor:
        assert read_file(f"/dev/fd/{descriptor}") == b"some"
        assert not is_countable(["a text", f"/dev/fd/{descriptor}"])
    assert is_countable(["a text", str(tmp_path)])
    assert not is_countable(["-"])


# Tables


ROWS = [('good, "very"\nindeed', "p"), ("", "p"), ("bad", "")]


def write_table(path: Path, names: tuple[str, str], rows: list[tuple[str, str]]) -> None:
    if path.suffix == ".parquet":
        columns = list(zip(*rows, strict=True))
        pyarrow.parquet.write_table(
            pa.table({"id": range(len(rows)), names[0]: columns[0], names[1]: columns[1]}), path
        )
    elif path.suffix == ".json":
        path.write_text(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
        )
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ";")
            writer.writerows([names, *rows])


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_kind_of_table_gives_its_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    write_table(path, ("review", "other"), ROWS)
    results = found([str(path)], TEXT)
    assert [said for _, said in results] == [ROWS[0][0].encode(), "empty: no words", b"bad"]
    lines = [name.removeprefix(f"{path}:") for name, _ in results]
    assert lines == (["2", "4", "5"] if suffix in ("csv", "tsv") else ["1", "2", "3"])
    chosen = Reading("text", columns={"text": "other"})
    assert [said for _, said in found([str(path)], chosen)] == [b"p", b"p", "empty: no words"]
    missing = found([str(path)], Reading("text", columns={"text": "revew"}))
    assert len(missing) == (3 if suffix == "jsonl" else 1)  # there each row has columns of its own
    assert all("no column 'revew'" in str(said) for _, said in missing)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_tables_of_pairs(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    write_table(path, ("premise", "hypothesis"), [("a", "b"), ("c", "")])
    (_, first), (_, second) = found([str(path)], PAIR)
    assert isinstance(first, bytes)
    assert pair_of(first) == ("a", "b")
    assert second == "empty: no words in the second text"
    # Which of the two a model of single texts shall read, nobody has said.
    assert "--text-column" in str(found([str(path)], TEXT)[0][1])
    single = Reading("text", columns={"text": "hypothesis"})
    assert found([str(path)], single)[0][1] == b"b"


def test_a_broken_row_is_an_error_of_its_own(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(b"text,n\none,1\ntwo\n\nthr\xe9e,3\n")
    said = found([str(table)], TEXT)
    assert said[0] == (f"{table}:2", b"one")
    assert said[1] == (f"{table}:3", "the row has 1 cells, the header has 2")
    assert said[2] == (f"{table}:5", "thrée".encode())
    lines = b'{"text": "one"}\n[1]\n\n{"text": "cut\n{"text": [2]}\n{"other": 1}\n{"text": 3}\n'
    results = [said for _, said in found(["-"], Reading("text", columns={"text": "text"}), lines)]
    assert results[0] == b"one"
    assert results[-1] == b"3"
    assert all(isinstance(said, str) for said in results[1:-1])
    assert len(results) == 7


def test_a_damaged_table_is_one_error(tmp_path: Path) -> None:
    words = []
    for name, content in (
        ("a.parquet", b"PAR1"),
        ("b.json", b"[{]"),
        ("c.csv", b""),
        ("d.tsv", b""),
    ):
        (tmp_path / name).write_bytes(content)
        words.append(str(tmp_path / name))
    unclosed = tmp_path / "e.csv"
    unclosed.write_text('text\nfine\n"never closed\n' + "more\n" * 40_000)
    results = found([*words, str(unclosed)], TEXT)
    assert [name for name, _ in results] == [*words, f"{unclosed}:2", str(unclosed)]
    assert "quotation mark" in str(results[-1][1])


# URLs


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/x.jpg")
            self.end_headers()
        elif self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/photo.jpg")
            self.end_headers()
        elif self.path == "/photo.jpg":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 5000)
        elif self.path == "/slow.jpg":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for _ in range(50):
                    self.wfile.write(b"x")
                    time.sleep(0.02)
        else:
            self.send_error(404)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_is_read_only_where_the_network_is_allowed(web: str) -> None:
    url = f"{web}/moved"
    assert found([url], IMAGE) == [(url, "a URL is read only with --allow-network")]
    assert "--allow-network" in str(found(["-"], IMAGE, url.encode())[0][1])
    online = Reading("image", allow_network=True)
    assert found([url], online) == [(url, b"x" * 5000)]
    assert found(["-"], online, url.encode()) == [(url, b"x" * 5000)]
    assert "404" in str(found([f"{web}/none"], online)[0][1])
    assert "ftp" in str(found([f"{web}/elsewhere"], online)[0][1])


def test_a_url_has_limits(web: str) -> None:
    with pytest.raises(DataError, match="more than 4,999 bytes"):
        fetch.fetch(f"{web}/photo.jpg", max_bytes=4999)
    assert len(fetch.fetch(f"{web}/photo.jpg", max_bytes=5000)) == 5000
    with pytest.raises(DataError, match=r"longer than 0\.1 s"):
        fetch.fetch(f"{web}/slow.jpg", seconds=0.1)

"""`headstart predict`: what a bundle says of whatever is named, for people and for programs."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import transformers
from explained_bundles import WORDS, text_spec
from tiny_bundles import CPU, picture, series, trained, write_tiny
from tokenizers import Tokenizer

from headstart.backbones.base import SeriesOptions, TextOptions
from headstart.backbones.registry import load_backbone
from headstart.cli.main import app
from headstart.data.text import pair_bytes, text_bytes
from headstart.errors import ConfigError, HeadstartError
from headstart.heads import HeadSpec, build_head
from headstart.predict import (
    BackboneOptions,
    Bundle,
    SavedModel,
    TrainedModel,
    load_bundle,
    trained_tensors,
)
from headstart.types import FloatArray, Pairs

pytestmark = pytest.mark.usefixtures("one_thread")

PICTURES = [picture(seed) for seed in range(5)]
SERIES = SeriesOptions(channels=1, max_length=12, hidden=8)


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Predict = Callable[..., Done]


@pytest.fixture
def predict(capfdbinary: pytest.CaptureFixture[bytes]) -> Predict:
    def call(*words: object) -> Done:
        status = app(["predict", *map(str, words)], standalone_mode=False)
        out, err = capfdbinary.readouterr()
        return Done(status or 0, out.decode(), err.decode())

    return call


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and beside it the folder `photos` with the pictures and a damaged one."""
    folder = tmp_path_factory.mktemp("pictures")
    write_tiny(folder / "tiny.headstart", PICTURES, trained())
    (folder / "photos").mkdir()
    for number, data in enumerate(PICTURES):
        (folder / "photos" / f"{number}.png").write_bytes(data)
    (folder / "photos" / "2b.png").write_bytes(PICTURES[0][:100])
    return folder


def reader(folder: Path, pairs: Pairs) -> Path:
    """Write a bundle of a tiny transformer with random weights."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        intermediate_size=8,
        max_position_embeddings=40,
        initializer_range=0.5,
        **sizes,
    )
    transformers.BertModel(config).save_pretrained(folder / "network")
    Tokenizer.from_str(text_spec().tokenizer).save(str(folder / "network" / "tokenizer.json"))
    options = TextOptions(max_length=12, pairs=pairs)
    name = f"transformers/{folder}/network"
    network = load_backbone(name, text=options)
    head = build_head(HeadSpec(), network.shape("pooled")[0], 2, seeds=[0])
    model = SavedModel(
        backbone=name,
        backbone_weights="pretrained",
        backbone_seed=0,
        backbone_digest=network.digest("input"),
        cut="input",
        head_cut="pooled",
        input_spec=network.input_spec,
        classes=("no", "yes"),
        head=HeadSpec(),
        width=network.shape("pooled")[0],
        options=BackboneOptions(text=options),
    )
    tensors = trained_tensors(network, "input", "pooled", head)
    sample = text_bytes("w5 w6") if pairs == "single" else pair_bytes("w5", "w6")
    write_tiny(folder / "bundle", [sample], (TrainedModel(model, tensors), network))
    return folder / "bundle"


def said(bundle: Path, data: list[bytes]) -> FloatArray:
    with load_bundle(bundle, device=CPU) as loaded:
        return loaded.predict(data)


def test_json_says_what_the_bundle_says_and_of_each_input(pictures: Path, predict: Predict) -> None:
    bundle, photos = pictures / "tiny.headstart", pictures / "photos"
    done = predict(bundle, photos, photos / "gone.jpg", "--format", "json", "--batch", 2)
    assert done.status == 1
    assert done.err == "headstart: 2 of 7 inputs failed\n"
    names = ["0.png", "1.png", "2.png", "2b.png", "3.png", "4.png", "gone.jpg"]
    assert [r["input"] for r in done.records] == [str(photos / name) for name in names]
    good = [r for r in done.records if "error" not in r]
    probabilities = said(bundle, PICTURES)
    for record, row in zip(good, probabilities, strict=True):
        told = {one["label"]: one["probability"] for one in record["top"]}  # type: ignore[attr-defined]
        # Batches of two and of five: the order of additions differs, and with it the rounding.
        np.testing.assert_allclose([told[c] for c in "abc"], row, atol=1e-5)
        assert record["label"] == "abc"[row.argmax()]
    assert done.records[6] == {"input": str(photos / "gone.jpg"), "error": "no such file"}
    assert "error" in done.records[3]


def test_csv_is_one_table_with_a_column_of_errors(pictures: Path, predict: Predict) -> None:
    bundle, photos = pictures / "tiny.headstart", pictures / "photos"
    done = predict(bundle, photos, "--format", "csv", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    columns = ["input", "label", "probability", "label_2", "probability_2", "error"]
    assert list(rows[0]) == columns
    assert [bool(row["error"]) for row in rows] == [False, False, False, True, False, False]
    best = np.sort(said(bundle, PICTURES), axis=1)[:, ::-1]
    told = [[float(r["probability"]), float(r["probability_2"])] for r in rows if not r["error"]]
    np.testing.assert_allclose(told, best[:, :2], atol=1e-6)


def test_the_table_is_for_people(pictures: Path, predict: Predict) -> None:
    bundle, photos = pictures / "tiny.headstart", pictures / "photos"
    head, *lines = predict(bundle, photos / "0.png", photos / "2b.png").out.splitlines()
    assert head.split() == ["input", "label", "prob.", "next"]
    row = said(bundle, PICTURES[:1])[0]
    assert f"{'abc'[row.argmax()]}" in lines[0].split()
    assert f"{100 * row.max():.1f}%" in lines[0]
    assert lines[0].count("%") == 3
    assert "error: " in lines[1]
    # A long path keeps both ends; the columns stay where they are.
    assert lines[0].index("…") < 40
    assert "0.png" in lines[0][:42]


def test_what_comes_from_files_cannot_steer_the_terminal(
    pictures: Path, predict: Predict, tmp_path: Path
) -> None:
    evil = tmp_path / "\x1b[2Jx\n.png"
    evil.write_bytes(PICTURES[0])
    done = predict(pictures / "tiny.headstart", evil)
    assert "\x1b" not in done.out
    assert len(done.out.splitlines()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode elsewhere")
def test_a_file_name_of_any_bytes_gives_valid_json(
    pictures: Path, predict: Predict, tmp_path: Path
) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    with open(name, "wb") as file:
        file.write(PICTURES[0])
    (record,) = predict(pictures / "tiny.headstart", tmp_path, "--format", "json").records
    assert os.fsencode(str(record["input"])) == name


def test_exit_status(pictures: Path, predict: Predict) -> None:
    bundle, photos = pictures / "tiny.headstart", pictures / "photos"
    good, bad = photos / "0.png", photos / "2b.png"
    assert predict(bundle, good).status == 0
    assert predict(bundle, good, bad).status == 1
    assert predict(bundle, bad, "gone.jpg").status == 2


def test_a_file_appears_when_all_is_done(
    pictures: Path, predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, photos, out = pictures / "tiny.headstart", pictures / "photos", tmp_path / "a.csv"
    done = predict(bundle, photos, "--format", "csv", "--out", out)
    assert done.out == f"{out}\n"
    assert len(out.read_text().splitlines()) == 7
    out.unlink()

    def full(self: Bundle, rows: Sequence[FloatArray]) -> FloatArray:
        raise HeadstartError("no memory is left")

    monkeypatch.setattr(Bundle, "predict_prepared", full)
    with pytest.raises(HeadstartError, match="no memory is left"):
        predict(bundle, photos, "--format", "csv", "--out", out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "auto"])
def test_engines_agree(pictures: Path, predict: Predict, engine: str) -> None:
    bundle, photos = pictures / "tiny.headstart", pictures / "photos"
    words = (photos / "0.png", "--format", "json", "--engine", engine, "--device", "cpu")
    (record,) = predict(bundle, *words).records
    assert record["probability"] == pytest.approx(said(bundle, PICTURES[:1]).max(), abs=1e-4)


def test_texts_as_words_and_in_tables(predict: Predict, tmp_path: Path) -> None:
    bundle = reader(tmp_path, "single")
    texts = ["w5 w6 w7", "w8", "w9 w10 w11 w12", "w13"]
    expected = said(bundle, [text.encode() for text in texts])[:, 1]
    table = tmp_path / "table.csv"
    table.write_text("id,words\n" + "".join(f"{i},{t}\n" for i, t in enumerate(texts)) + "4,\n")
    as_words = predict(bundle, *texts, "--format", "json").records
    done = predict(bundle, table, "--text-column", "words", "--format", "json")
    for records in (as_words, done.records[:4]):
        found = [
            {one["label"]: one["probability"] for one in r["top"]}["yes"]  # type: ignore[attr-defined]
            for r in records
        ]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [r["input"] for r in as_words] == texts
    assert [r["input"] for r in done.records] == [f"{table}:{line}" for line in range(2, 7)]
    assert done.records[4]["error"] == "empty: no words"
    assert done.status == 1
    with pytest.raises(ConfigError, match="--pair: bundle is a model of the task 'text'"):
        predict(bundle, "w5", "--pair", "w6")
    with pytest.raises(ConfigError, match="give --text-column"):
        predict(bundle, table, "--pair-column", "words")


def test_pairs_as_options_json_and_tables(predict: Predict, tmp_path: Path) -> None:
    bundle = reader(tmp_path, "together")
    best = said(bundle, [pair_bytes("w5 w6", "w7")]).max()
    table = tmp_path / "pairs.jsonl"
    table.write_text(json.dumps({"premise": "w5 w6", "hypothesis": "w7"}))
    for words in (["w5 w6", "--pair", "w7"], ['["w5 w6", "w7"]'], ["w5 w6\tw7"], [table]):
        (record,) = predict(bundle, *words, "--format", "json").records
        assert record["probability"] == pytest.approx(best, abs=1e-6)
    with pytest.raises(ConfigError, match="expected one INPUT"):
        predict(bundle, "w5", "w6", "--pair", "w7")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("numbers") / "numbers"
    write_tiny(path, [series(0)], trained("headstart/gru", goal="regression", options=SERIES))
    return path


def test_a_regression_tells_values(numbers: Path, predict: Predict) -> None:
    data = np.array([0.5, -2, 0.25], "<f4")
    value = float(said(numbers, [data.tobytes()])[0])
    words = (numbers, "[0.5, -2, 0.25]", str([0] * 13))
    rows = list(csv.DictReader(io.StringIO(predict(*words, "--format", "csv").out)))
    assert list(rows[0]) == ["input", "value", "error"]
    assert float(rows[0]["value"]) == pytest.approx(value, abs=1e-6)
    assert rows[1]["value"] == ""
    assert "1 to 12 steps" in rows[1]["error"]
    assert f"{value:.6g}" in predict(*words).out
    for option in ("--text-column", "--pair"):
        with pytest.raises(ConfigError, match="is a model of the task 'sequence'"):
            predict(numbers, "[1]", option, "x")


def test_a_run_is_no_bundle(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(HeadstartError, match="headstart bundle RUN"):
        predict(tmp_path, "x.jpg")


def test_a_terminal_sees_how_far_it_is(
    pictures: Path, predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    quick = Bundle.predict_prepared

    def slow(self: Bundle, rows: Sequence[FloatArray]) -> FloatArray:
        time.sleep(0.2)  # so that the inputs are counted before they are done
        return quick(self, rows)

    monkeypatch.setattr(Bundle, "predict_prepared", slow)
    predict(pictures / "tiny.headstart", pictures / "photos", "--out", tmp_path / "a.txt")
    assert "predicting" in terminal.getvalue()
    assert re.search(r"6/6.*[0-9]/s.*0:00:00", terminal.getvalue())


# As processes: what comes and goes while it runs.


def started(bundle: Path, *words: str, **options: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "headstart", "predict", str(bundle), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        **options,
    )


def resident_bytes(process: "subprocess.Popen[bytes]") -> int:
    """Return the most memory that a process has ever held."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def answered(process: "subprocess.Popen[bytes]", lines: bytes, count: int) -> list[bytes]:
    """Send lines over and over without closing the input, and read that many answers."""
    assert process.stdin is not None
    assert process.stdout is not None
    each = lines.count(b"\n")

    def feed() -> None:
        assert process.stdin is not None
        for _ in range(count // each):
            process.stdin.write(lines)
        process.stdin.flush()

    thread = threading.Thread(target=feed)
    thread.start()
    found = [process.stdout.readline() for _ in range(count)]
    thread.join()
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_thousand_lines_need_no_more_memory_than_some(numbers: Path) -> None:
    lines = b"[0.5]\n[1, 2, 3]\n\n[0.25, -1]\n"
    with started(numbers, "--format", "json") as process:
        # The input is open all the while: answers come before it ends.
        first = answered(process, lines, 12_000)
        before = resident_bytes(process)
        last = answered(process, lines, 96_000)
        grown = resident_bytes(process) - before
        # Whoever reads it goes away, as `head` does, while more comes.
        process.stdout.close()  # type: ignore[union-attr]
        process.stdin.write(lines)  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        assert process.wait(60) == 141
        assert process.stderr.read() == b""  # type: ignore[union-attr]
    assert grown < 8 * 2**20
    inputs = ["[0.5]", "[1, 2, 3]", "", "[0.25, -1]"]
    assert [json.loads(line)["input"] for line in [*first, *last]] == inputs * 27_000
    records = [json.loads(line) for line in last[-4:]]
    data = [np.array(v, "<f4").tobytes() for v in ([0.5], [1, 2, 3], [0.25, -1])]
    values = [r["value"] for r in records if "value" in r]
    np.testing.assert_allclose(values, said(numbers, data), atol=1e-6)
    assert records[2]["error"] == "line 107,999: empty"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_it_can_be_stopped_while_it_waits_for_input(numbers: Path) -> None:
    with started(numbers, "-") as process:
        process.stdin.write(b"[1]\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        assert process.stdout.readline().startswith(b"input")  # type: ignore[union-attr]
        assert process.stdout.readline().startswith(b"[1]")  # type: ignore[union-attr]
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert time.monotonic() - asked < 10
        assert b"Error" not in process.stderr.read()  # type: ignore[union-attr]

"""Where answers go: a new file or a pipe; and what is left when writing them ends early."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_prediction_command import SERIES, Predict, predict, reader, started
from tiny_bundles import picture, series, trained, write_tiny

from headstart.cli.main import main
from headstart.errors import ConfigError, HeadstartError
from headstart.predict import Bundle
from headstart.predict import bundle_write as writing
from headstart.predict.placing import new_file

pytestmark = pytest.mark.usefixtures("one_thread")

__all__ = ["predict"]  # a fixture


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("numbers") / "numbers.headstart"
    network = trained("headstart/gru", goal="regression", options=SERIES)
    write_tiny(path, [series(0)], network, check=lambda _: 0.0)
    return path


@pytest.mark.parametrize("kind", ["input", "file", "folder", "link"])
def test_what_is_there_is_never_replaced(
    predict: Predict, numbers: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text("[1, 2]\n")
    if kind == "input":
        out = source
    elif kind == "file":
        out.write_text("kept")
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("headstart.predict.load_bundle", None)  # it is said before any work
    with pytest.raises(ConfigError, match="is there already: remove it, or choose another name"):
        predict(numbers, source, "--out", out)
    assert sorted(tmp_path.iterdir()) == before
    assert source.read_text() == "[1, 2]\n"


def test_a_file_that_cannot_be_written_is_an_error_before_the_work(
    predict: Predict, numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.predict.load_bundle", None)
    with pytest.raises(ConfigError, match=f"there is no folder {tmp_path}/x"):
        predict(numbers, "[1]", "--out", tmp_path / "x" / "y" / "a.csv")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="there is no folder"):
        predict(numbers, "[1]", "--out", tmp_path / "file" / "a.csv")

    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
        predict(numbers, "[1]", "--out", tmp_path / "a.csv")


def test_what_takes_the_name_while_it_is_predicted_is_kept(
    predict: Predict, numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.csv"
    quick = Bundle.predict_prepared

    def meanwhile(self: Bundle, rows: list) -> object:
        out.write_text("somebody's")
        return quick(self, rows)

    monkeypatch.setattr(Bundle, "predict_prepared", meanwhile)
    with pytest.raises(ConfigError, match="is there already"):
        predict(numbers, "[1]", "--out", out)
    assert out.read_text() == "somebody's"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_one_message(numbers: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headstart", "predict", str(numbers), "[1]"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    line = b"headstart: standard output: cannot be written: No space left on device\n"
    assert done.stderr == line


def test_an_error_while_the_file_is_written_is_one_message(
    predict: Predict, numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HeadstartError, match=r"--out .*: cannot be written: No space left"):
        predict(numbers, "[1]", "--out", tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_a_file_has_the_rights_that_the_umask_grants(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        with new_file(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_empty_lines_of_a_table_are_errors_where_they_would_be_texts(
    predict: Predict, tmp_path: Path
) -> None:
    bundle, table = reader(tmp_path, "single"), tmp_path / "t.csv"
    table.write_text("text\nw5\n\n\r\nw6\n\n\n")
    records = predict(bundle, table, "--format", "json").records
    assert [r["input"] for r in records] == [f"{table}:{line}" for line in (2, 3, 4, 5)]
    assert [r.get("error") for r in records] == [None, "empty: no words", "empty: no words", None]
    table.write_text("id,text\n1,w5\n\n2,w6\n")
    records = predict(bundle, table, "--format", "json").records
    assert [r["input"] for r in records] == [f"{table}:{line}" for line in (2, 4)]


# Signals, and readers that go away.

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@posix
def test_sigterm_leaves_no_temporary_folder(
    numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started(numbers, "-") as process:
        process.stdin.write(b"[1]\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"input")
        assert process.stdout.readline().startswith(b"[1]")
        assert [path.name[:17] for path in tmp_path.iterdir()] == ["headstart-bundle-"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert process.stderr.read() == b""
    assert not list(tmp_path.iterdir())


@posix
def test_sigterm_while_a_bundle_is_checked_ends_the_check_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    # In a process of its own: were the signal not heard, it would end all tests after this one.
    code = "import sys, test_prediction_output as t; t.terminated_while_checked(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def terminated_while_checked(where: str) -> None:
    """As a verb that writes a bundle: the process that checks is a child, and it hangs."""
    tmp_path, monkeypatch = Path(where), pytest.MonkeyPatch()
    child, place = tmp_path / "child", tmp_path / "place"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho $$ > {child}.new; mv {child}.new {child}\nexec sleep 60\n")
    python.chmod(0o755)
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setattr(writing.sys, "executable", str(python))

    def verb() -> None:
        check = writing.check_in_clean_process
        write_tiny(place / "b.headstart", [picture(0)], trained(), check=check)

    def terminate() -> None:
        while not child.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("headstart.cli.main.app", verb)
    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        main()
    thread.join()
    assert ended.value.code == 143
    assert not list(place.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(int(child.read_text()), 0)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@posix
@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["schema"]])
def test_a_reader_that_goes_away_is_no_error(words: list[str]) -> None:
    reading, writing_end = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "headstart", *words]
    done = subprocess.run(command, stdout=writing_end, stderr=subprocess.PIPE, check=False)
    os.close(writing_end)
    assert (done.returncode, done.stderr) == (141, b"")

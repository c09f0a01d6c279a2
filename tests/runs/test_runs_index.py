"""The page of all runs: what it says of a run at every moment of it, and of what is damaged."""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_studies import StopAfter, go

from headstart import resume
from headstart._util import files
from headstart._util.progress import SilentProgress
from headstart.errors import RunError, StoppedError
from headstart.report.run_rows import RunRow
from headstart.runs import index, runner
from headstart.runs.index import INDEX_NAME, read_rows, write_index
from headstart.types import JsonDict

pytestmark = pytest.mark.usefixtures("one_thread")

STUDY = """
name: sums
title: Sums & means
data: {kind: sequence, target: sum, train: 40, val: 10, test: 20}
backbones: {gru: {name: headstart/gru, weights: random, hidden: 4}}
timing: {measure: false}
parts:
  mean: {kind: baseline}
  short:
    kind: model
    from_scratch: true
    epochs: 1
    batch_size: 8
    optimizer: {kind: adam, learning_rate: 0.01}
targets: [{part: mean, metric: test.mse, op: "<=", value: 0.0}]
"""
HOLDER = """
import sys, time
from pathlib import Path
from headstart.runs.alive import at_work
with at_work(Path(sys.argv[1])):
    print("at work", flush=True)
    time.sleep(60)
"""


def one_row(out: Path) -> RunRow:
    (row,) = read_rows(out)
    return row


def page(out: Path) -> str:
    return unescape((out / INDEX_NAME).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go(tmp_path_factory.mktemp("sums"), STUDY).folder


def copied(run: Path, out: Path, name: str) -> Path:
    """Copy what the page reads of a run."""
    folder = out / name
    folder.mkdir(parents=True)
    for one in ("run.json", "results.json"):
        (folder / one).write_bytes((run / one).read_bytes())
    return folder


def changed(path: Path, **keys: object) -> None:
    files.write_json(path, {**files.read_json(path), **keys})


def without_state(path: Path) -> None:
    """Make a run.json as versions before this page wrote it."""
    about = files.read_json(path)
    files.write_json(path, {k: about[k] for k in about if k not in ("state", "message")})


def test_a_run_is_on_the_page_while_it_runs_and_when_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile = []
    render = runner.render

    def looked(folder: Path, **options: object) -> tuple[Path, Path]:
        meanwhile.append((page(folder.parent), one_row(folder.parent)))
        return render(folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "render", looked)
    result = go(tmp_path, STUDY)
    ((text, row),) = meanwhile
    assert "1 run: 1 running" in text
    assert (row.state, row.took.order) == ("running", None)
    text, row = page(tmp_path / "runs"), one_row(tmp_path / "runs")
    assert "1 run: 1 complete" in text
    assert row.state == "complete"
    assert row.title == "Sums & means"
    assert row.command == result.results["experiment"]["command"]
    assert row.targets.text == "0 of 1"
    (model,) = [m for m in result.results["models"] if m["name"] == row.model.text]
    assert row.score.order == model["metrics"]["test"]["mse"]["value"]
    for words, href in row.links:
        assert (tmp_path / "runs" / href).is_file(), words
        assert f'href="{href}"' in text
    assert {words for words, _ in row.links} == {"report", "PDF", "JSON", "YAML"}


def test_a_stopped_run_says_how_to_go_on_until_it_is_done(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        go(tmp_path, STUDY, stop=StopAfter(3))
    row = one_row(tmp_path / "runs")
    assert row.state == "stopped"
    assert "1 stopped" in page(tmp_path / "runs")
    (folder,) = (tmp_path / "runs").glob("sums-*")
    assert row.resume == f"headstart resume {folder}"
    assert row.resume in page(tmp_path / "runs")
    resume(folder, show=SilentProgress())
    row = one_row(tmp_path / "runs")
    assert (row.state, row.note, row.resume) == ("complete", "", "")
    assert "1 complete" in page(tmp_path / "runs")


def test_a_run_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a <b>loss</b> of nothing")

    monkeypatch.setattr(runner, "render", broken)
    with pytest.raises(ZeroDivisionError):
        go(tmp_path, STUDY)
    row = one_row(tmp_path / "runs")
    assert row.state == "failed"
    assert row.note == "ZeroDivisionError: a <b>loss</b> of nothing"
    raw = (tmp_path / "runs" / INDEX_NAME).read_text()
    assert "a &lt;b&gt;loss" in raw
    assert "<b>loss" not in raw


@pytest.fixture
def worker(finished: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A run, and another process that is at work on it."""
    folder = copied(finished, tmp_path, "sums-1")
    (folder / "experiment.yaml").write_bytes((finished / "experiment.yaml").read_bytes())
    changed(folder / "run.json", state="running")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield folder, process
        process.kill()


def test_a_killed_run_is_told_from_one_at_work(
    worker: tuple[Path, subprocess.Popen[str]], tmp_path: Path
) -> None:
    folder, process = worker
    assert one_row(tmp_path).state == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    row = one_row(tmp_path)
    assert row.state == "stopped"
    assert "killed" in row.note
    assert row.resume == f"headstart resume {folder}"


def test_nobody_goes_on_with_a_run_that_another_is_at_work_on(
    worker: tuple[Path, subprocess.Popen[str]],
) -> None:
    folder, _ = worker
    before = (folder / "run.json").read_bytes()
    with pytest.raises(RunError, match="another process is at work"):
        resume(folder, show=SilentProgress())
    assert (folder / "run.json").read_bytes() == before


def test_runs_at_once_lose_no_row(finished: Path, tmp_path: Path) -> None:
    names = [f"sums-{number}" for number in range(24)]
    ready = threading.Barrier(len(names))

    def end(name: str) -> None:
        ready.wait()
        copied(finished, tmp_path, name)
        write_index(tmp_path)

    threads = [threading.Thread(target=end, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = page(tmp_path)
    assert "24 runs: 24 complete" in text
    assert all(f">{name}</span>" in text for name in names)
    assert sorted(p.name for p in tmp_path.glob("*.html")) == [INDEX_NAME]


def test_runs_of_earlier_versions_are_told_by_their_results(finished: Path, tmp_path: Path) -> None:
    done, part, none = (copied(finished, tmp_path, name) for name in ("done", "part", "none"))
    for folder in (done, part, none):
        without_state(folder / "run.json")
    changed(part / "results.json", state="partial")
    (none / "results.json").unlink()
    alone = copied(finished, tmp_path, "results-alone")
    (alone / "run.json").unlink()
    states = {row.name: row.state for row in read_rows(tmp_path)}
    assert states == {
        "done": "complete", "part": "partial", "none": "stopped", "results-alone": "complete"
    }  # fmt: skip


def test_what_is_no_run_is_left_out_and_what_is_damaged_says_so(
    finished: Path, tmp_path: Path
) -> None:
    copied(finished, tmp_path, "good")
    for name in ("notes", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "fit-x.yaml").write_text("name: x")
    (tmp_path / "settings.json").write_text('{"mine": 1}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "sums-20260101-120000").mkdir()
    torn = copied(finished, tmp_path, "torn")
    (torn / "results.json").write_bytes((torn / "results.json").read_bytes()[:400])
    (copied(finished, tmp_path, "deep") / "run.json").write_text("[" * 100_000)
    (copied(finished, tmp_path, "binary") / "run.json").write_bytes(b"\x00\xff\xfe")
    (copied(finished, tmp_path, "folder") / "run.json").unlink()
    (tmp_path / "folder" / "run.json").mkdir()
    found = write_index(tmp_path)
    assert dict(found.states) == {"complete": 1, "damaged": 5}
    notes = {row.name: row.note for row in read_rows(tmp_path)}
    assert "Neither run.json nor results.json" in notes["sums-20260101-120000"]
    assert "The file results.json cannot be read as JSON" in notes["torn"]
    assert all(note in page(tmp_path) for note in notes.values())


def inner_places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from inner_places(inner, (*path, key))


def put(value: JsonDict, path: tuple[object, ...], new: object) -> object:
    if not path:
        return new
    changed = copy.deepcopy(value)
    owner = changed
    for key in path[:-1]:
        owner = owner[key]  # type: ignore[index]
    owner[path[-1]] = new  # type: ignore[index]
    return changed


ODD = st.sampled_from([None, True, -1, 0, 1e999, "", "<script>\ud800", [], [[]], {}, {"a": []}])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_odd_file_hides_the_other_runs(
    data: st.DataObject, finished: Path, tmp_path: Path
) -> None:
    if not (tmp_path / "good").exists():
        copied(finished, tmp_path, "good")
        copied(finished, tmp_path, "odd")
    name = data.draw(st.sampled_from(["run.json", "results.json"]))
    whole = json.loads((finished / name).read_text())
    place = data.draw(st.sampled_from(sorted(inner_places(whole), key=str)))
    (tmp_path / "odd" / name).write_text(json.dumps(put(whole, place, data.draw(ODD))))
    try:
        found = write_index(tmp_path)
    finally:
        (tmp_path / "odd" / name).write_bytes((finished / name).read_bytes())
    text = (tmp_path / INDEX_NAME).read_text(encoding="utf-8")
    assert sum(found.states.values()) == 2
    assert text.count('<tr role="row" class="complete"') >= 1
    assert "<script>\ufffd" not in text


def test_a_page_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    out.mkdir()
    (out / INDEX_NAME).write_text("<title>my site</title>")
    with pytest.raises(RunError, match="left as it is"):
        write_index(out)
    result = go(tmp_path, STUDY)
    assert result.results["state"] == "complete"
    assert (out / INDEX_NAME).read_text() == "<title>my site</title>"


def test_a_page_that_cannot_be_written_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index.files, "write_text", full)
    said: list[str] = []

    class Told(SilentProgress):
        def say(self, text: str) -> None:
            said.append(text)

    index.refresh(tmp_path, Told())
    assert "cannot be written" in said[0]
    with pytest.raises(RunError, match="no folder"):
        write_index(tmp_path / "nowhere")


def test_the_newest_run_comes_first_whatever_the_time_zone(finished: Path, tmp_path: Path) -> None:
    moments = {
        "b": "2026-05-01T12:00:00+02:00",  # 10:00 in Greenwich
        "c": "2026-05-01T11:00:00+00:00",
        "a": "2026-05-01T04:30:00-05:00",  # 09:30
    }
    for name, moment in moments.items():
        changed(copied(finished, tmp_path, name) / "run.json", created=moment)
    assert [row.name for row in read_rows(tmp_path)] == ["c", "b", "a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    # To open a pipe into which nobody writes would wait for ever.
    os.mkfifo(tmp_path / "pipe.json")
    odd = tmp_path / "odd-20260101-000000"
    odd.mkdir()
    os.mkfifo(odd / "run.json")
    (row,) = read_rows(tmp_path)
    assert row.state == "damaged"
    assert "run.json is a folder, a pipe" in row.note

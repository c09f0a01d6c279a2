"""What `make bench` writes, what it refuses, and when it fails."""

from dataclasses import replace
from pathlib import Path

import pytest
from bench_answers import SETTING, frozen_repeat, measured

from benchmarks import __main__ as command
from benchmarks import results
from benchmarks.growth import fitted, write
from benchmarks.rows import GROUPS
from benchmarks.rows.group import Group, Setting


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "commit", lambda: "abc")
    results.write(measured("frozen", [frozen_repeat(2, 100)] * 3), tmp_path / "rows")
    curve = fitted("features", "pictures", [10, 100, 1_000], [0.1, 1.0, 10.0])
    stamp = {"commit": "abc", "threads": 2, "date": "today", "load": [0.5, 2.0]}
    write([curve], tmp_path / "plots", stamp)
    return tmp_path / "RESULTS.md"


def written(path: Path, wanted: list[str], setting: Setting = SETTING) -> int:
    return command.report(setting, path.parent / "rows", path.parent / "plots", wanted, path)


ALL = [*(group.name for group in GROUPS), "growth"]


def test_the_page_comes_from_what_lies_on_the_disk(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = written(page, ALL)

    text = page.read_text()
    assert status == 1  # PyTorch failed, and the other groups are not there
    assert "| 110× (110× to 110×) | 2 s | 220 s | reached |" in text
    assert "  - frozen: 4 were run in each repeat, of which the first 2 are" in text
    assert "Keras 10.00 s (10.00 to 10.00)" in text
    assert "- versions, headstart: torch 2\n- versions, tensorflow: keras 3\n" in text
    assert "began and ended: frozen 0.5, 2.2" in text
    assert "- sweep: not measured." in text
    assert "## How the cost grows" in text
    errors = capsys.readouterr().err
    assert "missed: sweep: not measured" in errors
    assert "growth" not in errors


def test_what_was_measured_in_another_way_is_not_shown(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written(page, ALL, replace(SETTING, threads=3)) == 1

    assert "110×" not in page.read_text()
    assert "How the cost grows" not in page.read_text()
    errors = capsys.readouterr().err
    for group in ("frozen", "growth"):
        assert f"{group}: not measured with this setting, but by abc" in errors


def test_what_older_code_measured_is_shown_with_its_commit(page: Path) -> None:
    newer = replace(measured("sweep", []), commit="abd")
    results.write(newer, page.parent / "rows")

    written(page, ALL)

    assert "| 110× (110× to 110×) |" in page.read_text()
    assert "- commit: abc (frozen); abd (sweep)\n" in page.read_text()


def test_the_page_of_some_groups_is_written_where_the_others_are_there_too(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(page, ["frozen"])

    assert not page.exists()
    assert "RESULTS.md was not written" in capsys.readouterr().out

    monkeypatch.setattr(command, "GROUPS", GROUPS[:1])
    written(page, ["frozen"])

    assert page.exists()


def test_a_quick_look_writes_nothing(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "HERE", page.parent)
    monkeypatch.setattr(command, "GROUPS", GROUPS[:1])
    asked: list[int] = []

    def measure(group: Group, setting: Setting) -> results.Measured:
        asked.append(setting.repeats)
        one = measured(group.name, [frozen_repeat(4, 100)])
        return replace(one, setting=results.described(setting))

    monkeypatch.setattr(results, "measured_now", measure)
    rows = page.parent / ".work" / "rows"
    results.write(measured("frozen", []), rows)
    kept = (rows / "frozen.json").read_text()

    command.main(["--quick", "--rows", "frozen"])

    assert asked == [1]
    assert not page.exists()
    assert (rows / "frozen.json").read_text() == kept
    said = capsys.readouterr()
    assert "| 55× (55× to 55×) |" in said.out
    assert "growth" not in said.err


def test_fewer_than_three_repeats_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--repeats", "2"])

    assert "the median of at least 3 repeats; --quick takes fewer" in capsys.readouterr().err

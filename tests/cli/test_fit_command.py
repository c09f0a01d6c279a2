"""`headstart fit` as it is typed: lengths of time, columns, refusals."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from headstart.cli.fit import seconds_of
from headstart.cli.main import main


def call(*words: str) -> int:
    """Run a command in this process, and return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["headstart", *words])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("1.5m", 90), ("5", 300)],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 m", "-5m", "5d", "5m30", "m5", "soon"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="90s, 5m or 1h"):
        seconds_of(text)


def test_options_become_what_the_study_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: dict[str, Any] = {}
    file = tmp_path / "fit.yaml"
    file.write_text("name: what was chosen\n")

    def fit_data(place: str, **options: object) -> SimpleNamespace:
        told.update(options, place=place)
        return SimpleNamespace(
            run=None, file=file, reasons=("because it is fast",), model=tmp_path, wall_seconds=61.4
        )

    monkeypatch.setattr("headstart.runs.fit.fit_data", fit_data)
    monkeypatch.setattr("headstart.cli.run.print_result", lambda _: None)
    words = "fit t.csv --budget 90s --kind text --text-column review --label-column stars"
    assert call(*words.split(), "--backbone", "a/b", "--backbone", "c/d") == 0
    assert (told["place"], told["budget_seconds"], told["kind"]) == ("t.csv", 90, "text")
    assert told["columns"] == {"text": "review", "label": "stars"}
    assert told["backbones"] == ("a/b", "c/d")
    assert told["allow_network"] is False
    shown = capsys.readouterr().out
    for line in ("- because it is fast", "name: what was chosen", "Took 61 s of 90 s."):
        assert line in shown
    assert call("fit", "photos", "--kind", "pictures") == 0
    assert (told["kind"], told["budget_seconds"]) == ("auto", 300)
    assert call("fit", "photos") == 0
    assert told["kind"] is None


def test_a_budget_that_is_too_small_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    # The folder is empty: looking at it would say so first.
    assert call("fit", "photos", "--budget", "20s") == 2
    assert "budget: expected at least 30 seconds, got 20" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]

"""`headstart compare`, as a person uses it: what it prints, and in which form."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from headstart.cli.compare import compare
from headstart.errors import RunError
from headstart.evaluate.intervals import wilson
from headstart.runs.across import compare_runs
from headstart.runs.record import write_predictions
from headstart.types import Predictions

N = 100
WRONG = {"val": (10, 40), "test": (20, 60)}  # of the first and the second run


def write_run(folder: Path, which: int, rate: float, part: str = "probe") -> Path:
    """Write a run whose one part is wrong of the first samples of each split."""
    metrics = {}
    for split, wrong in WRONG.items():
        labels = np.arange(N) % 2
        said = np.where(np.arange(N) < wrong[which], 1 - labels, labels)
        probabilities = np.eye(2, dtype=np.float32)[said]
        names = tuple(f"{split}/{i:03d}" for i in range(N))
        found = Predictions(names, labels, probabilities, ("no", "yes"))
        write_predictions(folder / "models" / part / f"predictions-{split}.parquet", found)
        metrics[split] = {"accuracy": asdict(wilson(N - wrong[which], N))}
    model = {
        "name": part, "kind": "model", "mode": "cached", "backbone": "main",
        "head": {"kind": "linear"}, "hyperparameters": {"optimizer.learning_rate": rate},
        "labels_per_class": None, "seed": 0, "state": "complete", "metrics": metrics,
        "stages": [{"wall_seconds": 90.0}], "parameters_total": 2_500_000, "size_bytes": 10_000_000,
        "prediction": {"seconds": 0.25, "samples": 100},
    }  # fmt: skip
    results = {
        "schema_version": 1,
        "experiment": {"name": "study", "profile": None},
        "state": "complete",
        "environment": {"torch": "2.7"},
        "data": {"goal": "classification", "origin": "here", "classes": ["no", "yes"],
                 "counts": {}, "fingerprint": "f" * 64},
        "backbones": [{"key": "main", "name": "timm/a_very|long_name"}],
        "models": [model],
        "sweeps": [],
        "recommendation": {"model": part, "sentences": []},
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    first = write_run(tmp_path / "good-small-20260101-101010", 0, 0.1)
    second = write_run(tmp_path / "poor-small-20260101-111111", 1, 0.001, "a-part-of-a-long-name")
    return [str(second), str(first)]


def headstart(*words: str, width: int = 80) -> Result:
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, list(words), env={"COLUMNS": str(width)})


def test_a_narrow_terminal_shows_every_figure(runs: list[str]) -> None:
    done = headstart(*runs)
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "1* 80.0 71.1–86.7 90.0 90 s 2.50 M 10.0 2.50" in lines
    assert "2 40.0 30.9–49.8 60.0 90 s 2.50 M 10.0 2.50" in lines
    assert any(line.startswith("1 − 2 differ +40.0 +") and "40 / 0" in line for line in lines)
    assert "part.optimizer.learning_rate 0.1 0.001" in lines
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_the_choice_and_its_caution_are_said_in_words(runs: list[str]) -> None:
    words = " ".join(headstart(*runs).stdout.split())
    assert "* Validation chooses 1 (good-small-20260101-101010/probe); every other part" in words
    assert "2 runs compared here read this test split" in words


def test_json_is_the_whole_comparison(runs: list[str]) -> None:
    done = headstart(*runs, "--format", "json")
    assert json.loads(done.stdout) == json.loads(json.dumps(compare_runs(runs).describe()))


def test_markdown_has_a_cell_for_each_column(runs: list[str]) -> None:
    text = headstart(*runs, "--format", "markdown").stdout
    tables = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 4 + 4 + 3 + 3
    heads = [i for i, line in enumerate(tables) if ":--" in line]
    for row in range(len(tables)):
        head = max((h for h in heads if h - 1 <= row), default=0)
        assert tables[row].count("|") == tables[head].count("|")
    assert r"timm/a\_very\|long\_name" in text
    assert r"1\*" in text


@pytest.mark.parametrize("kind", ["table", "json", "markdown"])
def test_a_file_holds_what_would_be_printed(runs: list[str], tmp_path: Path, kind: str) -> None:
    place = tmp_path / "made" / "out"
    done = headstart(*runs, "--format", kind, "--out", str(place))
    assert done.stdout.split() == [str(place)]
    assert place.read_text() == headstart(*runs, "--format", kind, width=140).stdout


def test_validation_alone_has_no_word_of_the_test_split(runs: list[str]) -> None:
    done = headstart(*runs, "--split", "val")
    assert "test split" not in done.stdout
    assert "McNemar's exact test on the same validation samples" in done.stdout


def test_an_error_that_a_user_can_mend_is_raised_for_main_to_show(tmp_path: Path) -> None:
    done = headstart(str(tmp_path / "none"), str(tmp_path / "nor"))
    assert isinstance(done.exception, RunError)

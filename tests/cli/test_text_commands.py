"""The command line with texts, numbers and language: tables that fit the goal, exit codes."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from headstart.cli.main import main

NUMBERS = """
name: numbers
title: Adding up
data: {kind: sequence, target: sum, train: 48, val: 12, test: 12}
backbones: {gru: {name: headstart/gru, weights: random, hidden: 4}}
timing: {measure: false}
parts:
  mean: {kind: baseline}
  gru: {kind: model, from_scratch: true, epochs: 1, batch_size: 16}
comparisons: [{a: gru, b: mean}]
targets: [{part: gru, metric: test.mse, op: "<", value: 0.000001}]
"""
WORDS = """
name: words
title: Next words
data: {kind: language, min_count: 1}
parts:
  small: {kind: language_model, embedding: 4, hidden: 4, layers: 1, epochs: 1, batch_size: 4}
targets: [{part: small, metric: test.perplexity, op: "<", value: 1000000}]
"""
TEXTS = """
name: texts
title: Two test sets
data: {kind: text}
parts: {chance: {kind: baseline}}
"""


@dataclass
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def headstart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run a command as the program does, in this process: torch is loaded once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["headstart", *words])
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return Done(int(code or 0), *capfd.readouterr())  # type: ignore[call-overload]

    return call


def line_of(done: Done, name: str) -> list[str]:
    (line,) = [row for row in done.stdout.splitlines() if row.startswith(f"│ {name} ")]
    return [cell.strip() for cell in line.strip("│ ").split("│")]


def title_line(done: Done) -> str:
    (line,) = [row for row in done.stdout.splitlines() if "95% interval" in row]
    return line


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for split in ("train", "valid", "test"):
        text = " the cat sat on the mat . \n" * (40 if split == "train" else 10)
        (tmp_path / f"wiki.{split}.tokens").write_text(text)
    return tmp_path


def test_numbers_are_told_by_their_squared_error_and_a_missed_target_is_an_exit_code(
    tmp_path: Path, headstart: Command
) -> None:
    (tmp_path / "numbers.yaml").write_text(NUMBERS)
    done = headstart("run", "numbers.yaml")
    assert done.returncode == 0, done.stderr
    assert "mean squared error" in done.stdout
    assert float(line_of(done, "gru")[2]) > 0
    assert float(line_of(done, "mean")[2]) > 0
    assert "squared error of gru minus that of mean" in done.stdout
    assert "identical" not in done.stdout  # numbers do not agree or disagree
    assert "target MISSED: gru test.mse < 1e-06" in done.stdout
    (folder,) = (tmp_path / "runs").glob("numbers-*")
    assert headstart("check", str(folder)).returncode == 1
    assert headstart("resume", str(folder)).returncode == 0
    wrong = headstart("run", "numbers.yaml", "--data", "somewhere")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_language_is_told_by_its_perplexity(corpus: Path, headstart: Command) -> None:
    (corpus / "words.yaml").write_text(WORDS)
    done = headstart("run", "words.yaml", "--data", str(corpus))
    assert done.returncode == 0, done.stderr
    assert ": perplexity" in done.stdout
    assert 1 < float(line_of(done, "small")[2]) < 100
    assert "target met: small test.perplexity" in done.stdout
    (folder,) = (corpus / "runs").glob("words-*")
    assert headstart("check", str(folder)).returncode == 0
    missing = headstart("run", "words.yaml")
    assert missing.returncode == 2
    assert "--data" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_a_second_test_set_has_a_column_of_its_own(tmp_path: Path, headstart: Command) -> None:
    rows = [
        f"text number {i} of {split},{'ab'[i % 2]},{split}"
        for split, count in (("train", 8), ("val", 4), ("test", 4), ("test-odd", 6))
        for i in range(count)
    ]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label,split", *rows]))
    (tmp_path / "texts.yaml").write_text(TEXTS)
    done = headstart("run", "texts.yaml", "--data", "texts.csv")
    assert done.returncode == 0, done.stderr
    assert "test-odd" in title_line(done)
    cells = line_of(done, "chance")
    assert cells[2] == cells[4] == "0.500"
    assert headstart("check-data", "texts.csv").returncode in (0, 2)

"""An environment is made again where its list changed, and only there."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environments


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where environments were made; nothing is installed."""
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "some.txt").write_text("numpy==1\n")
    folders: list[Path] = []

    def create(folder: Path, **_: object) -> None:
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()
        folders.append(folder)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(environments, "_PEERS", tmp_path)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path / "peers")
    monkeypatch.setattr(environments.venv, "create", create)
    monkeypatch.setattr(environments.subprocess, "run", run)
    return folders


def test_a_changed_list_makes_it_again(made: list[Path], tmp_path: Path) -> None:
    environments.make("some")
    environments.make("some")
    assert len(made) == 1

    (tmp_path / "some" / "old").touch()
    (tmp_path / "peers" / "some.txt").write_text("numpy==2\n")
    environments.make("some")

    assert len(made) == 2
    assert not (tmp_path / "some" / "old").exists()
    assert environments.interpreter("some").exists()


def test_one_without_a_stamp_is_taken_as_current(made: list[Path], tmp_path: Path) -> None:
    (tmp_path / "some" / "bin").mkdir(parents=True)
    (tmp_path / "some" / "bin" / "python").touch()

    environments.make("some")
    assert made == []

    (tmp_path / "peers" / "some.txt").write_text("numpy==2\n")
    environments.make("some")
    assert len(made) == 1


def test_our_own_is_never_made(made: list[Path]) -> None:
    environments.make(environments.OURS)

    assert made == []

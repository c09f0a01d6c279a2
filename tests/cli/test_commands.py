"""The command line, as a person uses it: real processes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from help_pages import verbs

from headstart.config import shipped_experiments


def headstart(*words: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headstart", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['headstart', '--help']\n"
        "from headstart.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'pydantic', 'timm', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert headstart("--help").returncode == 0
        times.append(time.perf_counter() - start)
    assert min(times) < 0.6  # 0.2 s on an idle machine; this one may be running other tests


def test_importing_headstart_loads_nothing_heavy() -> None:
    code = "import sys, headstart; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", verbs()[1:], ids=" ".join)
def test_every_verb_has_help(words: list[str]) -> None:
    done = headstart(*words, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_experiments_are_listed_and_shown() -> None:
    listed = headstart("experiments").stdout
    for name, path in shipped_experiments().items():
        assert name in listed
        assert headstart("show", name).stdout == path.read_text()


def test_validate_says_all_that_is_wrong_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\ntitle: y\ndata: {kind: auto, pth: z}\nbackbones: {}\nparts: {}\n")
    done = headstart("validate", str(path))
    assert done.returncode == 2
    assert "data.pth" in done.stderr
    assert "parts: expected at least 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert headstart("validate", "flowers-mobilenetv2").stdout.count("valid, 4 parts") == 3


def test_schema_is_json_schema() -> None:
    schema = json.loads(headstart("schema").stdout)
    assert schema["properties"]["parts"]


def test_data_that_are_missing_are_one_clear_error(tmp_path: Path) -> None:
    place = str(tmp_path / "nowhere")
    done = headstart("run", "flowers-mobilenetv2", "--profile", "small", "--data", place)
    assert done.returncode == 2
    assert place in done.stderr
    assert "Traceback" not in done.stderr
    done = headstart("run", "flowers-mobilenetv2", "--profile", "small")
    assert "--data" in done.stderr


def test_check_exits_with_1_when_a_target_is_missed(tmp_path: Path) -> None:
    target = {
        "part": "a",
        "metric": "test.accuracy",
        "op": ">=",
        "value": 0.9,
        "against": None,
        "got": 0.95,
        "met": True,
    }
    results = {"schema_version": 1, "targets": [target]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert headstart("check", str(tmp_path)).returncode == 0
    results["targets"].append({**target, "got": 0.5, "met": False})
    (tmp_path / "results.json").write_text(json.dumps(results))
    done = headstart("check", str(tmp_path))
    assert done.returncode == 1
    assert "target MISSED: a test.accuracy >= 0.9, got 0.5" in done.stdout
    assert headstart("check", str(tmp_path / "none")).returncode == 2


def test_the_cache_says_what_it_holds_and_that_it_is_whole() -> None:
    assert "0 bytes in" in headstart("cache", "ls").stdout
    done = headstart("cache", "verify")
    assert done.returncode == 0
    assert "whole" in done.stdout
    assert "deleted 0 entries" in headstart("cache", "prune", "--damaged").stdout

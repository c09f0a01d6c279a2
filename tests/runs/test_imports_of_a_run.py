"""What a run does not need it does not import: each of these takes a part of every second run."""

import subprocess
import sys

HEAVY = ("sklearn", "pandas", "scipy.stats", "matplotlib", "timm", "torchvision", "transformers")


def test_a_run_imports_what_is_heavy_only_where_it_is_used() -> None:
    code = (
        "import sys, headstart.runs.runner; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert found.stdout.strip() == "[]"

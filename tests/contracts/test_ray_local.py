"""A cluster that is begun here is nobody else's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

HERE = Path(__file__).parent
PROGRAM = """
import os, signal
from listening import listening, outside
from headstart._util.ray_local import begin

signal.signal(signal.SIGTERM, signal.SIG_IGN)
ray, began = begin(None, "a test")
assert began
assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
assert not ray._private.worker._global_node.webui_url
assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"

@ray.remote
def work():
    return os.getpid()

ray.get(work.remote())

found = listening(os.getpid())
assert found, "no socket was looked at"
print(sorted(outside(found)))
ray.shutdown()
"""


def test_nothing_listens_outside_of_this_machine(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={
            **os.environ,
            "RAY_ADDRESS": "192.0.2.1:6379",  # is not looked at
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"

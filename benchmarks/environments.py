"""Whose interpreter runs a contender: this one, or a virtual environment of a peer's libraries."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = "headstart"
_PEERS = ROOT / ".venv-peers"


def interpreter(environment: str) -> Path:
    """Return the interpreter of an environment.

    Args:
        environment: ``headstart``, or the name of a list of requirements in ``peers/``.

    Returns:
        A path; of a peer's environment that is not made it does not exist.
    """
    return Path(sys.executable) if environment == OURS else _PEERS / environment / "bin" / "python"


def make(environment: str) -> None:
    """Make a peer's environment, unless it is there.

    Args:
        environment: As for `interpreter`.

    Raises:
        RuntimeError: The packages could not be installed.
    """
    python = interpreter(environment)
    if python.exists():
        return
    wanted = Path(__file__).parent / "peers" / f"{environment}.txt"
    print(f"Installing {wanted.name} into {python.parent.parent} (once, some minutes)", flush=True)
    half_made = python.parent.parent.with_name(f"{environment}.part")
    venv.create(half_made, with_pip=True, clear=True)
    pip = [str(half_made / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{wanted}: cannot be installed: {done.stderr.strip()[-500:]}")
    half_made.rename(python.parent.parent)

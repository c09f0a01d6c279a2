"""Whose interpreter runs a contender: this one, or a virtual environment of a peer's libraries."""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = "headstart"
_PEERS = ROOT / ".venv-peers"
REQUIREMENTS = Path(__file__).parent / "peers"


def interpreter(environment: str) -> Path:
    """Return the interpreter of an environment.

    Args:
        environment: ``headstart``, or the name of a list of requirements in ``peers/``.

    Returns:
        A path; of a peer's environment that is not made it does not exist.
    """
    return Path(sys.executable) if environment == OURS else _PEERS / environment / "bin" / "python"


def make(environment: str) -> None:
    """Make a peer's environment, unless it is there and made from the list as it is now.

    Args:
        environment: As for `interpreter`.

    Raises:
        RuntimeError: The packages could not be installed.
    """
    python = interpreter(environment)
    if environment == OURS:
        return
    wanted = REQUIREMENTS / f"{environment}.txt"
    place = python.parent.parent
    stamp = place / "requirements.sha256"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if python.exists():
        if not stamp.exists():  # made before stamps were: taken as made from this list
            stamp.write_text(digest)
        if stamp.read_text() == digest:
            return
    print(f"Installing {wanted.name} into {place} (once, some minutes)", flush=True)
    half_made = place.with_name(f"{environment}.part")
    venv.create(half_made, with_pip=True, clear=True)
    pip = [str(half_made / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{wanted}: cannot be installed: {done.stderr.strip()[-500:]}")
    (half_made / stamp.name).write_text(digest)
    shutil.rmtree(place, ignore_errors=True)
    half_made.rename(place)

"""Runs are made of the photographs that the tests of runs make."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "runs"))

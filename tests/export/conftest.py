"""Exports start from bundles, and what makes small ones lies beside the tests of bundles."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "predict"))

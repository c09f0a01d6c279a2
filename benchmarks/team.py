"""`python -m benchmarks.team --data FLOWERS`: EfficientNet-Lite0 trained by one process and by two.

Both train the same study: `headstart run` by itself, and begun twice by `torchrun` (gloo). Prints
the loss of each step side by side; ends with status 1 where one of the first 50 differs by more
than a thousandth, or where none differs at all (then one process would have trained alone).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pyarrow import parquet

STEPS, MOST = 50, 1e-3
STUDY = """
name: team
title: Several processes train one model
data: {{kind: auto, path: {data}, split: {{train: 0.6, val: 0.15, test: 0.25}}}}
backbones: {{lite0: {{name: packaged/efficientnet-lite0}}}}
timing: {{measure: false}}
analysis: {{mistakes: 0, near_duplicates: false, suspicious_labels: false}}
device: cpu
cache: {{engine: torch}}
parts:
  tuned:
    kind: model
    head: {{kind: linear}}
    batch_size: 32
    record_steps: 1
    stages:
      - trainable: {{last: {last}}}
        epochs: {epochs}
        optimizer: {{kind: sgd, learning_rate: 0.01, momentum: 0.9}}
"""


def losses(processes: int, study: Path, folder: Path) -> list[float]:
    """Train with so many processes and return the loss of each step."""
    before = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(before if processes > 1 else []), "-m", "headstart", "run"]
    subprocess.run(
        [*command, str(study), "--out", str(folder / "runs")],
        env={**os.environ, "HEADSTART_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (table,) = folder.glob("runs/*/models/tuned/trace.parquet")
    return [float(loss) for loss in parquet.read_table(table)["loss"].to_pylist()]


def main() -> int:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.team", description=__doc__)
    parser.add_argument("--data", required=True, help="a folder of photographs for each class")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--last", type=int, default=3, help="stages that are trained")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        study = Path(name) / "team.yaml"
        data = Path(given.data).resolve()
        study.write_text(STUDY.format(data=data, epochs=given.epochs, last=given.last))
        one, two = (losses(n, study, Path(name) / str(n)) for n in (1, 2))
    if len(one) != len(two) or len(one) < STEPS:
        print(f"expected at least {STEPS} steps of each, got {len(one)} and {len(two)}")
        return 1
    apart = [abs(a - b) / abs(a) for a, b in zip(one, two, strict=True)]
    for step in (*range(0, len(one), 7), len(one) - 1):
        print(f"step {step + 1:3d}: {one[step]:.6f} {two[step]:.6f}  {apart[step]:.1e}")
    print(
        f"{len(one)} steps; largest relative difference of the first {STEPS}: "
        f"{max(apart[:STEPS]):.1e}, {MOST:.0e} allowed"
    )
    return 0 if 0 < max(apart[:STEPS]) <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())

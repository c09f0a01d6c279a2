"""A study with a job of every kind, and when its jobs last saved something."""

import contextlib
from pathlib import Path

# Each part has a seed of its own: where two models are equally good, the time says which is named
# first.
STUDY = """
name: apart
title: Work done apart
data: {{kind: auto, path: {photos}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones: {{net: {{name: headstart/resnet20, weights: random}}}}
timing: {{measure: false}}
device: cpu
cache: {{engine: torch}}
checkpoints: {{steps: 1}}
parts:
  sweep:
    kind: sweep
    epochs: 3
    grid: {{optimizer.learning_rate: [0.1, 0.01]}}
  best: {{kind: model, best_of: sweep, epochs: 2, seed: 1}}
  staged:
    kind: sweep
    grid: {{optimizer.learning_rate: [0.05, 0.005]}}
    epochs: 2
    batch_size: 4
    stages:
      - {{trainable: head}}
      - {{trainable: {{last: 1}}, epochs: 2}}
  standard: {{kind: model, mode: standard, epochs: 2, seeds: 2, seed: 5}}
  scratch: {{kind: model, from_scratch: true, epochs: 1}}
  vote: {{kind: ensemble, members: [best, staged, standard]}}
"""


def last_written(folder: Path) -> int:
    """Return when jobs last saved something: a folder with `cache` and `runs`."""
    saved = ("cache/features/*/*.npy", "runs/*/checkpoints/**/*", "runs/*/models/**/*")
    times = [0]
    for path in (path for pattern in saved for path in folder.glob(pattern)):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime_ns)
    return max(times)

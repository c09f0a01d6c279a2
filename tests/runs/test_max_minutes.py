"""`max_minutes` ends each stage of a part by itself, and the part is complete."""

from pathlib import Path

import pytest

from headstart import RunResult, run
from headstart._util.progress import SilentProgress

pytestmark = pytest.mark.usefixtures("one_thread")

STUDY = """
name: short
title: Short of time
data: {{kind: auto, path: {photos}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones: {{small: {{name: headstart/resnet20, weights: random}}}}
cache: {{engine: torch}}
timing: {{measure: false}}
analysis: {{near_duplicates: false, suspicious_labels: false}}
parts:
  head: {{kind: model, epochs: 30, max_minutes: 1.0e-7}}
  staged:
    kind: model
    extends: head
    stages:
      - {{trainable: head, epochs: 20}}
      - {{trainable: {{last: 1}}, epochs: 10}}
  patient: {{kind: model, extends: staged, max_minutes: 60}}
"""


@pytest.fixture
def result(photos: Path, tmp_path: Path) -> RunResult:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(photos=photos))
    return run(path, out=tmp_path / "runs", show=SilentProgress())


def test_each_stage_has_its_own_time(result: RunResult) -> None:
    models = {m["name"]: m for m in result.results["models"]}
    epochs = {name: [s["epochs"] for s in m["stages"]] for name, m in models.items()}
    assert epochs == {"head": [1], "staged": [1, 1], "patient": [20, 10]}
    assert {m["state"] for m in models.values()} == {"complete"}
    assert models["staged"]["hyperparameters"]["max_minutes"] == 1e-7

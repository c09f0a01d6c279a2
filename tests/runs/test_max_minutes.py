"""`max_minutes` ends each stage of a part by itself, and the part is complete."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from headstart import RunResult, run
from headstart._util.progress import SilentProgress
from headstart.config import schema
from headstart.runs import build

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


def test_minutes_have_sixty_seconds() -> None:
    part = schema.ModelPart.model_validate({"kind": "model", "max_minutes": 0.5})
    dataset = SimpleNamespace(goal="classification", labels=np.zeros(1), classes=("a", "b"))
    rows = np.arange(1)
    (stage,) = build.stages_of(part)
    assert build.train_plan(part, [part], dataset, rows).max_seconds == 30
    where = {"device": torch.device("cpu"), "deep": True, "fixed": True}
    assert build.stage_plan(stage, 0, part, dataset, rows, **where).max_seconds == 30
    with pytest.raises(ValidationError, match="greater than 0"):
        schema.ModelPart.model_validate({"kind": "model", "max_minutes": 0})

"""What a bundle says in words: single predictions, and its model card."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundles import manifest_of, trained

from headstart.predict import answer, failed
from headstart.predict.card import card
from headstart.types import Goal, JsonDict

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Known:
    goal: Goal
    classes: tuple[str, ...]


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12),
    st.integers(-1, 15),
)
def test_a_prediction_names_the_most_probable_classes_in_order(row: list[float], top: int) -> None:
    info = Known("classification", tuple(f"c{i}" for i in range(len(row))))
    found = answer(info, "x.jpg", np.array(row, dtype=np.float32), top)
    assert json.loads(json.dumps(found)) == found
    assert found["input"] == "x.jpg"
    assert found["probability"] == max(row)
    assert found["label"] == f"c{row.index(max(row))}", "the first of equals"
    shown = [entry["probability"] for entry in found["top"]]
    assert shown == sorted(row, reverse=True)[: max(top, 0)]
    assert all(row[int(entry["label"][1:])] == entry["probability"] for entry in found["top"])


def test_a_value_and_a_failure() -> None:
    info = Known("regression", ("value",))
    assert answer(info, "a", np.float32(1.5)) == {"input": "a", "value": 1.5}
    assert answer(info, "a", np.array([1.5], dtype=np.float32)) == {"input": "a", "value": 1.5}
    assert failed("b", "damaged") == {"input": "b", "error": "damaged"}


def front_of(text: str) -> JsonDict:
    _, front, _ = text.split("---\n", 2)
    parsed: JsonDict = yaml.safe_load(front)
    return parsed


def of(**changes: object) -> JsonDict:
    network, _ = trained()
    about = {"headstart": "0.1.0", "created": "2026-01-01T00:00:00+00:00"}
    return {**about, **manifest_of("flowers", [network.model]), **changes}


def test_the_card_has_the_front_matter_of_the_hub_and_what_was_measured() -> None:
    text = card(of())
    front = front_of(text)
    assert front["library_name"] == "headstart"
    assert front["pipeline_tag"] == "image-classification"
    assert front["license"] == "other"
    (index,) = front["model-index"]
    (result,) = index["results"]
    assert result["metrics"] == [{"type": "accuracy", "name": "test accuracy", "value": 0.9}]
    assert "90.0% (80.0 to 95.0)" in text
    assert "not applicable" in text, "the licence as it was stated"
    assert "headstart predict flowers photo.jpg" in text
    assert text.count("\n# ") == 1


def test_the_hub_itself_reads_the_card(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    path = tmp_path / "README.md"
    path.write_text(card(of()), encoding="utf-8")
    data = ModelCard.load(path).data
    assert data.library_name == "headstart"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.9)


@pytest.mark.parametrize(
    ("stated", "expected"), [("apache-2.0", "apache-2.0"), ("MIT", "mit"), ("UNKNOWN", "other")]
)
def test_only_a_licence_that_was_stated_is_one(stated: str, expected: str) -> None:
    manifest = of()
    manifest["backbones"][0]["weights"] = {"kind": "file", "origin": "x", "license": stated}
    assert front_of(card(manifest))["license"] == expected
    assert stated in card(manifest)


@pytest.mark.parametrize("task", ["image", "text", "pair", "sequence"])
@pytest.mark.parametrize("goal", ["classification", "regression"])
def test_every_task_has_a_card(task: str, goal: str) -> None:
    text = card(of(task=task, goal=goal, metrics={}, calibration=None))
    assert "None were measured." in text
    assert "model-index" not in front_of(text)


def test_names_cannot_break_out_of_the_card() -> None:
    evil = "a\n---\nlicense: mit\n<script>alert(1)</script> | `rm`"
    text = card(of(title=evil, classes=[evil, "b"], data={**of()["data"], "name": evil}))
    assert front_of(text)["license"] == "other"
    assert "<script>" not in text.split("---\n", 2)[2]
    assert math.isfinite(front_of(text)["model-index"][0]["results"][0]["metrics"][0]["value"])

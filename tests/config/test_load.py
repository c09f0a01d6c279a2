"""The experiment file: what is accepted, and how errors read."""

import json
import re
from pathlib import Path

import pytest
import yaml

from headstart.config import Experiment, load_experiment, shipped_experiments
from headstart.config.load import merge, parse_yaml
from headstart.errors import ConfigError

GOOD = """
name: study
title: A study
data: {kind: auto, path: photos}
backbones: {main: {name: timm/resnet18, weights: random}}
parts:
  a: {kind: model, optimizer: {kind: sgd, learning_rate: 1e-2}, epochs: 3}
  b: {kind: sweep, extends: a, grid: {optimizer.learning_rate: [0.1, 0.01]}}
  c: {kind: model, extends: b, best_of: b, mode: standard}
profiles:
  small: {parts: {a: {epochs: 1, optimizer: {kind: adam}}}, data: {limit_per_class: 5}}
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD)
    return path


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    return str(caught.value)


def test_a_part_inherits_and_overrides(good: Path) -> None:
    study = load_experiment(good)
    assert study.parts["b"].epochs == 3
    assert study.parts["b"].optimizer.learning_rate == 0.01
    assert study.parts["c"].kind == "model"
    assert study.parts["c"].mode == "standard"


def test_a_profile_changes_the_parts_that_extend_too(good: Path) -> None:
    study = load_experiment(good, profile="small")
    assert study.profile == "small"
    assert study.parts["b"].epochs == 1
    assert study.data.limit_per_class == 5
    # Another kind replaces the whole optimiser: SGD's learning rate means nothing to Adam.
    assert study.parts["a"].optimizer.kind == "adam"
    assert study.parts["a"].optimizer.learning_rate == 0.001


def test_overrides_and_data_from_the_command_line(good: Path) -> None:
    study = load_experiment(
        good,
        data="elsewhere",
        overrides=(
            "parts.a.epochs=7",
            "parts.a.head={kind: mlp}",
            "parts.b.grid.optimizer.learning_rate=[0.3]",
        ),
    )
    assert study.parts["b"].grid == {"optimizer.learning_rate": (0.3,)}
    assert study.data.path == "elsewhere"
    assert study.parts["b"].epochs == 7
    assert study.parts["c"].head.kind == "mlp"


def test_the_resolved_experiment_loads_again_unchanged(good: Path, tmp_path: Path) -> None:
    study = load_experiment(good, profile="small")
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    assert load_experiment(again) == study


def test_every_problem_is_told_at_once_with_key_value_and_nearest_name(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        """
name: my study
title: x
data: {kind: auto, path: p, splt: {}, fit: crp}
backbones: {main: {name: timm/x, wieghts: random}}
parts:
  a: {kind: modle}
  b: {kind: model, backbone: mian, optimizer: {kind: sgdd}, epochs: 0, head: {kind: mlp, hiden: 3}}
  c: {kind: sweep, extends: zz, grid: {optimizer.lr: [1], optimizer.momentum: [2]}}
comparisons: [{a: b, b: q}]
targets: [{part: b, metric: test.acuracy, value: high}, {part: b, metric: speedup, value: 2}]
""",
    )
    expected = [
        "name: expected letters",
        "data.splt: expected a known key, this one is not; did you mean 'split'",
        "data.fit: expected one of crop, resize, pad, got 'crp'; did you mean 'crop'?",
        "backbones.main.wieghts: expected a known key, this one is not; did you mean 'weights'?",
        "parts.a.kind: expected one of model, sweep, zero_shot, baseline, language_model, "
        "ensemble, got 'modle'; did you mean 'model'?",
        "parts.b.backbone: expected a key of backbones, got 'mian'; did you mean 'main'?",
        "parts.b.optimizer.kind: expected one of sgd, adam, adamw, rmsprop, got 'sgdd'",
        "parts.b.epochs: expected a number of at least 1, got 0",
        "parts.b.head.hiden: expected a known key, this one is not; did you mean 'hidden'?",
        "parts.c.extends: expected the name of an earlier part, got 'zz'",
        "parts.c.grid.optimizer.lr: expected a number of the sgd optimizer or the seed",
        "parts.c.grid.optimizer.momentum: expected numbers at least 0 and below 1, got 2",
        "comparisons.0.b: expected a part, got 'q'",
        "targets.0.metric: expected SPLIT.METRIC, speedup, agreement or gain, got 'test.acuracy'; "
        "did you mean 'test.accuracy'",
        "targets.0.value: expected a number, got 'high'",
        "targets.1.against: expected the other part, for speedup",
    ]
    for line in expected:
        assert line in text
    assert f"({len(expected)} problems)" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data: {kind: auto, split: {train: 0.5}}", "data.split: expected train + val + test = 1"),
        ("parts: {}", "parts: expected at least 1 of them"),
        ("title: 3", "title: expected text, got 3"),
        (
            "parts: {s: {kind: sweep, grid: {optimizer.momentum: [0.5]}}, "
            "m: {kind: model, best_of: s, optimizer: {kind: adam}}}",
            "parts.m.best_of: expected a sweep of the optimizer adam",
        ),
        (
            "targets: [{part: a, metric: speedup, against: b, value: 2}]",
            "targets.0.against: expected the same training done the other way",
        ),
        (
            "targets: [{part: a, metric: test.accuracy, against: b, value: 0.5}]",
            "targets.0.against: expected nothing",
        ),
        (
            "parts: {a: {kind: sweep, labels_per_class: 5, grid: {seed: [0, 1]}}}",
            "parts.a.grid.seed: expected no seeds",
        ),
        ("parts: {a: {kind: model, best_of: b}}", "parts.a.best_of: expected an earlier sweep"),
        ("parts: {a: {kind: model, epochs: true}}", "parts.a.epochs: expected a whole number"),
        ("parts: {a: {kind: model, epochs: 2.5}}", "parts.a.epochs: expected a whole number"),
        (
            "parts: {a: {kind: model, mode: standard, head: {kind: logistic}}}",
            "parts.a.mode: expected cached with a logistic head",
        ),
        (
            "parts: {a: {kind: sweep, optimizer: {kind: sgd, nesterov: true}, "
            "grid: {optimizer.momentum: [0, 0.9]}}}",
            "parts.a.optimizer.nesterov: expected a momentum above 0",
        ),
    ],
)
def test_a_single_problem(tmp_path: Path, change: str, message: str) -> None:
    raw = yaml.safe_load(GOOD)
    raw.update(parse_yaml(change))
    raw.pop("profiles")
    text = problems(tmp_path, yaml.safe_dump(raw, sort_keys=False))
    assert message in text
    assert "(1 problem)" in text


def test_a_key_that_stands_twice_is_an_error_with_both_lines(tmp_path: Path) -> None:
    assert "'title' stands twice, in lines 2 and 4" in problems(
        tmp_path, "name: a\ntitle: b\ndata: {}\ntitle: c\n"
    )


def test_yaml_cannot_build_objects(tmp_path: Path) -> None:
    text = problems(tmp_path, "name: !!python/object/apply:os.system ['touch /tmp/owned']\n")
    assert "expected a YAML file" in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("12", 12),
        ("2024-01-01", "2024-01-01"),
        ("-.5e2", -50.0),
    ],
)
def test_numbers_and_booleans_are_those_of_yaml_1_2(text: str, value: object) -> None:
    got = parse_yaml(f"x: {text}")["x"]
    assert got == value
    assert type(got) is type(value)


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mnist-few-labels'"):
        load_experiment("mnist-few-label")
    with pytest.raises(ConfigError, match=r"no profile 'smal'.*did you mean 'small'"):
        load_experiment("mnist-few-labels", profile="smal")


def test_merging_replaces_lists_and_merges_mappings() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}}) == {"a": {"x": 1, "y": [3]}, "b": 1}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_the_json_schema_describes_every_key() -> None:
    schema = Experiment.model_json_schema()
    text = json.dumps(schema)
    assert "Last frozen stage" in text
    for name in ("SGD", "Adam", "SweepPart", "PathData"):
        assert name in schema["$defs"]


SHIPPED = sorted(shipped_experiments())


def test_experiments_are_shipped() -> None:
    assert {"flowers-mobilenetv2", "mnist-few-labels"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_experiment_is_valid_in_both_profiles_and_says_what_to_expect(
    name: str,
) -> None:
    for profile in (None, "small", "full"):
        study = load_experiment(name, profile=profile)
        assert study.name == name
        assert study.targets
    header = shipped_experiments()[name].read_text().partition("\nname:")[0]
    for word in ("Reproduces:", "Command:", "Expected:", "Time:"):
        assert word in header
    full, small = (load_experiment(name, profile=profile) for profile in ("full", "small"))
    if small.backbones != full.backbones:
        assert re.search("stands? in for", " ".join(small.notes))

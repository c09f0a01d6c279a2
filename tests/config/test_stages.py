"""What cannot go together in a training with stages is told at once, before any work."""

from pathlib import Path

import pytest

from headstart.config import load_experiment
from headstart.config.schema import Experiment, Last, ModelPart
from headstart.errors import ConfigError

HEADER = """
name: stages
title: Stages
data: {kind: auto, path: somewhere}
backbones: {main: {name: headstart/resnet20, weights: random}}
parts:
"""


def load(tmp_path: Path, parts: str) -> Experiment:
    path = tmp_path / "stages.yaml"
    path.write_text(HEADER + parts)
    return load_experiment(path)


def test_each_way_to_say_what_is_trained(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        "  a: {kind: model, stages: [{trainable: head}, {trainable: {last: 3}},"
        " {trainable: [layer3, layer2.1]}, {trainable: all}]}",
    )
    part = study.parts["a"]
    assert isinstance(part, ModelPart)
    assert part.stages is not None
    said = [stage.trainable for stage in part.stages]
    assert said == ["head", Last(last=3), ("layer3", "layer2.1"), "all"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("stages: [{trainable: hed}]", "a.stages.0.trainable: expected 'head' or 'all', got 'hed'"),
        ("stages: [{trainable: {last: 3, x: 1}}]", "trainable.x: expected a known key"),
        ("stages: [{trainable: {last: 0}}]", "a.stages.0.trainable.last: expected a number of at"),
        ("stages: [{trainable: []}]", "a.stages.0.trainable: expected at least 1 of them"),
        ("stages: []", "a.stages: expected at least 1 of them"),
        ("stages: [{trainable: all, features: stored}]", "all of the network is trained"),
        ("stages: [{features: stored, mixup: 0.2}]", "mixup and cutmix blend pictures anew"),
        ("stages: [{features: stored, augmentation: {flip: true}}]", "give it `views` to store"),
        ("stages: [{features: stored, batch_norm: train}]", "BatchNorm moves in frozen stages"),
        ("from_scratch: true, stages: [{features: stored}]", "all of the network is trained"),
        ("stages: [{micro_batch_size: 64}]", "expected at most batch_size, 32, got 64"),
        ("head: {kind: logistic}, stages: [{}]", "a.head.kind: expected linear or mlp"),
        ("head: {kind: logistic}, from_scratch: true", "a.head.kind: expected linear or mlp"),
        ("mode: standard, stages: [{}]", "a.mode: expected nothing in a training with stages"),
        (
            "optimizer: {kind: sgd}, stages: [{optimizer: {kind: sgd, nesterov: true}}]",
            "a.stages.0.optimizer.nesterov: expected a momentum above 0",
        ),
        ("stages: [{ema: 1.0}]", "a.stages.0.ema: expected a number below 1"),
    ],
)
def test_what_cannot_be(tmp_path: Path, part: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"  a: {{kind: model, {part}}}")
    assert "1 problem" in str(caught.value)
    assert message in str(caught.value)


def test_a_sweep_of_settings_that_every_stage_overrides(tmp_path: Path) -> None:
    sweep = "kind: sweep, grid: {optimizer.learning_rate: [0.1, 0.01]}"
    with pytest.raises(ConfigError, match=r"a.grid: expected a stage without an optimizer"):
        load(tmp_path, f"  a: {{{sweep}, stages: [{{optimizer: {{kind: sgd}}}}]}}")
    load(tmp_path, f"  a: {{{sweep}, stages: [{{optimizer: {{kind: sgd}}}}, {{trainable: all}}]}}")


def test_one_setting_of_a_stage_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "stages.yaml"
    path.write_text(HEADER + "  a: {kind: model, stages: [{epochs: 4}, {trainable: all}]}")
    study = load_experiment(
        path,
        overrides=("parts.a.stages.1.epochs=3", "parts.a.stages.1.optimizer.kind=adam"),
    )
    part = study.parts["a"]
    assert isinstance(part, ModelPart)
    assert part.stages is not None
    assert [stage.epochs for stage in part.stages] == [4, 3]
    assert part.stages[1].optimizer is not None
    assert part.stages[1].optimizer.kind == "adam"
    with pytest.raises(ConfigError, match=r"stages.2.epochs: expected a number from 0 to 1"):
        load_experiment(path, overrides=("parts.a.stages.2.epochs=3",))


def test_stored_views_of_an_augmentation_are_fine(tmp_path: Path) -> None:
    load(
        tmp_path,
        "  a: {kind: model, stages: [{features: stored, augmentation: {flip: true, views: 2}}]}",
    )


def test_an_ensemble_is_made_of_earlier_parts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"b.members.1: expected an earlier part, got 'c'"):
        load(tmp_path, "  a: {kind: model}\n  b: {kind: ensemble, members: [a, c]}\n"
             "  c: {kind: model}")  # fmt: skip


def test_a_list_or_a_number_of_pictures_to_show(tmp_path: Path) -> None:
    for good in ("5", "[one.png]"):
        load(tmp_path, f"  a: {{kind: zero_shot, top_images: {good}}}")
    with pytest.raises(ConfigError, match=r"a.top_images: expected number or list, got 'many'"):
        load(tmp_path, "  a: {kind: zero_shot, top_images: many}")

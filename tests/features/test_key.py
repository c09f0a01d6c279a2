"""A key changes with everything that features depend on, and with nothing else."""

from dataclasses import fields, replace

import pytest
import torch
from tiny_backbone import SPEC, TinyBackbone, with_spec

from headstart.features import key as key_module
from headstart.features.key import FeatureKey, feature_key
from headstart.types import Augmentation, InputSpec, View

KEY = FeatureKey(backbone="ab" * 32, cut="pooled", input=SPEC, dtype="float32")

VIEW = View(Augmentation(flip=True), seed=0, number=0)

OTHER_KEYS = {
    "backbone": replace(KEY, backbone="cd" * 32),
    "cut": replace(KEY, cut="conv"),
    "dtype": replace(KEY, dtype="float16"),
    "format_version": replace(KEY, format_version=KEY.format_version + 1),
    "input": replace(KEY, input=with_spec(height=17)),
    "view": replace(KEY, view=VIEW),
}

OTHER_INPUTS = {
    "height": 24,
    "width": 24,
    "resize": 24,
    "interpolation": "bicubic",
    "mean": (0.5, 0.4, 0.31),
    "std": (0.2, 0.21, 0.25),
    "fit": "pad",
    "resampling": "pillow",
}


def test_every_ingredient_changes_the_key() -> None:
    assert set(OTHER_KEYS) == {field.name for field in fields(FeatureKey)}
    digests = {KEY.digest(), *(key.digest() for key in OTHER_KEYS.values())}
    assert len(digests) == len(OTHER_KEYS) + 1


def test_every_part_of_the_input_changes_the_key() -> None:
    assert set(OTHER_INPUTS) == {field.name for field in fields(InputSpec)}
    changed = [replace(KEY, input=with_spec(**{k: v})) for k, v in OTHER_INPUTS.items()]
    assert len({KEY.digest(), *(key.digest() for key in changed)}) == len(OTHER_INPUTS) + 1


def test_every_part_of_a_view_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    strengths = ("rotate", "crop", "shift", "brightness", "contrast", "saturation", "erase")
    on = {"vertical_flip": True, **dict.fromkeys(strengths, 0.5)}
    assert {*on, "flip"} == {field.name for field in fields(Augmentation)}
    changes = [Augmentation(flip=True, **{name: value}) for name, value in on.items()]
    views = [
        VIEW,
        View(Augmentation(), seed=0, number=0),
        *(View(change, seed=0, number=0) for change in changes),
        View(VIEW.augmentation, seed=1, number=0),
        View(VIEW.augmentation, seed=0, number=1),
    ]
    digests = {replace(KEY, view=view).digest() for view in views}
    monkeypatch.setattr(key_module, "AUGMENT_VERSION", 99)
    digests.add(replace(KEY, view=VIEW).digest())
    assert len(digests) == len(views) + 1


def test_a_key_stays_what_it_was_when_the_code_is_rewritten() -> None:
    # Were this digest to change without FORMAT_VERSION going up, everybody's store would be
    # extracted again for nothing.
    assert KEY.digest() == "b5e3783cfe4300a70b6e2cfbe0c2e964fbd1705262eb3617132561d0dbb86a21"
    assert "view" not in KEY.parts()


def test_the_name_and_the_origin_of_the_weights_are_not_in_the_key() -> None:
    one, same = TinyBackbone(seed=3, name="one"), TinyBackbone(seed=3, name="other")
    assert feature_key(one, "pooled", "float32") == feature_key(same, "pooled", "float32")


@pytest.mark.parametrize("part", ["weight", "running_mean"])
def test_one_number_of_the_network_changes_the_key(part: str) -> None:
    backbone = TinyBackbone()
    before = feature_key(backbone, "pooled", "float32").digest()
    tensor = backbone._conv[1].weight if part == "weight" else backbone._conv[1].running_mean
    with torch.no_grad():
        tensor[0] += 1e-6
    assert feature_key(backbone, "pooled", "float32").digest() != before

"""ImageNet's classes are in the classifiers' order, and a data set's classes are found there."""

import dataclasses
from collections import Counter
from pathlib import Path

import matplotlib
import pytest
import sklearn.datasets
import torch
from torchvision.models._meta import _IMAGENET_CATEGORIES

from headstart.backbones.imagenet import class_indices, imagenet_classes
from headstart.backbones.registry import load_backbone
from headstart.data.image import decode, transform
from headstart.errors import ConfigError
from headstart.types import Fit

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
HOPPER = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def test_the_order_is_that_of_torchvisions_classifiers() -> None:
    classes = imagenet_classes()
    assert [one.index for one in classes] == list(range(1000))
    assert len({one.wnid for one in classes}) == 1000
    # torchvision gives one name a class; two of them ("crane bird", "maillot tank suit") are its
    # own, to tell them from another crane and another maillot.
    differ = [
        theirs
        for ours, theirs in zip(classes, _IMAGENET_CATEGORIES, strict=True)
        if theirs not in ours.name.split(", ")
    ]
    assert differ == ["crane bird", "maillot tank suit"]


def test_the_order_is_that_of_tensorflows_classifiers_after_their_background() -> None:
    # What TensorFlow's example label_image prints for its default picture; its classifiers count
    # a background class first.
    printed = {
        "military uniform": 653,
        "mortarboard": 668,
        "academic gown": 401,
        "pickelhaube": 716,
        "bulletproof vest": 466,
    }
    assert class_indices(list(printed)) == {name: at - 1 for name, at in printed.items()}


def test_a_class_has_its_wordnet_id_its_names_and_what_it_is() -> None:
    goldfish = imagenet_classes()[1]
    assert (goldfish.wnid, goldfish.name) == ("n01443537", "goldfish, Carassius auratus")
    assert goldfish.definition.startswith("small golden or orange-red freshwater fishes")


def test_ids_are_found_as_they_are() -> None:
    ids = [one.wnid for one in imagenet_classes()]
    assert class_indices(ids[::-7]) == {wnid: ids.index(wnid) for wnid in ids[::-7]}


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("daisy", 985),
        ("Daisy", 985),
        ("military_uniform", 652),
        ("  Carassius  auratus ", 1),
        ("jack-o'-lantern", 607),
    ],
)
def test_names_are_found_in_any_case_and_with_underscores(name: str, index: int) -> None:
    assert class_indices([name]) == {name: index}


def test_every_name_that_only_one_class_has_leads_to_it() -> None:
    names = [(name, one) for one in imagenet_classes() for name in one.name.split(", ")]
    holders = Counter(name.casefold() for name, _ in names)
    alone = {name: one.index for name, one in names if holders[name.casefold()] == 1}
    assert len(alone) > 1000
    for name, index in alone.items():
        assert class_indices([name]) == {name: index}


def test_a_mapping_comes_first() -> None:
    found = class_indices(["daisies", "daisy", "crane"], {"daisies": "n11939491",
                          "daisy": "n02012849", "crane": "n03126707"})  # fmt: skip
    assert found == {"daisies": 985, "daisy": 134, "crane": 517}


@pytest.mark.parametrize(
    ("name", "ids"),
    [("crane", ("n02012849", "n03126707")), ("Maillot", ("n03710637", "n03710721"))],
)
def test_names_of_two_classes_are_refused_with_both_ids(name: str, ids: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="names several") as caught:
        class_indices([name])
    assert all(wnid in str(caught.value) for wnid in ids)
    assert class_indices([name], {name: ids[1]})[name] == class_indices([ids[1]])[ids[1]]


def test_all_that_cannot_be_found_is_told_at_once_with_what_is_near() -> None:
    with pytest.raises(ConfigError) as caught:
        class_indices(
            ["goldfish", "roses", "dasy", "n00007846", "jay", "crane"],
            {"jay": "n0153082", "jai": "n01580077"},
        )
    message = str(caught.value)
    assert "goldfish" not in message
    assert "'roses' names none" in message
    assert "'dasy' names none; nearest: 'daisy' (n11939491)" in message
    assert "'n00007846' is not the id of one of the 1,000" in message
    assert "'n0153082' is not the id of one of the 1,000; did you mean 'n0153" in message
    assert "wordnet: 'jai' is no class of the data; did you mean 'jay'?" in message
    assert "'crane' names several" in message
    assert "wordnet: {CLASS: ID}" in message


def test_a_long_list_of_problems_is_cut() -> None:
    with pytest.raises(ConfigError) as caught:
        class_indices([f"thing {index}" for index in range(131)])
    message = str(caught.value)
    assert message.count(" names none") == 20
    assert "… and 111 more" in message


def test_two_classes_that_are_the_same_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'daisy' and 'n11939491' are both n11939491 \(daisy\)"):
        class_indices(["daisy", "n11939491"])


# Grace Hopper is the default picture of TensorFlow's label_image, which stretches it to the input
# and prints "military uniform" first. The others show a flower and the Summer Palace in Beijing.
@pytest.mark.parametrize(
    ("photo", "fit", "name"),
    [
        (HOPPER, "resize", "military uniform"),
        (PHOTOS / "flower.jpg", None, "daisy"),
        (PHOTOS / "china.jpg", None, "palace"),
    ],
)
def test_the_packaged_classifier_names_real_photos(photo: Path, fit: Fit, name: str) -> None:
    backbone = load_backbone("packaged/efficientnet-lite0")
    spec = backbone.input_spec
    if fit is not None:
        spec = dataclasses.replace(spec, fit=fit)
    x = torch.from_numpy(transform(decode(photo.read_bytes()), spec))[None]
    assert backbone.classifier is not None
    with torch.no_grad():
        logits = backbone.classifier(backbone.prefix("pooled")(x))[0]
    assert len(logits) == 1000
    assert int(logits.argmax()) == class_indices([name])[name]

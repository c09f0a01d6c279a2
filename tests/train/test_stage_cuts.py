"""What a stage trains, where the network is cut for it, and how fast each part learns."""

import pytest

from headstart.backbones.registry import load_backbone
from headstart.errors import ConfigError
from headstart.heads import stage_sizes
from headstart.train import StageCut, cut_for, rates_of

# A pooling between the layers and the one at the end have no weights.
STAGES = (
    ("stem", 100),
    ("layer1.0", 200),
    ("layer1.1", 200),
    ("shrink", 0),
    ("layer2.0", 300),
    ("layer10.0", 400),
    ("pooled", 0),
)
NAMES = tuple(name for name, _ in STAGES)


@pytest.mark.parametrize("trainable", ["head", ["head"], []])
def test_the_head_alone(trainable) -> None:
    assert cut_for(trainable, STAGES, "pooled") == StageCut("pooled", (), "head")


def test_all_of_the_network() -> None:
    assert cut_for("all", STAGES, "pooled") == StageCut("input", NAMES, "all")


@pytest.mark.parametrize(
    ("last", "cut", "first"),
    [
        (1, "layer2.0", "layer10.0"),
        (2, "shrink", "layer2.0"),  # what has no weights does not count, and may stay frozen
        (3, "layer1.0", "layer1.1"),
        (4, "stem", "layer1.0"),
        (5, "input", "stem"),
    ],
)
def test_the_last_stages_that_have_weights(last: int, cut: str, first: str) -> None:
    trained = NAMES[NAMES.index(first) :]
    assert cut_for(last, STAGES, "pooled") == StageCut(cut, trained, f"last {last}")


def test_more_stages_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"at most the 5 stages .* got the last 6; use all"):
        cut_for(6, STAGES, "pooled")


@pytest.mark.parametrize(
    ("names", "cut", "trained"),
    [
        (["layer2.0"], "shrink", ("layer2.0",)),
        (["layer1"], "stem", ("layer1.0", "layer1.1")),  # and not layer10
        (["layer10", "layer1.1"], "layer1.0", ("layer1.1", "layer10.0")),
        (["head", "layer10"], "layer2.0", ("layer10.0",)),
        (["layer1", "layer1.1"], "stem", ("layer1.0", "layer1.1")),
        (["stem"], "input", ("stem",)),
        (["layer1.0", "stem"], "input", ("stem", "layer1.0")),  # in the network's order
    ],
)
def test_stages_and_groups_by_name(names, cut, trained) -> None:
    found = cut_for(names, STAGES, "pooled")
    assert (found.cut, found.trained, found.text) == (cut, trained, ", ".join(names))


def test_the_name_of_the_first_cut_can_be_another() -> None:
    assert cut_for("all", STAGES, "pooled", "pixels").cut == "pixels"
    assert cut_for(["stem"], STAGES, "pooled", "pixels").cut == "pixels"


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("layer2.1", "'layer2.0'"), ("layer3", "layer1.0"), ("conv", "stem"), ("layer1.", "layer1")],
)
def test_an_unknown_stage_is_named_with_the_nearest(asked: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        cut_for(["layer1", asked], STAGES, "pooled")
    assert repr(asked) in str(error.value)
    assert "stem … pooled" in str(error.value)
    assert hint in str(error.value)


def test_rates_fall_from_the_head_to_the_first_stage() -> None:
    groups = ("stem", "layer1", "layer2", "head")
    got = rates_of(groups, 0.8, {}, 0.5)
    assert got == pytest.approx({"stem": 0.1, "layer1": 0.2, "layer2": 0.4, "head": 0.8})
    assert tuple(got) == groups
    assert rates_of(groups, 0.8, {}, 1.0) == dict.fromkeys(groups, 0.8)


def test_what_has_no_weights_is_no_layer() -> None:
    groups = (*NAMES, "head")
    weighty = {name for name, count in STAGES if count} | {"head"}
    got = rates_of(groups, 1.0, {}, 0.5, weighty.__contains__)
    powers = {"head": 0, "layer10.0": 1, "layer2.0": 2, "layer1.1": 3, "layer1.0": 4, "stem": 5}
    assert {name: got[name] for name in powers} == {n: 0.5**p for n, p in powers.items()}


def test_given_rates_count_by_the_longest_name_and_the_others_decay_as_before() -> None:
    groups = ("stem", "layer1.0", "layer1.1", "layer10.0", "head")
    given = {"layer1": 0.03, "layer1.1": 0.07, "head": 5.0}
    got = rates_of(groups, 1.0, given, 0.5)
    assert got == pytest.approx(
        # Given rates are taken as they are; the stem is still the fourth layer before the head.
        {"stem": 0.5**4, "layer1.0": 0.03, "layer1.1": 0.07, "layer10.0": 0.5, "head": 5.0}
    )


@pytest.mark.parametrize("name", ["layer4", "layer", "stm", "layer1.0.conv"])
def test_a_rate_for_what_is_not_trained_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        rates_of(("layer1.0", "layer1.1", "head"), 0.1, {"head": 1.0, name: 0.2}, 1.0)
    assert repr(name) in str(error.value)
    assert "layer1.0, layer1.1, head" in str(error.value)


def test_a_real_network_is_cut_before_its_last_layers_with_weights() -> None:
    backbone = load_backbone("headstart/resnet20", weights="random")
    sizes = stage_sizes(backbone, "pooled")
    assert [name for name, _ in sizes] == list(backbone.stages)
    assert dict(sizes)["pooled"] == 0
    assert sum(count for _, count in sizes) == backbone.parameters_total - 650  # its classifier
    found = cut_for(3, sizes, "pooled")
    assert found.cut == "layer2.2"
    assert found.trained == ("layer3.0", "layer3.1", "layer3.2", "pooled")
    assert cut_for(["layer3"], sizes, "pooled").cut == "layer2.2"

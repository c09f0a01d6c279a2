"""Weights from files: what fits is loaded, what does not is refused and said."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from headstart.backbones.cifar import CifarResNet
from headstart.backbones.parts import probe
from headstart.backbones.registry import load_backbone
from headstart.errors import WeightsError

Save = Callable[..., Path]


def logits(name: str, path: Path, side: int) -> torch.Tensor:
    backbone = load_backbone(name, weights=path)
    assert backbone.classifier is not None
    with torch.no_grad():
        return backbone.classifier(backbone.prefix("pooled")(probe(side, side)))


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth", "model.pt"])
def test_both_kinds_of_files_give_the_network_they_came_from(
    tiny_resnet: nn.Module, saved: Save, file: str
) -> None:
    path = saved(tiny_resnet.state_dict(), file)
    with torch.no_grad():
        expected = tiny_resnet(probe(160, 160))
    assert torch.equal(logits("timm/test_resnet", path, 160), expected)
    weights = load_backbone("timm/test_resnet", weights=str(path)).weights
    assert (weights.kind, weights.license) == ("file", "unknown")
    assert re.fullmatch(rf"{file} \(sha256 [0-9a-f]{{16}}\)", weights.origin)


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_state_dict"])
def test_checkpoints_of_training_scripts_are_unpacked(
    tiny_resnet: nn.Module, saved: Save, nest: str
) -> None:
    wrapped = {f"module._orig_mod.{key}": t for key, t in tiny_resnet.state_dict().items()}
    plain = load_backbone("timm/test_resnet", weights=saved(tiny_resnet.state_dict()))
    nested = load_backbone(
        "timm/test_resnet", weights=saved({"epoch": 3, nest: wrapped}, "checkpoint.pth")
    )
    assert plain.digest("pooled") == nested.digest("pooled")


FACEBOOK = (  # names of timm, and of the publication of ConvNeXt that timm's filter renames
    (r"^stem\.", "downsample_layers.0."),
    (r"\.downsample\.(\d)", r".\1"),
    (r"\.blocks\.", "."),
    (r"^stages\.(\d)\.(\d)\.(weight|bias)", r"downsample_layers.\1.\2.\3"),
    ("conv_dw", "dwconv"),
    (r"mlp\.fc", "pwconv"),
    (r"^head\.norm", "norm"),
    (r"^head\.fc", "head"),
)


def test_names_of_the_original_publication_go_through_the_filters_of_timm(saved: Save) -> None:
    state = timm.create_model("test_convnext").state_dict()
    names = list(state)
    for pattern, replacement in FACEBOOK:
        names = [re.sub(pattern, replacement, name) for name in names]
    original = dict(zip(names, state.values(), strict=True))
    assert "stages.3.1.pwconv2.weight" in original
    assert "downsample_layers.3.1.weight" in original
    ours = load_backbone("timm/test_convnext", weights=saved(state))
    theirs = load_backbone("timm/test_convnext", weights=saved(original, "original.pth"))
    assert theirs.digest("pooled") == ours.digest("pooled")
    assert theirs.classifier is not None


def test_old_layouts_go_through_the_filters_of_timm(saved: Save) -> None:
    # The first vision transformers of timm embedded patches by a matrix, not by a convolution.
    state = timm.create_model("test_vit").state_dict()
    key = "patch_embed.proj.weight"
    new = load_backbone("timm/test_vit", weights=saved(state))
    old = {**state, key: state[key].flatten(1)}
    assert old[key].ndim == 2
    backbone = load_backbone("timm/test_vit", weights=saved(old, "old.safetensors"))
    assert backbone.digest("pooled") == new.digest("pooled")
    assert backbone.classifier is not None


NETWORKS = {
    "timm/test_resnet": lambda: timm.create_model("test_resnet"),
    "torchvision/shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(weights=None),
    "headstart/resnet20": lambda: CifarResNet(20),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("classes", [None, 7])
def test_a_classifier_of_other_classes_is_dropped_and_the_rest_kept(
    name: str, classes: int | None, saved: Save
) -> None:
    state = NETWORKS[name]().state_dict()
    whole = load_backbone(name, weights=saved(state))
    for key in ("fc.weight", "fc.bias"):
        state[key] = state[key].repeat(2, *[1] * (state[key].ndim - 1))[:classes]
        if classes is None:
            del state[key]
    backbone = load_backbone(name, weights=saved(state, "other.safetensors"))
    assert whole.classifier is not None
    assert backbone.classifier is None
    assert backbone.digest("pooled") == whole.digest("pooled")
    assert backbone.parameters_total == whole.parameters_total


FIRST = {
    "timm/test_resnet": "layer1.0.conv1.weight",
    "torchvision/shufflenet_v2_x0_5": "conv1.0.weight",
    "headstart/resnet20": "conv1.weight",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_does_not_fit_is_refused_and_listed(name: str, saved: Save) -> None:
    state, key = NETWORKS[name]().state_dict(), FIRST[name]
    for change, words in (
        ({k: t for k, t in state.items() if k != key}, f"1 missing: {key}"),
        ({**state, "extra.weight": torch.ones(1)}, "1 unexpected: extra.weight"),
        (
            {**state, key: state[key][:1]},
            f"1 misshapen: {key} (expected {tuple(state[key].shape)}, got (1, ",
        ),
        # A classifier may have other classes, but not read features of another width.
        ({**state, "fc.weight": torch.ones(1000, 5)}, "1 misshapen: fc.weight"),
        ({"a": torch.ones(1)}, "missing: "),
    ):
        with pytest.raises(WeightsError) as caught:
            load_backbone(name, weights=saved(change))
        assert words in str(caught.value)
        assert "belong to another network" in str(caught.value)


class Malicious:
    """Leaves a mark where somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_runs_code_is_refused_before_it_runs(tmp_path: Path, writer: str) -> None:
    path, mark = tmp_path / "model.pth", tmp_path / "it-ran"
    content = {"fc.weight": torch.ones(1), "payload": Malicious(mark)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    for name in NETWORKS:
        with pytest.raises(WeightsError, match=r"refused.*can run any code"):
            load_backbone(name, weights=path)
    assert not mark.exists()


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_damaged_files_are_refused(
    tiny_resnet: nn.Module, saved: Save, file: str, damage: str
) -> None:
    path = saved(tiny_resnet.state_dict(), file)
    whole = path.read_bytes()
    damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "noise": bytes(range(256)) * 9}
    path.write_bytes(damaged[damage])
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        load_backbone("timm/test_resnet", weights=path)


@pytest.mark.parametrize("content", [{}, {"fc.weight": 3}, torch.ones(2), {3: torch.ones(1)}])
def test_files_without_named_tensors_are_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="expected named tensors"):
        load_backbone("headstart/resnet20", weights=path)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("pretrain", "expected 'pretrained', 'random' or a file, got 'pretrain'"),
        ("/nowhere/model.pth", "there is no such file"),
        (Path(__file__), "expected a file ending in .safetensors"),
    ],
)
def test_words_that_mean_no_weights_are_answered(weights: str | Path, words: str) -> None:
    for name in NETWORKS:
        with pytest.raises(WeightsError, match=re.escape(words)):
            load_backbone(name, weights=weights)


def test_weights_nobody_publishes_are_said_to_be_so() -> None:
    with pytest.raises(WeightsError, match="no published weights: use 'random'"):
        load_backbone("headstart/resnet32")
    with pytest.raises(WeightsError, match="timm publishes no weights"):
        load_backbone("timm/test_maxvit")


def test_auxiliary_classifiers_may_be_in_the_file_or_not(saved: Save) -> None:
    model = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=True)
    state = model.state_dict()
    without = {key: t for key, t in state.items() if not key.startswith("aux")}
    digests = {
        load_backbone("torchvision/googlenet", weights=saved(s)).digest("pooled")
        for s in (state, without)
    }
    assert len(digests) == 1

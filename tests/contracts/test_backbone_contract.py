"""What every backbone promises, whoever wrote the network: see `headstart.backbones.base`."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from headstart.backbones.base import INPUT, Backbone
from headstart.backbones.cifar import CifarResNet
from headstart.backbones.dcnn import DeepCnn
from headstart.backbones.parts import probe
from headstart.backbones.registry import load_backbone
from headstart.backbones.weights import seeded
from headstart.errors import ConfigError


@dataclass(frozen=True)
class Case:
    """A backbone, the same network as its library builds it, and what is published of it."""

    name: str
    library: Callable[[], nn.Module]
    parameters: int
    width: int
    side: int = 64  # pixels: as small as the network allows, to save time
    via_file: bool = True
    onednn: bool = True
    counted_apart: int = 0  # published, and dropped once the weights are loaded


def _timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name)


def _tv(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, **options)


_INCEPTION = {"transform_input": True, "aux_logits": False, "init_weights": True}

CASES = (
    Case("timm/mobilenetv2_100", _timm("mobilenetv2_100"), 3_504_872, 1280),
    Case("timm/mobilenetv3_small_050", _timm("mobilenetv3_small_050"), 1_593_224, 1024),
    Case("timm/resnet18", _timm("resnet18"), 11_689_512, 512),
    Case("timm/inception_v3", _timm("inception_v3"), 23_834_568, 2048, side=75),
    Case("timm/vit_tiny_patch16_224", _timm("vit_tiny_patch16_224"), 5_717_416, 192, side=224),
    # 138 million parameters: built twice from one seed instead of going through a file. oneDNN
    # would rearrange the 400 MB of its first fully connected layer at every pass.
    Case("timm/vgg16", _timm("vgg16"), 138_357_544, 4096, side=32, via_file=False, onednn=False),
    # One of no known family, cut by what its methods use.
    Case("timm/test_convnext", _timm("test_convnext"), 272_128, 64, side=160),
    Case("torchvision/mobilenet_v2", _tv("mobilenet_v2"), 3_504_872, 1280),
    Case("torchvision/mobilenet_v3_small", _tv("mobilenet_v3_small"), 2_542_856, 1024),
    Case("torchvision/resnet18", _tv("resnet18"), 11_689_512, 512),
    Case("torchvision/vgg16", _tv("vgg16"), 138_357_544, 4096, side=32, via_file=False),
    Case(
        "torchvision/inception_v3",
        _tv("inception_v3", **_INCEPTION),
        27_161_264,
        2048,
        side=75,
        counted_apart=27_161_264 - 23_834_568,
    ),
    # One of no known family, in one piece.
    Case("torchvision/shufflenet_v2_x0_5", _tv("shufflenet_v2_x0_5"), 1_366_792, 1024),
    Case("packaged/efficientnet-lite0", _timm("tf_efficientnet_lite0"), 4_652_008, 1280),
    Case("headstart/resnet32", lambda: CifarResNet(32), 464_154, 64, side=32),
    Case("headstart/dcnn", DeepCnn, 4_789_896, 512, side=32),
)


@dataclass(frozen=True)
class Subject:
    """A loaded backbone, an input, and what the library's own network says of it."""

    case: Case
    backbone: Backbone
    x: torch.Tensor
    logits: torch.Tensor


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Leave the other cores to the other tests: threads that wait for each other are slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    case = cast(Case, request.param)
    x = probe(case.side, case.side)
    before = torch.backends.mkldnn.set_flags(case.onednn)
    with seeded(0, case.name), torch.no_grad():
        model = case.library()
    if case.name.startswith("packaged/"):
        backbone = load_backbone(case.name, image_size=case.side)
        # The package's names are not timm's: its tensors are, one by one and in order.
        tensors = backbone_tensors(backbone)
        model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    elif case.via_file:
        calibrate(model, x)
        path = tmp_path_factory.mktemp("weights") / "model.safetensors"
        safetensors.torch.save_file(model.state_dict(), path)
        backbone = load_backbone(case.name, weights=path, image_size=case.side)
        path.unlink()
    else:
        backbone = load_backbone(case.name, weights="random", image_size=case.side)
    with torch.no_grad():
        logits = model.eval()(x)
    yield Subject(case, backbone, x, logits)
    torch.backends.mkldnn.set_flags(before[0])


def backbone_tensors(backbone: Backbone) -> list[torch.Tensor]:
    modules = [backbone.prefix(backbone.stages[-1]), backbone.classifier]
    return [t for m in modules if m is not None for t in m.state_dict().values()]


def calibrate(model: nn.Module, x: torch.Tensor) -> None:
    """Give BatchNorm real statistics: random weights alone let the signal die out or explode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    batch = torch.cat([x, x.flip(2), -x])
    with torch.no_grad(), torch.random.fork_rng():
        model.train()(batch)
    model.eval()


def middle(backbone: Backbone) -> str:
    cuts = (INPUT, *backbone.stages)
    return cuts[(len(cuts) - 1) // 2]


def test_suffix_of_prefix_is_the_whole_at_every_cut(subject: Subject) -> None:
    backbone, x = subject.backbone, subject.x
    whole = backbone.prefix(backbone.stages[-1])(x)
    assert whole.shape == (1, subject.case.width)
    assert float(whole.std()) > 1e-4  # or else the comparison would compare nothing
    for cut in (INPUT, *backbone.stages):
        z = backbone.between(INPUT, cut)(x)
        before = z.clone()
        rest = nn.Sequential(*(module for _, module in backbone.modules(cut, "pooled")))
        with torch.no_grad():
            assert torch.equal(backbone.suffix(cut)(z), whole), cut
            assert torch.equal(rest(z), whole), cut
        assert torch.equal(z, before), f"the suffix after {cut} writes over cached activations"


def test_the_parts_between_cuts_lead_from_one_to_the_next(subject: Subject) -> None:
    backbone, x = subject.backbone, subject.x
    whole = backbone.prefix("pooled")(x)
    for first, second in itertools.pairwise((INPUT, *backbone.stages)):
        ((name, module),) = backbone.modules(first, second)
        assert name == second
        before = x.clone()
        after = backbone.between(first, second)(x)
        with torch.no_grad():
            assert torch.equal(module(x), after), second
        assert torch.equal(x, before), f"{second} writes over cached activations"
        x = after
    assert torch.equal(x, whole)


def test_a_clone_computes_the_same_and_learns_for_itself(subject: Subject) -> None:
    backbone, x = subject.backbone, subject.x
    digests = backbone.digests()
    clone = backbone.clone()
    assert (clone.name, clone.input_spec, clone.weights) == (
        backbone.name,
        backbone.input_spec,
        backbone.weights,
    )
    assert clone.digests() == digests
    suffix = clone.suffix(middle(clone))
    optimizer = torch.optim.SGD(suffix.parameters(), lr=0.01)
    suffix.train()
    activations = clone.prefix(middle(clone))(torch.cat([x, x.flip(2)]))
    suffix(activations).square().mean().backward()
    optimizer.step()
    assert clone.digest("pooled") != digests["pooled"]
    assert backbone.digests() == digests
    assert all(p.grad is None for _, m in backbone.modules(INPUT, "pooled") for p in m.parameters())


def test_classifier_on_pooled_features_says_what_the_library_says(subject: Subject) -> None:
    backbone = subject.backbone
    assert backbone.classifier is not None
    with torch.no_grad():
        logits = backbone.classifier(backbone.prefix("pooled")(subject.x))
    torch.testing.assert_close(logits, subject.logits, rtol=1e-6, atol=1e-6)


def test_parameters_are_as_many_as_published(subject: Subject) -> None:
    backbone, case = subject.backbone, subject.case
    assert backbone.parameters_total == case.parameters
    modules = nn.ModuleList([backbone.prefix("pooled")])
    if backbone.classifier is not None:
        modules.append(backbone.classifier)
    in_use = sum(parameter.numel() for parameter in modules.parameters())
    assert in_use == case.parameters - case.counted_apart


def test_shape_is_that_of_the_activations(subject: Subject) -> None:
    backbone, spec = subject.backbone, subject.backbone.input_spec
    x = probe(spec.height, spec.width)
    for cut in (INPUT, backbone.stages[0], middle(backbone), backbone.stages[-1]):
        assert backbone.shape(cut) == tuple(backbone.prefix(cut)(x).shape[1:]), cut


def test_digest_follows_the_prefix_and_nothing_else(subject: Subject) -> None:
    backbone = subject.backbone
    first, last = middle(backbone), backbone.stages[-1]
    early, late = backbone.digest(first), backbone.digest(last)
    assert list(backbone.digests()) == [INPUT, *backbone.stages]
    assert list(backbone.digests(first).items())[-1] == (first, early)
    assert backbone.digests()[last] == late
    assert early != late
    parameter = list(backbone.suffix(first).parameters())[-1]
    value = parameter.detach().view(-1)[0].clone()
    with torch.no_grad():
        parameter.view(-1)[0] = torch.nextafter(value, value + 1)
    try:
        assert backbone.digest(first) == early
        assert backbone.digest(last) != late
    finally:
        with torch.no_grad():
            parameter.view(-1)[0] = value
    assert backbone.digest(last) == late


def test_a_frozen_prefix_does_not_move_under_training(subject: Subject) -> None:
    backbone, x = subject.backbone, subject.x
    prefix = backbone.prefix("pooled")
    before = {name: t.clone() for name, t in prefix.state_dict().items()}
    model = nn.Sequential(prefix, nn.Linear(subject.case.width, 2)).train()
    assert model.training
    assert not any(part.training for part in prefix.modules())
    loss = model(x).square().sum()
    loss.backward()
    assert not any(part.training for part in prefix.modules())
    assert not any(p.requires_grad or p.grad is not None for p in prefix.parameters())
    assert all(torch.equal(t, before[name]) for name, t in prefix.state_dict().items())


def test_a_suffix_learns_and_its_prefix_does_not(subject: Subject) -> None:
    backbone, x = subject.backbone, subject.x
    cut = middle(backbone)
    prefix, suffix = backbone.prefix(cut), backbone.suffix(cut)
    suffix(prefix(x)).square().sum().backward()
    assert all(p.grad is not None for p in suffix.parameters())
    assert all(p.grad is None for p in prefix.parameters())
    suffix.zero_grad()


def test_an_unknown_cut_is_answered_with_the_nearest(subject: Subject) -> None:
    backbone = subject.backbone
    asks = (backbone.prefix, backbone.suffix, backbone.shape, backbone.digest, backbone.resolve)
    for ask in asks:
        with pytest.raises(ConfigError, match=r"poled.*'pooled'"):
            ask("poled")

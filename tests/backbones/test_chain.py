"""The chain: sharing modules between what is frozen and what learns."""

import pytest
import torch
from torch import nn

from headstart.backbones.base import INPUT, Weights
from headstart.backbones.chain import Chain, Network
from headstart.backbones.frozen import guard_frozen
from headstart.errors import ConfigError
from headstart.types import InputSpec

SPEC = InputSpec(8, 8, 8, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class NeedsValues(nn.Module):
    """Looks at the numbers, which a run without numbers cannot do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.sum()) > 1e9 else x


class Position(nn.Module):
    """Adds a table that its author fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(4, 1, 1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table


def chain(*extra: nn.Module, architecture: str = "test/chain") -> Chain:
    torch.manual_seed(0)
    stages = (
        ("stem", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))),
        ("block.0", nn.Sequential(Position(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))),
        ("block.1", nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.Dropout(0.5), *extra)),
        ("pooled", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
    )
    classifier = nn.Linear(6, 10)
    weights = Weights("random", "seed 0", "none")
    return Chain("test/chain", Network(architecture, stages, classifier, SPEC, weights, 1))


X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


def test_stages_are_trained_one_after_the_other_on_the_same_modules() -> None:
    backbone = chain()
    frozen = backbone.prefix("pooled")
    assert not any(p.requires_grad for p in frozen.parameters())

    prefix, suffix = backbone.prefix("block.0"), backbone.suffix("block.0")
    optimizer = torch.optim.SGD(suffix.parameters(), lr=0.1)
    before = frozen(X)
    with guard_frozen(prefix, "the prefix"):
        nn.Sequential(prefix, suffix).train()
        suffix(prefix(X)).sum().backward()
        optimizer.step()
    # What learned is the backbone itself, not a copy, ...
    assert not torch.equal(frozen(X), before)
    # ... and a frozen prefix over modules that are being trained still builds no graph.
    assert not frozen(X).requires_grad

    earlier = backbone.suffix("stem")
    assert all(p.requires_grad for p in earlier[0][1].parameters())


def test_a_prefix_puts_modules_that_were_trained_back_in_eval_mode() -> None:
    backbone = chain()
    frozen = backbone.prefix("pooled")
    backbone.suffix(INPUT).train()
    with guard_frozen(frozen, "the prefix"):
        assert torch.equal(frozen(X), frozen(X))  # dropout would differ


def test_what_the_author_fixed_never_learns() -> None:
    backbone = chain()
    backbone.prefix("pooled")
    parameters = dict(backbone.suffix(INPUT).named_parameters())
    assert [name for name, p in parameters.items() if not p.requires_grad] == ["1.0.table"]


def test_input_is_the_cut_before_everything() -> None:
    backbone = chain()
    assert torch.equal(backbone.prefix(INPUT)(X), X)
    assert backbone.shape(INPUT) == (3, 8, 8)
    assert torch.equal(backbone.suffix(INPUT)(X), backbone.prefix("pooled")(X))
    assert INPUT not in backbone.stages


def test_a_group_stands_for_its_last_stage() -> None:
    backbone = chain()
    assert backbone.shape("block") == backbone.shape("block.1") == (6, 1, 1)
    assert backbone.digest("block") == backbone.digest("block.1")


@pytest.mark.parametrize("cut", ["bloc", "block.2", "block.", "", "Pooled"])
def test_half_a_name_is_no_name(cut: str) -> None:
    with pytest.raises(ConfigError, match=r"cut: expected a stage of test/chain \(stem … pooled\)"):
        chain().prefix(cut)


@pytest.mark.parametrize("extra", [(), (NeedsValues(),)], ids=["dry", "real"])
def test_asking_for_a_shape_changes_nothing(extra: tuple[nn.Module, ...]) -> None:
    backbone = chain(*extra)
    whole = backbone.suffix(INPUT).train()
    stream = torch.get_rng_state()
    with guard_frozen(whole, "the backbone"):
        assert [backbone.shape(cut) for cut in backbone.stages] == [
            (4, 6, 6),
            (4, 4, 4),
            (6, 1, 1),
            (6,),
        ]
    assert all(part.training for part in whole.modules())
    assert torch.equal(torch.get_rng_state(), stream)


def test_digest_tells_architectures_cuts_and_buffers_apart() -> None:
    backbone = chain()
    digests = {backbone.digest(cut) for cut in (INPUT, *backbone.stages)}
    assert len(digests) == 5
    assert chain().digest("pooled") == backbone.digest("pooled")
    assert chain(architecture="test/other").digest("pooled") not in digests
    before = backbone.digest("pooled")
    backbone.suffix(INPUT)[0][1].running_mean += 0.5
    assert backbone.digest("pooled") != before


def test_moving_to_a_device_moves_everything() -> None:
    backbone = chain()
    backbone.to(torch.device("meta"))
    modules = [backbone.prefix("pooled"), backbone.classifier]
    tensors = [t for m in modules if m is not None for t in m.state_dict().values()]
    assert {t.device.type for t in tensors} == {"meta"}

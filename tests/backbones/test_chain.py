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


def test_digests_of_all_cuts_at_once_follow_the_weights() -> None:
    backbone = chain()
    before = backbone.digests()
    assert before == {cut: backbone.digest(cut) for cut in (INPUT, *backbone.stages)}
    with torch.no_grad():
        backbone.modules("block.0", "block.1")[0][1][0].weight[0, 0, 0, 0] += 1e-3
    after = backbone.digests()
    moved = [cut for cut in before if before[cut] != after[cut]]
    assert moved == ["block.1", "pooled"]


def test_a_cut_has_one_full_name() -> None:
    backbone = chain()
    asked = (INPUT, "stem", "block", "block.0", "pooled")
    assert [backbone.resolve(cut) for cut in asked] == [
        INPUT,
        "stem",
        "block.1",
        "block.0",
        "pooled",
    ]


def test_modules_are_handed_out_as_they_are() -> None:
    backbone = chain()
    backbone.prefix("pooled")
    ((_, block), *_) = backbone.suffix("stem").named_children()
    block.train()
    parts = backbone.modules("stem", "pooled")
    assert [name for name, _ in parts] == ["block.0", "block.1", "pooled"]
    assert parts[0][1] is block
    assert block.training
    assert [p.requires_grad for p in block.parameters()] == [False, True, True, True, True]
    assert backbone.modules("block.0", "block.0") == ()


def test_between_freezes_its_part_and_no_other() -> None:
    backbone = chain()
    whole = backbone.suffix(INPUT).train()
    part = backbone.between("stem", "block").train()
    assert not any(p.requires_grad for p in part.parameters())
    assert not any(module.training for module in part.modules())
    assert all(p.requires_grad for p in whole[0].parameters())
    assert whole[0].training
    with pytest.raises(ConfigError, match="first at or before the second, got 'block' and 'stem'"):
        backbone.between("block", "stem")


def test_what_the_author_fixed_cannot_be_released() -> None:
    backbone = chain()
    assert backbone.classifier is not None
    model = nn.Sequential(backbone.prefix("pooled"), backbone.classifier)
    free = backbone.releasable(model)
    fixed = [p for p in model.parameters() if all(p is not q for q in free)]
    assert [tuple(p.shape) for p in fixed] == [(4, 1, 1)]
    head = nn.Linear(6, 2)
    assert backbone.releasable(head) == list(head.parameters())


def test_a_clone_is_as_if_freshly_loaded() -> None:
    backbone = chain()
    backbone.suffix(INPUT).train()
    backbone.prefix("block.0")
    clone = backbone.clone()
    ours, theirs = (
        nn.ModuleList([*(m for _, m in b.modules(INPUT, "pooled")), b.classifier])
        for b in (backbone, clone)
    )
    fresh = dict(nn.ModuleList(chain()._all).named_parameters())
    flags = {name: p.requires_grad for name, p in theirs.named_parameters()}
    assert flags == {name: p.requires_grad for name, p in fresh.items()}
    assert list(flags.values()).count(False) == 1
    assert not any(module.training for part in theirs for module in part.modules())
    pointers = {p.data_ptr() for p in (*ours.parameters(), *ours.buffers())}
    assert all(p.data_ptr() not in pointers for p in (*theirs.parameters(), *theirs.buffers()))
    # What was fixed stays fixed in the copy too, and in a copy of the copy.
    again = clone.clone()
    free = again.releasable(again.suffix(INPUT))
    assert len(free) == sum(flags.values()) - 2  # all but the classifier's weight and bias
    # The original is where it was: half frozen, half in train mode.
    assert backbone.modules("block.0", "block.1")[0][1].training
    assert not any(p.requires_grad for p in backbone.modules(INPUT, "stem")[0][1].parameters())


def test_stages_that_share_weights_share_them_in_a_clone() -> None:
    conv = nn.Conv2d(3, 3, 1)
    stages = (("one", conv), ("two", nn.Sequential(conv, nn.ReLU())), ("pooled", nn.Flatten()))
    network = Network("test/shared", stages, None, SPEC, Weights("random", "seed 0", "none"), 1)
    clone = Chain("test/shared", network).clone()
    (_, one), (_, two), _ = clone.modules(INPUT, "pooled")
    assert one is two[0]
    assert one is not conv


def test_moving_to_a_device_moves_everything() -> None:
    backbone = chain()
    backbone.to(torch.device("meta"))
    modules = [backbone.prefix("pooled"), backbone.classifier]
    tensors = [t for m in modules if m is not None for t in m.state_dict().values()]
    assert {t.device.type for t in tensors} == {"meta"}

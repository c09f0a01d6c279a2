"""A tail trains what it is told to train, and nothing else moves: no weight and no statistic."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headstart.backbones.base import Backbone
from headstart.backbones.registry import load_backbone
from headstart.heads import HeadSpec, Tail, build_head, stage_sizes

CUT, LAST, CLASSES = "layer2.2", "pooled", 5
STAGES = ("layer3.0", "layer3.1", "layer3.2", "pooled")


def network() -> Backbone:
    return load_backbone("headstart/resnet20", weights="random")


def tail_of(backbone: Backbone, trained, rule="follow", cut: str = CUT, head_cut=LAST) -> Tail:
    width = int(np.prod(backbone.shape(head_cut)))
    head = build_head(HeadSpec(normalization="batch"), width, CLASSES, [0])
    return Tail(backbone, cut, head_cut, head, trained=trained, batch_norm=rule)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(6, 32, 16, 16, generator=random), torch.arange(6) % CLASSES


def learn(tail: Tail, steps: int = 2) -> None:
    """Train as the loop does, from eval mode, with an optimiser over all that is trained."""
    parameters = [p for group in tail.groups().values() for p in group]
    optimizer = torch.optim.SGD(parameters, lr=0.1, weight_decay=0.01)
    for step in range(steps):
        tail.eval()
        tail.train()
        z, y = batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(tail(z)[0], y).backward()
        optimizer.step()


def state(tail: Tail) -> dict[str, Tensor]:
    """Return weights and statistics by stage: ``layer3.1|bn1.running_mean``."""
    modules = [*zip(tail.names, tail.stages, strict=True), ("head", tail.head)]
    return {
        f"{stage}|{name}": value.detach().clone()
        for stage, module in modules
        for name, value in module.state_dict().items()
    }


def moved(tail: Tail, work=learn) -> set[str]:
    before = state(tail)
    work(tail)
    return {name for name, value in state(tail).items() if not torch.equal(value, before[name])}


def statistics(names: set[str]) -> set[str]:
    endings = ("running_mean", "running_var", "num_batches_tracked")
    return {name for name in names if name.endswith(endings)}


def norms(names: set[str]) -> set[str]:
    return {name for name in names if "|bn" in name}


def of(tail: Tail, *stages: str) -> set[str]:
    return {name for name in state(tail) if name.partition("|")[0] in stages}


def test_only_what_is_trained_moves() -> None:
    tail = tail_of(network(), ["layer3.1"])
    assert moved(tail) == of(tail, "layer3.1", "head")


def test_statistics_of_frozen_stages_stay_on_both_sides_of_a_trained_one() -> None:
    tail = tail_of(network(), ["layer3.1"])
    changed = moved(tail)
    assert statistics(changed) == statistics(of(tail, "layer3.1", "head"))
    assert len(statistics(of(tail, "layer3.0", "layer3.2"))) == 12  # there were some to move


def test_frozen_batch_norm_moves_nowhere_and_does_not_learn() -> None:
    tail = tail_of(network(), STAGES, "frozen")
    changed = moved(tail)
    backbone = of(tail, *STAGES)
    assert not norms(changed)
    assert changed >= backbone - norms(backbone)
    assert statistics(changed) == statistics(
        of(tail, "head")
    )  # the head's own is not the backbone's


def test_trained_batch_norm_moves_and_learns_in_frozen_stages_too() -> None:
    tail = tail_of(network(), ["layer3.2"], "train")
    changed = moved(tail)
    assert changed == norms(of(tail, *STAGES)) | of(tail, "layer3.2", "head")


@pytest.mark.parametrize("rule", ["follow", "frozen", "train"])
def test_evaluation_moves_nothing_and_switches_everything(rule: str) -> None:
    tail = tail_of(network(), ["layer3.1"], rule)
    tail.train()

    def look(tail: Tail) -> None:
        tail.eval()
        tail(batch()[0])

    assert not moved(tail, look)
    assert not any(part.training for part in tail.modules())


def test_a_parent_that_switches_to_training_mode_is_not_obeyed() -> None:
    tail = tail_of(network(), ["layer3.1"])
    whole = nn.Sequential(tail)
    whole.train()
    assert [stage.training for stage in tail.stages] == [False, True, False, False]
    assert tail.head.training
    assert not any(part.training for part in tail.stages[0].modules())
    assert all(part.training for part in tail.stages[1].modules())


def test_gradients_pass_through_a_frozen_stage() -> None:
    tail = tail_of(network(), ["layer3.0"])
    reference = copy.deepcopy(tail)
    z, y = batch()
    tail.train()
    nn.functional.cross_entropy(tail(z)[0], y).backward()
    for part in reference.parameters():
        part.requires_grad_(True)
    x = z
    for stage, trains in zip(reference.stages, (True, False, False, False), strict=True):
        x = stage.train(trains)(x)
    nn.functional.cross_entropy(reference.head.train()(x)[0], y).backward()
    for (name, p), q in zip(tail.named_parameters(), reference.parameters(), strict=True):
        if name.startswith(("stages.0", "head")):
            assert p.grad is not None
            assert p.grad.abs().max() > 0
            torch.testing.assert_close(p.grad, q.grad)
        else:
            assert p.grad is None, name


@pytest.mark.parametrize(
    ("trained", "rule", "groups"),
    [
        ([], "follow", ["head"]),
        (["layer3.1"], "follow", ["layer3.1", "head"]),
        (STAGES, "follow", ["layer3.0", "layer3.1", "layer3.2", "head"]),
        (STAGES, "frozen", ["layer3.0", "layer3.1", "layer3.2", "head"]),
        (["layer3.2"], "train", ["layer3.0", "layer3.1", "layer3.2", "head"]),
    ],
)
def test_groups_are_exactly_the_parameters_that_learn(trained, rule, groups) -> None:
    backbone = network()
    identities = {
        id(p): stage for stage, m in backbone.modules("input", LAST) for p in m.parameters()
    }
    tail = tail_of(backbone, trained, rule)
    found = tail.groups()
    assert list(found) == groups  # in the network's order, the head last, none that is empty
    everything = [p for group in found.values() for p in group]
    assert len({id(p) for p in everything}) == len(everything)
    assert {id(p) for p in everything} == {id(p) for p in tail.parameters() if p.requires_grad}
    for stage, group in found.items():
        # The very parameters of the backbone, not copies.
        assert {identities.get(id(p), "head") for p in group} == {stage}
    for stage in trained:
        module = dict(backbone.modules("input", LAST))[stage]
        expected = {
            id(p)
            for part in module.modules()
            for p in part.parameters(recurse=False)
            if rule != "frozen" or not isinstance(part, nn.BatchNorm2d)
        }
        assert {id(p) for p in found.get(stage, ())} == expected


def test_a_parameter_of_two_stages_is_in_one_group() -> None:
    backbone = network()
    stages = dict(backbone.modules("input", LAST))
    stages["layer3.2"].conv1.weight = stages["layer3.1"].conv1.weight
    found = tail_of(backbone, ["layer3.1", "layer3.2"]).groups()
    shared = stages["layer3.1"].conv1.weight
    assert [any(p is shared for p in found[s]) for s in ("layer3.1", "layer3.2")] == [True, False]


@pytest.mark.parametrize("rule", ["follow", "train"])
def test_what_the_author_fixed_stays_fixed(rule: str) -> None:
    backbone = network()
    block = dict(backbone.modules("input", LAST))["layer3.1"]
    fixed = (block.conv1.weight, block.bn1.bias)
    released = backbone.releasable

    class Fixing:
        """The same backbone, of which two parameters were never to be trained."""

        def __getattr__(self, name: str) -> object:
            return getattr(backbone, name)

        def releasable(self, module: nn.Module) -> list[nn.Parameter]:
            return [p for p in released(module) if all(p is not f for f in fixed)]

    tail = tail_of(Fixing(), ["layer3.1"], rule)
    assert not any(p.requires_grad for p in fixed)
    changed = moved(tail)
    assert "layer3.1|bn1.weight" in changed
    assert not changed & {"layer3.1|conv1.weight", "layer3.1|bn1.bias"}


@pytest.mark.parametrize("rule", ["follow", "frozen", "train"])
def test_the_next_stages_tail_sets_everything_anew(rule: str) -> None:
    """What is trained does not depend on what was trained before."""
    fresh, used = network(), network()
    for first in (["layer3.0", "layer3.2"], []):
        for before in ("train", "frozen", "follow"):
            learn(tail_of(used, first, before))
            tail_of(used, first, before).train()
            ours = tail_of(used, ["layer3.1"], rule)
            expected = tail_of(fresh, ["layer3.1"], rule)
            for tail in (ours, expected):
                tail.train()
            flags = [[p.requires_grad for p in tail.parameters()] for tail in (ours, expected)]
            assert flags[0] == flags[1]
            modes = [[m.training for m in tail.modules()] for tail in (ours, expected)]
            assert modes[0] == modes[1]
            assert list(ours.groups()) == list(expected.groups())


def test_a_later_cut_after_an_earlier_one_leaves_a_frozen_prefix() -> None:
    backbone = network()
    learn(tail_of(backbone, STAGES))
    tail = tail_of(backbone, ["layer3.2"], cut="layer3.1")
    frozen = backbone.prefix("layer3.1")
    assert not any(p.requires_grad for p in frozen.parameters())
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    z = frozen(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    tail.train()
    tail(z).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in frozen.state_dict().items())
    assert set(tail.groups()) == {"layer3.2", "head"}


@pytest.mark.parametrize("head_cut", ["pooled", "layer3.0"])
def test_after_the_prefix_it_computes_what_network_and_head_compute(head_cut: str) -> None:
    backbone = network()
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    whole = backbone.prefix(head_cut)(x).flatten(1)
    tail = tail_of(backbone, [], head_cut=head_cut).eval()
    got = tail(backbone.prefix(CUT)(x))
    assert got.shape == (1, 3, CLASSES)
    torch.testing.assert_close(got, tail.head(whole), rtol=1e-5, atol=1e-5)


def test_training_a_tail_trains_the_backbone() -> None:
    backbone = network()
    before = backbone.digests()
    learn(tail_of(backbone, ["layer3.1"]))
    after = backbone.digests()
    assert [after[c] == before[c] for c in ("layer2.2", "layer3.0", "layer3.1")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_the_head_computes_in_float32_and_so_do_its_statistics(kind: torch.dtype) -> None:
    tail = tail_of(network(), ["layer3.1"]).train()
    z, _ = batch()
    with torch.autocast("cpu", dtype=kind):
        logits = tail(z)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert tail.stages[1].conv1.weight.grad is not None
    assert tail.head.norms[0].running_mean.abs().max() > 0


def test_the_heads_streams_are_the_tails() -> None:
    backbone = network()
    tail = Tail(backbone, CUT, LAST, build_head(HeadSpec(dropout=0.5), 64, 3, [7]), trained=[])
    z, _ = batch()
    tail.train()
    tail(z)
    state = tail.random_state()
    second = tail(z)
    assert not torch.equal(tail(z), second)
    tail.load_random_state(state)
    assert torch.equal(tail(z), second)


def test_the_head_is_trained_whatever_it_was_before() -> None:
    head = build_head(HeadSpec(), 64, 3, [0]).requires_grad_(False)
    tail = Tail(network(), CUT, LAST, head, trained=[])
    assert list(tail.groups()) == ["head"]
    assert len(tail.groups()["head"]) == 2


def test_a_stage_before_the_cut_cannot_be_trained() -> None:
    with pytest.raises(AssertionError, match="before the cut"):
        tail_of(network(), ["layer2.0"])


def test_a_tail_has_one_member() -> None:
    with pytest.raises(AssertionError, match="one model"):
        Tail(network(), CUT, LAST, build_head(HeadSpec(), 64, 3, [0, 1]), trained=[])


def test_sizes_of_stages() -> None:
    backbone = network()
    sizes = dict(stage_sizes(backbone, "layer3.0"))
    assert list(sizes) == list(backbone.stages[: backbone.stages.index("layer3.0") + 1])
    assert sizes["stem"] == 3 * 16 * 9 + 2 * 16
    assert sizes["layer3.0"] == (32 + 64) * 64 * 9 + 4 * 64


def test_what_is_promised_to_stay_is_all_that_does_not_move() -> None:
    for trained, rule in ((("layer3.1",), "follow"), (STAGES, "frozen"), (("layer3.0",), "frozen")):
        tail = tail_of(network(), trained, rule)
        fixed = {id(t) for t in [*tail.fixed().parameters(), *tail.fixed().buffers()]}
        names = {
            f"{stage}|{name}"
            for stage, module in zip(tail.names, tail.stages, strict=True)
            for name, value in [*module.named_parameters(), *module.named_buffers()]
            if id(value) in fixed
        }
        assert names
        assert not moved(tail) & names
        assert moved(tail) | names >= of(tail, *STAGES) - statistics(names)
    assert not list(tail_of(network(), (), "train").fixed())


def test_one_sample_alone_has_no_statistics() -> None:
    tail = tail_of(network(), STAGES)
    z, y = batch()
    tail.train()
    before = state(tail)
    loss = nn.functional.cross_entropy(tail(z[:1])[0], y[:1])
    loss.backward()
    assert torch.isfinite(loss)
    after = state(tail)
    still = statistics(set(before))
    assert all(torch.equal(before[name], after[name]) for name in still)
    tail(z)  # more than one: they move again
    assert any(not torch.equal(after[name], state(tail)[name]) for name in still)

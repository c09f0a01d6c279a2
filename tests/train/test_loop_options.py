"""The loop's options one by one: pieces of batches, averages, precision, losses, lost losses."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from train_tools import (
    CLASSES,
    CPU,
    WIDTH,
    Batches,
    Memory,
    assert_same,
    data,
    splits,
    timeless,
    tiny_network,
    weights_of,
)

from headstart.errors import StoppedError
from headstart.heads import HeadSpec, Tail, build_head, take_member
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    Hyperparameters,
    ParameterGroup,
    ScheduleSpec,
    TrainPlan,
    build_grouped_optimizer,
    build_optimizer,
    drain,
    fit,
)
from headstart.train.figures import count_right, denominator, loss_sums

RATE = 0.05
PLAN = TrainPlan(epochs=3, schedule=ScheduleSpec(), learning_rates=(RATE,), keep="last")


def plan(**changes) -> TrainPlan:
    fields = {name: getattr(PLAN, name) for name in TrainPlan.__slots__}
    return TrainPlan(**{**fields, **changes})


def source(seeds=(0,), batch_size: int = 20) -> CachedSource:
    features, labels = data()
    return CachedSource(
        ArrayFeatures(features),
        labels,
        splits(101, 59),
        seeds=seeds,
        batch_size=batch_size,
        device=CPU,
    )


def train_heads(spec=HeadSpec(), seeds=(0,), checkpoint=None, kind="sgd", **changes):  # noqa: B008
    head = build_head(spec, WIDTH, CLASSES, seeds)
    members = [Hyperparameters(RATE, momentum=0.5)] * len(seeds)
    optimizer = build_optimizer(kind, list(head.parameters()), members)
    chosen = plan(learning_rates=(RATE,) * len(seeds), **changes)
    records, outcomes = drain(fit(head, optimizer, source(seeds), chosen, checkpoint))
    return head, records, outcomes


def train_tail(batches: Batches, norm=nn.Identity, dropout: float = 0.0, **changes):
    backbone = tiny_network(norm=norm, dropout=dropout)
    head = build_head(HeadSpec(), 6, CLASSES, [0])
    tail = Tail(backbone, "stem", "pooled", head, trained=["block.0", "block.1"])
    groups = [ParameterGroup(name, p, RATE) for name, p in tail.groups().items()]
    optimizer = build_grouped_optimizer("sgd", groups, Hyperparameters(RATE, momentum=0.5))
    records, outcomes = drain(fit(tail, optimizer, batches, plan(**changes)))
    return tail, records, outcomes


def activations(soft: bool = False) -> Batches:
    """Make what the stem gives: 3 batches of 10, 10 and 7, and a validation batch."""
    random = torch.Generator().manual_seed(5)
    sizes = (10, 10, 7, 12)
    z = [torch.randn(n, 4, 4, 4, generator=random) for n in sizes]
    y = [torch.randint(0, CLASSES, (n,), generator=random) for n in sizes]
    shares = [torch.rand(n, CLASSES, generator=random) for n in sizes]
    targets = [s / s.sum(dim=1, keepdim=True) for s in shares] if soft else y
    return Batches(list(zip(z, targets, strict=True))[:3], (z[3], y[3]))


def close(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], rtol=1e-5, atol=1e-6)


LOSSES = [{}, {"label_smoothing": 0.2, "class_weights": (1.0, 3.0, 0.5, 1.5)}]


@pytest.mark.parametrize("losses", LOSSES, ids=["plain", "weighted"])
@pytest.mark.parametrize("seeds", [(0,), (2, 2, 2), (0, 1, 2)])
def test_pieces_of_a_batch_give_the_whole_batchs_weights(losses, seeds) -> None:
    # 20 = 7 + 7 + 6, and the last batch of the epoch is a single sample.
    whole, straight, _ = train_heads(seeds=seeds, **losses)
    pieces, records, _ = train_heads(seeds=seeds, micro_batch_size=7, **losses)
    close(pieces, whole)
    assert [r.loss for r in records] == pytest.approx([r.loss for r in straight], rel=1e-5)
    assert [r.accuracy for r in records] == [r.accuracy for r in straight]


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "shares"])
@pytest.mark.parametrize("losses", LOSSES, ids=["plain", "weighted"])
def test_pieces_of_a_batch_train_a_network_the_same(losses, soft) -> None:
    whole, *_ = train_tail(activations(soft), **losses)
    pieces, *_ = train_tail(activations(soft), micro_batch_size=4, **losses)
    close(pieces, whole)


def test_pieces_of_a_batch_are_no_larger_than_asked() -> None:
    seen: list[int] = []

    class Watched(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    train_tail(activations(), norm=Watched, micro_batch_size=4, epochs=1)
    block = seen[::2]  # two blocks look at each piece
    assert block == [4, 4, 2, 4, 4, 2, 4, 3, 12]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["shared", "apart", "shares"])
def test_the_loss_is_torchs_own(kind: str, weighted: bool, smoothing: float) -> None:
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 8, CLASSES, generator=random)
    target = torch.randint(0, CLASSES, (3, 8) if kind == "apart" else (8,), generator=random)
    if kind == "shares":
        target = torch.softmax(torch.randn(8, CLASSES, generator=random), dim=1)
    weight = torch.tensor([1.0, 3.0, 0.5, 1.5]) if weighted else None
    reference = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)
    got = loss_sums(logits, target, smoothing, weight) / denominator(target, weight)
    for member in range(3):
        own = target[member] if kind == "apart" else target
        assert float(got[member]) == pytest.approx(reference(logits[member], own).item(), rel=1e-5)
        truth = own.argmax(dim=1) if kind == "shares" else own
        right = int((logits[member].argmax(dim=1) == truth).sum())
        assert int(count_right(logits, target)[member]) == right


def test_each_member_is_clipped_alone() -> None:
    together, *_ = train_heads(seeds=(0, 1, 2), clip_norm=0.05)
    free, *_ = train_heads(seeds=(0, 1, 2))
    for member in range(3):
        alone, *_ = train_heads(seeds=(member,), clip_norm=0.05)
        close(take_member(together, member, WIDTH, CLASSES), alone)
    assert not torch.allclose(together.layers[0].weight, free.layers[0].weight, atol=1e-3)


def test_validation_and_what_is_kept_are_the_averages() -> None:
    features, labels = data()
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    start = build_head(HeadSpec(), WIDTH, CLASSES, [0])
    linear = nn.Linear(WIDTH, CLASSES)
    linear.load_state_dict({k: getattr(start.layers[0], k)[0] for k in ("weight", "bias")})
    optimizer = torch.optim.SGD(linear.parameters(), lr=RATE, momentum=0.5)
    mean = {k: v.clone() for k, v in linear.state_dict().items()}
    steps = 0
    for epoch in (1, 2, 3):
        for z, target in source().train(epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(linear(z), target).backward()
            optimizer.step()
            steps += 1
            decay = min(0.8, (1 + steps) / (10 + steps))
            for name, value in linear.state_dict().items():
                mean[name] = decay * mean[name] + (1 - decay) * value
    for keep in ("last", "best"):
        head, records, _ = train_heads(ema=0.8, keep=keep)
        for name, value in mean.items():
            torch.testing.assert_close(
                getattr(head.layers[0], name)[0].detach(), value, rtol=1e-5, atol=1e-6
            )
    assert not torch.allclose(mean["weight"], linear.weight, atol=1e-3)
    logits = nn.functional.linear(x[101:], mean["weight"], mean["bias"])
    assert records[-1].split == "val"
    assert records[-1].loss == pytest.approx(
        nn.functional.cross_entropy(logits, y[101:]).item(), rel=1e-4
    )


class Seen(nn.Identity):
    """Remembers what it was given, in copies of it too."""

    kinds: set[tuple[torch.dtype, bool]]

    def forward(self, x: Tensor) -> Tensor:
        self.kinds.add((x.dtype, self.training))
        return x


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_learns_and_only_training_steps_use_it(precision: str) -> None:
    kinds: set[tuple[torch.dtype, bool]] = set()

    def norm(width: int) -> nn.Module:
        seen = Seen()
        seen.kinds = kinds
        return nn.Sequential(nn.BatchNorm2d(width), seen)

    # Classes that differ in what the stem says of them.
    z, y = activations().batches[0]
    z = z + torch.nn.functional.one_hot(y, CLASSES)[:, :, None, None] * 2
    batches = Batches([(z, y)] * 4, (z, y))
    tail, records, _ = train_tail(batches, norm=norm, precision=precision, epochs=15)
    assert records[-1].accuracy == 1.0
    assert records[-1].loss < 0.5 * records[1].loss
    assert kinds == {(getattr(torch, precision), True), (torch.float32, False)}
    assert {v.dtype for v in tail.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    "spec",
    [
        HeadSpec(),
        HeadSpec(hidden=(9,), dropout=0.2, normalization="layer"),
    ],
    ids=str,
)
def test_heads_train_in_bfloat16(spec: HeadSpec) -> None:
    _, records, _ = train_heads(spec, seeds=(0, 1), kind="adam", precision="bfloat16", epochs=8)
    assert all(r.accuracy > 0.85 for r in records[-4:])


def test_a_step_whose_float16_gradients_are_lost_is_left_out() -> None:
    z = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0)) * 1000
    batches = Batches([(z, torch.tensor([0, 1, 2, 3, 0, 1]))] * 12, (z, torch.arange(6) % 4))
    head = build_head(HeadSpec(), WIDTH, CLASSES, [0], zero_init=True)
    optimizer = build_optimizer("adam", list(head.parameters()), [Hyperparameters(1e-5)])
    memory = Memory(every_step=True)
    drain(fit(head, optimizer, batches, plan(precision="float16", ema=0.9, epochs=1), memory))
    *during, _ = memory.all  # the last one is that of the end
    assert during[0].record["scale"] == [32768.0, 0]
    left_out = made = 0
    for before, after in itertools.pairwise(during):
        weights = [s.under("model")["layers.0.weight"] for s in (before, after)]
        moments = [s.under("optimizer")["steps"] for s in (before, after)]
        averaged = [s.under("average")[".steps"] for s in (before, after)]
        if after.record["scale"][0] < before.record["scale"][0]:
            left_out += 1
            assert torch.equal(*weights)
            assert torch.equal(*moments)
            assert torch.equal(*averaged)
            assert after.record["scale"] == [before.record["scale"][0] / 2, 0]
        else:
            made += 1
            assert not torch.equal(*weights)
            assert int(averaged[1]) == int(averaged[0]) + 1
            assert after.record["scale"][1] == before.record["scale"][1] + 1
    assert left_out >= 2
    assert made >= 2


def test_float16_is_for_one_model() -> None:
    with pytest.raises(ValueError, match="several members"):
        train_heads(seeds=(0, 1), precision="float16")


def test_a_single_lost_model_stops_at_once_with_its_last_good_weights() -> None:
    def spoil(epoch: int, z: Tensor) -> Tensor:
        return z * math.nan if epoch == 3 else z

    batches = activations()
    batches.spoil = spoil
    tail, records, (outcome,) = train_tail(batches, epochs=9, keep="best")
    assert batches.taken == 3 + 3 + 1
    assert outcome.state == "diverged"
    assert outcome.epochs == 3
    assert outcome.best_epoch in (1, 2)
    assert outcome.message is not None
    for words in ("no longer a finite number in epoch 3", f"{RATE:g}", "lower learning rate"):
        assert words in outcome.message
    assert [r.epoch for r in records] == [1, 1, 2, 2, 3, 3]
    assert math.isnan(records[-1].loss)
    assert all(torch.isfinite(v).all() for v in tail.state_dict().values())
    good = activations()
    kept, *_ = train_tail(good, epochs=outcome.best_epoch, keep="last")
    assert_same(weights_of(tail), weights_of(kept))


def test_a_member_that_is_lost_leaves_the_others_bit_for_bit_as_they_were() -> None:
    def train(rates: tuple[float, ...]):
        head = build_head(HeadSpec(), WIDTH, CLASSES, [0] * len(rates))
        members = [Hyperparameters(rate) for rate in rates]
        optimizer = build_optimizer("adam", list(head.parameters()), members)
        chosen = plan(learning_rates=rates, keep="best", clip_norm=1.0, ema=0.9)
        _, outcomes = drain(fit(head, optimizer, source([0] * len(rates)), chosen))
        return head, outcomes

    wild, outcomes = train((RATE, 1e38, RATE / 2))
    tame, _ = train((RATE, RATE, RATE / 2))
    assert [o.state for o in outcomes] == ["complete", "diverged", "complete"]
    for member in (0, 2):
        assert_same(
            weights_of(take_member(wild, member, WIDTH, CLASSES)),
            weights_of(take_member(tame, member, WIDTH, CLASSES)),
        )


def test_torchs_random_stream_is_the_callers_own() -> None:
    def train(seed: int, noisy: bool):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        backbone = tiny_network(dropout=0.5)
        head = build_head(HeadSpec(dropout=0.2), 6, CLASSES, [0])
        tail = Tail(backbone, "stem", "pooled", head, trained=["block.0", "block.1"])
        groups = [ParameterGroup(name, p, RATE) for name, p in tail.groups().items()]
        optimizer = build_grouped_optimizer("sgd", groups, Hyperparameters(RATE))
        expected = torch.Generator()
        expected.set_state(torch.get_rng_state())
        for _ in fit(tail, optimizer, activations(), plan(seed=3)):
            if noisy:  # whoever reads the records draws too, and from the same stream as ever
                assert torch.equal(torch.rand(5), torch.rand(5, generator=expected))
        if not noisy:
            assert torch.equal(torch.get_rng_state(), before)
        return weights_of(tail)

    quiet = train(1, noisy=False)
    assert_same(quiet, train(2, noisy=False))
    assert_same(quiet, train(1, noisy=True))


def test_torchs_random_stream_comes_back_when_the_training_is_stopped() -> None:
    before = torch.get_rng_state()
    with pytest.raises(StoppedError, match="epoch 1, after step 2"):
        train_heads(HeadSpec(dropout=0.5), checkpoint=Memory(stop_after=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_in_the_backbone_follows_the_seed_and_the_stage() -> None:
    base, *_ = train_tail(activations(), dropout=0.5)
    same, *_ = train_tail(activations(), dropout=0.5)
    assert_same(weights_of(base), weights_of(same))
    for change in ({"seed": 1}, {"stage": 1}):
        other, *_ = train_tail(activations(), dropout=0.5, **change)
        assert not torch.equal(base.head.layers[0].weight, other.head.layers[0].weight)
    # Weights that stand still after the first epoch, and new masks in each of them.
    still = ScheduleSpec("exponential", gamma=0.0)
    _, records, _ = train_tail(activations(), dropout=0.5, epochs=4, schedule=still)
    losses = [r.loss for r in records]
    assert len(set(losses[1::2])) == 1
    assert len(set(losses[2::2])) == 3


def test_the_record_says_the_rate_of_each_epochs_last_step() -> None:
    schedule = ScheduleSpec("linear")
    _, records, _ = train_heads(schedule=schedule, epochs=3, stage=2)
    rates = [r.learning_rate for r in records if r.split == "val"]
    assert rates == pytest.approx([RATE * (1 - step / 18) for step in (5, 11, 17)])
    assert {r.stage for r in records} == {2}
    assert timeless(records)[0].seconds == 0
    assert all(np.isfinite(r.seconds) and r.seconds > 0 for r in records)

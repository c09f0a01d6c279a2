"""Averaged weights, penalties, steps of different size: what language models train with."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from train_tools import (
    CPU,
    Batches,
    Memory,
    assert_same,
    stop_and_go,
    timeless,
    tiny_network,
    weights_of,
)
from transformers import BertConfig, BertModel

from headstart.backbones.recurrent import LanguageNetwork, RecurrentSpec
from headstart.heads import HeadSpec, Tail, build_head, undecayed
from headstart.train import (
    Hyperparameters,
    LanguageSource,
    ParameterGroup,
    ScheduleSpec,
    TrainPlan,
    build_grouped_optimizer,
    build_optimizer,
    drain,
    fit,
)


class Scalar(nn.Module):
    """Says 0 or 1 by one number w: logits [-w, w] times the input."""

    def __init__(self, w: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w]))

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([-self.w * z[:, 0], self.w * z[:, 0]], dim=-1)[None]


@dataclass
class Scripted:
    """Trains on nothing much; validation losses are as written down."""

    losses: list[float]
    model: Scalar
    steps_per_epoch: int = 3
    ready: bool = True
    width: int = 1
    looked: int = 0
    shown: list[float] | None = None

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        random = np.random.default_rng(epoch)
        batches = random.normal(size=(self.steps_per_epoch, 4, 1)).astype(np.float32)
        for batch in batches[skip:]:
            yield torch.from_numpy(batch), torch.tensor([0, 1, 1, 0])

    def split(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        assert name == "val"
        if self.shown is not None:
            self.shown.append(float(self.model.w.detach()))
        # Logits ∓w·z: the input that makes the loss of class 1 what is asked for.
        target = self.losses[self.looked]
        self.looked += 1
        margin = -np.log(np.expm1(target))  # softplus(-margin) = target
        z = torch.tensor([[margin / (2 * float(self.model.w.detach()))]])
        yield z.float(), torch.tensor([1])


def averaged_from(losses: list[float], wait: int) -> tuple[int | None, list[float], list[float]]:
    """Return the epoch after which weights were averaged, weights shown, weights at each step."""
    model = Scalar(0.5)
    source = Scripted(losses, model, shown=[])
    trail: list[float] = []

    class Noting:
        def __init__(self) -> None:
            self.inner = build_grouped_optimizer(
                "sgd", [ParameterGroup("all", tuple(model.parameters()), 0.3)], Hyperparameters(0.3)
            )

        def __getattr__(self, name: str):
            return getattr(self.inner, name)

        def step(self, factor: float) -> None:
            self.inner.step(factor)
            trail.append(float(model.w.detach()))

    plan = TrainPlan(
        epochs=len(losses),
        schedule=ScheduleSpec(),
        learning_rates=(0.3,),
        keep="last",
        average_after=wait,
    )
    drain(fit(model, Noting(), source, plan))  # type: ignore[arg-type]
    assert source.shown is not None
    plain = [trail[3 * e + 2] for e in range(len(losses))]
    began = next((e for e, w in enumerate(source.shown) if abs(w - plain[e]) > 1e-7), None)
    assert float(model.w.detach()) == pytest.approx(source.shown[-1])  # it ends with the average
    return began, source.shown, trail


def published(losses: list[float], wait: int) -> int | None:
    """Return the check after which averaging begins, from 0: Merity et al. (2017), algorithm 1."""
    logs: list[float] = []
    for t, v in enumerate(losses):
        if t > wait and v > min(logs[: t - wait]):
            return t
        logs.append(v)
    return None


LOSSES = {
    "falls for ever": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5],
    "rises at once": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    "rises late": [1.0, 0.7, 0.6, 0.5, 0.55, 0.58, 0.72, 0.5],
    "one outlier": [1.0, 0.6, 0.9, 0.55, 0.5, 0.45],
    "stays": [0.6] * 6,
}


@pytest.mark.parametrize("wait", [1, 2, 3])
@pytest.mark.parametrize("case", LOSSES)
def test_averaging_begins_as_published_and_is_the_mean_of_all_steps_since(
    case: str, wait: int
) -> None:
    losses = LOSSES[case]
    trigger = published(losses, wait)
    began, shown, trail = averaged_from(losses, wait)
    expected = None if trigger is None or trigger + 1 == len(losses) else trigger + 1
    assert began == expected
    if began is not None:
        for epoch in range(began, len(losses)):
            since = trail[3 * began : 3 * epoch + 3]
            assert shown[epoch] == pytest.approx(np.mean(since), rel=1e-5)


TOKENS = {
    "train": np.random.default_rng(0).integers(0, 12, 400),
    "val": np.random.default_rng(1).integers(0, 12, 90),
}


def language(memory: Memory | None, *, average_after: int | None = 1, epochs: int = 6, **spec):
    """Make trainings that overfit noise: averaging begins in their middle."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = LanguageNetwork(
            RecurrentSpec(
                "lstm",
                12,
                6,
                8,
                layers=2,
                tied=True,
                **{"dropout_hidden": 0.2, "dropout_weight": 0.2, "dropout_words": 0.1, **spec},
            )
        )
    source = LanguageSource(
        network, TOKENS, batch_size=5, bptt=12, seed=2, random_lengths=True, device=CPU
    )
    optimizer = build_grouped_optimizer(
        "sgd", [ParameterGroup("all", tuple(network.parameters()), 3.0)], Hyperparameters(3.0)
    )
    plan = TrainPlan(
        epochs=epochs,
        schedule=ScheduleSpec(),
        learning_rates=(3.0,),
        seed=1,
        average_after=average_after,
        clip_norm=0.5,
        keep="last",
        record_steps=4,
    )
    return network, fit(network, optimizer, source, plan, memory)


def test_a_language_model_goes_on_bit_for_bit_wherever_it_was_stopped() -> None:
    spec = {"alpha": 1.0, "beta": 1.0}

    def make(memory: Memory | None):
        return language(memory, **spec)

    memory = Memory(every_step=True)
    model, steps = make(memory)
    records, outcomes = drain(steps)
    assert "average..steps" not in memory.all[0].tensors
    switch = next(i for i, s in enumerate(memory.all) if "average..steps" in s.tensors)
    per_epoch = next(r.step for r in records if r.split == "val")
    assert 2 * per_epoch <= switch < 5 * per_epoch, "the switch has to lie in the middle"
    for step in (1, switch - 1, switch, switch + 1, switch + per_epoch, len(memory.all) - 2):
        _, again, resumed, ended = stop_and_go(make, memory.all[step], None)
        assert ended == outcomes, step
        assert str(timeless(resumed)) == str(timeless(records)), step
        assert_same(weights_of(model), weights_of(again))


def test_the_average_is_what_is_kept_and_averaging_moves_no_training_weight() -> None:
    one, two = Memory(every_step=True), Memory(every_step=True)
    averaged, steps = language(one)
    with_average, _ = drain(steps)
    plain, steps = language(two, average_after=None)
    without, _ = drain(steps)
    train = [[r.loss for r in rs if r.split == "train"] for rs in (with_average, without)]
    assert train[0] == train[1]
    val = [[r.loss for r in rs if r.split == "val"] for rs in (with_average, without)]
    assert val[0] != val[1]
    last = [s.under("model") for s in (one.all[-2], two.all[-2])]
    assert_same(*last)
    assert not torch.equal(averaged.decoder.weight, plain.decoder.weight)
    assert averaged.decoder.weight is averaged.embedding.weight  # tied as before


def test_a_penalty_moves_weights_and_is_not_in_the_recorded_loss() -> None:
    class Penalised(Scalar):
        def penalty(self) -> Tensor:
            return 2.0 * self.w.square().sum()

    z, y = torch.zeros(4, 1), torch.tensor([0, 1, 1, 0])  # the loss is ln 2 and pulls nowhere
    for micro in (None, 3):
        model = Penalised(0.5)
        optimizer = build_grouped_optimizer(
            "sgd", [ParameterGroup("all", (model.w,), 0.1)], Hyperparameters(0.1)
        )
        plan = TrainPlan(
            epochs=1,
            schedule=ScheduleSpec(),
            learning_rates=(0.1,),
            micro_batch_size=micro,
            record_steps=1,
        )
        records, _ = drain(fit(model, optimizer, Batches([(z, y)], (z, y)), plan))
        assert [r.loss for r in records] == pytest.approx([np.log(2)] * 3)
        assert float(model.w.detach()) == pytest.approx(0.5 - 0.1 * 2 * 2 * 0.5)


def test_a_source_says_how_much_a_step_counts() -> None:
    class Paces(Batches):
        def rate(self) -> float:
            return (1.0, 0.25)[self.taken - 1]

    z, y = torch.ones(4, 1), torch.tensor([1, 1, 1, 1])
    moved = []
    for kind in (Batches, Paces):
        model = Scalar(0.0)
        optimizer = build_grouped_optimizer(
            "sgd", [ParameterGroup("all", (model.w,), 1e-4)], Hyperparameters(1e-4)
        )
        plan = TrainPlan(epochs=1, schedule=ScheduleSpec(), learning_rates=(1e-4,), keep="last")
        drain(fit(model, optimizer, kind([(z, y), (z, y)], (z, y)), plan))
        moved.append(float(model.w.detach()))
    assert moved[1] / moved[0] == pytest.approx(1.25 / 2, rel=1e-3)


class _Network(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.norm = nn.LayerNorm(3)
        self.recurrent = nn.LSTM(3, 3)
        self.linear = nn.Linear(3, 3)


def test_what_does_not_decay_are_biases_and_normalisations() -> None:
    tiny = BertModel(
        BertConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            vocab_size=9,
            max_position_embeddings=8,
        )
    )
    language_network = LanguageNetwork(RecurrentSpec("gru", 9, 4, 4, tied=True))
    heads = build_head(HeadSpec(hidden=(4,), normalization="batch"), 5, 2, [0, 1])
    for module in (_Network(), tiny, language_network, heads):
        exempt = undecayed(module)
        for name, parameter in module.named_parameters():
            spared = "bias" in name or "norm" in name.lower()
            if isinstance(module, type(heads)):
                # Weights are [members, out, in]; all else is one row of numbers for each member.
                spared = parameter.dim() == 2
            assert (id(parameter) in exempt) == spared, name


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop"])
def test_only_weights_decay_in_a_batch_of_heads_and_in_groups(kind: str) -> None:
    head = build_head(HeadSpec(hidden=(4,), normalization="batch"), 5, 2, [0, 1])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(1.0)
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    settings = [Hyperparameters(0.1, weight_decay=0.2), Hyperparameters(0.1)]
    exempt = undecayed(head)
    optimizer = build_optimizer(kind, list(head.parameters()), settings, exempt=exempt)
    _no_gradients(optimizer)
    for name, parameter in head.named_parameters():
        decayed = [not torch.equal(parameter[m], before[name][m]) for m in range(2)]
        assert decayed == [id(parameter) not in exempt, False], name

    network = LanguageNetwork(RecurrentSpec("lstm", 9, 4, 4))
    exempt = undecayed(network)
    groups = [
        ParameterGroup("all", tuple(p for p in network.parameters() if id(p) not in exempt), 0.1),
        ParameterGroup(
            "all", tuple(p for p in network.parameters() if id(p) in exempt), 0.1, decays=False
        ),
    ]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    grouped = build_grouped_optimizer(kind, groups, settings[0])
    _no_gradients(grouped)
    for name, parameter in network.named_parameters():
        assert bool((parameter != 1).all()) == ("bias" not in name), name
        assert bool((parameter != 1).any()) == ("bias" not in name), name


def _no_gradients(optimizer) -> None:
    for parameter in optimizer.parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)


def test_a_tails_norms_are_among_what_does_not_decay() -> None:
    head = build_head(HeadSpec(), 6, 4, [0])
    tail = Tail(tiny_network(), "stem", "pooled", head, trained=["block.0", "block.1"])
    exempt = undecayed(tail)
    spared = {name for name, p in tail.named_parameters() if id(p) in exempt}
    assert {name for name, p in tail.named_parameters() if p.dim() == 1} <= spared
    assert not any(p.dim() == 4 for n, p in tail.named_parameters() if n in spared)

"""Weights that several layers share, as in ALBERT, are kept once and put back whole."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch
from torch import Tensor, nn
from train_tools import (
    CLASSES,
    WIDTH,
    Batches,
    Memory,
    assert_same,
    data,
    stop_and_go,
    timeless,
    weights_of,
)

from headstart.errors import StoppedError
from headstart.train import (
    CheckpointFolder,
    Hyperparameters,
    ParameterGroup,
    ScheduleSpec,
    TrainPlan,
    build_grouped_optimizer,
    drain,
    fit,
)
from headstart.train.gradients import Average
from headstart.train.keeper import Keeper, Tally
from headstart.train.state import load_own_state, own_state

LAYERS = 4
ONCE = {"embeddings", "layers.0", "head"}


class Repeated(nn.Module):
    """One layer that is passed four times, between two that are passed once."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embeddings = nn.Linear(WIDTH, 6)
            layer = nn.Linear(6, 6)
            self.layers = nn.ModuleList([layer] * LAYERS)
            self.dropout = nn.Dropout(0.2)
            self.head = nn.Linear(6, CLASSES)

    def forward(self, z: Tensor) -> Tensor:
        z = self.embeddings(z)
        for layer in self.layers:
            z = self.dropout(torch.tanh(layer(z)))
        return self.head(z)[None]


def modules(names) -> set[str]:
    return {name.rpartition(".")[0] for name in names}


def parameters_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def filled(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_shared_tensors_are_named_once_and_restored_everywhere() -> None:
    model, other = Repeated(), Repeated(1)
    state = own_state(model)
    assert modules(state) == ONCE
    assert sum(v.numel() for v in state.values()) == parameters_of(model)
    assert modules(model.state_dict()) == ONCE | {f"layers.{i}" for i in range(LAYERS)}
    load_own_state(other, {name: value.clone() for name, value in state.items()})
    assert_same(other.state_dict(), model.state_dict())
    assert other.layers[0].weight is other.layers[3].weight


def test_tensors_that_merely_lie_together_are_all_kept() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            both = torch.arange(8.0)
            for name, value in {
                "first": both[:4],
                "second": both[4:],
                "whole": both,
                "square": both[:4].view(2, 2),
                "none": torch.empty(0),
                "nothing": torch.empty(0),
            }.items():
                self.register_buffer(name, value)

    assert own_state(Views()).keys() == Views().state_dict().keys()


def test_the_state_of_another_model_is_not_put_in_half() -> None:
    state = dict(own_state(Repeated()))
    del state["layers.0.weight"]
    with pytest.raises(AssertionError, match=r"another model: it lacks \['layers\.0\.weight'\]"):
        load_own_state(Repeated(), state)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_own_state(Repeated(), {**own_state(Repeated()), "head.bias": torch.zeros(9)})


def test_the_best_weights_are_kept_once_and_put_back_whole() -> None:
    model = Repeated()
    keeper = Keeper(model, [0.1], keep="best", best_by="loss", early_stopping=None)

    def look(epoch: int, loss: float) -> None:
        figure = torch.tensor([loss]).numpy()
        keeper.look(epoch, Tally(figure, figure), Tally(figure, figure))

    filled(model, 0.25)
    look(1, 1.0)
    best = weights_of(model)
    filled(model, 0.5)
    look(2, 2.0)
    assert modules(n for n in keeper.tensors() if not n.startswith(".")) == ONCE
    keeper.restore()
    assert_same(weights_of(model), best)
    again = Repeated(1)
    loaded = Keeper(again, [0.1], keep="best", best_by="loss", early_stopping=None)
    loaded.load(keeper.tensors(), keeper.words())
    loaded.restore()
    assert_same(weights_of(again), best)


def test_an_average_holds_shared_weights_once_and_steps_them_once() -> None:
    model = Repeated()
    filled(model, 0.0)
    average = Average(model, None)
    for value in (1.0, 3.0):
        filled(model, value)
        average.update()
    assert modules(n for n in average.state() if not n.startswith(".")) == ONCE
    with average.shown():
        # Averaged at each of its four names, a layer would be nearer to the last value.
        assert {float(v) for p in weights_of(model).values() for v in p.flatten()} == {2.0}
    assert {float(v) for p in weights_of(model).values() for v in p.flatten()} == {3.0}


def training(memory: Memory | CheckpointFolder | None):
    """Make trainings of 2 epochs of 3 steps, with averaged weights and dropout."""
    features, labels = data(44)
    z, y = torch.from_numpy(features), torch.from_numpy(labels)
    batches = [(z[i : i + 10], y[i : i + 10]) for i in (0, 10, 20)]
    model = Repeated()
    optimizer = build_grouped_optimizer(
        "sgd",
        [ParameterGroup("all", tuple(model.parameters()), 0.3)],
        Hyperparameters(0.3, momentum=0.9),
    )
    plan = TrainPlan(
        epochs=2, schedule=ScheduleSpec(), learning_rates=(0.3,), seed=1, ema=0.8, keep="best"
    )
    return model, fit(model, optimizer, Batches(batches, (z[30:], y[30:])), plan, memory)


def test_a_checkpoint_holds_shared_weights_once_and_a_resumed_training_ends_the_same() -> None:
    memory = Memory(every_step=True)
    model, steps = training(memory)
    records, outcomes = drain(steps)
    assert memory.steps == 6
    for saved in memory.all[:-1]:
        for group in ("model", "best", "average"):
            names = [n for n in saved.under(group) if not n.startswith(".")]
            assert modules(names) == ONCE, group
    for stop_after in range(1, 7):
        saved, *_ = stop_and_go(training, None, stop_after)
        _, again, resumed, ended = stop_and_go(training, saved, None)
        assert_same(weights_of(again), weights_of(model))
        assert timeless(resumed) == timeless(records)
        assert ended == outcomes


def test_the_file_of_a_checkpoint_is_small(tmp_path: Path) -> None:
    def folder(stop: Callable[[], bool]) -> CheckpointFolder:
        return CheckpointFolder(tmp_path, every_seconds=None, every_steps=1, stop=stop)

    _, steps = training(folder(lambda: True))
    with pytest.raises(StoppedError):
        drain(steps)
    (path,) = tmp_path.glob("state-*.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        kept = {n: file.get_tensor(n).numel() for n in file.keys()}  # noqa: SIM118
    for group in ("model", "best", "average"):
        own = [n for n in kept if n.startswith(f"{group}.") and f"{group}.." not in n]
        assert sum(kept[n] for n in own) == parameters_of(Repeated())
    model, steps = training(folder(lambda: False))
    drain(steps)
    straight, steps = training(None)
    drain(steps)
    assert_same(weights_of(model), weights_of(straight))

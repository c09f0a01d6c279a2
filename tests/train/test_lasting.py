"""Gradients that are written where the last step's were are those that autograd allocates."""

import copy

import pytest
import torch
from torch import Tensor, nn
from train_tools import CLASSES, WIDTH, Batches, assert_same, data, weights_of

from headstart.train import (
    Hyperparameters,
    ParameterGroup,
    ScheduleSpec,
    TrainPlan,
    build_grouped_optimizer,
    drain,
    fit,
    lasting,
)
from headstart.train.lasting import LastingGradients

HIDDEN = 6


class Network(nn.Module):
    """A layer that is passed twice, two that share their weight, and some that are plain."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.first = nn.Linear(WIDTH, HIDDEN)
            self.again = nn.Linear(HIDDEN, HIDDEN)
            self.tied = nn.Linear(HIDDEN, HIDDEN)
            self.twin = nn.Linear(HIDDEN, HIDDEN)
            self.twin.weight = self.tied.weight
            self.bare = nn.Linear(HIDDEN, HIDDEN, bias=False)
            self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, z: Tensor) -> Tensor:
        z = torch.tanh(self.first(z))
        z = torch.tanh(self.again(torch.tanh(self.again(z))))
        z = torch.tanh(self.twin(torch.tanh(self.tied(z))))
        return self.head(self.bare(z))[None]


def plan(**options: object) -> TrainPlan:
    given = {"epochs": 3, "schedule": ScheduleSpec(), "learning_rates": (0.1,), "keep": "last"}
    return TrainPlan(**{**given, **options})


def trained(**options: object) -> Network:
    model = Network()
    features, labels = (torch.from_numpy(one) for one in data(48))
    batches = [(features[i : i + 12], labels[i : i + 12]) for i in range(0, 36, 12)]
    source = Batches(batches, (features[36:], labels[36:]))
    groups = [ParameterGroup("all", tuple(model.parameters()), 0.1)]
    optimizer = build_grouped_optimizer("sgd", groups, Hyperparameters(0.1, momentum=0.9))
    drain(fit(model, optimizer, source, plan(**options)))
    return model


@pytest.mark.parametrize("options", [{}, {"micro_batch_size": 5}, {"clip_norm": 0.1}, {"ema": 0.9}])
def test_a_training_ends_with_the_same_weights_bit_for_bit(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trained(**options)
    monkeypatch.setattr(lasting, "LEAST_BYTES", 0)
    written: list[int] = []
    gradient = lasting._Layer.gradient

    def noted(layer: lasting._Layer, above: Tensor, x: Tensor) -> Tensor:
        found = gradient(layer, above, x)
        written.append(found.data_ptr())
        return found

    monkeypatch.setattr(lasting._Layer, "gradient", noted)
    assert_same(weights_of(trained(**options)), weights_of(plain))
    assert written


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> nn.Linear:
    monkeypatch.setattr(lasting, "LEAST_BYTES", 0)
    return nn.Linear(4, 3)


def test_the_next_step_writes_to_the_same_memory(layer: nn.Linear) -> None:
    kept = LastingGradients(layer, plan())
    places = []
    for step in range(3):
        x = torch.randn(5, 4)
        layer.weight.grad = None
        with kept.used():
            layer(x).sum().backward()
        places.append(layer.weight.grad.data_ptr())
        torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(3, 4), msg=f"step {step}")
    assert len(set(places)) == 1


def test_a_gradient_that_is_there_is_added_to(layer: nn.Linear) -> None:
    x = torch.randn(5, 4)
    with LastingGradients(layer, plan()).used():
        for _ in range(3):
            layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, 3 * x.sum(0).expand(3, 4))


def test_afterwards_the_layer_is_what_it_was(layer: nn.Linear) -> None:
    before = dict(vars(layer))
    with LastingGradients(layer, plan()).used():
        assert "forward" in vars(layer)
        with torch.no_grad():
            assert layer(torch.ones(2, 4)).grad_fn is None
    assert vars(layer) == before
    copy.deepcopy(layer)
    layer(torch.ones(1, 4)).sum().backward()
    assert not layer.weight._post_accumulate_grad_hooks


@pytest.mark.parametrize("options", [{"compiled": True}, {"precision": "bfloat16"}])
def test_what_is_compiled_or_less_precise_is_left_alone(
    layer: nn.Linear, options: dict[str, object]
) -> None:
    with LastingGradients(layer, plan(**options)).used():
        assert "forward" not in vars(layer)


def test_frozen_and_small_layers_are_left_alone(
    layer: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = nn.Linear(4, 3).requires_grad_(False)
    with LastingGradients(frozen, plan()).used():
        assert "forward" not in vars(frozen)
    monkeypatch.undo()
    with LastingGradients(layer, plan()).used():
        assert "forward" not in vars(layer)

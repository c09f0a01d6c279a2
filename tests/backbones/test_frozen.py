"""Frozen means frozen, down to the last bit of the last buffer."""

import pytest
import torch
from torch import nn

from headstart.backbones.frozen import evaluating, freeze, frozen_digest, guard_frozen
from headstart.errors import FrozenStateError


@pytest.fixture
def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout())


def test_a_batchnorm_that_runs_in_train_mode_is_caught_by_name(network: nn.Sequential) -> None:
    moved = r"the backbone was frozen.*1\.running_mean"
    with pytest.raises(FrozenStateError, match=moved), guard_frozen(network, "the backbone"):
        network.train()(torch.ones(2, 3, 8, 8))


def test_one_bit_of_one_weight_is_caught(network: nn.Sequential) -> None:
    bias = network[0].bias.detach()
    with pytest.raises(FrozenStateError, match=r"0\.bias"), guard_frozen(network, "the backbone"):
        bias[0] = torch.nextafter(bias[0], bias[0] + 1)


def test_a_buffer_that_state_dicts_leave_out_counts_too() -> None:
    network = nn.Identity()
    network.register_buffer("table", torch.zeros(3), persistent=False)
    before = frozen_digest(network)
    network.table += 1
    assert frozen_digest(network) != before


def test_a_missing_tensor_is_caught(network: nn.Sequential) -> None:
    with pytest.raises(FrozenStateError, match=r"0\.bias"), guard_frozen(network, "the backbone"):
        network[0].bias = None


def test_many_moved_tensors_are_counted_and_the_first_named(network: nn.Sequential) -> None:
    many = r"0\.weight.* and 2 more \(7 of 7 tensors\)"
    with pytest.raises(FrozenStateError, match=many), guard_frozen(network, "the backbone"):
        network.load_state_dict({key: t + 1 for key, t in network.state_dict().items()})


def test_frozen_networks_pass_through_training_unmoved(network: nn.Sequential) -> None:
    freeze(network)
    head = nn.Linear(4, 2)
    optimizer = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=1.0)
    with guard_frozen(network, "the backbone"):
        head(network(torch.ones(2, 3, 8, 8)).mean((2, 3))).sum().backward()
        optimizer.step()
    assert head.weight.grad is not None


def test_the_error_of_the_stage_itself_is_not_hidden(network: nn.Sequential) -> None:
    def stage() -> None:
        network.train()(torch.ones(2, 3, 8, 8))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), guard_frozen(network, "the backbone"):
        stage()


def test_evaluating_puts_every_part_back_in_its_own_mode(network: nn.Sequential) -> None:
    network.train()
    network[1].eval()
    with evaluating(network):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network] == [True, False, True, True]

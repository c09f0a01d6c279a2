"""What bounds the sweep, and what it is held against, do the work that they claim to do."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.ours.sweep import steps
from benchmarks.peers.torch_sweep import by_loader, in_memory


def test_the_bare_operations_are_those_of_sgd() -> None:
    torch.manual_seed(0)
    z, y = torch.randn(12, 5), torch.arange(12) % 3
    members = [[0.1, 0.0], [0.05, 0.9]]

    # One batch of all samples: their order does not matter.
    found = steps(z, y, {"members": members, "batch_size": 12}, epochs=4).view(2, 3, 5)

    for weight, (rate, momentum) in zip(found, members, strict=True):
        model = nn.Linear(5, 3)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(z), y).backward()
            optimizer.step()
        torch.testing.assert_close(weight, model.weight.detach())


@pytest.mark.parametrize("give", [by_loader, in_memory])
def test_each_way_to_batches_gives_every_sample_once(give: object) -> None:
    data = TensorDataset(torch.arange(10.0)[:, None], torch.arange(10))

    for shuffle in (True, False):
        batches = give(data, 4, shuffle)  # type: ignore[operator]
        for _ in range(2):
            found = [(x, y) for x, y in batches()]
            x, y = (torch.cat(parts) for parts in zip(*found, strict=True))
            assert sorted(y.tolist()) == list(range(10))
            assert torch.equal(x[:, 0].long(), y)

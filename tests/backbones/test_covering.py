"""VGG's fully connected layers, convolutions in timm, as the matrix products that they are."""

import copy

import pytest
import torch
from torch import nn

from headstart.backbones.timm_stages import _cover, _Covering


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("kernel", "side"), [(3, 3), (1, 1), (3, 5), (1, 4)])
def test_it_is_the_convolution_with_its_gradients(layout, kernel, side) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 4, kernel).to(memory_format=layout)
    same = copy.deepcopy(convolution)
    covering = _Covering(same)
    assert covering.state_dict().keys() == convolution.state_dict().keys()
    x = torch.randn(5, 6, side, side).contiguous(memory_format=layout)
    mine, theirs = (x.clone(memory_format=layout).requires_grad_() for _ in range(2))
    got, expected = covering(mine), convolution(theirs)
    # The same products, summed in another order.
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    for y in (got, expected):
        y.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    for a, b in zip(same.parameters(), convolution.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


def test_it_multiplies_without_copying_the_weights() -> None:
    """Seen by the operations: none of them is a convolution or makes anything contiguous."""
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = torch.randn(4, 6, 3, 3).contiguous(memory_format=layout)
        x = torch.randn(5, 6, 3, 3).contiguous(memory_format=layout)
        with torch.profiler.profile() as seen:
            _cover(x, weight, torch.zeros(4))
        called = {event.key for event in seen.key_averages()}
        assert "aten::addmm" in called
        assert not called & {"aten::convolution", "aten::clone", "aten::contiguous"}

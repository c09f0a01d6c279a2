"""The small ResNets of He et al. (2015), section 4.2."""

import pytest
import torch
from torch import nn

from headstart.backbones.cifar import Block, CifarResNet

# "0.27M, 0.46M, 0.66M, 0.85M" parameters, the paper's table 6.
MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85}


@pytest.mark.parametrize("depth", MILLIONS)
def test_as_many_layers_and_parameters_as_in_the_paper(depth: int) -> None:
    network = CifarResNet(depth)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth
    count = sum(p.numel() for p in network.parameters())
    assert round(count / 1e6, 2) == MILLIONS[depth]


def test_the_maps_are_32_16_and_8_pixels_wide() -> None:
    network = CifarResNet(20)
    x = network.bn1(network.conv1(torch.zeros(1, 3, 32, 32)))
    shapes = []
    for layer in (network.layer1, network.layer2, network.layer3):
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_the_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros() -> None:
    block = Block(2, 4).eval()
    nn.init.zeros_(block.bn2.weight)  # the residual branch says nothing: the shortcut remains
    x = torch.rand(1, 2, 6, 6)
    y = block(x)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 2:], torch.zeros(1, 2, 3, 3))
    assert {name.partition(".")[0] for name, _ in block.named_parameters()} == {
        "conv1",
        "bn1",
        "conv2",
        "bn2",
    }

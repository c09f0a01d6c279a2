"""The plain deep network for small pictures."""

import torch
from torch import nn

from headstart.backbones.dcnn import DeepCnn
from headstart.backbones.registry import load_backbone


def test_as_many_parameters_as_counted_by_hand() -> None:
    convolutions = (
        3
        * 3
        * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512)
    )
    # Two convolutions per width, each followed by a scale and an offset per channel.
    normalisations = 2 * 2 * (64 + 128 + 256 + 512)
    classifier = 512 * 200 + 200
    assert convolutions + normalisations + classifier == 4_789_896
    network = DeepCnn()
    assert sum(p.numel() for p in network.parameters()) == 4_789_896
    assert load_backbone("headstart/dcnn", weights="random").parameters_total == 4_789_896


def test_a_cut_after_a_block_holds_maps_of_half_the_size() -> None:
    backbone = load_backbone("headstart/dcnn", weights="random")
    assert [backbone.shape(cut) for cut in ("input", "block1", "block2", "block3", "block4")] == [
        (3, 64, 64),
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 8, 8),
    ]
    assert backbone.shape("block1.0") == (64, 64, 64)
    assert backbone.shape("pooled") == (512,)


def test_every_convolution_is_normalised_and_rectified() -> None:
    layers = [m for m in DeepCnn().modules() if not list(m.children())]
    kinds = [type(layer) for layer in layers]
    for i, kind in enumerate(kinds):
        if kind is nn.Conv2d:
            assert kinds[i + 1 : i + 3] == [nn.BatchNorm2d, nn.ReLU]
    assert kinds.count(nn.Conv2d) == 8
    assert kinds.count(nn.MaxPool2d) == 3


def test_it_learns_to_tell_two_pictures_apart() -> None:
    backbone = load_backbone("headstart/dcnn", weights="random", image_size=16)
    assert backbone.classifier is not None
    network = nn.Sequential(backbone.suffix("input"), backbone.classifier).train()
    x = torch.sin(torch.arange(2 * 3 * 16 * 16) * 0.37).reshape(2, 3, 16, 16)
    y = torch.tensor([3, 150])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]

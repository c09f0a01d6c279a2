"""`headstart/dcnn`: a deep convolutional network with batch normalisation for small pictures.

The plain kind, as in VGG: two 3 × 3 convolutions, halve, double the channels, and again; with batch
normalisation after each convolution and an average over the last maps in place of the hidden
layers, which makes it small enough to be trained from scratch.

Source: Simonyan, Zisserman, Very Deep Convolutional Networks (2014); Ioffe, Szegedy, Batch
Normalization (2015); Lin, Chen, Yan, Network in Network (2013), section 3.2, for the average.
"""

from typing import cast, final

import torch
from torch import nn

from headstart.backbones.base import POOLED
from headstart.types import InputSpec

_CLASSES = 200  # Tiny ImageNet's
_WIDTHS = (64, 128, 256, 512)

SPEC = InputSpec(
    height=64,
    width=64,
    resize=64,
    interpolation="bilinear",
    # Mean and standard deviation of ImageNet's training pictures, as everybody uses them.
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    fit="resize",
)


@final
class DeepCnn(nn.Module):
    """Eight convolutions in four blocks, for pictures of about 64 × 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Sequential] = []
        inputs = 3
        for width in _WIDTHS:
            halve = [nn.MaxPool2d(2)] if width != _WIDTHS[-1] else []
            first, second = _layers(inputs, width), [*_layers(width, width), *halve]
            blocks.append(nn.Sequential(nn.Sequential(*first), nn.Sequential(*second)))
            inputs = width
        self.block1, self.block2, self.block3, self.block4 = blocks
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(_WIDTHS[-1], _CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, 3, h, w] to logits [n, 200]."""
        x = self.block4(self.block3(self.block2(self.block1(x))))
        return cast(torch.Tensor, self.fc(self.pool(x)))


def stages(model: DeepCnn) -> tuple[tuple[str, nn.Module], ...]:
    """Return the stages: one per convolution, and the pooling.

    Each has its normalisation and its rectifier with it, and the last of a block its max pooling,
    so that a cut after a block stores the small maps.
    """
    blocks = (model.block1, model.block2, model.block3, model.block4)
    layers = [
        (f"block{i}.{key}", layer)
        for i, block in enumerate(blocks, start=1)
        for key, layer in block.named_children()
    ]
    return (*layers, (POOLED, model.pool))


def _layers(inputs: int, outputs: int) -> list[nn.Module]:
    # Without a bias: the normalisation subtracts it again and has one of its own.
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

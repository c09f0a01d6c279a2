"""`headstart/resnet20|32|44|56`: the small ResNets for 32 × 32 pictures, trained from scratch.

Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition (2015), section 4.2.
"""

from typing import cast, final

import torch
from torch import nn
from torch.nn import functional

from headstart.backbones.base import POOLED
from headstart.types import InputSpec

_CLASSES = 10  # the published parameter counts are those with CIFAR-10's classifier
_WIDTHS = (16, 32, 64)
DEPTHS = (20, 32, 44, 56)  # 6n + 2

SPEC = InputSpec(
    height=32,
    width=32,
    resize=32,
    interpolation="bilinear",
    # Mean and standard deviation of CIFAR-10's training pictures.
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    fit="resize",
)


@final
class Block(nn.Module):
    """Two 3 × 3 convolutions and a shortcut without parameters (the paper's option A)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = outputs // inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.extra = outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.extra:
            # Option A: every second pixel, and zeros for the channels that are new.
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return functional.relu(y + x)


@final
class CifarResNet(nn.Module):
    """A ResNet of 6n + 2 layers for 32 × 32 pictures."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        w1, w2, w3 = _WIDTHS
        self.conv1 = nn.Conv2d(3, w1, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(w1)
        self.layer1 = _layer(w1, w1, blocks)
        self.layer2 = _layer(w1, w2, blocks)
        self.layer3 = _layer(w2, w3, blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(w3, _CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, 3, h, w] to logits [n, 10]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return cast(torch.Tensor, self.fc(self.pool(x)))


def _layer(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = Block(inputs, outputs)
    return nn.Sequential(first, *(Block(outputs, outputs) for _ in range(blocks - 1)))


def stages(model: CifarResNet) -> tuple[tuple[str, nn.Module], ...]:
    """Return the stages: the first convolution, each block, and the pooling."""
    layers = [
        (f"layer{i}.{key}", block)
        for i, layer in enumerate((model.layer1, model.layer2, model.layer3), start=1)
        for key, block in layer.named_children()
    ]
    stem = nn.Sequential(model.conv1, model.bn1, nn.ReLU())
    return (("stem", stem), *layers, (POOLED, model.pool))

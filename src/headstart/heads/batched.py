"""Heads with a leading axis of members: a whole sweep is one head and trains as one.

Every member has its own weights, its own dropout masks and its own normalisation statistics, and
no operation mixes members. So member m of a batch of M computes what it would compute alone; only
the order of floating-point sums may differ.

Shapes: features enter as [batch, width] where all members see the same samples, or as
[members, batch, width] where they do not; logits leave as [members, batch, classes].
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from headstart._util.seeding import seed_of

Normalization = Literal["none", "layer", "batch"]


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The architecture of a head.

    Attributes:
        hidden: Widths of the hidden layers; empty for a linear (softmax) head.
        dropout: Probability that a feature or hidden unit is dropped in training, in [0, 1).
        normalization: Applied to the features and to every hidden layer before its ReLU.
    """

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    normalization: Normalization = "none"


class BatchedLinear(nn.Module):
    """M affine maps side by side: weight [M, out, in], bias [M, out]."""

    def __init__(self, inputs: int, outputs: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        # The distribution of torch.nn.Linear: uniform within 1/sqrt(inputs) for weight and bias.
        bound = 1 / math.sqrt(inputs)
        weights, biases = [], []
        for generator in generators:
            weights.append(
                torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator)
            )
            biases.append(torch.empty(outputs).uniform_(-bound, bound, generator=generator))
        self.weight = nn.Parameter(torch.stack(weights))
        self.bias = nn.Parameter(torch.stack(biases))

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, in] or [M, b, in] to [M, b, out]."""
        members, outputs, inputs = self.weight.shape
        if x.dim() == 2:
            # One matrix product for all members: [b, in] × [in, M·out].
            flat = nn.functional.linear(
                x, self.weight.view(members * outputs, inputs), self.bias.view(-1)
            )
            return flat.view(x.shape[0], members, outputs).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.transpose(1, 2))


class BatchedNorm(nn.Module):
    """Layer or batch normalisation with affine parameters and statistics for each member.

    Source: Ba, Kiros, Hinton 2016 (layer); Ioffe, Szegedy 2015 (batch), momentum 0.1 and
    epsilon 1e-5 as in torch.nn.BatchNorm1d.
    """

    def __init__(self, kind: Literal["layer", "batch"], members: int, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(members, width))
        self.bias = nn.Parameter(torch.zeros(members, width))
        if kind == "batch":
            self.register_buffer("running_mean", torch.zeros(members, width))
            self.register_buffer("running_var", torch.ones(members, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [b, width] or [M, b, width] to [M, b, width], in float32."""
        x = x.float()
        if self.kind == "layer":
            mean = x.mean(dim=-1, keepdim=True)
            var = x.var(dim=-1, keepdim=True, unbiased=False)
        elif self.training and x.shape[-2] > 1:  # one sample has no variance
            mean = x.mean(dim=-2, keepdim=True)
            var = x.var(dim=-2, keepdim=True, unbiased=False)
            self._remember(mean, var, x.shape[-2])
        else:
            mean = self.get_buffer("running_mean").unsqueeze(1)
            var = self.get_buffer("running_var").unsqueeze(1)
        normal = (x - mean) * torch.rsqrt(var + 1e-5)
        if normal.dim() == 2:
            normal = normal.unsqueeze(0)
        return normal * self.weight.unsqueeze(1) + self.bias.unsqueeze(1)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, batch: int) -> None:
        unbiased = var * (batch / (batch - 1))
        self.get_buffer("running_mean").lerp_(mean.squeeze(-2).expand_as(self.bias), 0.1)
        self.get_buffer("running_var").lerp_(unbiased.squeeze(-2).expand_as(self.bias), 0.1)


class BatchedHead(nn.Module):
    """A linear or MLP head for M members; see the module's docstring for the shapes."""

    def __init__(
        self, spec: HeadSpec, width: int, classes: int, seeds: Sequence[int], zero_init: bool
    ) -> None:
        super().__init__()
        self.spec = spec
        self.seeds = tuple(seeds)
        unique = sorted(set(self.seeds))
        self._unique = unique
        self.register_buffer(
            "member_stream",
            torch.tensor([unique.index(seed) for seed in self.seeds], dtype=torch.int64),
            persistent=False,
        )
        self._dropout_streams = [_stream("dropout", seed) for seed in unique]
        layers = nn.ModuleList()
        norms = nn.ModuleList()
        inputs = width
        self._widest = max(*spec.hidden, classes, 1)
        for depth, outputs in enumerate((*spec.hidden, classes)):
            norms.append(_norm(spec.normalization, len(self.seeds), inputs))
            # Members of the same seed start from the same weights, alone or in a batch.
            generators = [_stream("head", seed, depth) for seed in self.seeds]
            layers.append(BatchedLinear(inputs, outputs, generators))
            inputs = outputs
        if zero_init:
            last = layers[-1]
            assert isinstance(last, BatchedLinear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.layers = layers
        self.norms = norms

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [M, b, classes] of features [b, width] or [M, b, width]."""
        x = self._drop(self.norms[0](x))
        x = self.layers[0](x)
        for norm, layer in zip(list(self.norms)[1:], list(self.layers)[1:], strict=True):
            x = layer(self._drop(torch.relu(norm(x))))
        return x

    @property
    def widest(self) -> int:
        """Numbers that the widest layer gives for one sample, in all members together."""
        return len(self.seeds) * self._widest

    def random_state(self) -> dict[str, Tensor]:
        """Return the state of the dropout streams, for a checkpoint."""
        return {f"dropout.{i}": g.get_state() for i, g in enumerate(self._dropout_streams)}

    def load_random_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `random_state` returned."""
        for index, stream in enumerate(self._dropout_streams):
            stream.set_state(state[f"dropout.{index}"])

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or self.spec.dropout == 0:
            return x
        # One mask per seed, drawn on the CPU: the same on every device and in every batch.
        shape = x.shape[-2:]
        keep = 1 - self.spec.dropout
        masks = torch.stack(
            [torch.rand(shape, generator=g) < keep for g in self._dropout_streams]
        ).to(x.device)
        if len(self._unique) == 1 and x.dim() == 2:
            return x * masks[0] / keep
        return x * masks[self.get_buffer("member_stream")] / keep


def build_head(
    spec: HeadSpec,
    width: int,
    classes: int,
    seeds: Sequence[int],
    *,
    zero_init: bool = False,
) -> BatchedHead:
    """Build a head with one member per seed.

    Args:
        spec: The architecture.
        width: Number of features that enter.
        classes: Number of logits that leave.
        seeds: One seed per member: initial weights and dropout masks depend on it alone.
        zero_init: Start the last layer at zero, so that every class is equally probable.

    Returns:
        The head in training mode, float32, on the CPU.

    Raises:
        ValueError: The dropout is not in [0, 1), or there is no member.
    """
    if not 0 <= spec.dropout < 1:
        raise ValueError(f"dropout: expected a probability in [0, 1), got {spec.dropout}")
    if not seeds:
        raise ValueError("seeds: expected one per member, got none")
    return BatchedHead(spec, width, classes, seeds, zero_init)


def _norm(kind: Normalization, members: int, width: int) -> nn.Module:
    return nn.Identity() if kind == "none" else BatchedNorm(kind, members, width)


def _stream(purpose: str, *parts: object) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(purpose, *parts))


def take_member(head: BatchedHead, member: int, width: int, classes: int) -> BatchedHead:
    """Return one member of a batch as a head of its own, weights copied.

    Args:
        head: A head with M members.
        member: Which, from 0.
        width: Number of features that enter the head.
        classes: Number of logits that leave it.

    Returns:
        A head with one member on the same device, in eval mode.
    """
    device = head.get_buffer("member_stream").device
    alone = build_head(head.spec, width, classes, [head.seeds[member]]).to(device)
    # Every parameter and buffer has the members as its first axis.
    rows = {name: value[member : member + 1].clone() for name, value in head.state_dict().items()}
    alone.load_state_dict(rows)
    return alone.eval()

"""The part of a network that is trained: some stages of the backbone, and the head on top."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from headstart.backbones.base import Backbone
from headstart.heads.batched import BatchedHead

BatchNormRule = Literal["follow", "frozen", "train"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Tail(nn.Module):
    """Stages of a backbone from a cut to the head's cut, and a head with one member.

    The modules are the backbone's own: training the tail trains the backbone. Stages that are not
    trained need no gradients and stay in eval mode whatever `train()` says, so that their BatchNorm
    statistics do not move; gradients still pass through them.
    """

    def __init__(
        self,
        backbone: Backbone,
        cut: str,
        head_cut: str,
        head: BatchedHead,
        *,
        trained: Collection[str],
        batch_norm: BatchNormRule = "follow",
    ) -> None:
        """Bring the parts together and set which parameters need gradients.

        Args:
            backbone: The network; its stages before `cut` are left alone.
            cut: Last stage that is not in the tail.
            head_cut: The stage that the head reads; its features are flattened.
            head: A head with one member.
            trained: Names of the stages that are trained; the head always is.
            batch_norm: ``follow``: BatchNorm is trained where its stage is; ``frozen``: none of the
                backbone's is; ``train``: all of the tail's are, in stages that are not trained too.
        """
        super().__init__()
        assert len(head.seeds) == 1, "a tail is one model"
        named = backbone.modules(cut, head_cut)
        assert set(trained) <= {name for name, _ in named}, "a trained stage is before the cut"
        self.names = tuple(name for name, _ in named)
        self.stages = nn.ModuleList(module for _, module in named)
        self.head = head
        self._trained = frozenset(trained)
        self._batch_norm = batch_norm
        self.together = False
        """Whether other processes compute the rest of each batch."""
        for name, module in named:
            module.requires_grad_(False)
            if name in self._trained:
                for parameter in backbone.releasable(module):
                    parameter.requires_grad_(True)
            for norm in _norms(module) if batch_norm != "follow" else ():
                norm.requires_grad_(False)
                for parameter in backbone.releasable(norm) if batch_norm == "train" else ():
                    parameter.requires_grad_(True)
        head.requires_grad_(True)
        # A copy of the memory layout that convolutions are fastest in; the values stay.
        self.stages.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "Tail":
        """Set the mode of what is trained; what is not stays in eval mode."""
        super().train(mode)
        for name, module in zip(self.names, self.stages, strict=True):
            module.train(mode and name in self._trained)
            for norm in _norms(module):
                if self._batch_norm != "follow":
                    norm.train(mode and self._batch_norm == "train")
        return self

    def forward(self, z: Tensor) -> Tensor:
        """Return logits [1, b, classes] of activations at the cut, [b, *shape]."""
        # One sample has no batch statistics: BatchNorm reads those that it has (as in the head).
        single = len(z) == 1 and not self.together
        alone = [n for m in self.stages for n in _norms(m) if single and n.training]
        for norm in alone:
            norm.eval()
        for module in self.stages:
            z = module(z)
        for norm in alone:
            norm.train()
        # The head is small and keeps statistics: it computes in float32 where the stages do not.
        with torch.autocast(z.device.type, enabled=False):
            return cast(Tensor, self.head(z.flatten(1).float()))

    def fixed(self) -> nn.ModuleList:
        """Return the modules that are promised to stay as they are, bit for bit."""
        fixed: list[nn.Module] = []
        for name, module in zip(self.names, self.stages, strict=True):
            if name in self._trained:
                fixed += _norms(module) if self._batch_norm == "frozen" else []
            elif self._batch_norm != "train":
                fixed.append(module)
        return nn.ModuleList(fixed)

    def groups(self) -> dict[str, tuple[nn.Parameter, ...]]:
        """Return the parameters that are trained, by stage in the network's order, the head last.

        A parameter that two stages share belongs to the first.
        """
        out: dict[str, tuple[nn.Parameter, ...]] = {}
        seen: set[int] = set()
        named = [*zip(self.names, self.stages, strict=True), ("head", self.head)]
        for name, module in named:
            own = [p for p in module.parameters() if p.requires_grad and id(p) not in seen]
            seen.update(id(p) for p in own)
            if own:
                out[name] = tuple(own)
        return out

    def random_state(self) -> dict[str, Tensor]:
        """Return the state of the head's random streams, for a checkpoint."""
        return self.head.random_state()

    def load_random_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `random_state` returned."""
        self.head.load_random_state(state)


def stage_sizes(backbone: Backbone, head_cut: str) -> tuple[tuple[str, int], ...]:
    """Return name and number of parameters of each stage up to a cut."""
    return tuple(
        (name, sum(p.numel() for p in module.parameters()))
        for name, module in backbone.modules("input", head_cut)
    )


def undecayed(module: nn.Module) -> frozenset[int]:
    """Return the `id` of each parameter that weight decay is best kept away from.

    These are biases, and the scales and shifts of normalisations: few numbers, which keep no
    function simpler when they are small. Source: He et al., Bag of Tricks (2019), section 3.1.
    """
    found: set[int] = set()
    for part in module.modules():
        norm = "norm" in type(part).__name__.lower()
        for name, parameter in part.named_parameters(recurse=False):
            if norm or "bias" in name:
                found.add(id(parameter))
    return frozenset(found)


def _norms(module: nn.Module) -> Sequence[nn.Module]:
    return [part for part in module.modules() if isinstance(part, _NORMS)]

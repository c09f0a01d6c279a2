"""A bundle's network with its cuts, for what must look inside: explanations by gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headstart._util.devices import full_float32
from headstart.backbones.base import INPUT, Backbone
from headstart.types import Spec


@dataclass(frozen=True, slots=True)
class Inside:
    """One torch network that can be cut; using it changes neither its weights nor its mode.

    Attributes:
        backbone: The chain of stages, in eval mode on `device`.
        head: One member: [n, width] -> [1, n, outputs].
        head_cut: The stage that the head reads.
        spec: How samples are prepared.
        device: Where it computes.
    """

    backbone: Backbone
    head: nn.Module
    head_cut: str
    spec: Spec
    device: torch.device

    @torch.no_grad()
    def activation(self, x: Tensor, cut: str) -> Tensor:
        """Return what stands at a cut, samples [n, *shape] -> [n, *shape at the cut]."""
        with full_float32():
            for _, stage in self.backbone.modules(INPUT, cut):
                x = stage(x)
        return x

    def logits(self, z: Tensor, cut: str) -> Tensor:
        """Return what the head says of activations at a cut, through which gradients flow.

        Args:
            z: float32 [n, *shape at the cut].
            cut: Where `z` stands.

        Returns:
            float32 [n, outputs]: logits before the temperature, or values of a regression.
        """
        # The stages themselves, not `prefix` or `suffix`: these would forbid the gradient, or
        # release the weights and make them collect one.
        for _, stage in self.backbone.modules(cut, self.head_cut):
            z = stage(z)
        out: Tensor = self.head(z.flatten(1))[0].float()
        return out

    def gradient(self, z: Tensor, cut: str, output: int) -> tuple[Tensor, Tensor]:
        """Return one output and its gradient with respect to the activations at a cut.

        Args:
            z: float32 [n, *shape at the cut].
            cut: Where `z` stands.
            output: Which of the logits.

        Returns:
            The output, [n], and the gradient of each sample's own output, shaped like `z`.
        """
        with torch.enable_grad(), full_float32():
            z = z.detach().clone().requires_grad_()
            chosen = self.logits(z, cut)[:, output]
            (found,) = torch.autograd.grad(chosen.sum(), z)
        return chosen.detach(), found

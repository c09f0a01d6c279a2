"""What is exported: a bundle's network; and its head as the linear layer that libraries end in."""

from dataclasses import dataclass

import torch
from torch import Tensor

from headstart.errors import ConfigError
from headstart.heads import BatchedHead
from headstart.predict import Bundle
from headstart.predict.inside import Inside
from headstart.types import Goal


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported: one trained torch network.

    Attributes:
        name: Registry name of its backbone.
        inside: The network.
        goal: What it tells.
        classes: Class names in the order of the logits.
        temperature: What the logits are divided by before they become probabilities.
    """

    name: str
    inside: Inside
    goal: Goal
    classes: tuple[str, ...]
    temperature: float

    @property
    def outputs(self) -> int:
        """Numbers that the network gives."""
        return 1 if self.goal == "regression" else len(self.classes)


def source_of(bundle: Bundle) -> Source:
    """Return a bundle's network.

    Args:
        bundle: The bundle.

    Returns:
        The network, on the CPU.

    Raises:
        ConfigError: The bundle holds several networks, or a graph.
    """
    info = bundle.info
    if info.ensemble is not None:
        raise ConfigError(
            f"{info.name} is an ensemble of {len(info.ensemble.members)} networks, and an export "
            "holds one: bundle a member (`headstart bundle RUN --model NAME`) and export that"
        )
    inside = bundle.explainer()
    if inside is None:
        raise ConfigError(
            f"{info.name} was exported for {info.engine} already: export the bundle that it was "
            "made from"
        )
    name = str(info.backbones[0]["name"])
    return Source(name, inside, info.goal, info.classes, info.temperature)


def linear_head(source: Source) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a linear head, its temperature and batch normalisation folded in.

    Args:
        source: The network.

    Returns:
        float32 on the CPU, [outputs, width] and [outputs]: softmax(weight @ features + bias) is
        what the network says.

    Raises:
        ConfigError: The head is not linear.
    """
    head = source.inside.head
    assert isinstance(head, BatchedHead), "bundles hold heads of their own kind"
    spec = head.spec
    if spec.hidden or spec.normalization == "layer":
        found = f"{len(spec.hidden)} hidden layers" if spec.hidden else "a layer normalisation"
        raise ConfigError(
            f"the libraries' networks end in one linear layer, and this head has {found}: train "
            "one with `head: {hidden: []}` and normalization none or batch, or export with "
            "--format onnx"
        )
    state = {key: value.detach().cpu().double()[0] for key, value in head.state_dict().items()}
    weight, bias = state["layers.0.weight"], state["layers.0.bias"]
    if spec.normalization == "batch":
        # W (γ (x - μ) / σ + β) + b, as one affine map of x.
        scale = state["norms.0.weight"] / torch.sqrt(state["norms.0.running_var"] + 1e-5)
        shift = state["norms.0.bias"] - scale * state["norms.0.running_mean"]
        weight, bias = weight * scale, bias + weight @ shift
    divide = 1.0 if source.goal == "regression" else source.temperature
    return (weight / divide).float(), (bias / divide).float()

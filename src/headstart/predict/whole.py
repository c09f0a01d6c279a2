"""A saved model as one network: prepared samples in, what the model says out."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from headstart.backbones.chain import FrozenStages
from headstart.predict.predictor import Predictor
from headstart.predict.saved import SavedModel
from headstart.types import Goal


@dataclass(frozen=True, slots=True)
class WholeModel:
    """A saved model's description and its network.

    Attributes:
        model: The description.
        network: From samples, float32 [n, *shape], to class probabilities [n, classes]; or to the
            value of a regression [n, 1]. In eval mode, without gradients.
    """

    model: SavedModel
    network: nn.Module


class WholeNetwork(nn.Module):
    """Stages, head and softmax in a row: what is exported, counted and timed."""

    def __init__(self, stages: nn.Module, head: nn.Module, goal: Goal, temperature: float) -> None:
        super().__init__()
        self.stages = stages
        self.head = head
        self._divide = 1.0 if goal == "regression" else temperature
        self._softmax = goal == "classification"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map samples [n, *shape] to probabilities [n, classes], or to values [n, 1]."""
        # The head has an axis of members first, and here is one.
        logits = cast(torch.Tensor, self.head(self.stages(x).flatten(1)))[0].float()
        return torch.softmax(logits / self._divide, dim=-1) if self._softmax else logits


def load_whole(folder: Path, *, device: torch.device, allow_network: bool = False) -> WholeModel:
    """Load a saved model as one network.

    Args:
        folder: A model's folder in a run, such as ``runs/…/models/NAME``.
        device: Where to compute.
        allow_network: Whether missing backbone weights may be downloaded.

    Returns:
        The model; what its network says is what `Predictor.predict` says.
    """
    return whole_of(Predictor.load(folder, device=device, allow_network=allow_network))


def whole_of(predictor: Predictor) -> WholeModel:
    """Return a predictor's model as one network, which shares the predictor's modules."""
    model = predictor.model
    # The stages themselves: their frozen wrapper looks at every module's mode in each call.
    stages = cast(FrozenStages, predictor._network).stages
    network = WholeNetwork(stages, predictor._head, model.goal, model.temperature)
    return WholeModel(model, network.eval().requires_grad_(False))

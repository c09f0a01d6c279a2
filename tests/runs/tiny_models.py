"""Small saved models, made without training."""

from pathlib import Path

import torch

from headstart.backbones.base import SeriesOptions
from headstart.backbones.registry import load_backbone
from headstart.heads import HeadSpec, build_head
from headstart.predict import BackboneOptions, SavedModel, TrainedModel, save_model, trained_tensors
from headstart.types import Goal


def saved(
    folder: Path,
    backbone: str = "headstart/resnet20",
    *,
    cut: str = "pooled",
    head: HeadSpec | None = None,
    goal: Goal = "classification",
    temperature: float = 1.0,
    series: SeriesOptions | None = None,
) -> Path:
    """Write a model with random weights, of three classes or one number."""
    network = load_backbone(backbone, weights="random", series=series)
    classes = ("a", "b", "c") if goal == "classification" else ("value",)
    width = network.shape("pooled")[0]
    spec = HeadSpec() if head is None else head
    layers = build_head(spec, width, len(classes), seeds=[0])
    with torch.no_grad():  # far from equal probabilities: a wrong answer shows
        for parameter in layers.parameters():
            parameter.mul_(5)
    model = SavedModel(
        backbone=backbone,
        backbone_weights="random",
        backbone_seed=0,
        backbone_digest=network.digest(cut),
        cut=network.resolve(cut),
        head_cut="pooled",
        input_spec=network.input_spec,
        classes=classes,
        head=spec,
        width=width,
        options=BackboneOptions(series=series),
        goal=goal,
        temperature=temperature,
    )
    save_model(folder, TrainedModel(model, trained_tensors(network, cut, "pooled", layers)))
    return folder

"""Plain PyTorch: frozen transfer, after torchvision's tutorial ("fixed feature extractor")."""

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from benchmarks.contender import Answer, Job, answer
from benchmarks.peers.torch_loop import loaders, train


def build(weights: str, classes: int) -> torchvision.models.MobileNetV2:
    """Return the frozen network under a new classifier, without a dropout of its own."""
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(load_file(weights), strict=False)
    model.requires_grad_(False)
    model.classifier = nn.Linear(model.last_channel, classes)
    return model


def work(job: Job) -> Answer:
    """Train the classifier, validating after each epoch."""
    torch.set_num_threads(job["threads"])
    training, validation, classes = loaders(job)
    model = build(job["torch_weights"], classes).to(memory_format=torch.channels_last)
    accuracies, seconds = train(model, model.features, (training, validation), job)
    samples = len(validation.dataset)
    return {"accuracies": accuracies, "samples": samples, "epoch_seconds": seconds}


if __name__ == "__main__":
    answer(work, ("torch", "torchvision", "pillow", "numpy"))

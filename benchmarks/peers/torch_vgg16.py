"""Plain PyTorch: VGG16 whose last convolution and fully connected layers are trained."""

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from benchmarks.contender import Answer, Job, answer
from benchmarks.peers.torch_loop import loaders, train

LAST_CONVOLUTION = 28  # of `features`: it, its ReLU and the last pooling follow


def work(job: Job) -> Answer:
    """Train, validating after each epoch."""
    torch.set_num_threads(job["threads"])
    training, validation, classes = loaders(job)
    model = torchvision.models.vgg16()
    model.load_state_dict(load_file(job["torch_weights"]), strict=False)
    model.classifier[6] = nn.Linear(4096, classes)
    frozen = model.features[:LAST_CONVOLUTION]
    frozen.requires_grad_(False)
    model = model.to(memory_format=torch.channels_last)
    accuracies, seconds = train(model, frozen, (training, validation), job)
    samples = len(validation.dataset)
    return {"accuracies": accuracies, "samples": samples, "epoch_seconds": seconds}


if __name__ == "__main__":
    answer(work, ("torch", "torchvision", "pillow", "numpy"))

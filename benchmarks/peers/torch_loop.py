"""What the plain PyTorch contenders share: pictures, an epoch, accuracy.

After torchvision's tutorial on transfer learning, with what makes it faster on a processor:
channels-last, decoding in workers, and no gradients of what is frozen.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.contender import Epochs, Job

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


def prepare() -> transforms.Compose:
    """Return torchvision's usual preparation for evaluation: 256, the middle 224."""
    return transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def loaders(job: Job) -> tuple[DataLoader, DataLoader, int]:
    """Return the batches for training and validation, and how many classes there are."""
    torch.manual_seed(job["seed"])
    train, val = (datasets.ImageFolder(job[split], prepare()) for split in ("train", "val"))
    options = {"batch_size": job["batch_size"], "num_workers": job["workers"]}
    keep = job["workers"] > 0  # workers that stay spare their start in every epoch
    return (
        DataLoader(train, shuffle=True, persistent_workers=keep, **options),
        DataLoader(val, persistent_workers=keep, **options),
        len(train.classes),
    )


def train(
    model: nn.Module, frozen: nn.Module, batches: tuple[Batches, Batches], job: Job
) -> tuple[list[float], list[float]]:
    """Train what requires gradients, validating after each epoch.

    Args:
        model: The network, channels last.
        frozen: Which of its modules stay in eval mode.
        batches: For training and for validation.
        job: Epochs, learning rate and momentum.

    Returns:
        The accuracy on the validation split after each epoch, and the seconds of each.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=job["learning_rate"], momentum=job["momentum"])
    criterion = nn.CrossEntropyLoss()
    epochs, accuracies = Epochs(), []
    for _ in range(job["epochs"]):
        model.train()
        frozen.eval()
        for x, y in batches[0]:
            optimizer.zero_grad()
            loss = criterion(model(x.contiguous(memory_format=torch.channels_last)), y)
            loss.backward()
            optimizer.step()
        accuracies.append(accuracy(model, batches[1]))
        epochs.ended()
    return accuracies, epochs.seconds


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches) -> float:
    """Return the share of right answers."""
    model.eval()
    right = total = 0
    for x, y in batches:
        right += int((model(x.contiguous(memory_format=torch.channels_last)).argmax(1) == y).sum())
        total += len(y)
    return right / total

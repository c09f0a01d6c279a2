"""Plain PyTorch: the members of a sweep, trained one after the other on stored features."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contender import Answer, Job, answer


def work(job: Job) -> Answer:
    """Train each member, validating after each epoch."""
    torch.set_num_threads(job["threads"])
    stored = np.load(job["features"])
    features, labels = torch.from_numpy(stored["features"]), torch.from_numpy(stored["labels"])
    cut, classes = int(stored["train"]), int(labels.max()) + 1
    training = TensorDataset(features[:cut], labels[:cut])
    validation = TensorDataset(features[cut:], labels[cut:])
    accuracies = [
        single(training, validation, classes, rate, momentum, job)
        for rate, momentum in job["members"]
    ]
    return {"member_accuracies": accuracies, "samples": len(validation)}


def single(
    training: TensorDataset,
    validation: TensorDataset,
    classes: int,
    rate: float,
    momentum: float,
    job: Job,
) -> float:
    """Train one member; return its accuracy after the last epoch."""
    torch.manual_seed(job["seed"])
    batches = DataLoader(training, batch_size=job["batch_size"], shuffle=True)
    held_out = DataLoader(validation, batch_size=job["batch_size"])
    model = nn.Linear(training.tensors[0].shape[1], classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    criterion = nn.CrossEntropyLoss()
    right = 0
    for _ in range(job["epochs"]):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in held_out)
    return right / len(validation)


if __name__ == "__main__":
    answer(work, ("torch", "numpy"))

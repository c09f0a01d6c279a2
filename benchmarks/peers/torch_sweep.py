"""Plain PyTorch: the members of a sweep, trained one after the other on stored features."""

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contender import Answer, Job, answer

Batches = Iterable[tuple[Tensor, Tensor]]
_TRIED_EPOCHS = 3


def work(job: Job) -> Answer:
    """Train each member, validating after each epoch, on as many threads as are faster."""
    tried = {threads: trial(job, threads) for threads in sorted({1, job["threads"]})}
    threads = min(tried, key=lambda one: tried[one])
    torch.set_num_threads(threads)
    start = time.perf_counter()
    training, validation, classes = splits(job)
    accuracies = [
        single(training, validation, classes, rate, momentum, job, job["epochs"])
        for rate, momentum in job["members"]
    ]
    return {
        "seconds": time.perf_counter() - start,
        "best_threads": threads,
        "member_accuracies": accuracies,
        "samples": len(validation),
    }


def trial(job: Job, threads: int) -> float:
    """Return the seconds of a few epochs of one member, after one that is not timed."""
    torch.set_num_threads(threads)
    training, validation, classes = splits(job)
    rate, momentum = job["members"][0]
    single(training, validation, classes, rate, momentum, job, 1)
    start = time.perf_counter()
    single(training, validation, classes, rate, momentum, job, _TRIED_EPOCHS)
    return time.perf_counter() - start


def splits(job: Job) -> tuple[TensorDataset, TensorDataset, int]:
    """Return features and labels for training and for validation, and the number of classes."""
    stored = np.load(job["features"])
    features, labels = torch.from_numpy(stored["features"]), torch.from_numpy(stored["labels"])
    cut, classes = int(stored["train"]), int(labels.max()) + 1
    training = TensorDataset(features[:cut], labels[:cut])
    return training, TensorDataset(features[cut:], labels[cut:]), classes


def by_loader(data: TensorDataset, size: int, shuffle: bool) -> Callable[[], Batches]:
    """Return what gives an epoch's batches as the tutorials do: sample by sample, collated."""
    loader = DataLoader(data, batch_size=size, shuffle=shuffle)
    return lambda: loader


def in_memory(data: TensorDataset, size: int, shuffle: bool) -> Callable[[], Batches]:
    """Return what gives an epoch's batches by indexing the tensors themselves."""
    features, labels = data.tensors

    def batches() -> Batches:
        if not shuffle:
            yield features, labels
            return
        for chosen in torch.randperm(len(labels)).split(size):
            yield features[chosen], labels[chosen]

    return batches


def single(
    training: TensorDataset,
    validation: TensorDataset,
    classes: int,
    rate: float,
    momentum: float,
    job: Job,
    epochs: int,
) -> float:
    """Train one member; return its accuracy after the last epoch."""
    torch.manual_seed(job["seed"])
    give = in_memory if job["in_memory"] else by_loader
    batches = give(training, job["batch_size"], True)
    held_out = give(validation, job["batch_size"], False)
    model = nn.Linear(training.tensors[0].shape[1], classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    criterion = nn.CrossEntropyLoss()
    right = 0
    for _ in range(epochs):
        model.train()
        for x, y in batches():
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in held_out())
    return right / len(validation)


if __name__ == "__main__":
    answer(work, ("torch", "numpy"))

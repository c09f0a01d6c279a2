"""Headstart: all members of a sweep as one batch, on stored features."""

import time

import numpy as np
import torch

from benchmarks.contender import Answer, Job, answer
from benchmarks.ours.libraries import PACKAGES, import_all
from headstart.heads import HeadSpec, build_head
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    Hyperparameters,
    ScheduleSpec,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
)
from headstart.types import FloatArray, IntArray


def work(job: Job) -> Answer:
    """Train all members, validating after each epoch."""
    began = time.perf_counter()
    torch.set_num_threads(job["threads"])
    stored = np.load(job["features"])
    features, labels, cut = stored["features"], stored["labels"], int(stored["train"])
    splits = {"train": np.arange(cut), "val": np.arange(cut, len(labels))}
    members = [
        Hyperparameters(learning_rate=rate, momentum=momentum) for rate, momentum in job["members"]
    ]
    seeds = [job["seed"]] * len(members)
    source = CachedSource(
        ArrayFeatures(features),
        labels,
        splits,
        seeds=seeds,
        batch_size=job["batch_size"],
        device=torch.device("cpu"),
    )
    head = build_head(HeadSpec(), features.shape[1], int(labels.max()) + 1, seeds)
    optimizer = build_optimizer("sgd", list(head.parameters()), members)
    rates = tuple(member.learning_rate for member in members)
    plan = TrainPlan(job["epochs"], ScheduleSpec(), rates)
    records, _ = drain(fit(head, optimizer, source, plan))
    last = {r.member: r.accuracy for r in records if r.split == "val"}  # the later ones win
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "member_accuracies": [last[i] for i in range(len(members))],
        "samples": len(labels) - cut,
        **bare(features[:cut], labels[:cut], job),
    }


def bare(features: FloatArray, labels: IntArray, job: Job) -> Answer:
    """Time the torch operations of the training alone, on one thread and on all.

    Two products, softmax, its gradient and an update of one weight [members·classes, width] at each
    step; nothing is counted, evaluated or recorded.
    """
    z, y = torch.from_numpy(features), torch.from_numpy(labels)
    found = {}
    for threads in {1, job["threads"]}:
        torch.set_num_threads(threads)
        steps(z, y, job, epochs=2)  # the first use of a kernel takes longer
        start = time.perf_counter()
        steps(z, y, job, epochs=job["epochs"])
        found[threads] = time.perf_counter() - start
    torch.set_num_threads(job["threads"])
    threads = min(found, key=lambda one: found[one])
    return {"bare_seconds": found[threads], "bare_threads": threads}


@torch.no_grad()
def steps(z: torch.Tensor, y: torch.Tensor, job: Job, epochs: int) -> torch.Tensor:
    """Train all members from zero; return the weight [members·classes, width]."""
    members, classes, width = len(job["members"]), int(y.max()) + 1, z.shape[1]
    rows = members * classes
    table = torch.tensor(job["members"]).repeat_interleave(classes, dim=0)  # [rows, 2]
    rate, momentum = table[:, :1], table[:, 1:]
    weight, bias = torch.zeros(rows, width), torch.zeros(rows, 1)
    velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    gradient = torch.empty_like(weight), torch.empty_like(bias)
    for _ in range(epochs):
        for chosen in torch.randperm(len(z)).split(job["batch_size"]):
            x, at = z.index_select(0, chosen), y.index_select(0, chosen)
            logits = torch.addmm(bias, weight, x.t()).view(members, classes, -1)
            error = torch.log_softmax(logits, dim=1).exp_()
            error.scatter_(1, at.expand(members, 1, -1), -1.0, reduce="add").mul_(1 / len(at))
            flat = error.view(rows, -1)
            torch.mm(flat, x, out=gradient[0])
            torch.sum(flat, dim=1, keepdim=True, out=gradient[1])
            for p, v, g in zip((weight, bias), velocity, gradient, strict=True):
                p.addcmul_(v.mul_(momentum).add_(g), rate, value=-1.0)
    return weight


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)

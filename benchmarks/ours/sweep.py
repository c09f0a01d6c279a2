"""Headstart: all members of a sweep as one batch, on stored features."""

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


def work(job: Job) -> Answer:
    """Train all members, validating after each epoch."""
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
    return {
        "member_accuracies": [last[i] for i in range(len(members))],
        "samples": len(labels) - cut,
    }


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)

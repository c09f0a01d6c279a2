"""One of several processes that train a small tail together; what it ends with goes to a file."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn
from train_tools import CLASSES, CPU, splits, tiny_network

from headstart.heads import HeadSpec, Tail, build_head
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    CheckpointFolder,
    Hyperparameters,
    ParameterGroup,
    ScheduleSpec,
    TrainPlan,
    build_grouped_optimizer,
    current_team,
    drain,
    fit,
)

COUNT, VAL = 50, 17


def trained(options: dict[str, Any], folder: Path | None, stop_after: int | None) -> nn.Module:
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, COUNT + VAL)
    features = random.normal(size=(COUNT + VAL, 4, 4, 4)).astype(np.float32)
    features[:, :CLASSES] += 3 * np.eye(CLASSES, dtype=np.float32)[labels][:, :4, None, None]
    team = current_team()
    source = CachedSource(
        ArrayFeatures(features),
        labels,
        splits(COUNT, VAL),
        seeds=[3],
        batch_size=12,  # of 50: the last batch has two
        device=CPU,
        flat=False,
        team=team,
    )
    network = tiny_network(dropout=0.0)
    head = build_head(HeadSpec(), 6, CLASSES, [0])
    tail = Tail(network, "stem", "pooled", head, trained=["block.0", "block.1"])
    groups = [ParameterGroup(name, p, 0.05) for name, p in tail.groups().items()]
    optimizer = build_grouped_optimizer("sgd", groups, Hyperparameters(0.05, momentum=0.9))
    plan = TrainPlan(epochs=4, schedule=ScheduleSpec(), learning_rates=(0.05,), **options)
    checkpoint = None
    if folder is not None:
        steps = iter(range(1, 10_000))
        checkpoint = CheckpointFolder(
            folder,
            every_seconds=None,
            every_steps=2,
            # Only the first is asked to stop, as by Ctrl-C in one of several terminals.
            stop=lambda: stop_after is not None and team.rank == 0 and next(steps) > stop_after,
        )
    records, _ = drain(fit(tail, optimizer, source, plan, checkpoint, team))
    tail.losses = [[r.split, r.epoch, r.loss, r.accuracy] for r in records]  # type: ignore[assignment]
    return tail


def main() -> None:
    given = json.loads(sys.argv[1])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    folder = None if given["folder"] is None else Path(given["folder"])
    tail = trained(given["options"], folder, given["stop_after"])
    out = Path(given["out"]) / f"rank-{current_team().rank}"
    safetensors.torch.save_file(
        {k: v.contiguous().clone() for k, v in tail.state_dict().items()}, f"{out}.safetensors"
    )
    Path(f"{out}.json").write_text(json.dumps(tail.losses))


if __name__ == "__main__":
    main()

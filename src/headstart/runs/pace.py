"""How long training would take: measured on a few batches of the real samples, before it begins."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from headstart._util.devices import full_float32
from headstart.backbones.base import Backbone
from headstart.data.dataset import Dataset
from headstart.data.loader import load_batches
from headstart.heads import HeadSpec, Tail, build_head, stage_sizes
from headstart.runs.training import width_at
from headstart.train import cut_for
from headstart.train.plan import Precision
from headstart.types import FloatArray, IntArray

_BATCHES = 2  # the first warms up


@dataclass(frozen=True, slots=True)
class Pace:
    """What one way of fine-tuning costs.

    Attributes:
        trainable: What is trained, as a stage's configuration says it.
        cut: Last frozen stage.
        precision: What the training steps compute in.
        step_seconds: One sample's share of a training step.
        look_seconds: One sample's forward pass from the cut, as validation needs it.
        read_seconds: Reading and decoding one sample, where nothing is frozen; else 0.
    """

    trainable: int | str
    cut: str
    precision: Precision
    step_seconds: float
    look_seconds: float
    read_seconds: float

    def epoch_seconds(self, train: int, val: int) -> float:
        """Return the time of one epoch over so many samples."""
        return train * (self.step_seconds + self.read_seconds) + val * (
            self.look_seconds + self.read_seconds
        )


def releases(backbone: Backbone, head_cut: str) -> tuple[int | str, ...]:
    """Return what might be trained besides the head, the most first.

    Args:
        backbone: The network.
        head_cut: The stage that the head reads.

    Returns:
        ``all``, then numbers of last stages with weights: a half, a quarter, an eighth, at least 1.
    """
    weighty = sum(1 for _, count in stage_sizes(backbone, head_cut) if count)
    some = {max(1, round(weighty / share)) for share in (2, 4, 8)}
    return ("all", *sorted((k for k in some if k < weighty), reverse=True))


def sample_batches(
    dataset: Dataset, rows: IntArray, backbone: Backbone, batch_size: int, workers: int
) -> tuple[list[FloatArray], float]:
    """Return a few prepared batches, and the seconds that one sample took to read.

    Args:
        dataset: The samples.
        rows: From which to take them, evenly spread.
        backbone: For which they are prepared.
        batch_size: Samples of a batch.
        workers: Threads that decode.

    Returns:
        At most two batches (texts of like length together, as in training), and seconds.
    """
    count = min(len(rows), _BATCHES * batch_size)
    chosen = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
    start = time.perf_counter()
    batches = list(load_batches(dataset, chosen, backbone.input_spec, batch_size, workers=workers))
    return batches, (time.perf_counter() - start) / count


def measure_pace(
    backbone: Backbone,
    head_cut: str,
    trainable: int | str,
    batches: Sequence[FloatArray],
    read_seconds: float,
    outputs: int,
    device: torch.device,
    precision: Precision,
) -> Pace:
    """Time training steps, without leaving a trace on the backbone.

    Args:
        backbone: The network; a copy is trained.
        head_cut: The stage that the head reads.
        trainable: From `releases`.
        batches: Prepared samples; the first warms up.
        read_seconds: Reading and decoding one of them.
        outputs: Numbers that the head gives.
        device: Where torch computes.
        precision: What the steps compute in.

    Returns:
        The pace: the faster of the timed steps, for what else runs on the machine slows some.
    """
    network = backbone.clone()
    network.to(device)
    what = cut_for(trainable, stage_sizes(network, head_cut), head_cut)
    head = build_head(HeadSpec(), width_at(network, head_cut), outputs, [0]).to(device)
    tail = Tail(network, what.cut, head_cut, head, trained=what.trained)
    tail = tail.to(device)
    learnt = [p for group in tail.groups().values() for p in group]
    optimizer = torch.optim.AdamW(learnt, lr=1e-6)
    prefix = network.prefix(what.cut)
    steps, looks = [], []
    for batch in batches:
        x = torch.from_numpy(batch).to(device)
        with torch.inference_mode(), full_float32():
            frozen = prefix(x)
        z = frozen.clone()
        target = torch.zeros(1, len(z), dtype=torch.int64, device=device)
        start = _now(device)
        tail.eval()
        with torch.inference_mode():
            tail(z)
        middle = _now(device)
        tail.train()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits = tail(z)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), target[0])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        looks.append((middle - start) / len(z))
        steps.append((_now(device) - middle) / len(z))
    timed = slice(1, None) if len(batches) > 1 else slice(None)
    return Pace(
        trainable=trainable,
        cut=what.cut,
        precision=precision,
        step_seconds=float(np.mean(steps[timed])),
        look_seconds=float(np.mean(looks[timed])),
        read_seconds=read_seconds if what.cut == "input" else 0.0,
    )


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

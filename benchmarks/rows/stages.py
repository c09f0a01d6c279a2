"""Fine-tuning the last stage of VGG16: its last convolution and its fully connected layers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contender import listed
from benchmarks.contest import Answer, Contender, Repeat, contest
from benchmarks.material import gather
from benchmarks.rows.group import Group, Setting
from benchmarks.rows.trainings import (
    Floor,
    Least,
    accuracies,
    epochs_run,
    lengthened,
    ratio_row,
    worked,
)
from benchmarks.table import Findings, Target, fastest, middle

OURS, TORCH = "Headstart, {} epochs", "PyTorch"
TARGETS = {4: Target(3.5), 10: Target(5)}
PHOTOS, MEASURED, UNSTEADY = 300, 2, 1
RATE, MOMENTUM, BATCH = 0.001, 0.9, 32
NETWORK, FIRST = "torchvision/vgg16", "features.29"
STUDY = """
name: last-stage
title: Fully connected layers and the last convolution
data: {{kind: auto, path: {folder}}}
backbones: {{vgg16: {{name: {network}, weights: {weights}}}}}
timing: {{measure: false}}
analysis: {{mistakes: 0, near_duplicates: false, suspicious_labels: false}}
device: cpu
parts:
  tuned:
    kind: model
    head: {{kind: linear}}
    batch_size: {batch}
    stages:
      - trainable: [{first}, classifier.1, pooled]
        epochs: {epochs}
        optimizer: {{kind: sgd, learning_rate: {rate}, momentum: {momentum}}}
"""


def measure(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Let both fine-tune the same layers of the same network."""
    count = min(PHOTOS, setting.photos)
    wanted = ("vgg16-torchvision.safetensors",)
    material = gather(setting.data, setting.work, count, setting.threads, wanted)
    weights = str(material.weights / wanted[0])
    theirs = {
        "train": str(material.train),
        "val": str(material.val),
        "torch_weights": weights,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "momentum": MOMENTUM,
        "epochs": max(TARGETS) if setting.full else MEASURED,
        "threads": setting.threads,
        "workers": setting.threads,
    }
    contenders = [Contender(TORCH, "benchmarks.peers.torch_vgg16", theirs, "torch")]
    for epochs in TARGETS:
        path = material.weights / f"last-stage-{epochs}.yaml"
        text = STUDY.format(
            folder=material.folder,
            network=NETWORK,
            weights=weights,
            first=FIRST,
            epochs=epochs,
            batch=BATCH,
            rate=RATE,
            momentum=MOMENTUM,
        )
        path.write_text(text)
        # No cache and no folder of runs are given: each process has empty ones of its own.
        ours = {
            "study": str(path),
            "report_counts": False,
            "threads": setting.threads,
            "backbone": NETWORK,
            "trained_from": FIRST,
        }
        contenders.append(Contender(OURS.format(epochs), "benchmarks.ours.study", ours))
    about = {"photos": material.count, "training": len(listed(str(material.train))[0])}
    return contest(contenders, setting.repeats, setting.tell), about


def least(epochs: int, photos: int, training: int) -> Floor:
    """Return the floor: what is frozen once, what is trained in every epoch, and the updates."""

    def found(answers: Sequence[Answer]) -> Least:
        keys = ("frozen_flops", "step_flops", "update_bytes")
        frozen, step, update = (middle(answers, key) for key in keys)
        peak, speed = fastest(answers, "peak_flops"), fastest(answers, "bytes_per_second")
        steps = epochs * math.ceil(training / BATCH)
        return Least(
            (photos * frozen + epochs * training * step) / peak + steps * update / speed,
            f"one forward pass of what is frozen over {photos} photographs ({frozen / 1e9:.1f} "
            f"GFLOP each), {epochs} epochs of {training} through what is trained, forward and "
            f"backward ({step / 1e9:.1f} GFLOP each), at {peak / 1e9:.0f} GFLOP/s of matmul, and "
            f"{steps} updates of {update / 1e9:.1f} GB at {speed / 1e9:.0f} GB/s, "
            "cannot take less than",
        )

    return found


def findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return the rows."""
    rows = tuple(
        ratio_row(
            repeats,
            f"vgg16-{epochs}",
            "fine-tuning of VGG16's last convolution and fully connected layers, "
            f"{about['photos']} photographs, {epochs} epochs, against PyTorch",
            target,
            (OURS.format(epochs), TORCH),
            (worked, lengthened(epochs, UNSTEADY)),
            note="a whole study without its report: scan, splits, training, test, tables",
            floor=least(epochs, about["photos"], about["training"]),
            processes=True,
        )
        for epochs, target in TARGETS.items()
    )
    # The validation photographs after as many epochs, with the weights of that epoch on both sides.
    compared = accuracies(
        repeats,
        "fine-tuning of VGG16",
        MEASURED,
        dict.fromkeys(
            (OURS.format(min(TARGETS)), TORCH), lambda answer: answer["accuracies"][MEASURED - 1]
        ),
    )
    return Findings(rows, compared, epochs_run(repeats, (TORCH,), UNSTEADY, max(TARGETS)))


GROUP = Group("vgg16", 15, measure, findings)

"""Fine-tuning the last stage of VGG16: its last convolution and its fully connected layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contest import Contender, Repeat, contest
from benchmarks.material import gather
from benchmarks.rows.group import Group, Setting
from benchmarks.rows.trainings import accuracies, lengthened, ratio_row, steady, worked
from benchmarks.table import Findings, Target

OURS, TORCH = "Headstart, {} epochs", "PyTorch"
TARGETS = {4: Target(3.5), 10: Target(5)}
PHOTOS, MEASURED, UNSTEADY = 200, 2, 1
RATE, MOMENTUM = 0.001, 0.9
STUDY = """
name: last-stage
title: Fully connected layers and the last convolution
data: {{kind: auto, path: {folder}}}
backbones: {{vgg16: {{name: torchvision/vgg16, weights: {weights}}}}}
timing: {{measure: false}}
analysis: {{mistakes: 0, near_duplicates: false, suspicious_labels: false}}
device: cpu
parts:
  tuned:
    kind: model
    head: {{kind: linear}}
    batch_size: 32
    stages:
      - trainable: [features.29, classifier.1, pooled]
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
        "batch_size": 32,
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
            folder=material.folder, weights=weights, epochs=epochs, rate=RATE, momentum=MOMENTUM
        )
        path.write_text(text)
        # No cache and no folder of runs are given: each process has empty ones of its own.
        ours = {"study": str(path), "report_counts": False, "threads": setting.threads}
        contenders.append(Contender(OURS.format(epochs), "benchmarks.ours.study", ours))
    return contest(contenders, setting.repeats, setting.tell), {"photos": material.count}


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
        )
        for epochs, target in TARGETS.items()
    )
    # Headstart's is of its best epoch, the loop's of its last: after as many only with --full.
    compared = accuracies(
        repeats,
        "fine-tuning of VGG16 (PyTorch: after the epochs that were run)",
        min(TARGETS),
        {
            OURS.format(min(TARGETS)): lambda answer: answer["accuracy"],
            TORCH: lambda answer: answer["accuracies"][: min(TARGETS)][-1],
        },
    )
    return Findings(rows, compared, steady(repeats, (TORCH,), UNSTEADY))


GROUP = Group("vgg16", 11, measure, findings)

"""Frozen transfer, MobileNetV2, 1,000 photographs: against Keras, PyTorch, fastai and timm."""

from collections.abc import Mapping, Sequence
from typing import Any

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
from benchmarks.table import Findings, Target, fastest, middle, quickest

OURS = "Headstart, {} epochs"
EPOCHS = (20, 50)
MEASURED, UNSTEADY = 4, 2
PEERS = {
    "Keras": ("keras_frozen", "tensorflow"),
    "PyTorch": ("torch_frozen", "torch"),
    "fastai": ("fastai_frozen", "torch"),
    "timm": ("timm_frozen", "torch"),
}
TARGETS = {
    ("Keras", 20): Target(60),
    ("PyTorch", 20): Target(80),
    ("fastai", 20): Target(80),
    ("timm", 20): None,
    ("Keras", 50): Target(120),
    ("PyTorch", 50): Target(200),
}
NOTES = {
    "timm": "timm's loader leaves out the last photographs where they do not fill a batch",
    "Keras": "Keras resizes to 224 what the others resize to 256 and crop",
}
WANTED = ("mobilenet-keras.npz",)


def measure(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Let all contenders train, in turn."""
    material = gather(setting.data, setting.work, setting.photos, setting.threads, WANTED)
    job = {
        "folder": str(material.folder),
        "train": str(material.train),
        "val": str(material.val),
        "batch_size": 32,
        "learning_rate": 0.01,
        "momentum": 0.9,
        "threads": setting.threads,
        "workers": setting.threads,
        "torch_weights": str(material.weights / "mobilenet-torchvision.safetensors"),
        "timm_weights": str(material.weights / "mobilenet-timm.safetensors"),
        "keras_weights": str(material.weights / "mobilenet-keras.npz"),
        "compared_epochs": MEASURED,
    }
    measured = max(EPOCHS) if setting.full else MEASURED
    contenders = [
        *(
            Contender(OURS.format(n), "benchmarks.ours.frozen", {**job, "epochs": n})
            for n in EPOCHS
        ),
        *(
            Contender(name, f"benchmarks.peers.{module}", {**job, "epochs": measured}, place)
            for name, (module, place) in PEERS.items()
        ),
    ]
    about = {"photos": material.count, "threads": setting.threads}
    return contest(contenders, setting.repeats, setting.tell), about


def least(cores: int) -> Floor:
    """Return the floor of one pass over all photographs, every core busy with nothing else."""

    def found(answers: Sequence[Answer]) -> Least:
        pictures, flops = (middle(answers, key) for key in ("pictures", "flops"))
        peak, decode = fastest(answers, "peak_flops"), quickest(answers, "decode_core_seconds")
        return Least(
            pictures * (flops / peak + decode / cores),
            f"reading, resizing and one forward pass of {pictures:,.0f} photographs on "
            f"{cores} cores ({flops / 1e9:.2f} GFLOP each at {peak / 1e9:.0f} GFLOP/s of matmul, "
            f"{1000 * decode:.1f} core-ms of decoding each) cannot take less than",
        )

    return found


def findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return the rows, and the accuracy of all after the same number of epochs."""
    rows = [
        ratio_row(
            repeats,
            f"frozen-{epochs}-{name.lower()}",
            f"frozen transfer, MobileNetV2, {about['photos']:,} photographs, {epochs} epochs, "
            f"against {name}",
            target,
            (OURS.format(epochs), name),
            (worked, lengthened(epochs, UNSTEADY)),
            note=NOTES.get(name, ""),
            floor=least(about["threads"]),
            processes=True,
        )
        for (name, epochs), target in TARGETS.items()
    ]
    ours = OURS.format(EPOCHS[0])
    compared = accuracies(
        repeats,
        "frozen transfer",
        MEASURED,
        {
            ours: lambda answer: answer["compared_accuracy"],
            **dict.fromkeys(PEERS, lambda answer: answer["accuracies"][MEASURED - 1]),
        },
    )
    run = epochs_run(repeats, tuple(PEERS), UNSTEADY, max(EPOCHS))
    return Findings(tuple(rows), compared, run)


GROUP = Group("frozen", 18, measure, findings)

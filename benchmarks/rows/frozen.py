"""Frozen transfer, MobileNetV2, 1,000 photographs: against Keras, PyTorch, fastai and timm."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contest import Contender, Repeat, contest
from benchmarks.material import gather
from benchmarks.rows.group import Group, Setting
from benchmarks.rows.trainings import accuracies, lengthened, ratio_row, steady, worked
from benchmarks.table import Findings, Target

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
    return contest(contenders, setting.repeats, setting.tell), {"photos": material.count}


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
    return Findings(tuple(rows), compared, steady(repeats, tuple(PEERS), UNSTEADY))


GROUP = Group("frozen", 18, measure, findings)

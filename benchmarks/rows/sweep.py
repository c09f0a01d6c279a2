"""A sweep of the head: nine members as one batch against nine single trainings."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contest import Answer, Contender, Repeat, contest
from benchmarks.material import gather
from benchmarks.rows.group import Group, Setting
from benchmarks.rows.trainings import accuracies, ratio_row
from benchmarks.table import Findings, Target

EPOCHS = 50
MEMBERS = [[rate, momentum] for rate in (0.1, 0.01, 0.001) for momentum in (0.0, 0.5, 0.9)]
OURS, TORCH, SKLEARN = "Headstart", "PyTorch", "scikit-learn"
WANTED = ("mobilenet-keras.npz", "features.npz")


def measure(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Let all contenders train the nine members on the same features."""
    material = gather(setting.data, setting.work, setting.photos, setting.threads, WANTED)
    job = {
        "features": str(material.weights / "features.npz"),
        "members": MEMBERS,
        "epochs": EPOCHS,
        "batch_size": 32,
        "threads": setting.threads,
    }
    contenders = [
        Contender(OURS, "benchmarks.ours.sweep", job),
        Contender(TORCH, "benchmarks.peers.torch_sweep", job, "torch"),
        Contender(SKLEARN, "benchmarks.peers.sklearn_sweep", job, "torch"),
    ]
    return contest(contenders, setting.repeats, setting.tell), {"photos": material.count}


def findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return the rows, and the mean accuracy of the members of each contender."""
    work = f"sweep of {len(MEMBERS)} heads, {EPOCHS} epochs, {about['photos']:,} stored features"
    rows = (
        ratio_row(
            repeats,
            "sweep-pytorch",
            f"{work}, against {len(MEMBERS)} single trainings in PyTorch",
            Target(20),
            (OURS, TORCH),
        ),
        ratio_row(
            repeats,
            "sweep-sklearn",
            f"{work}, against scikit-learn's MLPClassifier",
            None,
            (OURS, SKLEARN),
            note="scikit-learn scores a member once, the others after every epoch",
        ),
    )
    names = (OURS, TORCH, SKLEARN)
    return Findings(
        rows, accuracies(repeats, "sweep, mean of the members", EPOCHS, dict.fromkeys(names, _mean))
    )


def _mean(answer: Answer) -> float:
    return statistics.fmean(answer["member_accuracies"])


GROUP = Group("sweep", 2, measure, findings)

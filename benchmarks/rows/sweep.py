"""A sweep of the head: nine members as one batch against nine single trainings."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contest import Answer, Contender, Repeat, contest
from benchmarks.material import gather
from benchmarks.rows.group import Group, Setting, both
from benchmarks.rows.trainings import Least, accuracies, ratio_row
from benchmarks.table import Findings, Target

EPOCHS = 50
MEMBERS = [[rate, momentum] for rate in (0.1, 0.01, 0.001) for momentum in (0.0, 0.5, 0.9)]
OURS, TORCH, SKLEARN = "Headstart", "PyTorch", "scikit-learn"
IN_MEMORY = "PyTorch, tensors in memory"
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
        *(
            Contender(
                name,
                "benchmarks.peers.torch_sweep",
                {**job, "in_memory": name == IN_MEMORY},
                "torch",
            )
            for name in (TORCH, IN_MEMORY)
        ),
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
            note="the loop of PyTorch's tutorials, with a DataLoader" + _threads(repeats, TORCH),
            floor=least,
        ),
        ratio_row(
            repeats,
            "sweep-pytorch-in-memory",
            f"{work}, against {len(MEMBERS)} single trainings in PyTorch that index tensors in "
            "memory",
            None,
            (OURS, IN_MEMORY),
            note="without a DataLoader, validated as one batch" + _threads(repeats, IN_MEMORY),
            floor=least,
        ),
        ratio_row(
            repeats,
            "sweep-sklearn",
            f"{work}, against scikit-learn's MLPClassifier",
            None,
            (OURS, SKLEARN),
            note="scikit-learn scores a member once, the others after every epoch",
            floor=least,
        ),
    )
    names = (OURS, TORCH, IN_MEMORY, SKLEARN)
    return Findings(
        rows, accuracies(repeats, "sweep, mean of the members", EPOCHS, dict.fromkeys(names, _mean))
    )


def least(answers: Sequence[Answer]) -> Least:
    """Return the floor: the torch operations of the training and nothing else."""
    best = min(answers, key=lambda answer: answer["bare_seconds"])
    return Least(
        best["bare_seconds"],
        "the bare torch operations, run in the same process on "
        f"{_counted(best['bare_threads'])}, take",
    )


def _threads(repeats: Sequence[Repeat], name: str) -> str:
    chosen = sorted({repeat[name]["best_threads"] for repeat in both(repeats, name)})
    return f", on {_counted(*chosen)} (the faster)" if chosen else ""


def _counted(*threads: int) -> str:
    return f"{' or '.join(map(str, threads))} thread{'' if threads == (1,) else 's'}"


def _mean(answer: Answer) -> float:
    return statistics.fmean(answer["member_accuracies"])


GROUP = Group("sweep", 2, measure, findings)

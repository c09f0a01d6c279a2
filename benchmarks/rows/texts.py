"""Texts: frozen features of MiniLM, and fine-tuning all of it, against Hugging Face's Trainer."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import reviews
from benchmarks.contest import Contender, Repeat, contest
from benchmarks.rows.group import Group, Setting
from benchmarks.rows.trainings import accuracies, ratio_row
from benchmarks.table import Findings, Target

FEATURES, TUNING = "features", "fine-tuning"
OURS, TRAINER = "Headstart, {}", "Trainer, {}"
TARGETS = {FEATURES: Target(2.5), TUNING: Target(1.4)}
COUNT, FULL_COUNT, HELD_OUT = 300, 1000, 100
TITLES = {
    FEATURES: "frozen features of {count:,} {kind}, MiniLM-L6, against Trainer with padding to 512",
    TUNING: "fine-tuning all of MiniLM-L6 on {count:,} {kind}, one epoch, against Trainer's "
    "defaults",
}


def measure(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Let both compute features, and both fine-tune."""
    from headstart.backbones.transformers_packaged import package_folder

    count = FULL_COUNT if setting.full else COUNT
    total = count + HELD_OUT
    real = setting.reviews is not None
    rows = reviews.read(setting.reviews, total) if setting.reviews else reviews.made(total)
    job = {
        "texts": reviews.write(rows[:count], setting.work / "texts" / "train.jsonl"),
        "validation": reviews.write(rows[count:], setting.work / "texts" / "val.jsonl"),
        "weights": str(package_folder()),
        "max_length": 512,
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 5e-5,
        "threads": setting.threads,
    }
    contenders = []
    for work in TARGETS:
        given = {**job, "work": work}
        contenders += [
            Contender(OURS.format(work), "benchmarks.ours.texts", given),
            Contender(TRAINER.format(work), "benchmarks.peers.trainer_texts", given, "torch"),
        ]
    about = {"count": count, "kind": "reviews" if real else "made reviews"}
    return contest(contenders, setting.repeats, setting.tell), about


def findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return the rows."""
    rows = tuple(
        ratio_row(
            repeats,
            f"texts-{work}",
            TITLES[work].format(**about),
            target,
            (OURS.format(work), TRAINER.format(work)),
        )
        for work, target in TARGETS.items()
    )
    names = (OURS.format(TUNING), TRAINER.format(TUNING))
    found = accuracies(
        repeats, "fine-tuning of MiniLM", 1, dict.fromkeys(names, lambda answer: answer["accuracy"])
    )
    return Findings(rows, found)


GROUP = Group("texts", 8, measure, findings)

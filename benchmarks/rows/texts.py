"""Texts: frozen features of MiniLM, and fine-tuning all of it, against Hugging Face's Trainer."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks import reviews
from benchmarks.contest import Answer, Contender, Repeat, contest
from benchmarks.rows.group import Group, Setting, apart
from benchmarks.rows.trainings import Least, accuracies, ratio_row
from benchmarks.table import Findings, Target, fastest, middle

FEATURES, TUNING = "features", "fine-tuning"
OURS, TRAINER = "Headstart, {}", "Trainer, {}"
TARGETS = {FEATURES: Target(2.5), TUNING: Target(1.4)}
COUNT, HELD_OUT = 1000, 100
APART = 1e-3
TITLES = {
    FEATURES: "frozen features of {count:,} {kind}, MiniLM-L6, against Trainer with padding to 512",
    TUNING: "fine-tuning all of MiniLM-L6 on {count:,} {kind}, one epoch, against Trainer's "
    "defaults",
}


def measure(setting: Setting, work: str) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Let both compute features, or both fine-tune."""
    from headstart.backbones.transformers_packaged import package_folder

    total = COUNT + HELD_OUT
    real = setting.reviews is not None
    rows = reviews.read(setting.reviews, total) if setting.reviews else reviews.made(total)
    count = len(rows) - HELD_OUT
    job = {
        "work": work,
        "texts": reviews.write(rows[:count], setting.work / "texts" / "train.jsonl"),
        "validation": reviews.write(rows[count:], setting.work / "texts" / "val.jsonl"),
        "weights": str(package_folder()),
        "max_length": 512,
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 5e-5,
        "threads": setting.threads,
    }
    contenders = [
        Contender(OURS.format(work), "benchmarks.ours.texts", job),
        Contender(TRAINER.format(work), "benchmarks.peers.trainer_texts", job, "torch"),
    ]
    about = {"count": count, "kind": "reviews" if real else "made reviews"}
    return contest(contenders, setting.repeats, setting.tell), about


def findings(repeats: Sequence[Repeat], about: Mapping[str, Any], work: str) -> Findings:
    """Return the row; and whether both computed the same features, or learned as much."""
    names = (OURS.format(work), TRAINER.format(work))
    row = ratio_row(
        repeats,
        f"texts-{work}",
        TITLES[work].format(**about),
        TARGETS[work],
        names,
        floor=partial(least, work=work, count=about["count"]),
        processes=True,
    )
    if work == FEATURES:
        return Findings((row,), disagreements=apart(repeats, *names, APART))
    figures = dict.fromkeys(names, lambda answer: answer["accuracy"])
    return Findings((row,), accuracies(repeats, "fine-tuning of MiniLM", 1, figures))


def least(answers: Sequence[Answer], work: str, count: int) -> Least:
    """Return the floor: the products of the tokens there are, at the speed of matmul."""
    flops, peak = middle(answers, "flops"), fastest(answers, "peak_flops")
    passes = {FEATURES: "forward", TUNING: "forward and backward"}[work]
    flops *= {FEATURES: 1, TUNING: 3}[work]
    return Least(
        flops / peak,
        f"the products of the {passes} pass over the tokens of {count:,} texts ({flops / 1e12:.2f} "
        f"TFLOP at {peak / 1e9:.0f} GFLOP/s of matmul) cannot take less than",
    )


def _group(name: str, minutes: float, work: str) -> Group:
    return Group(name, minutes, partial(measure, work=work), partial(findings, work=work))


GROUPS = (_group("texts-features", 8, FEATURES), _group("texts-tuning", 30, TUNING))

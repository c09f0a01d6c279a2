"""Answers of contenders, made up."""

from pathlib import Path

from benchmarks import results
from benchmarks.rows.group import Setting

SETTING = Setting(Path(), None, None, 3, 2, full=False, photos=1000, tell=print)
FAILED = {"error": "ended with status 1"}


def trained(seconds: float) -> dict[str, object]:
    epoch = seconds / 10
    return {
        "seconds": 6 * epoch,
        "epoch_seconds": [2 * epoch, 2 * epoch, epoch, epoch],
        "accuracies": [0.4, 0.5, 0.5, 0.5],
        "samples": 200,
        "versions": {"keras": "3"},
        **process(6 * epoch),
    }


def process(seconds: float, start: float = 5.0) -> dict[str, object]:
    return {
        "work_seconds": seconds,
        "process_seconds": seconds + start,
        "environment": "tensorflow" if start == 5.0 else "headstart",
    }


def measured(name: str, repeats: list[dict[str, dict[str, object]]]) -> results.Measured:
    about = {"photos": 1000, "threads": 2, "load": [0.5, 2.25]}
    described = results.described(SETTING)
    return results.Measured(name, "abc", "2026-01-01T12:00", about, described, repeats)


def frozen_repeat(ours: float, keras: float) -> dict[str, dict[str, object]]:
    head = {
        "seconds": ours,
        "compared_accuracy": 0.51,
        "samples": 200,
        "versions": {"torch": "2"},
        "flops": 0.6e9,
        "peak_flops": 200e9,
        "decode_core_seconds": 0.002,
        "pictures": 1000,
        **process(ours + 3, start=2.0),
    }
    return {
        "Headstart, 20 epochs": head,
        "Headstart, 50 epochs": {**head, "seconds": 2 * ours},
        "Keras": trained(keras),
        "PyTorch": FAILED,
        "fastai": FAILED,
        "timm": FAILED,
    }

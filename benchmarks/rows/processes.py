"""Whole commands: the second run of a study, the prediction of one picture, start-up."""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.contest import Answer, Contender, Repeat, contest, run_fresh
from benchmarks.environments import ROOT
from benchmarks.material import gather
from benchmarks.rows.group import Group, Setting, both, failure
from benchmarks.table import Findings, Row, Target, middle, shown

MOBILENET = "torchvision/mobilenet_v2.IMAGENET1K_V1"
STUDY = """
name: again
title: A probe on a frozen network
data: {{kind: auto, path: {folder}}}
backbones: {{network: {{name: {network}, weights: {weights}}}}}
timing: {{measure: false}}
device: cpu
parts:
  probe:
    kind: model
    head: {{kind: linear}}
    epochs: 20
    optimizer: {{kind: sgd, learning_rate: 0.01, momentum: 0.9}}
"""
AGAIN, ONE = "second run", "one picture"
COMMANDS = {
    "headstart --help": [sys.executable, "-m", "headstart", "--help"],
    "import headstart": [sys.executable, "-c", "import headstart"],
    "python alone": [sys.executable, "-c", "pass"],
}
_STARTS = 7


def measure_runs(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Run a study once, then again and again; and predict with its model."""
    wanted = ("mobilenet-keras.npz",)
    material = gather(setting.data, setting.work, setting.photos, setting.threads, wanted)
    folder = setting.work / "study"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    weights = str(material.weights / "mobilenet-torchvision.safetensors")
    study = folder / "again.yaml"
    study.write_text(STUDY.format(folder=material.folder, network=MOBILENET, weights=weights))
    job = {
        "study": str(study),
        "out": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "report_counts": True,
        "threads": setting.threads,
    }
    bundle = str(folder / "model.headstart")
    setting.tell("the first run, which extracts")
    first = run_fresh(Contender("first run", "benchmarks.ours.study", {**job, "bundle": bundle}), 0)
    if "error" in first:
        return [{AGAIN: first, ONE: first}], {"photos": material.count}
    one = {
        "val": str(material.val),
        "bundle": bundle,
        "backbone": MOBILENET,
        "torch_weights": weights,
        "pictures": min(60, material.count // 5),
        "threads": setting.threads,
    }
    contenders = [
        Contender(AGAIN, "benchmarks.ours.study", job),
        Contender(ONE, "benchmarks.ours.one_picture", one),
    ]
    found = contest(contenders, setting.repeats, setting.tell)
    return found, {
        "photos": material.count,
        "first_seconds": first["seconds"],
        "first_trained_seconds": first["trained_seconds"],
    }


def run_findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return both rows."""
    again = [repeat[AGAIN] for repeat in both(repeats, AGAIN)]
    one = [repeat[ONE] for repeat in both(repeats, ONE)]
    work = (
        f"second run, nothing changed, {about['photos']:,} photographs, after start-up: from the "
        "scan until the head is trained and has predicted"
    )
    if again:
        whole, report = middle(again, "seconds"), middle(again, "report_seconds")
        seconds = tuple(float(answer["trained_seconds"]) for answer in again)
        second = Row(
            "second-run",
            work,
            Target(3, "s", most=True),
            seconds,
            "s",
            ours=shown(middle(again, "trained_seconds"), "s"),
            theirs=f"first run {shown(about['first_trained_seconds'], 's')}",
            note=f"with the search for wrong labels and near-copies {shown(whole - report, 's')}, "
            f"with the report too {shown(whole, 's')}; all of the first run "
            f"{shown(about['first_seconds'], 's')}",
        )
    else:
        second = Row("second-run", work, Target(3, "s", most=True), (), "s")
        second = _failed(second, repeats, AGAIN)
    work = "prediction of one photograph by a warm bundle: overhead over the network, less decoding"
    target = Target(0.15, "%", most=True)
    if not one:
        return Findings((second, _failed(Row("one-picture", work, target, (), "%"), repeats, ONE)))
    ms = {
        key: f"{1000 * middle(one, f'{key}_seconds'):.1f} ms"
        for key in ("predict", "forward", "decode")
    }
    picture = Row(
        "one-picture",
        work,
        target,
        tuple(float(answer["overhead"]) for answer in one),
        "%",
        ours=ms["predict"],
        theirs=f"network {ms['forward']}, decode {ms['decode']}",
        note="MobileNetV2; the network alone: the faster of ONNX Runtime and OpenVINO, built for "
        "one picture",
    )
    return Findings((second, picture))


def measure_starts(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Time whole processes."""
    contenders = [Contender(name, "", {"command": words}) for name, words in COMMANDS.items()]
    for contender in contenders:  # compiled, and in the system's cache
        _start(contender, 0)
    return contest(contenders, max(_STARTS, setting.repeats), lambda _: None, _start), {}


def start_findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return a row for each command."""
    del about
    rows = []
    for name in list(COMMANDS)[:2]:
        answers = [repeat[name] for repeat in both(repeats, name)]
        row = Row(
            name.replace("headstart --help", "help").replace(" ", "-"),
            f"`{name}`",
            Target(0.2, "s", most=True),
            tuple(answer["seconds"] for answer in answers),
            "s",
        )
        alone = [repeat["python alone"] for repeat in both(repeats, "python alone")]
        if not answers or not alone:
            rows.append(_failed(row, repeats, name, "python alone"))
            continue
        theirs = f"python alone {shown(middle(alone, 'seconds'), 's')}"
        rows.append(replace(row, ours=shown(middle(answers, "seconds"), "s"), theirs=theirs))
    return Findings(tuple(rows))


def _start(contender: Contender, number: int) -> Answer:
    del number
    start = time.perf_counter()
    done = subprocess.run(
        contender.job["command"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        return {"error": done.stderr.strip()[-200:] or f"status {done.returncode}"}
    return {"seconds": seconds, "process_seconds": seconds}


def _failed(row: Row, repeats: Sequence[Repeat], *names: str) -> Row:
    return replace(row, values=(), error=failure(repeats, *names))


GROUPS = (
    Group("runs", 2.5, measure_runs, run_findings),
    Group("start", 0.5, measure_starts, start_findings),
)

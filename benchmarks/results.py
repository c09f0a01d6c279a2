"""Measurements on the disk, and the page that is made of them."""

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.contest import Repeat
from benchmarks.environments import ROOT
from benchmarks.growth import NAME, growth, stamped
from benchmarks.growth import write as write_curves
from benchmarks.rows.group import Group, Setting
from benchmarks.table import Accuracy, Findings, Row, agree, shown, span
from headstart._util.devices import cpu_model, usable_cores
from headstart._util.hashing import digest_bytes

_NO_CODE = (":!docs", ":!tests", ":!*.md", ":!benchmarks/plots")

_INTRODUCTION = """\
Written by `make bench`. Each figure is the median of the repeats, with their range. A ratio is
taken within each repeat; all contenders of a row run in turn, each in a process of its own, and
another one begins in each repeat. Groups of rows may come from several runs, and then of several
commits, which are given; a ratio never does.
"""

_COUNTED = """\
## What counts

- **Work** begins when all libraries are imported and ends when the model is trained and validated.
  Building the network, reading its weights, decoding, choosing an engine (with the export of the
  graph) and writing features all count, on both sides of a row. Fine-tuning of texts ends with the
  training: no side's accuracy is timed there.
- **Not work**: starting Python and importing libraries. What they make of a ratio is in the notes,
  where a row says "whole processes".
- Every contender of frozen transfer, of the sweep and of fine-tuning has the same photographs or
  texts, split, weights of the frozen part, batch size, optimiser, learning rate, epochs and number
  of threads; where it has another number because that is faster, its note says so. The order of
  the batches is each one's own.
- The others validate after each epoch, as `fit` and the tutorials do. Headstart's classifier
  predicts the validation photographs at the end: they pass through the frozen network once, as the
  training photographs do.
- Headstart's classifier standardises the features by their mean and spread over the training
  photographs, as it does by default; no other contender does. That changes the accuracy, and costs
  nothing that could be seen in the seconds.
- Headstart starts with an empty store of features in each repeat.
- PyTorch, fastai and timm run channels-last, the faster layout here, with workers that decode;
  Keras caches decoded photographs. Nobody augments.
- A row needs all its repeats: who fails in one is not measured.
- Where two sides must compute the same, they are compared: features of texts and of the forward
  pass by numbers (mean difference of 0.1% at most), trained models by accuracy. What does not agree
  counts as missed.
- **Epochs of the others.** What is frozen costs the same in every epoch, so that a few tell all;
  Headstart always runs all, and `--full` lets the others do so.
"""

_MADE = """\
## What is made or random, and why that will do

- **Photographs** {photos}
- **Weights** are random numbers: how long a network takes does not depend on them. MobileNetV2's
  BatchNorm has the statistics of 64 of the photographs, so that its features tell classes apart and
  a contender that computed something else would show it in its accuracy. Keras pads before strided
  convolutions on one side only, so that its features differ a little.
- **Features of the sweep** are those of that network.
- **Texts** {texts} MiniLM-L6 has its published weights.
"""

_MADE_PHOTOS = """\
are made: 500×375 JPEGs of five textures (`benchmarks/photos.py`) that decode at the cost of real
  ones; `python -m benchmarks --data FOLDER` takes others."""

_MADE_TEXTS = """\
are made: words as many as reviews have, so that the lengths, on which all depends, are those of
  reviews; `--reviews FOLDER` takes others."""


@dataclass(frozen=True)
class Measured:
    """A group as it was measured.

    Attributes:
        group: Its name.
        commit: Of the code that ran.
        date: When, as ISO 8601.
        about: Settings that the rows need.
        setting: As `described` says.
        repeats: What each contender answered.
    """

    group: str
    commit: str
    date: str
    about: dict[str, Any]
    setting: dict[str, Any]
    repeats: list[Repeat]


def measured_now(group: Group, setting: Setting) -> Measured:
    """Measure a group.

    Args:
        group: Which.
        setting: How.

    Returns:
        What came of it.

    Raises:
        RuntimeError: The code changed meanwhile.
    """
    before, load = commit(), os.getloadavg()[0]
    repeats, about = group.measure(setting)
    unchanged(before)
    return Measured(
        group=group.name,
        commit=before,
        date=now(),
        about={**about, "load": [load, os.getloadavg()[0]]},
        setting=described(setting),
        repeats=repeats,
    )


def now() -> str:
    """Return the time, as it is written down."""
    return datetime.now().astimezone().isoformat(timespec="minutes")


def unchanged(before: str) -> None:
    """Raise RuntimeError unless the code is still that of a stamp."""
    if (after := commit()) != before:
        raise RuntimeError(
            f"the code changed while it was measured: {before} before, {after} after; measure "
            "again while nothing is edited"
        )


def measure_growth(folder: Path, threads: int) -> None:
    """Measure the curves; put the stamp of the code beside them."""
    before, load = commit(), os.getloadavg()[0]
    stamp = {"commit": before, "threads": threads, "date": now(), "load": [load, load]}
    curves = growth(folder, stamp)
    try:
        unchanged(before)
    except RuntimeError:
        (folder / NAME).unlink()
        raise
    write_curves(curves, folder, {**stamp, "load": [load, os.getloadavg()[0]]})


def growth_missing(folder: Path, threads: int) -> str:
    """Return why there are no curves of so many threads in a folder; nothing where there are."""
    found = stamped(folder)
    if found is None:
        return "not measured"
    if found["threads"] != threads:
        return f"not measured with this setting, but by {found['commit']}"
    return ""


def growth_current(folder: Path, threads: int) -> bool:
    """Return whether this code measured the curves before, with so many threads."""
    found = stamped(folder)
    return found is not None and (found["commit"], found["threads"]) == (commit(), threads)


def described(setting: Setting) -> dict[str, Any]:
    """Return how something is measured, as it is written down."""
    return {
        "repeats": setting.repeats,
        "threads": setting.threads,
        "full": setting.full,
        "photos": setting.photos,
        "data": None if setting.data is None else setting.data.name,
        "reviews": None if setting.reviews is None else setting.reviews.name,
    }


def alike(measured: Measured, setting: Setting) -> bool:
    """Return whether a group was measured in this way, by whatever code."""
    return measured.setting == described(setting)


def current(measured: Measured | None, setting: Setting) -> bool:
    """Return whether this code measured a group before, in the same way."""
    return measured is not None and measured.commit == commit() and alike(measured, setting)


def write(measured: Measured, folder: Path) -> None:
    """Write a group as soon as it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{measured.group}.json"
    half_made = path.with_suffix(".part")
    half_made.write_text(json.dumps(vars(measured), indent=1) + "\n")
    half_made.rename(path)


def read(folder: Path, group: str) -> Measured | None:
    """Return a group that was measured before, or None."""
    try:
        return Measured(**json.loads((folder / f"{group}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def commit() -> str:
    """Return the commit of the checkout, with a digest of what differs from it.

    Files that git does not know yet count, unless it ignores them. What is prose or a test, and the
    page and plots that a run writes, do not: no figure can depend on them.
    """
    head = _git("rev-parse", "--short=12", "HEAD").strip() or "unknown"
    changes = _git("diff", "HEAD", "--", ".", *_NO_CODE)
    others = _git("ls-files", "-z", "-o", "--exclude-standard", "--", ".", *_NO_CODE)
    for name in filter(None, others.split("\0")):
        with contextlib.suppress(OSError):  # gone meanwhile, or a link to nowhere
            changes += f"{name} {digest_bytes((ROOT / name).read_bytes())}\n"
    return f"{head}+{digest_bytes(changes.encode())[:8]}" if changes else head


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout


def complete(findings: Findings, least: int) -> Findings:
    """Return findings in which a row with fewer than so many repeats is not measured."""
    rows = tuple(
        replace(row, values=(), error=f"{len(row.values)} of {least} repeats were measured")
        if not row.error and len(row.values) < least
        else row
        for row in findings.rows
    )
    return replace(findings, rows=rows)


def page(
    measured: Sequence[Measured], found: Sequence[Findings], missed: Sequence[str], curves: str
) -> str:
    """Return the page in Markdown.

    Args:
        measured: The groups that were measured, all in the same way.
        found: What each of them gives, in the same order.
        missed: A sentence for each miss.
        curves: What is said of how the cost grows.

    Returns:
        The text.
    """
    rows = [row for one in found for row in one.rows]
    parts = [
        "# Measurements\n",
        _INTRODUCTION,
        machine(measured),
        "## The table\n",
        table(rows),
        *_details(rows, missed),
        curves,
        "## Accuracy\n",
        accuracy_table([one.accuracies for one in found]),
        _COUNTED + _epochs(measured, found),
        _MADE.format(
            photos=_given(measured, "data", _MADE_PHOTOS),
            texts=_given(measured, "reviews", _MADE_TEXTS),
        ),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table."""
    lines = [
        "| work | must reach | measured (least to most) | Headstart | beside it | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        wanted = "–" if row.target is None else str(row.target)
        cells = (row.work, wanted, span(row), row.ours or "–", row.theirs or "–", row.verdict)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def misses(found: Iterable[Findings]) -> list[str]:
    """Return a sentence for each row that misses its target, and for what does not agree."""
    said = []
    for one in found:
        for row in one.rows:
            if row.missed:
                why = row.error or row.floor or "no floor is known"
                measured = f"{shown(row.value, row.unit)}, {row.target}"
                said.append(f"{row.work}: {'not measured' if row.error else measured}: {why}")
        said += one.disagreements
        first, *others = one.accuracies or (None,)
        said += [
            f"{other.work}: the accuracy of {other.contender}, {other.value:.3f}, does not agree "
            f"with that of {first.contender}, {first.value:.3f}"
            for other in others
            if first is not None and not agree(first, other)
        ]
    return said


def accuracy_table(groups: Iterable[Sequence[Accuracy]]) -> str:
    """Return each contender's accuracy, and whether it agrees with Headstart's, the first one."""
    lines = [
        "| work | contender | after epochs | accuracy | 95% interval | agrees |",
        "|---|---|---|---|---|---|",
    ]
    for group in groups:
        for one in group:
            low, high = one.interval
            agrees = "–" if one is group[0] else "yes" if agree(group[0], one) else "**no**"
            lines.append(
                f"| {one.work} | {one.contender} | {one.after} | {one.value:.3f} | "
                f"{low:.3f} to {high:.3f} of {one.samples:,} | {agrees} |"
            )
    return "\n".join(lines) + "\n"


def machine(measured: Sequence[Measured]) -> str:
    """Say where, when and with what."""
    versions: dict[str, dict[str, str]] = {}
    for one in measured:
        for repeat in one.repeats:
            for answer in repeat.values():
                place = versions.setdefault(answer.get("environment", ""), {})
                place |= answer.get("versions", {})
    threads = {one.setting["threads"] for one in measured}
    repeats = {one.setting["repeats"] for one in measured}
    more = "".join(
        f" ({one.group}: {len(one.repeats)})"
        for one in measured
        if len(one.repeats) != one.setting["repeats"]
    )
    loads = "; ".join(
        f"{one.group} {one.about['load'][0]:.1f}, {one.about['load'][1]:.1f}" for one in measured
    )
    dates = sorted(one.date for one in measured)
    lines = [
        f"- machine: {cpu_model()}, {usable_cores()} cores, {platform.platform()}",
        f"- threads: {_joined(threads)}; repeats: {_joined(repeats)}{more}",
        f"- when: {dates[0]} to {dates[-1]}" if dates else "- when: never",
        f"- load average (of a minute) when a group began and ended: {loads or 'none'}",
        f"- commit: {_commits(measured)}",
        f"- Python {platform.python_version()}, Headstart {metadata.version('headstart')}",
        *(
            f"- versions, {name}: {', '.join(f'{key} {of[key]}' for key in sorted(of))}"
            for name, of in sorted(versions.items())
            if of
        ),
    ]
    return "\n".join(lines) + "\n"


def _details(rows: Sequence[Row], missed: Sequence[str]) -> list[str]:
    parts = {
        "Missed, and why": missed,
        "Notes": [f"{row.work}: {row.note}" for row in rows if row.note],
        "What is possible at most": [f"{row.work}: {row.floor}" for row in rows if row.floor],
    }
    return [
        f"### {title}\n\n" + "\n".join(f"- {one}." for one in lines) + "\n"
        for title, lines in parts.items()
        if lines
    ]


def _epochs(measured: Sequence[Measured], found: Sequence[Findings]) -> str:
    return "".join(
        f"  - {one.group}: {text}.\n"
        for one, findings in zip(measured, found, strict=True)
        for text in findings.epochs
    )


def _given(measured: Sequence[Measured], key: str, made: str) -> str:
    given = {one.setting.get(key) for one in measured} - {None}
    return f"are those of {_joined(given)}." if given else made


def _commits(measured: Sequence[Measured]) -> str:
    by: dict[str, list[str]] = {}
    for one in measured:
        by.setdefault(one.commit, []).append(one.group)
    if len(by) < 2:
        return _joined(by)
    return "; ".join(f"{code} ({', '.join(groups)})" for code, groups in by.items())


def _joined(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in sorted(values, key=str))

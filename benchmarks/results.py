"""Measurements on the disk, and the page that is made of them."""

import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.contest import Repeat
from benchmarks.environments import ROOT
from benchmarks.growth import PLOTS, section
from benchmarks.rows.group import Group, Setting
from benchmarks.table import Accuracy, Findings, Row, agree, shown, span
from headstart._util.devices import cpu_model, usable_cores
from headstart._util.hashing import digest_bytes

_INTRODUCTION = """\
Written by `make bench`. Each figure is the median of the repeats, with their range. A ratio is
taken within each repeat; all contenders of a row run in turn, each in a process of its own, and
another one begins in each repeat.
"""

_COUNTED = """\
## What counts

- **Work** begins when all libraries are imported and ends when the model is trained and validated.
  Building the network, reading its weights, decoding, choosing an engine (with the export of the
  graph) and writing features all count, on every side.
- **Not work**: starting Python and importing libraries, for all alike.
- Every contender has the same photographs, split, weights of the frozen part, batch size,
  optimiser, learning rate, epochs and number of threads. The others validate after each epoch, as
  `fit` and the tutorials do. Headstart's classifier predicts the validation photographs at the end:
  they pass through the frozen network once, as the training photographs do.
- Headstart starts with an empty store of features in each repeat.
- PyTorch, fastai and timm run channels-last, the faster layout here, with workers that decode;
  Keras caches decoded photographs. Nobody augments.
"""

_MEASURED_EPOCHS = """\
- **Epochs of the others.** {how}
"""

_FEW_EPOCHS = """\
A frozen network costs the same in every epoch. So each repeat runs a few of them (frozen transfer
4, of which the first two are not called steady; VGG16 2, of which the first is not), and the rest
is counted as the median steady epoch of that repeat; `--full` runs all. Headstart always runs all.
Seconds of the steady epochs, of all repeats: {spread}."""

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
    """Measure a group."""
    repeats, about = group.measure(setting)
    return Measured(
        group=group.name,
        commit=commit(),
        date=datetime.now().astimezone().isoformat(timespec="minutes"),
        about=dict(about),
        setting=described(setting),
        repeats=repeats,
    )


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


def current(measured: Measured | None, setting: Setting) -> bool:
    """Return whether this code measured a group before, in the same way."""
    return (
        measured is not None
        and measured.commit == commit()
        and measured.setting == described(setting)
    )


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
    """Return the commit of the checkout, with a digest of what was changed since."""
    head = _git("rev-parse", "--short=12", "HEAD").strip() or "unknown"
    # The page itself and its plots are written by a run that may be gone on with.
    changes = _git("diff", "HEAD", "--", ".", ":!benchmarks/RESULTS.md", ":!benchmarks/plots")
    return f"{head}+{digest_bytes(changes.encode())[:8]}" if changes else head


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout


def page(measured: Sequence[Measured], found: Sequence[Findings]) -> str:
    """Return the page in Markdown.

    Args:
        measured: The groups that were measured.
        found: What each of them gives, in the same order.

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
        *_details(rows),
        section(PLOTS),
        "## Accuracy\n",
        accuracy_table([one.accuracies for one in found]),
        _COUNTED + _MEASURED_EPOCHS.format(how=_epochs(measured, found)),
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


def misses(rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each row that misses its target."""
    found = []
    for row in rows:
        if row.missed:
            why = row.error or row.floor or "no floor is known"
            what = "not measured" if row.error else f"{shown(row.value, row.unit)}, {row.target}"
            found.append(f"{row.work}: {what}: {why}")
    return found


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
    versions: dict[str, str] = {}
    for one in measured:
        for repeat in one.repeats:
            for answer in repeat.values():
                versions |= answer.get("versions", {})
    listed = ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
    threads = {one.setting["threads"] for one in measured}
    repeats = {one.setting["repeats"] for one in measured}
    commits = sorted({one.commit for one in measured})
    dates = sorted(one.date for one in measured)
    lines = [
        f"- machine: {cpu_model()}, {usable_cores()} cores, {platform.platform()}",
        f"- threads: {_joined(threads)}; repeats: {_joined(repeats)} (start-up: 7)",
        f"- when: {dates[0]} to {dates[-1]}" if dates else "- when: never",
        f"- commit: {', '.join(commits)}",
        f"- Python {platform.python_version()}, Headstart {metadata.version('headstart')}",
        f"- versions: {listed}",
    ]
    return "\n".join(lines) + "\n"


def _details(rows: Sequence[Row]) -> list[str]:
    notes = [f"- {row.work}: {row.note}." for row in rows if row.note]
    why = [f"- {sentence}." for sentence in misses(rows)]
    return [
        "### Notes\n\n" + "\n".join(notes) + "\n" if notes else "",
        "### Missed, and why\n\n" + "\n".join(why) + "\n" if why else "",
    ]


def _epochs(measured: Sequence[Measured], found: Sequence[Findings]) -> str:
    if any(one.setting["full"] for one in measured):
        return "All were run, in every repeat (`--full`)."
    spread = "; ".join(
        f"{name} {median:.2f} s ({least:.2f} to {most:.2f})"
        for one in found
        for name, (median, least, most) in one.steady.items()
    )
    return _FEW_EPOCHS.format(spread=spread or "none").replace("\n", "\n  ")


def _given(measured: Sequence[Measured], key: str, made: str) -> str:
    given = {one.setting.get(key) for one in measured} - {None}
    return f"are those of {_joined(given)}." if given else made


def _joined(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in sorted(values, key=str))

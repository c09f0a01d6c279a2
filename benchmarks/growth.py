"""How the cost grows: time against pictures, classes, members of a sweep, and features.

    python -m benchmarks.growth [FOLDER]

Each curve is drawn on logarithmic axes beside the power law a·n^k that fits the upper half of its
points, where fixed costs no longer matter: k is 1 where twice the work takes twice the time.
"""

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from headstart._util.hashing import digest_bytes
from headstart._util.progress import SilentProgress
from headstart.backbones.registry import load_backbone
from headstart.features.extract import extract
from headstart.features.store import FeatureStore
from headstart.heads import HeadSpec, build_head
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    Hyperparameters,
    ScheduleSpec,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
)

CPU = torch.device("cpu")
PLOTS = Path(__file__).parent / "plots"
NAME = "growth.json"
Stamp = dict[str, Any]
PICTURES = (100, 316, 1_000, 3_162, 10_000, 31_623, 100_000)
CLASSES = (2, 5, 10, 30, 100, 300, 1_000)
MEMBERS = (1, 2, 4, 9, 16, 32, 64, 128, 256)
WIDTHS = (64, 128, 256, 512, 1_024, 2_048, 4_096)
NETWORK = "headstart/resnet20"
"""Small (82 million operations a picture of 32×32), so that 100,000 pictures take a minute."""

SAMPLES, EPOCHS, REPEATS = 1_000, 20, 3


@dataclass(frozen=True)
class Curve:
    """Seconds against a size.

    Attributes:
        title: What is measured.
        size: What grows.
        values: The sizes, rising.
        seconds: What each took, the best of the repeats.
        exponent: k of the power law a·n^k over the upper half of the sizes.
        factor: a of it.
    """

    title: str
    size: str
    values: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float
    factor: float


def fitted(title: str, size: str, values: Sequence[int], seconds: Sequence[float]) -> Curve:
    """Fit a power law to the upper half of the sizes, by least squares of the logarithms."""
    half = len(values) // 2
    exponent, offset = np.polyfit(np.log(values[half:]), np.log(seconds[half:]), 1)
    return Curve(title, size, tuple(values), tuple(seconds), float(exponent), float(np.exp(offset)))


@dataclass(frozen=True)
class Made:
    """Pictures in memory, each different: 32×32 of one colour, its number written into a corner."""

    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def names(self) -> list[str]:
        return [f"{number}.bmp" for number in range(self.count)]

    @property
    def digests(self) -> list[str]:
        return [digest_bytes(self.read(number)) for number in range(self.count)]

    def read(self, index: int) -> bytes:
        pixels = np.full((32, 32, 3), index % 251, dtype=np.uint8)
        pixels[0, :4, 0] = [index >> 24 & 255, index >> 16 & 255, index >> 8 & 255, index & 255]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "BMP")
        return buffer.getvalue()


def pictures() -> list[Curve]:
    """Time extraction from a cold store, and reading everything back."""
    backbone = load_backbone(NETWORK, weights="random")
    cold, warm = [], []
    for count in PICTURES:
        images = Made(count)
        with tempfile.TemporaryDirectory() as folder:
            get = partial(
                extract,
                images,
                range(count),
                backbone,
                backbone.stages[-1],
                store=FeatureStore(Path(folder)),
                device=CPU,
                progress=SilentProgress(),
            )
            cold.append(timed(get))
            warm.append(timed(lambda get=get: get().features.load()))  # type: ignore[misc]
    return [
        fitted("features extracted, cold store", "pictures", PICTURES, cold),
        fitted("features read back", "pictures", PICTURES, warm),
    ]


def train(samples: int, width: int, classes: int, members: int) -> None:
    """Train linear heads for some epochs on random features."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(samples, width)).astype(np.float32)
    labels = rng.integers(0, classes, samples)
    cut = samples * 4 // 5
    seeds = [0] * members
    source = CachedSource(
        ArrayFeatures(features),
        labels,
        {"train": np.arange(cut), "val": np.arange(cut, samples)},
        seeds=seeds,
        batch_size=32,
        device=CPU,
    )
    rates = np.geomspace(1e-3, 1e-1, members)
    some = [Hyperparameters(learning_rate=float(rate), momentum=0.9) for rate in rates]
    head = build_head(HeadSpec(), width, classes, seeds)
    optimizer = build_optimizer("sgd", list(head.parameters()), some)
    drain(fit(head, optimizer, source, TrainPlan(EPOCHS, ScheduleSpec(), tuple(rates))))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best(work: Callable[[], object]) -> float:
    """Return the fewest seconds of some repeats."""
    return min(timed(work) for _ in range(REPEATS))


def heads() -> list[Curve]:
    """Time the training of heads against classes, members and width."""
    train(SAMPLES, 64, 2, 1)  # the first use of torch's kernels takes longer
    classes = [best(partial(train, SAMPLES, 512, many, 1)) for many in CLASSES]
    members = [best(partial(train, SAMPLES, 1_280, 5, many)) for many in MEMBERS]
    widths = [best(partial(train, SAMPLES, width, 5, 9)) for width in WIDTHS]
    return [
        fitted(f"a head, {EPOCHS} epochs, {SAMPLES:,} × 512", "classes", CLASSES, classes),
        fitted(f"a sweep, {EPOCHS} epochs, {SAMPLES:,} × 1,280", "members", MEMBERS, members),
        fitted(f"9 members, {EPOCHS} epochs, {SAMPLES:,} samples", "features", WIDTHS, widths),
    ]


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draw all curves into one SVG file."""
    with rc_context({"svg.hashsalt": "headstart", "font.size": 9}):
        figure = Figure(figsize=(10, 6.4), layout="constrained")
        for place, curve in enumerate(curves):
            axes = figure.add_subplot(2, 3, place + 1)
            sizes = np.array(curve.values, dtype=float)
            axes.loglog(sizes, curve.seconds, "o-", color="#1f5fa8", label="measured")
            upper = sizes[len(sizes) // 2 :]
            law = curve.factor * upper**curve.exponent
            label = f"fitted: n^{curve.exponent:.2f}"
            axes.loglog(upper, law, "--", color="#c4501b", label=label)
            axes.set(title=curve.title, xlabel=curve.size, ylabel="seconds")
            axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
            axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def growth(folder: Path, stamp: Stamp) -> list[Curve]:
    """Measure everything, and write ``growth.json`` and ``growth.svg`` into a folder.

    Args:
        folder: Where to.
        stamp: Says in the first of the files by which code, when, and on how many threads.

    Returns:
        The curves.
    """
    (folder / NAME).unlink(missing_ok=True)  # what fails leaves no older curves behind
    torch.set_num_threads(stamp["threads"])
    curves = [*heads(), *pictures()]
    write(curves, folder, stamp)
    draw(curves, folder / "growth.svg")
    return curves


def write(curves: Sequence[Curve], folder: Path, stamp: Stamp) -> None:
    """Write the curves and their stamp into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {**stamp, "curves": [asdict(curve) for curve in curves]}
    (folder / NAME).write_text(json.dumps(found, indent=1) + "\n")


def stamped(folder: Path) -> Stamp | None:
    """Return the stamp of the curves in a folder, with them; None where there are none."""
    try:
        found = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "curves" in found else None


def section(folder: Path) -> str:
    """Return what a page says of the curves in a folder; nothing where there are none."""
    found = stamped(folder)
    if found is None:
        return ""
    curves = [Curve(**one) for one in found["curves"]]
    lines = [
        "## How the cost grows\n",
        f"Commit {found['commit']}, {found['threads']} threads, {found['date']}; load average when "
        f"it began and ended {found['load'][0]:.1f} and {found['load'][1]:.1f}. Headstart alone; "
        f"heads: the best of {REPEATS}, pictures: one run.\n",
        f"![Seconds against sizes, on logarithmic axes]({folder.name}/growth.svg)\n",
        "| what | from | to | exponent of the upper half |",
        "|---|---|---|---|",
    ]
    for curve in curves:
        ends = [f"{curve.values[at]:,} {curve.size}: {curve.seconds[at]:.3g} s" for at in (0, -1)]
        lines.append(f"| {curve.title} | {ends[0]} | {ends[1]} | {curve.exponent:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a line for each curve."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PLOTS
    now = datetime.now().astimezone().isoformat(timespec="minutes")
    stamp = {"commit": "unknown", "threads": torch.get_num_threads(), "date": now, "load": [0, 0]}
    for curve in growth(folder, stamp):
        ends = f"{curve.values[0]:,} to {curve.values[-1]:,} {curve.size}"
        print(
            f"{curve.title}: {curve.seconds[0]:.2f} s to {curve.seconds[-1]:.1f} s for {ends}, "
            f"n^{curve.exponent:.2f} in the upper half"
        )


if __name__ == "__main__":
    main()

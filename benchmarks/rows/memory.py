"""Peak memory of extraction: 100,000 pictures against 1,000."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contest import Contender, Repeat, contest
from benchmarks.rows.group import Group, Setting, both, failure
from benchmarks.table import Findings, Row, Target, middle

FEW, MANY = "1,000 pictures", "100,000 pictures"
COUNTS = {FEW: 1_000, MANY: 100_000}


def measure(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Extract few and many, each in a fresh process."""
    contenders = [
        Contender(name, "benchmarks.ours.memory", {"pictures": n, "threads": setting.threads})
        for name, n in COUNTS.items()
    ]
    return contest(contenders, setting.repeats, setting.tell), {}


def findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return the row."""
    del about
    good = both(repeats, FEW, MANY)
    work = f"peak memory of extraction, {MANY} against {FEW}"
    target = Target(1.1, "x", most=True)
    if not good:
        return Findings((Row("memory", work, target, (), error=failure(repeats, FEW, MANY)),))
    sizes = {
        name: f"{middle([r[name] for r in good], 'peak_bytes') / 2**20:.0f} MiB" for name in COUNTS
    }
    base = middle([r[FEW] for r in good], "before_bytes") / 2**20
    row = Row(
        "memory",
        work,
        target,
        tuple(r[MANY]["peak_bytes"] / r[FEW]["peak_bytes"] for r in good),
        ours=sizes[MANY],
        theirs=sizes[FEW],
        note="of the whole process (VmHWM); pictures of 32×32 pixels through a ResNet-20 on ONNX "
        f"Runtime, names and digests included; before the extraction it holds {base:.0f} MiB",
    )
    return Findings((row,))


GROUP = Group("memory", 5, measure, findings)

"""`make bench`: Headstart against what people use today, on this machine, in one run.

    python -m benchmarks [--rows frozen,sweep,growth] [--resume] [--full] [--data FOLDER]

Writes benchmarks/RESULTS.md, prints the table, and ends with status 1 where a row misses its
target.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks import results
from benchmarks.growth import PLOTS, growth
from benchmarks.rows import GROUPS
from benchmarks.rows.group import Setting
from headstart._util.devices import usable_cores

HERE = Path(__file__).parent
GROWTH = "growth"


def main() -> int:
    """Measure, write, print."""
    names = [*(group.name for group in GROUPS), GROWTH]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", default=",".join(names), help="groups, by comma: %(default)s")
    parser.add_argument("--resume", action="store_true", help="keep what the same code measured")
    parser.add_argument("--full", action="store_true", help="all epochs of everybody")
    parser.add_argument("--data", type=Path, help="a folder of photographs for each class")
    parser.add_argument("--reviews", type=Path, help="a folder of texts for each of two classes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--photos", type=int, default=1000)
    given = parser.parse_args()
    wanted = given.rows.split(",")
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"--rows: unknown: {', '.join(unknown)}; there are {', '.join(names)}")
    start = time.perf_counter()
    group_now = ""

    def tell(text: str) -> None:
        minutes, seconds = divmod(int(time.perf_counter() - start), 60)
        print(f"{minutes:3d}:{seconds:02d}  {group_now}: {text}", flush=True)

    work = HERE / ".work"
    setting = Setting(
        work=work,
        data=None if given.data is None else given.data.resolve(),
        reviews=None if given.reviews is None else given.reviews.resolve(),
        repeats=given.repeats,
        threads=given.threads,
        full=given.full,
        photos=given.photos,
        tell=tell,
    )
    for group in GROUPS:
        group_now = group.name
        if group.name not in wanted:
            continue
        if given.resume and results.current(results.read(work / "rows", group.name), setting):
            tell("measured before, by the same code")
            continue
        tell(f"about {group.minutes:g} minutes")
        try:
            results.write(results.measured_now(group, setting), work / "rows")
        except Exception as error:  # whatever one group fails of, the others are measured
            tell(f"failed: {type(error).__name__}: {error}")
            (work / "rows" / f"{group.name}.json").unlink(missing_ok=True)
    if GROWTH in wanted:
        group_now = GROWTH
        tell("about 5 minutes")
        growth(PLOTS)
    return report(work / "rows")


def report(folder: Path) -> int:
    """Write the page of all groups that are there; return the status."""
    measured = [results.read(folder, group.name) for group in GROUPS]
    there = [one for one in measured if one is not None]
    found = [
        group.findings(one.repeats, one.about)
        for group, one in zip(GROUPS, measured, strict=True)
        if one is not None
    ]
    (HERE / "RESULTS.md").write_text(results.page(there, found))
    rows = [row for one in found for row in one.rows]
    print("\n" + results.table(rows))
    missed = results.misses(rows)
    missed += [
        f"{g.name}: not measured" for g, m in zip(GROUPS, measured, strict=True) if m is None
    ]
    for sentence in missed:
        print(f"missed: {sentence}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

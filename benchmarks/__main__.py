"""`make bench`: Headstart against what people use today, on this machine, in one run.

    python -m benchmarks [--rows frozen,sweep,growth] [--resume] [--full] [--quick]
        [--data FOLDER] [--reviews FOLDER]

Writes benchmarks/RESULTS.md, prints the table, and ends with status 1 where a row misses its
target, or was not measured. All takes two hours; ``--rows`` measures some groups anew and takes the
others as they were measured before in the same way: the page gives the commit of each.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.growth import PLOTS, section
from benchmarks.rows import GROUPS
from benchmarks.rows.group import Setting
from headstart._util.devices import usable_cores

HERE = Path(__file__).parent
GROWTH = "growth"
LEAST = 3


def asked(words: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the names of the groups that are wanted."""
    names = [*(group.name for group in GROUPS), GROWTH]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", default=",".join(names), help="groups, by comma: %(default)s")
    parser.add_argument("--resume", action="store_true", help="keep what the same code measured")
    parser.add_argument("--full", action="store_true", help="all epochs of everybody")
    parser.add_argument("--data", type=Path, help="a folder of photographs for each class")
    parser.add_argument("--reviews", type=Path, help="a folder of texts for each of two classes")
    parser.add_argument("--repeats", type=int, help=f"{LEAST} unless said, and at least")
    parser.add_argument("--quick", action="store_true", help="one repeat, and nothing is written")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--photos", type=int, default=1000)
    given = parser.parse_args(words)
    if given.repeats is None:
        given.repeats = 1 if given.quick else LEAST
    if given.repeats < (1 if given.quick else LEAST):
        parser.error(
            f"--repeats {given.repeats}: a figure is the median of at least {LEAST} repeats; "
            "--quick takes fewer, and writes nothing"
        )
    wanted = given.rows.split(",")
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"--rows: unknown: {', '.join(unknown)}; there are {', '.join(names)}")
    return given, wanted


def main(words: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    given, wanted = asked(words)
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
    # What was measured in full stays as it is while somebody looks quickly.
    rows = work / ("quick" if given.quick else "rows")
    plots = rows if given.quick else PLOTS
    for group in GROUPS:
        group_now = group.name
        if group.name not in wanted:
            continue
        if given.resume and results.current(results.read(rows, group.name), setting):
            tell("measured before, by the same code")
            continue
        tell(f"about {group.minutes:g} minutes")
        try:
            results.write(results.measured_now(group, setting), rows)
        except Exception as error:  # whatever one group fails of, the others are measured
            tell(f"failed: {type(error).__name__}: {error}")
            (rows / f"{group.name}.json").unlink(missing_ok=True)
    group_now = GROWTH
    if GROWTH in wanted and given.resume and results.growth_current(plots, setting.threads):
        tell("measured before, by the same code")
    elif GROWTH in wanted:
        tell("about 5 minutes")
        try:
            results.measure_growth(plots, setting.threads)
        except Exception as error:  # the page is written without it, and says so
            tell(f"failed: {type(error).__name__}: {error}")
    return report(setting, rows, plots, wanted, None if given.quick else HERE / "RESULTS.md")


def report(
    setting: Setting, folder: Path, plots: Path, wanted: Sequence[str], path: Path | None
) -> int:
    """Print the table of all groups that were measured in this way, and write the page.

    Args:
        setting: How is meant by this way.
        folder: What was measured.
        plots: Folder of the curves.
        wanted: Which groups were asked for; the page is not written of some, unless all others are
            there too.
        path: Of the page; None: it is not written.

    Returns:
        The status: 1 where anything is missed or missing.
    """
    measured, found, missing = [], [], []
    for group in GROUPS:
        one = results.read(folder, group.name)
        if one is not None and results.alike(one, setting):
            measured.append(one)
            # A quick look has what repeats it was asked for.
            least = LEAST if path else 1
            found.append(results.complete(group.findings(one.repeats, one.about), least))
        elif one is None:
            missing.append(f"{group.name}: not measured")
        else:
            missing.append(f"{group.name}: not measured with this setting, but by {one.commit}")
    if why := results.growth_missing(plots, setting.threads):
        missing.append(f"{GROWTH}: {why}")
    if path is None:  # a quick look is at what was asked for
        missing = [one for one in missing if one.partition(":")[0] in wanted]
    missed = results.misses(found) + missing
    print("\n" + results.table([row for one in found for row in one.rows]))
    everything = {*(group.name for group in GROUPS), GROWTH} <= set(wanted)
    if path is None:
        print("A quick look: nothing was written.")
    elif missing and not everything:
        print(f"{path.name} was not written: of some groups there are no measurements")
    else:
        curves = "" if why else section(plots)
        path.write_text(results.page(measured, found, missed, curves))
    for sentence in missed:
        print(f"missed: {sentence}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

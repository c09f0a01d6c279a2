"""The preflight scan as one page of text, for `headstart check-data`."""

import textwrap
from collections.abc import Mapping

from headstart.data.preflight import Preflight
from headstart.data.rows import counted

_MOST_CLASSES = 16
_MOST_EXAMPLES = 3


def render(preflight: Preflight, width: int = 80) -> str:
    """Return what the scan found as plain text.

    Args:
        preflight: A finished scan.
        width: Columns of the page; longer lines are wrapped, examples are cut.

    Returns:
        Lines of at most `width` columns: totals, classes, sizes, modes, problems.
    """
    total, bad = len(preflight.rows), len(preflight.quarantined)
    noun = preflight.noun
    unusable, how = "cannot be read or are empty", ""
    if noun == "picture":
        unusable = "cannot be read"
        how = (
            f" {preflight.decoded:,} decoded now, {preflight.reused:,} known from an earlier scan."
        )
    lines = [
        *_wrapped(preflight.origin, width),
        "=" * width,
        *_wrapped(
            f"{counted(total, noun)} in {len(preflight.classes):,} classes, {bad:,} {unusable}."
            + how,
            width,
        ),
        "",
        *_class_table(preflight.counts(), width, f"{noun}s"),
        "",
        *_facts(preflight, width),
        "",
        *_problem_lines(preflight, width),
    ]
    return "\n".join(lines) + "\n"


def _class_table(counts: Mapping[str, Mapping[str, int]], width: int, nouns: str) -> list[str]:
    splits = list(counts)
    totals: dict[str, int] = {}
    for of_split in counts.values():
        for name, count in of_split.items():
            totals[name] = totals.get(name, 0) + count
    names = list(totals)
    headings = [nouns if split == "all" else split for split in counts]
    column = max([9, *(len(heading) + 1 for heading in headings)])
    room = max(8, min(width - 2 - column * len(splits), max(map(len, names), default=8)))
    lines = [f"{'Class':<{room + 2}}" + "".join(f"{heading:>{column}}" for heading in headings)]
    shown, skipped = names, 0
    if len(names) > _MOST_CLASSES:
        by_size = sorted(names, key=lambda name: -totals[name])
        half = _MOST_CLASSES // 2
        shown, skipped = by_size[:half] + by_size[-half:], len(names) - 2 * half
    for place, name in enumerate(shown):
        if skipped and place == _MOST_CLASSES // 2:
            lines.append(f"  … {skipped:,} classes of a size between …")
        lines.append(
            f"  {_cut(name, room):<{room}}"
            + "".join(f"{counts[split].get(name, 0):>{column},}" for split in splits)
        )
    sums = "".join(f"{sum(counts[split].values()):>{column},}" for split in splits)
    lines.append(f"  {'all':<{room}}{sums}")
    return lines


def _facts(preflight: Preflight, width: int) -> list[str]:
    sizes = preflight.sizes()
    if sizes["min"] is None:
        return [f"No {preflight.noun} can be read."]
    if preflight.noun != "picture":
        words = f"shortest {sizes['min']:,}, median {sizes['median']:,}, longest {sizes['max']:,}"
        return _wrapped(f"Words   {words}", width, indent=8)
    text = ", ".join(
        f"{word} {sizes[key][0]} x {sizes[key][1]}"
        for word, key in (("smallest", "min"), ("median", "median"), ("largest", "max"))
    )
    modes = ", ".join(f"{mode} {count:,}" for mode, count in preflight.modes().items())
    return [
        *_wrapped(f"Sizes   {text} (width x height, each side on its own)", width, indent=8),
        *_wrapped(f"Modes   {modes}", width, indent=8),
    ]


def _problem_lines(preflight: Preflight, width: int) -> list[str]:
    problems = preflight.problems()
    if not problems:
        return ["No problems were found."]
    lines = []
    for problem in problems:
        label = f"{problem['severity'].upper():<8}"
        lines += _wrapped(f"{label}{problem['text']}", width, indent=8)
        lines += [
            f"{'':10}{_cut(example, width - 10)}"
            for example in problem["examples"][:_MOST_EXAMPLES]
        ]
        more = problem["count"] - min(len(problem["examples"]), _MOST_EXAMPLES)
        if len(problem["examples"]) > _MOST_EXAMPLES and more > 0:
            lines.append(f"{'':10}…")
    return lines


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, max(20, width), subsequent_indent=" " * indent) or [""]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"

"""What rows about trainings share: ratios and their floors, accuracies and steady epochs."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.contest import Answer, Repeat, seconds_of, whole_process
from benchmarks.rows.group import both, failure
from benchmarks.table import Accuracy, Row, Target, judged, shown

Seconds = Callable[[Answer], float]


@dataclass(frozen=True)
class Least:
    """The least that a piece of work can take.

    Attributes:
        seconds: By what was measured in the same run.
        why: What takes them, with the figures: a sentence up to its verb.
    """

    seconds: float
    why: str


Floor = Callable[[Sequence[Answer]], Least]
"""Takes the answers of our side."""


def worked(answer: Answer) -> float:
    """Return the seconds of its work as they were measured."""
    return float(answer["seconds"])


def ratio_row(
    repeats: Sequence[Repeat],
    key: str,
    work: str,
    target: Target | None,
    sides: tuple[str, str],
    seconds: tuple[Seconds, Seconds] = (worked, worked),
    note: str = "",
    floor: Floor | None = None,
    processes: bool = False,
) -> Row:
    """Return a row that says how many times as fast one contender is as another.

    Args:
        repeats: What they answered.
        key: As in `Row`.
        work: As in `Row`.
        target: As in `Row`.
        sides: Names of the faster and the slower contender.
        seconds: What each took, of its answer.
        note: As in `Row`.
        floor: The least that our side can take; the row says what follows for the ratio.
        processes: Whether the note says the ratio of whole processes too.

    Returns:
        The row: in each repeat the ratio of the two.
    """
    good = both(repeats, *sides)
    if not good:
        return Row(key, work, target, (), note=note, error=failure(repeats, *sides))
    answers = [[repeat[side] for repeat in good] for side in sides]
    took = [[count(a) for a in side] for count, side in zip(seconds, answers, strict=True)]
    ours, theirs = (statistics.median(side) for side in took)
    if processes:
        whole = [
            [whole_process(a, s) for a, s in zip(*side, strict=True)]
            for side in zip(answers, took, strict=True)
        ]
        ratio = statistics.median(b / a for a, b in zip(*whole, strict=True))
        said = f"whole processes with start-up and imports: {shown(ratio, 'x')}"
        note = f"{note}; {said}" if note else said
    return Row(
        key=key,
        work=work,
        target=target,
        values=tuple(b / a for a, b in zip(*took, strict=True)),
        ours=shown(ours, "s"),
        theirs=shown(theirs, "s"),
        note=note,
        floor=limit(floor(answers[0]), theirs, target) if floor else "",
    )


def limit(least: Least, theirs: float, target: Target | None) -> str:
    """Say what the least time allows against the seconds of another side."""
    most = theirs / least.seconds
    return (
        f"{least.why} {shown(least.seconds, 's')}: at most {shown(most, 'x')} as fast as "
        f"{shown(theirs, 's')}{judged(most, target)}"
    )


def lengthened(epochs: int, unsteady: int) -> Seconds:
    """Return what a training of so many epochs takes, by its measured ones."""
    return lambda answer: seconds_of(answer, epochs, unsteady)


def steady(
    repeats: Sequence[Repeat], names: Sequence[str], unsteady: int
) -> dict[str, tuple[float, float, float]]:
    """Return the median, the least and the most seconds of the contenders' steady epochs."""
    found = {}
    for name in names:
        epochs = [
            s for repeat in both(repeats, name) for s in repeat[name]["epoch_seconds"][unsteady:]
        ]
        if epochs:
            found[name] = (statistics.median(epochs), min(epochs), max(epochs))
    return found


def epochs_run(
    repeats: Sequence[Repeat], names: Sequence[str], unsteady: int, wanted: int
) -> tuple[str, ...]:
    """Say how many epochs the contenders ran, and what stands for the others."""
    run = {len(r[name]["epoch_seconds"]) for name in names for r in both(repeats, name)}
    if not run:
        return ()
    if min(run) >= wanted:
        return (f"all {wanted} were run, in every repeat (`--full`)",)
    first = "the first is" if unsteady == 1 else f"the first {unsteady} are"
    spread = ", ".join(
        f"{name} {median:.2f} s ({least:.2f} to {most:.2f})"
        for name, (median, least, most) in steady(repeats, names, unsteady).items()
    )
    return (
        f"{min(run)} were run in each repeat, of which {first} not called steady; each of the rest "
        f"counts as the median steady epoch of that repeat. Steady epochs of all repeats: {spread}",
    )


def accuracies(
    repeats: Sequence[Repeat],
    work: str,
    after: int,
    figures: Mapping[str, Callable[[Answer], float]],
) -> tuple[Accuracy, ...]:
    """Return the accuracy of contenders: the median of their repeats.

    Args:
        repeats: What they answered.
        work: As in `Accuracy`.
        after: As in `Accuracy`.
        figures: Of each contender where its accuracy is found in its answer.

    Returns:
        One for each contender that answered, in this order.
    """
    found = []
    for name, figure in figures.items():
        answers = [repeat[name] for repeat in both(repeats, name)]
        if answers:
            value = statistics.median(figure(answer) for answer in answers)
            found.append(Accuracy(work, name, after, value, int(answers[0]["samples"])))
    return tuple(found)

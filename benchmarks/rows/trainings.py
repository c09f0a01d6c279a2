"""What rows about trainings share: ratios, accuracies and steady epochs."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.contest import Answer, Repeat, seconds_of
from benchmarks.rows.group import both, failure
from benchmarks.table import Accuracy, Row, Target, shown

Seconds = Callable[[Answer], float]


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

    Returns:
        The row: in each repeat the ratio of the two.
    """
    pairs = [
        (seconds[0](repeat[sides[0]]), seconds[1](repeat[sides[1]]))
        for repeat in both(repeats, *sides)
    ]
    return Row(
        key=key,
        work=work,
        target=target,
        values=tuple(theirs / ours for ours, theirs in pairs),
        ours=shown(statistics.median(p[0] for p in pairs), "s") if pairs else "",
        theirs=shown(statistics.median(p[1] for p in pairs), "s") if pairs else "",
        note=note,
        error="" if pairs else failure(repeats, *sides),
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

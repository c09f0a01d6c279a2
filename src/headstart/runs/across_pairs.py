"""Parts of several runs on the same samples: which they share, and paired tests there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from headstart.compare.tests import PairTest, test_estimate_pairs, test_pairs
from headstart.errors import RunError
from headstart.runs.result import read_estimates, read_predictions
from headstart.types import Estimates, JsonDict, Predictions

_METRICS = {"classification": "accuracy", "regression": "mse"}


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Two parts that cannot be compared sample by sample.

    Attributes:
        a: Key of the first.
        b: Key of the second.
        reason: Why.
    """

    a: str
    b: str
    reason: str


@dataclass(frozen=True, slots=True)
class Paired:
    """What paired tests say of some pairs.

    Attributes:
        method: Such as ``mcnemar-exact``; None where no test is made for this figure.
        pairs: The tests, corrected together.
        unpaired: Pairs without one, each with the reason.
    """

    method: str | None
    pairs: tuple[PairTest, ...]
    unpaired: tuple[Unpaired, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a part's predictions are.

    Attributes:
        folder: The part's folder.
        classes: Class names, in the order of the columns; none of a regression.
        fingerprint: Digest of the run's data.
    """

    folder: Path
    classes: tuple[str, ...]
    fingerprint: str


def source_of(folder: Path, part: str, results: JsonDict) -> Source:
    """Return where the predictions of a run's part are.

    Args:
        folder: The run folder.
        part: The part's name.
        results: The content of the run's results.json.

    Returns:
        Their place, and what is needed to read them.
    """
    data = results["data"]
    return Source(folder / "models" / part, tuple(data["classes"]), str(data["fingerprint"]))


def test_on(
    sources: Mapping[str, Source],
    pairs: Sequence[tuple[str, str]],
    split: str,
    goal: str,
    metric: str,
) -> Paired:
    """Test pairs of parts that predicted the same samples, and say why others cannot be.

    Args:
        sources: Where each part's predictions are.
        pairs: Keys of two parts each.
        split: Such as ``test``.
        goal: ``classification``, ``regression`` or ``language``.
        metric: The figure that is compared.

    Returns:
        McNemar's exact tests of accuracy or bootstrap tests of the squared error, corrected by
        Holm together.

    Raises:
        RunError: A file of predictions is damaged.
    """
    if _METRICS.get(goal) != metric:
        return Paired(None, (), tuple(Unpaired(a, b, _untested(goal, metric)) for a, b in pairs))
    used = {key: sources[key] for pair in pairs for key in pair}
    read = {key: _read(source, split, goal) for key, source in used.items()}
    good, unpaired = [], []
    for a, b in pairs:
        apart = _apart(read[a], read[b], used[a], used[b])
        if apart is None:
            good.append((a, b))
        else:
            unpaired.append(Unpaired(a, b, apart))
    if goal == "regression":
        estimates = {k: v for k, v in read.items() if isinstance(v, Estimates)}
        tests = test_estimate_pairs(estimates, good) if good else ()
        return Paired("paired-bootstrap", tests, tuple(unpaired))
    order = sorted({name for source in used.values() for name in source.classes})
    known = {k: _in_classes(v, order) for k, v in read.items() if isinstance(v, Predictions)}
    tests = test_pairs(known, good) if good else ()
    return Paired("mcnemar-exact", tests, tuple(unpaired))


def readers_of_one_split(sources: Mapping[str, Source], split: str, goal: str) -> tuple[str, ...]:
    """Return the largest set of parts that predicted the very same samples of a split.

    Args:
        sources: Where each part's predictions are.
        split: Such as ``test``.
        goal: ``classification``, ``regression`` or ``language``.

    Returns:
        Keys, in their order; of language models those whose data are the same.
    """
    groups: dict[object, list[str]] = {}
    for key, source in sources.items():
        if goal == "language":
            identity: object = source.fingerprint
        else:
            read = _read(source, split, goal)
            if read is None:
                continue
            identity = (read.names, tuple(_truths(read)))
        groups.setdefault(identity, []).append(key)
    largest: list[str] = max(groups.values(), key=len, default=[])
    return tuple(largest)


def _read(source: Source, split: str, goal: str) -> Predictions | Estimates | None:
    """Read a part's predictions, sorted by the samples' names, or None where there are none."""
    if not (source.folder / f"predictions-{split}.parquet").exists():
        return None
    try:
        if goal == "regression":
            estimates = read_estimates(source.folder, split)
            order = _order(estimates.names)
            names = tuple(estimates.names[i] for i in order)
            return Estimates(names, estimates.targets[order], estimates.values[order])
        found = read_predictions(source.folder, split, source.classes)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise RunError(
            f"{source.folder}: expected the predictions of {split}, but {error!r}"
        ) from error
    order = _order(found.names)
    names = tuple(found.names[i] for i in order)
    return replace(
        found, names=names, labels=found.labels[order], probabilities=found.probabilities[order]
    )


def _untested(goal: str, metric: str) -> str:
    if goal == "language":
        return f"no paired test of {metric}: tokens depend on their neighbours"
    return f"no paired test of {metric}, only of {_METRICS[goal]}"


def _order(names: Sequence[str]) -> list[int]:
    return sorted(range(len(names)), key=names.__getitem__)


def _truths(read: Predictions | Estimates) -> list[object]:
    """Return what is true of each sample, in words where it is a class."""
    if isinstance(read, Estimates):
        return list(read.targets.tolist())
    return [read.classes[label] for label in read.labels]


def _apart(
    a: Predictions | Estimates | None, b: Predictions | Estimates | None, of_a: Source, of_b: Source
) -> str | None:
    """Return why two parts are not on the same samples, or None where they are."""
    if a is None or b is None:
        return "predictions are not stored"
    data = (
        "the data are the same"
        if of_a.fingerprint == of_b.fingerprint
        else f"fingerprints {of_a.fingerprint[:8]}… and {of_b.fingerprint[:8]}…"
    )
    if a.names != b.names:
        shared = len(set(a.names) & set(b.names))
        return (
            f"not the same samples ({shared:,} names in both, of {len(a.names):,} and "
            f"{len(b.names):,}; {data})"
        )
    differing = sum(x != y for x, y in zip(_truths(a), _truths(b), strict=True))
    if differing:
        return f"not the same answers ({differing:,} of {len(a.names):,} differ; {data})"
    return None


def _in_classes(found: Predictions, classes: Sequence[str]) -> Predictions:
    """Return predictions with the columns of other classes, whose order may differ."""
    index = {name: i for i, name in enumerate(classes)}
    place = np.array([index[name] for name in found.classes], dtype=np.int64)
    probabilities = np.zeros((len(found.names), len(classes)), dtype=np.float32)
    probabilities[:, place] = found.probabilities
    return Predictions(found.names, place[found.labels], probabilities, tuple(classes))

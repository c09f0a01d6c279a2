"""Statistics of a confusion matrix with BCa intervals, resampled within each true class."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from headstart._util.seeding import generator
from headstart.evaluate.intervals import (
    RESAMPLES,
    acceleration,
    bca_ends,
    wilson_ends,
)
from headstart.types import IntArray, Score

_CELLS_AT_ONCE = 2_000_000
_FEWEST = 200
_CELLS = 64_000_000  # resampled cells at most: 50,000 samples of 1,000 classes fit too

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """What precision, recall and F1 rest on; each float64, shape [..., classes].

    Attributes:
        hits: Samples of the class that were called it.
        called: Samples that were called it.
        support: Samples of the class.
    """

    hits: _Floats
    called: _Floats
    support: _Floats

    def shares(self) -> tuple[_Floats, _Floats, _Floats]:
        """Return precision, recall and F1, each [..., classes]; 0/0 counts as 0."""
        return (
            self.hits / np.maximum(self.called, 1),
            self.hits / np.maximum(self.support, 1),
            2 * self.hits / np.maximum(self.called + self.support, 1),
        )

    def present(self) -> npt.NDArray[np.bool_]:
        """Return which classes occur in the truth or the predictions, [..., classes]."""
        found: npt.NDArray[np.bool_] = self.called + self.support > 0
        return found


def count(confusion: IntArray) -> Counts:
    """Return the counts of a confusion matrix, rows true and columns predicted."""
    return Counts(
        np.diagonal(confusion).astype(np.float64),
        confusion.sum(axis=0).astype(np.float64),
        confusion.sum(axis=1).astype(np.float64),
    )


def resample(confusion: IntArray, seed: int, resamples: int = RESAMPLES) -> Counts:
    """Return the counts of resampled confusion matrices, stratified by the true class.

    Drawing n_c samples with replacement from class c and counting their predictions is a draw from
    a multinomial over row c, so the samples themselves are not needed; cells that are empty stay
    so, and are left out.

    Args:
        confusion: Counts, rows true and columns predicted, shape [classes, classes].
        seed: Decides the resamples.
        resamples: How many; fewer where the matrix has very many cells.

    Returns:
        Counts of each resample, shapes [resamples, classes].
    """
    draws = generator("bootstrap-confusion", seed)
    rows, columns = np.nonzero(confusion)  # by rows: one row's cells are neighbours
    classes, cells = len(confusion), len(rows)
    total = min(resamples, max(_FEWEST, _CELLS // max(cells, 1)))
    support = confusion.sum(axis=1)
    starts = np.searchsorted(rows, np.arange(classes + 1))
    # called = drawn cells @ a matrix of [cells, classes] with one 1 per row.
    into = sparse.csr_array((np.ones(cells), (np.arange(cells), columns)), (cells, classes))
    right = rows == columns
    hits, called = np.zeros((total, classes)), np.empty((total, classes))
    step = max(1, _CELLS_AT_ONCE // max(cells, 1))
    for at in range(0, total, step):
        size = min(step, total - at)
        drawn = np.empty((size, cells))
        for row in np.flatnonzero(support):
            span = slice(starts[row], starts[row + 1])
            shares = confusion[row, columns[span]] / support[row]
            drawn[:, span] = draws.multinomial(support[row], shares, size=size)
        hits[at : at + size, columns[right]] = drawn[:, right]
        called[at : at + size] = drawn @ into
    return Counts(hits, called, np.broadcast_to(support.astype(np.float64), called.shape))


def macro_scores(confusion: IntArray, resampled: Counts) -> tuple[Score, Score, Score]:
    """Return macro precision, recall and F1 with BCa intervals, stratified by the true class.

    Args:
        confusion: Counts, rows true and columns predicted, shape [classes, classes], n >= 1.
        resampled: Counts of its resamples.

    Returns:
        The averages over the classes that occur. Where all resamples are equal, as where all is
        right, the ends are those of `_without_spread`.
    """
    seen, n = count(confusion), int(confusion.sum())
    values = _averages(seen)
    lows, highs = bca_ends(values, _averages(resampled), macro_acceleration(confusion))
    here = seen.present()
    union = seen.called + seen.support - seen.hits
    out = []
    for k, (shares, trials) in enumerate(
        zip(seen.shares(), (seen.called, seen.support, union), strict=True)
    ):
        low, high = float(lows[k]), float(highs[k])
        if low == high:
            low, high = _without_spread(shares[here], np.maximum(trials[here], 1), n, k == 2)
        out.append(Score(float(values[k]), max(0.0, low), min(1.0, high), n))
    return out[0], out[1], out[2]


def class_f1(confusion: IntArray, resampled: Counts) -> tuple[Score, ...]:
    """Return each class's F1 with its BCa interval, stratified by the true class.

    Where all resamples are equal the ends come from Wilson's interval: F1 = 2J / (1 + J), and
    J = hits / (called + support − hits) is a share of samples that are one or the other.

    Args:
        confusion: Counts, rows true and columns predicted, shape [classes, classes].
        resampled: Counts of its resamples.

    Returns:
        One score per class, with its support as the number of samples. Of a class that does not
        occur nothing is known: 0, from 0 to 1.
    """
    seen = count(confusion)
    values = seen.shares()[2]
    lows, highs = bca_ends(values, resampled.shares()[2], class_acceleration(confusion))
    out = []
    for c, value in enumerate(values.tolist()):
        low, high = float(lows[c]), float(highs[c])
        if low == high:
            union = float(seen.called[c] + seen.support[c] - seen.hits[c])
            low, high = _f1_ends(value, union) if union else (0.0, 1.0)
        out.append(Score(value, max(0.0, low), min(1.0, high), int(seen.support[c])))
    return tuple(out)


def _averages(counts: Counts) -> _Floats:
    """Return macro precision, recall and F1: [..., classes] -> [..., 3]."""
    present = counts.present()
    number = np.maximum(present.sum(axis=-1), 1)
    return np.stack([(share * present).sum(axis=-1) / number for share in counts.shares()], axis=-1)


def _without_spread(shares: _Floats, trials: _Floats, n: int, f1: bool) -> tuple[float, float]:
    """Return ends for a mean of shares whose resamples are all equal, from Wilson's intervals.

    Where all shares are equal, as where all is right: Wilson's interval for C² / Σ 1/n_c samples,
    as many as give the mean of C shares its variance, but no more than n. Else, as where one class
    is always the answer: the shares' own Wilson intervals, their distances to the ends added up as
    roots of squares (Newcombe 1998; Zou, Donner 2008).
    """
    value = float(shares.mean())
    if shares.min() == shares.max():
        return wilson_ends(value, min(n, len(shares) ** 2 / float((1 / trials).sum())))
    ends = np.array(
        [
            _f1_ends(share, n) if f1 else wilson_ends(share, n)
            for share, n in zip(shares.tolist(), trials.tolist(), strict=True)
        ]
    )
    down, up = np.sqrt(np.square(ends - shares[:, None]).sum(axis=0)) / len(shares)
    return value - float(down), value + float(up)


def _f1_ends(f1: float, union: float) -> tuple[float, float]:
    low, high = wilson_ends(f1 / (2 - f1), union)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def macro_acceleration(confusion: IntArray) -> _Floats:
    """Return the accelerations of the macro averages, [3]: a stratified jackknife over cells.

    All samples of a cell change the average alike when one of them is left out, so each cell is
    left out once and weighs as many samples as it holds. With U = (n_h − 1)(mean_h − value
    without the sample) in stratum h: a = Σ U³/n_h³ / (6 (Σ U²/n_h²)^1.5).

    Args:
        confusion: Counts, rows true and columns predicted, shape [classes, classes].

    Returns:
        float64, shape [3]: for precision, recall and F1.

    Source: Davison, Hinkley 1997, formula 5.25.
    """
    seen = count(confusion)
    rows, columns = np.nonzero(confusion)
    weight, support = confusion[rows, columns].astype(np.float64), seen.support[rows]
    diagonal = rows == columns
    # The true class of a sample that is left out: one sample less, and a hit less if it was one.
    own = Counts(seen.hits[rows] - diagonal, seen.called[rows] - diagonal, support - 1)
    # The class that it was called, where that is another one.
    other = Counts(seen.hits[columns], seen.called[columns] - 1, seen.support[columns])
    present = seen.present()
    number = present.sum() - 1.0 * ~own.present() - 1.0 * (~diagonal & ~other.present())
    cubes, squares = np.empty(3), np.empty(3)
    for k, (share, first, second) in enumerate(
        zip(seen.shares(), own.shares(), other.shares(), strict=True)
    ):
        change = first - share[rows] + np.where(diagonal, 0.0, second - share[columns])
        without = (share.sum() + change) / np.maximum(number, 1)
        sums = np.bincount(rows, weight * without, minlength=len(confusion))
        moved = (support - 1) * (sums[rows] / support - without) / support
        cubes[k], squares[k] = (weight * moved**3).sum(), (weight * moved**2).sum()
    return acceleration(cubes, squares)


def class_acceleration(confusion: IntArray) -> _Floats:
    """Return the acceleration of each class's F1, [classes] (see `macro_acceleration`).

    In the class's own stratum a sample is a hit or not; in each other one it is called the class or
    not, and leaving out one that is not changes nothing.

    Args:
        confusion: Counts, rows true and columns predicted, shape [classes, classes].

    Returns:
        float64, shape [classes].
    """
    seen = count(confusion)
    rows, columns = np.nonzero(confusion * (1 - np.eye(len(confusion), dtype=np.int64)))
    value = seen.shares()[2]
    hit = Counts(seen.hits - 1, seen.called - 1, seen.support - 1).shares()[2]
    missed = Counts(seen.hits, seen.called, seen.support - 1).shares()[2]
    called = Counts(seen.hits, seen.called - 1, seen.support).shares()[2]
    cubes, squares = _two_kinds(seen.hits, seen.support, hit - missed)
    others = _two_kinds(
        confusion[rows, columns].astype(np.float64),
        seen.support[rows],
        (called - value)[columns],
    )
    cubes += np.bincount(columns, others[0], minlength=len(confusion))
    squares += np.bincount(columns, others[1], minlength=len(confusion))
    return acceleration(cubes, squares)


def _two_kinds(some: _Floats, all_: _Floats, apart: _Floats) -> tuple[_Floats, _Floats]:
    """Return Σ U³/n³ and Σ U²/n² of strata where `some` of n values lie `apart` from the rest."""
    share = some / np.maximum(all_, 1)
    scale = (all_ - 1) * apart / np.maximum(all_, 1)
    first, rest = -scale * (1 - share), scale * share
    others = all_ - some
    return some * first**3 + others * rest**3, some * first**2 + others * rest**2

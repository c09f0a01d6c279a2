"""The samples that a run uses: what is left of a source after the checks, with its splits."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from headstart._util.hashing import digest_bytes, digest_json
from headstart._util.seeding import generator
from headstart.data.assign import assign, extra_of, find_leaks
from headstart.data.preflight import LeftOut, Preflight
from headstart.data.rows import Row, Source, counted
from headstart.data.split import SPLITS, split_order
from headstart.errors import DataError
from headstart.types import FloatArray, Goal, IntArray, JsonDict, Noun

Duplicates = Literal["drop", "warn", "error"]
SmallClasses = Literal["error", "drop"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled samples in splits; an `ImageSet` over the samples that are used.

    Attributes:
        names: Names of the samples, unique.
        digests: SHA-256 of each sample's bytes, as they were when scanned.
        labels: Class indices, int64, shape [n]; zeros for a regression.
        classes: Names of the classes; of a regression the name of what is predicted, alone.
        splits: Positions of the samples of ``train``, ``val`` and ``test``, ascending; all three
            are there, ``val`` and ``test`` may be empty. Then those of more test sets,
            ``test-NAME``, by name.
        report: What the scan found, with `left_out` completed by what was left out since.
        fingerprint: Digest of contents, class names and splits: equal for the same data wherever
            it lies and however its files are called.
        source: Where the bytes come from.
        positions: Position in the source of each sample, int64, shape [n].
        class_names: Names for people by class, for the classes that are not their own names.
        noun: What one sample is.
        goal: What is learnt: a class, or a number.
        targets: What a regression is to predict, float32, shape [n]; else None.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]
    splits: Mapping[str, IntArray]
    report: Preflight
    fingerprint: str
    source: Source
    positions: IntArray
    class_names: Mapping[str, str] = field(default_factory=dict)
    noun: Noun = "picture"
    goal: Goal = "classification"
    targets: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Return the bytes of one sample (see `headstart.data.rows.Samples`); safe in threads.

        Args:
            index: The sample's position in this data set.

        Returns:
            The bytes that were scanned.

        Raises:
            DataError: The sample was changed since: whatever is stored under its digest would
                not be its own.
        """
        data = self.source.read(int(self.positions[index]))
        if digest_bytes(data) != self.digests[index]:
            raise DataError(f"the {self.noun} was changed since it was scanned: start again")
        return data

    def counts(self) -> dict[str, dict[str, int]]:
        """Return samples by split and class name."""
        table: dict[str, dict[str, int]] = {}
        for split, positions in self.splits.items():
            found = np.bincount(self.labels[positions], minlength=len(self.classes))
            table[split] = dict(zip(self.classes, (int(n) for n in found), strict=True))
        return table

    def describe(self) -> JsonDict:
        """Return the part ``data`` of ``results.json``."""
        described: JsonDict = {
            "noun": self.noun,
            "goal": self.goal,
            "origin": self.report.origin,
            "classes": list(self.classes),
            "counts": self.counts(),
            "fingerprint": self.fingerprint,
            "sizes": self.report.sizes(),
            "modes": self.report.modes(),
            "problems": self.report.problems(),
            "left_out": [{"name": one.name, "reason": one.reason} for one in self.report.left_out],
        }
        if self.class_names:
            described["class_names"] = dict(self.class_names)
        return described


def prepare(
    source: Source,
    preflight: Preflight,
    *,
    fractions: Mapping[str, float] | None,
    seed: int,
    max_bad_fraction: float = 0.05,
    duplicates: Duplicates = "drop",
    small_classes: SmallClasses = "error",
    limit_per_class: int | None = None,
    val_samples: int | None = None,
) -> Dataset:
    """Decide which samples are used, and in which split.

    Without `fractions`, splits that the source declares are kept as they are; what it does not
    declare (validation, or test) is carved out of its training samples by the default shares of
    70, 15 and 15%, or exactly `val_samples` of them for validation. A source that declares only
    one split declares none. With `fractions`, declared splits are set aside and everything is
    shared out anew; but for more test sets, ``test-NAME``, which always stay as declared.

    Samples of one declared group, and samples with the same content (pixels, words), are never
    parted by a split that is made here. Splits that the source declares may leak: there,
    `duplicates` says what to do with a training sample that is a copy of a validation or test
    sample (of any test set), and with a validation sample that is a copy of a test sample.

    Args:
        source: Where the bytes come from.
        preflight: The scan of the same source.
        fractions: Shares of train, val and test, adding up to 1; None for the declared splits.
        seed: The user's seed.
        max_bad_fraction: The largest share of unreadable samples with which to go on.
        duplicates: For declared splits: leave the copies out of training, keep them, or refuse.
        small_classes: What to do with a class that has too few pictures for the splits.
        limit_per_class: At most this many samples per class in each split, more test sets
            included, chosen at random.
        val_samples: Samples to carve out of a declared training split for validation, by class in
            proportion; None for the default share.

    Returns:
        The data set.

    Raises:
        DataError: Too much is unreadable; declared splits share samples and `duplicates` is
            ``error``; classes are too small; fewer than two classes are left; or `val_samples`
            cannot be had.
    """
    _refuse_bad(preflight, max_bad_fraction)
    left_out = list(preflight.left_out)
    if fractions is not None or len({row.split for row in preflight.rows} - {None}) < 2:
        # What is not followed is not reported as if it were.
        rows = tuple(replace(row, split=extra_of(row.split)) for row in preflight.rows)
        preflight = replace(preflight, rows=rows)
    split_of, needed = assign(
        preflight,
        fractions,
        seed,
        val_samples=val_samples,
        drop_copies=duplicates == "drop",
    )

    leaks = {} if duplicates == "warn" else find_leaks(preflight, split_of)
    if leaks and duplicates == "error":
        listed = "".join(
            f"\n  {preflight.rows[index].name}: {reason}"
            for index, reason in list(leaks.items())[:5]
        )
        noun, are = preflight.noun, "is a copy" if len(leaks) == 1 else "are copies"
        raise DataError(
            f"{preflight.origin}: {counted(len(leaks), noun)} {are} of {noun}s in another "
            f"split; remove them, or set data.duplicates to drop or warn:{listed}"
        )
    small = _too_small(
        preflight, {i: s for i, s in split_of.items() if i not in leaks}, needed, small_classes
    )
    for index in list(split_of):
        row = preflight.rows[index]
        reason = leaks.get(index) or (
            f"its class has no {preflight.noun} left for {small[row.label]}"
            if row.label in small
            else None
        )
        if reason is not None:
            left_out.append(LeftOut(row.name, reason))
            del split_of[index]
    if limit_per_class is not None:
        split_of = _limited(preflight, split_of, limit_per_class, seed)
    return _build(source, replace(preflight, left_out=tuple(left_out)), split_of)


def _refuse_bad(preflight: Preflight, limit: float) -> None:
    bad, total = len(preflight.quarantined), len(preflight.rows)
    if total == 0:
        raise DataError(f"{preflight.origin}: there are no {preflight.noun}s")
    if bad > limit * total:
        listed = "".join(f"\n  {one.name}: {one.reason}" for one in preflight.quarantined[:10])
        raise DataError(
            f"{preflight.origin}: {bad:,} of {total:,} {preflight.noun}s ({bad / total:.1%}) "
            f"cannot be read, the limit is {limit:.1%}; mend or remove them, or raise "
            f"data.max_bad_fraction:{listed}{chr(10) + '  …' if bad > 10 else ''}"
        )


def _too_small(
    preflight: Preflight,
    split_of: Mapping[int, str],
    needed: tuple[str, ...],
    policy: SmallClasses,
) -> dict[int, str]:
    """Return the classes that lack samples in a split that needs them, with those splits."""
    counts = Counter((preflight.rows[index].label, split) for index, split in split_of.items())
    small = {}
    for label in range(len(preflight.classes)):
        missing = [split for split in needed if not counts[label, split]]
        if missing:
            small[label] = " and ".join(missing)
    if small and policy == "error":
        totals = Counter(preflight.rows[index].label for index in split_of)
        listed = "".join(
            f"\n  {preflight.classes[label]}: {totals[label]} usable, none left for {missing}"
            for label, missing in list(small.items())[:20]
        )
        raise DataError(
            f"{preflight.origin}: too few {preflight.noun}s (or too few groups) in {len(small)} "
            f"class{'es' if len(small) > 1 else ''} for the splits {', '.join(needed)}. "
            f"Either add {preflight.noun}s, or leave these classes out "
            f"with data.small_classes: drop{listed}{chr(10) + '  …' if len(small) > 20 else ''}"
        )
    return small


def _limited(
    preflight: Preflight, split_of: Mapping[int, str], limit: int, seed: int
) -> dict[int, str]:
    if limit < 1:
        raise DataError(f"data.limit_per_class: expected at least 1, got {limit}")
    cells: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index in sorted(split_of, key=lambda index: preflight.rows[index].name):
        cells[preflight.classes[preflight.rows[index].label], split_of[index]].append(index)
    kept = {}
    for (name, split), members in cells.items():
        order = generator("limit-per-class", seed, name, split).permutation(len(members))
        kept.update({members[place]: split for place in order[:limit]})
    return kept


def _build(source: Source, report: Preflight, split_of: Mapping[int, str]) -> Dataset:
    positions = sorted(split_of)
    rows: list[Row] = [report.rows[index] for index in positions]
    used = sorted({row.label for row in rows})
    if len(used) < 2:
        raise DataError(
            f"{report.origin}: expected at least two classes with usable {report.noun}s, found "
            f"{', '.join(report.classes[label] for label in used) or 'none'}"
        )
    classes = tuple(report.classes[label] for label in used)
    renumbered = {label: index for index, label in enumerate(used)}
    split_names = np.array([split_of[index] for index in positions])
    digests = tuple(report.digests[index] for index in positions)
    contents = sorted(
        [digest, report.classes[row.label], str(split)]
        for digest, row, split in zip(digests, rows, split_names, strict=True)
    )
    return Dataset(
        names=tuple(row.name for row in rows),
        digests=digests,
        labels=np.array([renumbered[row.label] for row in rows], dtype=np.int64),
        classes=classes,
        splits={
            split: np.flatnonzero(split_names == split).astype(np.int64)
            for split in split_order([*SPLITS, *split_of.values()])
        },
        report=report,
        fingerprint=digest_json({"classes": list(classes), f"{report.noun}s": contents}),
        source=source,
        positions=np.array(positions, dtype=np.int64),
        class_names={
            name: source.class_names[name] for name in classes if name in source.class_names
        },
        noun=report.noun,
    )

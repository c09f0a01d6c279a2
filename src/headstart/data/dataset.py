"""The pictures that a run uses: what is left of a source after the checks, with its splits."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from headstart._util.hashing import digest_bytes, digest_json
from headstart._util.seeding import generator
from headstart.data.checks import LeftOut, Preflight
from headstart.data.rows import Row, Source
from headstart.data.split import (
    DEFAULT_FRACTIONS,
    SPLITS,
    check_fractions,
    joined_groups,
    make_splits,
)
from headstart.errors import DataError
from headstart.types import IntArray, JsonDict

Duplicates = Literal["drop", "warn", "error"]
SmallClasses = Literal["error", "drop"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled pictures in splits; an `ImageSet` over the pictures that are used.

    Attributes:
        names: Names of the pictures, unique.
        digests: SHA-256 of each picture's encoded bytes, as they were when scanned.
        labels: Class indices, int64, shape [n].
        classes: Names of the classes.
        splits: Positions of the pictures of ``train``, ``val`` and ``test``, ascending; all three
            are there, ``val`` and ``test`` may be empty.
        report: What the scan found, with `left_out` completed by what was left out since.
        fingerprint: Digest of contents, class names and splits: equal for the same data wherever
            it lies and however its files are called.
        source: Where the bytes come from.
        positions: Position in the source of each picture, int64, shape [n].
        class_names: Names for people by class, for the classes that are not their own names.
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

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of one picture; safe to call in threads.

        Args:
            index: The picture's position in this data set.

        Returns:
            The bytes that were scanned.

        Raises:
            DataError: The picture was changed since: whatever is stored under its digest would
                not be its own.
        """
        data = self.source.read(int(self.positions[index]))
        if digest_bytes(data) != self.digests[index]:
            raise DataError("the picture was changed since it was scanned: start again")
        return data

    def counts(self) -> dict[str, dict[str, int]]:
        """Return pictures by split and class name."""
        table: dict[str, dict[str, int]] = {}
        for split, positions in self.splits.items():
            found = np.bincount(self.labels[positions], minlength=len(self.classes))
            table[split] = dict(zip(self.classes, (int(n) for n in found), strict=True))
        return table

    def describe(self) -> JsonDict:
        """Return the part ``data`` of ``results.json``."""
        described: JsonDict = {
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
) -> Dataset:
    """Decide which pictures are used, and in which split.

    Without `fractions`, splits that the source declares are kept as they are; what it does not
    declare (validation, or test) is carved out of its training pictures by the default shares of
    70, 15 and 15%. A source that declares only one split declares none. With `fractions`, declared
    splits are set aside and everything is shared out anew.

    Pictures of one declared group, and pictures with the same pixels, are never parted by a
    split that is made here. Splits that the source declares may leak: there, `duplicates` says
    what to do with a training picture that is a copy of a validation or test picture (and with a
    validation picture that is a copy of a test picture).

    Args:
        source: Where the bytes come from.
        preflight: The scan of the same source.
        fractions: Shares of train, val and test, adding up to 1; None for the declared splits.
        seed: The user's seed.
        max_bad_fraction: The largest share of unreadable pictures with which to go on.
        duplicates: For declared splits: leave the copies out of training, keep them, or refuse.
        small_classes: What to do with a class that has too few pictures for the splits.
        limit_per_class: At most this many pictures per class in each split, chosen at random.

    Returns:
        The data set.

    Raises:
        DataError: Too much is unreadable; declared splits share pictures and `duplicates` is
            ``error``; classes are too small; or fewer than two classes are left.
    """
    _refuse_bad(preflight, max_bad_fraction)
    readable = [index for index, one in enumerate(preflight.probes) if one is not None]
    left_out = list(preflight.left_out)
    if fractions is not None or len({row.split for row in preflight.rows} - {None}) < 2:
        # What is not followed is not reported as if it were.
        rows = tuple(replace(row, split=None) for row in preflight.rows)
        preflight = replace(preflight, rows=rows)
    split_of, needed = _assign(preflight, readable, fractions, seed)

    leaks = {} if duplicates == "warn" else _leaks(preflight, split_of)
    if leaks and duplicates == "error":
        listed = "".join(
            f"\n  {preflight.rows[index].name}: {reason}"
            for index, reason in list(leaks.items())[:5]
        )
        raise DataError(
            f"{preflight.origin}: {len(leaks):,} pictures are copies of pictures in another split; "
            f"remove them, or set data.duplicates to drop or warn:{listed}"
        )
    small = _too_small(
        preflight, {i: s for i, s in split_of.items() if i not in leaks}, needed, small_classes
    )
    for index in list(split_of):
        row = preflight.rows[index]
        reason = leaks.get(index) or (
            f"its class has no picture left for {small[row.label]}" if row.label in small else None
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
        raise DataError(f"{preflight.origin}: there are no pictures")
    if bad > limit * total:
        listed = "".join(f"\n  {one.name}: {one.reason}" for one in preflight.quarantined[:10])
        raise DataError(
            f"{preflight.origin}: {bad:,} of {total:,} pictures ({bad / total:.1%}) cannot be "
            f"read, the limit is {limit:.1%}; mend or remove them, or raise "
            f"data.max_bad_fraction:{listed}{chr(10) + '  …' if bad > 10 else ''}"
        )


def _assign(
    preflight: Preflight,
    readable: list[int],
    fractions: Mapping[str, float] | None,
    seed: int,
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the split of each readable row, and the splits in which every class is needed."""
    rows = preflight.rows
    declared = {split for row in rows if (split := row.split) is not None}
    if not declared:
        shares = check_fractions(DEFAULT_FRACTIONS if fractions is None else fractions)
        return _make(preflight, readable, shares, seed), tuple(shares)
    if "train" not in declared:
        raise DataError(
            f"{preflight.origin}: declares the splits {', '.join(sorted(declared))} but no train; "
            "rename one, or set data.split to share everything out anew"
        )
    fixed = {index: split for index in readable if (split := rows[index].split) is not None}
    carved = [split for split in SPLITS if split not in declared]
    if carved:
        kept = {split: DEFAULT_FRACTIONS[split] for split in ("train", *carved)}
        shares = {split: share / sum(kept.values()) for split, share in kept.items()}
        pool = [index for index, split in fixed.items() if split == "train"]
        fixed |= _make(preflight, pool, shares, seed)
    # A declared test split may lack a class; a training split may not.
    return fixed, ("train", *carved)


def _make(
    preflight: Preflight, pool: list[int], shares: Mapping[str, float], seed: int
) -> dict[int, str]:
    rows = [preflight.rows[index] for index in pool]
    pixels = preflight.pixel_digests
    groups = joined_groups([row.group for row in rows], [pixels[index] for index in pool])
    splits = make_splits(
        [row.name for row in rows],
        [preflight.classes[row.label] for row in rows],
        groups,
        shares,
        seed,
    )
    return dict(zip(pool, splits, strict=True))


def _leaks(preflight: Preflight, split_of: Mapping[int, str]) -> dict[int, str]:
    """Return the rows that are copies of a row in a later split, with the reason."""
    found = {}
    for same in preflight.copies:
        present = [index for index in same if index in split_of]
        for index in present:
            later = SPLITS[SPLITS.index(split_of[index]) + 1 :]
            # The test picture first: it is what the copy would spoil most.
            for other in sorted(present, key=lambda i: -SPLITS.index(split_of[i])):
                if split_of[other] in later:
                    found[index] = (
                        f"a {split_of[index]} picture with the same pixels as "
                        f"{preflight.rows[other].name} in {split_of[other]}"
                    )
                    break
    return found


def _too_small(
    preflight: Preflight,
    split_of: Mapping[int, str],
    needed: tuple[str, ...],
    policy: SmallClasses,
) -> dict[int, str]:
    """Return the classes that lack pictures in a split that needs them, with those splits."""
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
            f"{preflight.origin}: too few pictures (or too few groups) in {len(small)} "
            f"class{'es' if len(small) > 1 else ''} for the splits {', '.join(needed)}. "
            "Either add pictures, or leave these classes out "
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
            f"{report.origin}: expected at least two classes with usable pictures, found "
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
        splits={split: np.flatnonzero(split_names == split).astype(np.int64) for split in SPLITS},
        report=report,
        fingerprint=digest_json({"classes": list(classes), "pictures": contents}),
        source=source,
        positions=np.array(positions, dtype=np.int64),
        class_names={
            name: source.class_names[name] for name in classes if name in source.class_names
        },
    )

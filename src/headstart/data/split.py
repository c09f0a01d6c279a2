"""Who trains, who validates, who tests: seeded, stratified, and never a group in two splits."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from headstart._util.seeding import generator
from headstart.errors import DataError
from headstart.types import IntArray

SPLITS = ("train", "val", "test")
"""The splits that every data set has; more test sets are called ``test-NAME``."""

DEFAULT_FRACTIONS: Mapping[str, float] = {"train": 0.7, "val": 0.15, "test": 0.15}


def split_order(names: Iterable[str]) -> list[str]:
    """Return split names in order: train, val, test, then the other test sets by name."""
    present = set(names)
    return [s for s in SPLITS if s in present] + sorted(present.difference(SPLITS))


def rank(split: str | None) -> int:
    """Return what a split is used for: training 0, validation 1, test of any name 2; None -1.

    A sample must not be in two splits of different rank.
    """
    if split is None:
        return -1
    return SPLITS.index(split) if split in SPLITS else SPLITS.index("test")


def check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each split that gets any.

    Args:
        fractions: Shares by split name; they add up to 1.

    Returns:
        The positive shares, in the order train, val, test.

    Raises:
        DataError: A name is no split, a share is negative, train has none, or the sum is not 1.
    """
    unknown = sorted(set(fractions) - set(SPLITS))
    total = sum(fractions.values())
    if unknown or any(share < 0 for share in fractions.values()) or abs(total - 1) > 1e-6:
        raise DataError(
            f"fractions: expected shares of train, val and test that add up to 1, got "
            f"{dict(fractions)} (sum {total:g})"
        )
    if fractions.get("train", 0) == 0:
        raise DataError("fractions: the split 'train' needs a share above 0")
    return {split: fractions[split] for split in SPLITS if fractions.get(split, 0) > 0}


def make_splits(
    names: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[Hashable],
    fractions: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Put each sample into a split so that every class is shared out by the fractions.

    Without groups of several samples, each class's count in each split is within 1 of its share,
    and at least 1 where the class has as many samples as there are splits. Groups go as a whole
    to the split that lacks most of their classes, the largest groups first; the single samples
    then fill up what is missing. The result depends on names, labels, groups and seed, not on
    the order of the samples; and on one class's samples only, where no group spans two classes.

    Args:
        names: Unique names of the samples.
        labels: Their class names.
        groups: Samples with equal values stay together; use unique values for none.
        fractions: Shares by split name; they add up to 1.
        seed: The user's seed.

    Returns:
        The split of each sample.
    """
    shares = check_fractions(fractions)
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index in sorted(range(len(names)), key=lambda index: names[index]):
        members[groups[index]].append(index)
    need = {label: _quota(count, shares, label, seed) for label, count in Counter(labels).items()}
    result = [""] * len(names)
    # Largest first, since small ones can still balance what large ones tipped. Equal sizes in a
    # random order that each group draws by itself, whatever other groups there are.
    together = sorted(
        (group for group in members.values() if len(group) > 1),
        key=lambda group: (-len(group), generator("split-group", seed, names[group[0]]).random()),
    )
    singles: defaultdict[str, list[int]] = defaultdict(list)
    for group in members.values():
        if len(group) == 1:
            singles[labels[group[0]]].append(group[0])
    units = Counter({label: len(indices) for label, indices in singles.items()})
    empty = _place_groups(together, labels, units, need, result)
    for label, indices in singles.items():
        counts = _fit(need[label], len(indices), empty[label])
        order = generator("split", seed, label).permutation(len(indices))
        start = 0
        for split, count in counts.items():
            for place in order[start : start + count]:
                result[indices[place]] = split
            start += count
    return result


def carve(
    names: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[Hashable],
    count: int,
    seed: int,
) -> list[int]:
    """Choose exactly so many samples, of each class in proportion, and no group in part.

    Groups are drawn in a random order and taken while they fit into what their classes still
    need. Where only large groups are left, the classes' shares give way to the exact number.

    Args:
        names: Unique names of the samples.
        labels: Their class names.
        groups: Samples with equal values stay together; use unique values for none.
        count: How many to choose, at least 1 and fewer than there are.
        seed: The user's seed.

    Returns:
        Positions of the chosen samples, ascending; they depend on names and not on the order.

    Raises:
        DataError: There are not enough samples, or groups would have to be parted.
    """
    if not 1 <= count < len(names):
        raise DataError(
            f"expected from 1 to {len(names) - 1:,} (training has {len(names):,} samples), "
            f"got {count:,}"
        )
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index in sorted(range(len(names)), key=lambda index: names[index]):
        members[groups[index]].append(index)
    found = Counter(labels)
    need = _apportioned({label: count * n / len(names) for label, n in found.items()}, count, seed)
    units = list(members.values())
    drawn = [units[place] for place in generator("carve", seed).permutation(len(units))]
    chosen: list[list[int]] = []
    rest: list[list[int]] = []
    for unit in drawn:
        own = Counter(labels[index] for index in unit)
        fits = all(need[label] >= n for label, n in own.items())
        (chosen if fits else rest).append(unit)
        if fits:
            for label, n in own.items():
                need[label] -= n
    more = _exactly(sum(need.values()), [len(unit) for unit in rest])
    if more is None:
        # What was taken so far stands in the way of the exact number: without it, then.
        chosen, rest = [], drawn
        more = _exactly(count, [len(unit) for unit in rest])
    if more is None:
        raise DataError(
            f"{count:,} samples cannot be chosen without parting a group (samples of one declared "
            "group, or copies of each other): ask for another number"
        )
    chosen += [rest[place] for place in more]
    return sorted(index for unit in chosen for index in unit)


def _apportioned(exact: Mapping[str, float], count: int, seed: int) -> dict[str, int]:
    """Round shares to whole numbers that add up to `count`: largest remainders, ties by lot."""
    rounded = {label: int(value + 1e-9) for label, value in exact.items()}
    lots = {label: generator("carve-lot", seed, label).random() for label in exact}
    by_remainder = sorted(
        exact, key=lambda label: (round(rounded[label] - exact[label], 9), lots[label])
    )
    for label in by_remainder[: count - sum(rounded.values())]:
        rounded[label] += 1
    return rounded


def _exactly(total: int, sizes: Sequence[int]) -> list[int] | None:
    """Return positions of sizes that add up to `total`, the first that do; None where none do."""
    # last[t]: the size that was added last to reach t, and what it was added to.
    last: dict[int, tuple[int, int]] = {0: (-1, 0)}
    for place, size in enumerate(sizes):
        if total in last:
            break
        reached = [t for t in last if t + size <= total and t + size not in last]
        last.update({t + size: (place, t) for t in reached})
    if total not in last:
        return None
    places = []
    while total:
        place, total = last[total]
        places.append(place)
    return places


def _place_groups(
    groups: Sequence[list[int]],
    labels: Sequence[str],
    units: Counter[str],
    need: dict[str, dict[str, int]],
    result: list[str],
) -> dict[str, set[str]]:
    """Place groups of several samples; lower `need` and fill `result` accordingly.

    Returns the splits in which each class has nothing yet. `units` counts, for each class, the
    single samples; the groups are added here.
    """
    empty = {label: set(quota) for label, quota in need.items()}
    for group in groups:
        units.update({labels[index] for index in group})
    for group in groups:
        own = {labels[index] for index in group}
        # A class whose last groups are all needed to give every split something.
        forced = {
            split for label in own if units[label] <= len(empty[label]) for split in empty[label]
        }
        candidates = [split for split in need[labels[group[0]]] if not forced or split in forced]
        lacking = {
            split: sum(need[labels[index]][split] for index in group) for split in candidates
        }
        best = max(candidates, key=lambda split: lacking[split])
        for index in group:
            result[index] = best
            need[labels[index]][best] -= 1
        for label in own:
            units[label] -= 1
            empty[label].discard(best)
    return empty


def n_labels_per_class(
    labels: IntArray,
    indices: Sequence[int] | IntArray,
    n: int,
    seed: int,
    classes: Sequence[str] | None = None,
) -> IntArray:
    """Choose n labelled samples of each class at random; the choice for a smaller n is inside it.

    Args:
        labels: Class indices of all samples, int64.
        indices: The samples to choose from, such as the training split; their order is of no
            consequence.
        n: Samples per class, at least 1.
        seed: The user's seed.
        classes: Class names, for the message of an error.

    Returns:
        Chosen members of `indices`, ascending, int64; n of each class that occurs among them.

    Raises:
        DataError: A class has fewer than n.
    """
    if n < 1:
        raise DataError(f"labels per class: expected at least 1, got {n}")
    pool = np.unique(np.asarray(indices, dtype=np.int64))
    chosen: list[IntArray] = []
    short: list[str] = []
    for label in np.unique(labels[pool]):
        own = pool[labels[pool] == label]
        if len(own) < n:
            name = str(label) if classes is None else classes[label]
            short.append(f"{name} has {len(own)}")
            continue
        order = generator("labels-per-class", seed, int(label)).permutation(len(own))
        chosen.append(own[order[:n]])
    if short:
        raise DataError(
            f"{n} labels per class were asked for, but {'; '.join(short[:10])}"
            f"{' …' if len(short) > 10 else ''}: ask for fewer, or give these classes more samples"
        )
    return np.sort(np.concatenate(chosen)) if chosen else pool


def joined_groups(*keys: Sequence[Hashable | None]) -> list[int]:
    """Return a group number per sample: samples that share any key are in one group.

    Args:
        *keys: For each kind of key one value per sample, None where a sample has none. For
            example the declared groups and the digests of the pixels.

    Returns:
        Numbers that are equal for samples that are linked, if only by way of others.
    """
    count = len(keys[0])
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for values in keys:
        first: dict[Hashable, int] = {}
        for index, value in enumerate(values):
            if value is not None:
                parent[root(index)] = root(first.setdefault(value, index))
    return [root(index) for index in range(count)]


def _quota(count: int, shares: Mapping[str, float], label: str, seed: int) -> dict[str, int]:
    """Share a count out by largest remainders, at least 1 for each where there are enough."""
    exact = {split: share * count for split, share in shares.items()}
    # The tiny addition: 0.7 * 10 must not be floored to 6.
    quota = {split: int(value + 1e-9) for split, value in exact.items()}
    # Equal remainders by lot: else every class of ten would give validation two and test one.
    lots = dict(zip(shares, generator("split-lot", seed, label).random(len(shares)), strict=True))
    by_remainder = sorted(
        shares, key=lambda split: (round(quota[split] - exact[split], 9), lots[split])
    )
    for split in by_remainder[: count - sum(quota.values())]:
        quota[split] += 1
    if count >= len(shares):
        for split in shares:
            if quota[split] == 0:
                quota[max(shares, key=lambda other: quota[other])] -= 1
                quota[split] = 1
    return quota


def _fit(need: Mapping[str, int], count: int, empty: set[str]) -> dict[str, int]:
    """Bring needs to the sum of what is left, after groups took more or less than planned."""
    fitted = {split: max(0, value) for split, value in need.items()}
    while sum(fitted.values()) > count:
        # A split in which the class has nothing yet gives its last one away only in need.
        spare = [split for split in fitted if fitted[split] > (split in empty)] or list(fitted)
        fitted[max(spare, key=lambda split: fitted[split])] -= 1
    return fitted

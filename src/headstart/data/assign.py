"""Which sample goes to which split: as declared, carved out of train, or shared out anew."""

from collections.abc import Mapping

from headstart.data.preflight import Preflight
from headstart.data.split import (
    DEFAULT_FRACTIONS,
    SPLITS,
    carve,
    check_fractions,
    joined_groups,
    make_splits,
    rank,
)
from headstart.errors import DataError


def extra_of(split: str | None) -> str | None:
    """Return the split if it is one of more test sets, ``test-NAME``, else None."""
    return None if split in SPLITS else split


def assign(
    preflight: Preflight,
    fractions: Mapping[str, float] | None,
    seed: int,
    *,
    val_samples: int | None = None,
    drop_copies: bool = False,
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Put every usable sample into a split.

    Args:
        preflight: The scan; the splits of its rows are followed, but for those without one.
        fractions: Shares of train, val and test for the rows without a split; None for 70, 15 and
            15%.
        seed: The user's seed.
        val_samples: Samples to carve out of the declared training split for validation, or None.
        drop_copies: Whether training samples that are copies of others in test will not be used:
            then `val_samples` are taken from the rest.

    Returns:
        The split by position of the row, and the splits in which every class is needed.

    Raises:
        DataError: Splits are declared and train is not among them; or `val_samples` cannot be had.
    """
    rows = preflight.rows
    usable = [index for index, one in enumerate(preflight.probes) if one is not None]
    fixed = {index: split for index in usable if (split := rows[index].split) is not None}
    declared = {split for row in rows if (split := row.split) is not None and split in SPLITS}
    if val_samples is not None:
        _refuse_val_samples(preflight, fractions, declared)
    if not declared:
        shares = check_fractions(DEFAULT_FRACTIONS if fractions is None else fractions)
        pool = [index for index in usable if index not in fixed]
        return fixed | _make(preflight, pool, shares, seed), tuple(shares)
    if "train" not in declared:
        listed = ", ".join(sorted(set(fixed.values())))
        raise DataError(
            f"{preflight.origin}: declares the splits {listed} but no train; "
            "rename one, or set data.split to share everything out anew"
        )
    carved = [split for split in SPLITS if split not in declared]
    needed = ("train", *carved)
    if val_samples is not None:
        fixed |= _carve(preflight, fixed, val_samples, seed, drop_copies)
        carved.remove("val")
        # So many may be fewer than there are classes.
        needed = ("train", *carved)
    if carved:
        kept = {split: DEFAULT_FRACTIONS[split] for split in ("train", *carved)}
        shares = {split: share / sum(kept.values()) for split, share in kept.items()}
        pool = [index for index, split in fixed.items() if split == "train"]
        fixed |= _make(preflight, pool, shares, seed)
    # A declared test split may lack a class; a training split may not.
    return fixed, needed


def find_leaks(preflight: Preflight, split_of: Mapping[int, str]) -> dict[int, str]:
    """Return the rows that are copies of a row in a later split, with the reason.

    Args:
        preflight: The scan.
        split_of: The split of each row that is used.

    Returns:
        Reasons by position of the row.
    """
    found = {}
    for same in preflight.copies:
        present = [index for index in same if index in split_of]
        for index in present:
            # The test sample first: it is what the copy would spoil most.
            other = max(present, key=lambda i: rank(split_of[i]))
            if rank(split_of[other]) > rank(split_of[index]):
                found[index] = (
                    f"a {split_of[index]} {preflight.noun} with the same {preflight.same} as "
                    f"{preflight.rows[other].name} in {split_of[other]}"
                )
    return found


def _refuse_val_samples(
    preflight: Preflight, fractions: Mapping[str, float] | None, declared: set[str]
) -> None:
    reason = None
    if fractions is not None:
        reason = "data.split shares everything out anew: give its share of val, or leave one away"
    elif "train" not in declared:
        reason = "the data declare no train split to take them from: set data.split instead"
    elif "val" in declared:
        reason = "the data have a validation split of their own: leave val_samples away"
    if reason is not None:
        raise DataError(f"{preflight.origin}: data.val_samples cannot be used, since {reason}")


def _carve(
    preflight: Preflight, fixed: Mapping[int, str], count: int, seed: int, drop_copies: bool
) -> dict[int, str]:
    gone = find_leaks(preflight, fixed) if drop_copies else {}
    pool = [index for index, split in fixed.items() if split == "train" and index not in gone]
    try:
        chosen = carve(*_described(preflight, pool), count, seed)
    except DataError as error:
        raise DataError(f"{preflight.origin}: data.val_samples: {error}") from error
    return {pool[place]: "val" for place in chosen}


def _make(
    preflight: Preflight, pool: list[int], shares: Mapping[str, float], seed: int
) -> dict[int, str]:
    return dict(zip(pool, make_splits(*_described(preflight, pool), shares, seed), strict=True))


def _described(preflight: Preflight, pool: list[int]) -> tuple[list[str], list[str], list[int]]:
    """Return name, class and group of some rows; copies are of one group."""
    rows = [preflight.rows[index] for index in pool]
    contents = preflight.contents
    groups = joined_groups([row.group for row in rows], [contents[index] for index in pool])
    return [row.name for row in rows], [preflight.classes[row.label] for row in rows], groups

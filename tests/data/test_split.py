"""Splits are complete, disjoint, stratified, seeded, and never part a group."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.split import joined_groups, make_splits, n_labels_per_class
from headstart.errors import DataError

FRACTIONS = [
    {"train": 0.7, "val": 0.15, "test": 0.15},
    {"train": 0.5, "val": 0.25, "test": 0.25},
    {"train": 0.8, "test": 0.2},
    {"train": 1.0},
    {"train": 0.34, "val": 0.33, "test": 0.33, },
]  # fmt: skip

sizes = st.lists(st.integers(1, 60), min_size=1, max_size=5)
seeds = st.integers(0, 10**9)


def samples(counts):
    labels = [f"class {index}" for index, count in enumerate(counts) for _ in range(count)]
    return [f"{label}/{index}" for index, label in enumerate(labels)], labels


@given(sizes, st.sampled_from(FRACTIONS), seeds)
@settings(max_examples=80, deadline=None)
def test_every_class_is_shared_out_within_one(counts, fractions, seed):
    names, labels = samples(counts)
    splits = make_splits(names, labels, range(len(names)), fractions, seed)
    assert set(splits) <= set(fractions)
    got = Counter(zip(labels, splits, strict=True))
    for label, count in Counter(labels).items():
        assert sum(got[label, split] for split in fractions) == count
        for split, share in fractions.items():
            if min(fractions.values()) * count >= 1:
                assert abs(got[label, split] - share * count) < 1
            elif count >= len(fractions):
                assert got[label, split] >= 1


@given(sizes, seeds, st.data())
@settings(max_examples=80, deadline=None)
def test_groups_are_never_parted(counts, seed, data):
    names, labels = samples(counts)
    groups = data.draw(st.lists(st.integers(0, 12), min_size=len(names), max_size=len(names)))
    splits = make_splits(names, labels, groups, FRACTIONS[0], seed)
    of_group = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        of_group[group].add(split)
    assert all(len(found) == 1 for found in of_group.values())
    assert "" not in splits


@given(sizes, seeds, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_samples_does_not_matter(counts, seed, random):
    names, labels = samples(counts)
    groups = [index // 3 if index % 5 == 0 else f"own {index}" for index in range(len(names))]
    splits = dict(zip(names, make_splits(names, labels, groups, FRACTIONS[0], seed), strict=True))
    order = list(range(len(names)))
    random.shuffle(order)
    again = make_splits(
        [names[i] for i in order],
        [labels[i] for i in order],
        [groups[i] for i in order],
        FRACTIONS[0],
        seed,
    )
    assert {names[i]: split for i, split in zip(order, again, strict=True)} == splits


def test_equal_remainders_favour_neither_validation_nor_test():
    names, labels = samples([10] * 60)
    got = Counter(make_splits(names, labels, names, FRACTIONS[0], 0))
    assert got["train"] == 420
    assert 75 <= got["test"] <= 105  # 90 expected; always rounding to one side gives 60 or 120


def test_another_class_changes_nothing_for_the_others():
    names, labels = samples([40, 30])
    alone = make_splits(names, labels, names, FRACTIONS[0], 3)
    more_names, more_labels = [*names, *(f"z{i}" for i in range(9))], [*labels, *["z"] * 9]
    assert make_splits(more_names, more_labels, more_names, FRACTIONS[0], 3)[:70] == alone


def test_the_seed_decides():
    names, labels = samples([50, 50])
    one, same, other = (make_splits(names, labels, names, FRACTIONS[0], seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    # Chosen at random, not in order: early and late samples are tested alike.
    tested = [index for index, split in enumerate(one[:50]) if split == "test"]
    assert min(tested) < 20
    assert max(tested) > 30


@given(st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_groups_of_equal_size_are_shared_out_by_the_fractions(seed):
    names, labels = samples([100, 100])
    groups = [index // 5 for index in range(200)]
    splits = make_splits(names, labels, groups, FRACTIONS[0], seed)
    got = Counter(zip(labels, splits, strict=True))
    for label in set(labels):
        for split, share in FRACTIONS[0].items():
            assert abs(got[label, split] - 100 * share) <= 5  # one group


@pytest.mark.parametrize("group_sizes", [[10, 10, 10], [20, 3, 1], [9, 9, 1, 1], [30, 1, 1]])
def test_as_many_groups_as_splits_fill_every_split(group_sizes):
    groups = [index for index, size in enumerate(group_sizes) for _ in range(size)]
    names, labels = samples([len(groups)])
    for seed in range(10):
        assert set(make_splits(names, labels, groups, FRACTIONS[0], seed)) == set(FRACTIONS[0])


@pytest.mark.parametrize(
    "fractions",
    [{"train": 0.7, "val": 0.2}, {"train": 1.2, "val": -0.2}, {"train": 0.5, "dev": 0.5},
     {"val": 0.5, "test": 0.5}, {}],
)  # fmt: skip
def test_senseless_fractions_are_refused(fractions):
    with pytest.raises(DataError, match="fractions"):
        make_splits(["a"], ["a"], ["a"], fractions, 0)


def test_groups_are_joined_through_any_key():
    people = ["anna", None, "anna", "bob", None, None]
    pixels = ["p", "q", "r", "r", "q", "s"]
    joined = joined_groups(people, pixels)
    assert joined[0] == joined[2] == joined[3]  # anna, anna, and bob through the pixels r
    assert joined[1] == joined[4]
    assert len(set(joined)) == 3


# --- few labels ---------------------------------------------------------------------------------


@given(seeds, st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_fewer_labels_are_inside_more(seed, few, many):
    few, many = sorted((few, many))
    labels = np.arange(120) % 4
    indices = np.arange(0, 120)[5:]
    small = n_labels_per_class(labels, indices, few, seed)
    large = n_labels_per_class(labels, indices, many, seed)
    assert set(small) <= set(large) <= set(indices)
    assert np.bincount(labels[large]).tolist() == [many] * 4
    assert large.dtype == np.int64
    assert (np.diff(large) > 0).all()


def test_labels_are_chosen_at_random_by_seed_and_not_by_order():
    labels = np.arange(400) % 4
    one = n_labels_per_class(labels, np.arange(400), 10, seed=1)
    turned = n_labels_per_class(labels, np.arange(400)[::-1], 10, seed=1)
    other = n_labels_per_class(labels, np.arange(400), 10, seed=2)
    np.testing.assert_array_equal(one, turned)
    assert set(one) != set(other)


def test_a_class_with_too_few_labels_is_named():
    labels = np.array([0, 0, 0, 1])
    with pytest.raises(DataError, match="2 labels per class were asked for, but dog has 1"):
        n_labels_per_class(labels, range(4), 2, 0, classes=["cat", "dog"])
    with pytest.raises(DataError, match="at least 1"):
        n_labels_per_class(labels, range(4), 0, 0)

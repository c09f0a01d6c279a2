"""What a run gets: kept pictures in splits that do not leak, and a list of what was left out."""

import shutil
from collections import Counter

import numpy as np
import pytest

from headstart._util.progress import SilentProgress
from headstart.data.checks import scan
from headstart.data.dataset import prepare
from headstart.data.loader import load_batches
from headstart.data.source import open_source
from headstart.errors import DataError
from headstart.types import InputSpec

HALVES = {"train": 0.5, "val": 0.25, "test": 0.25}


def prepared(root, fractions=None, seed=0, **options):
    source = open_source("auto", str(root))
    found = scan(source, workers=2, progress=SilentProgress())
    return prepare(source, found, fractions=fractions, seed=seed, **options)


def names(dataset, split):
    return [dataset.names[index] for index in dataset.splits[split]]


def test_a_data_set_is_an_image_set_with_labels_and_splits(folder):
    root = folder({"cat": 20, "dog": 12})
    dataset = prepared(root, HALVES)
    assert len(dataset) == 32
    assert dataset.counts() == {
        "train": {"cat": 10, "dog": 6},
        "val": {"cat": 5, "dog": 3},
        "test": {"cat": 5, "dog": 3},
    }
    together = np.concatenate(list(dataset.splits.values()))
    assert sorted(together) == list(range(32))
    for index in (0, 31):
        assert dataset.read(index) == (root / dataset.names[index]).read_bytes()
        assert dataset.classes[dataset.labels[index]] == dataset.names[index].partition("/")[0]
    spec = InputSpec(8, 8, 8, "bilinear", (0, 0, 0), (1, 1, 1))
    (batch,) = load_batches(dataset, dataset.splits["val"], spec, 8, workers=1)
    assert batch.shape == (8, 3, 8, 8)


def test_the_default_shares_are_seventy_fifteen_fifteen(folder):
    dataset = prepared(folder({"a": 20, "b": 40}))
    assert [len(dataset.splits[split]) for split in ("train", "val", "test")] == [42, 9, 9]


def test_a_share_may_be_left_out(folder):
    dataset = prepared(folder({"a": 10, "b": 10}), {"train": 0.8, "val": 0.2})
    assert [len(dataset.splits[split]) for split in ("train", "val", "test")] == [16, 4, 0]


# --- the fingerprint ----------------------------------------------------------------------------


def test_the_fingerprint_goes_by_content_and_splits(folder, noise, tmp_path):
    root = folder({"a": 8, "b": 8})
    one = prepared(root).fingerprint
    assert prepared(root).fingerprint == one
    shutil.copytree(root, tmp_path / "copy")
    assert prepared(tmp_path / "copy").fingerprint == one
    assert prepared(root, seed=1).fingerprint != one
    (tmp_path / "copy" / "a" / "0.png").write_bytes(noise(999))
    assert prepared(tmp_path / "copy").fingerprint != one
    root.joinpath("a").rename(root / "c")
    assert prepared(root).fingerprint != one


def test_the_fingerprint_is_the_same_in_every_version(tmp_path):
    for number in range(12):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.pgm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"P5 2 2 255\n" + bytes([number] * 4))
    # What is stored under it (features, results) would be lost if it changed.
    assert prepared(tmp_path / "pictures").fingerprint == (
        "7c4c0df951acc870f7a2a18d0a439d1a2b7b1728eee1ef1b54abdd42923db5b1"
    )


# --- quarantine ---------------------------------------------------------------------------------


def test_unreadable_pictures_are_left_out_and_listed(folder):
    root = folder({"a": 30, "b": 30})
    (root / "a" / "bad.jpg").write_bytes(b"")
    dataset = prepared(root)
    assert len(dataset) == 60
    assert "a/bad.jpg" not in dataset.names
    assert [(one.name, one.reason) for one in dataset.report.left_out] == [
        ("a/bad.jpg", "empty: 0 bytes")
    ]


def test_too_many_unreadable_pictures_stop_the_run(folder):
    root = folder({"a": 30, "b": 30})
    for index in range(4):
        (root / "a" / f"bad{index}.jpg").write_text("hello")
    with pytest.raises(DataError) as caught:
        prepared(root)
    text = str(caught.value)
    assert "4 of 64 pictures (6.2%)" in text
    assert "max_bad_fraction" in text
    assert "a/bad3.jpg: not a picture" in text
    assert len(prepared(root, max_bad_fraction=0.07)) == 60


# --- declared splits ----------------------------------------------------------------------------


def test_declared_splits_are_kept(folder):
    root = folder({f"{s}/{c}": 4 for s in ("train", "val", "test") for c in "ab"})
    dataset = prepared(root)
    for split in ("train", "val", "test"):
        assert {name.partition("/")[0] for name in names(dataset, split)} == {split}
        assert len(dataset.splits[split]) == 8


@pytest.mark.parametrize(("given", "carved"), [("test", "val"), ("val", "test")])
def test_what_is_not_declared_is_carved_out_of_train(folder, given, carved):
    root = folder({"train/a": 20, "train/b": 20, f"{given}/a": 3, f"{given}/b": 3})
    dataset = prepared(root)
    assert len(dataset.splits[given]) == 6
    assert {name.partition("/")[0] for name in names(dataset, carved)} == {"train"}
    assert len(dataset.splits[carved]) == 8  # 20 * 15/85 = 3.5 of each class, rounded up
    assert len(dataset.splits["train"]) == 32


def test_fractions_set_declared_splits_aside(folder):
    root = folder({"train/a": 10, "train/b": 10, "test/a": 10, "test/b": 10})
    dataset = prepared(root, HALVES)
    assert len(dataset.splits["train"]) == 20
    assert {name.partition("/")[0] for name in names(dataset, "train")} == {"train", "test"}
    assert dataset.report.counts().keys() == {"all"}


def test_one_declared_split_is_none(folder):
    dataset = prepared(folder({"test/a": 10, "test/b": 10}))
    assert len(dataset.splits["train"]) == 14
    assert min(len(dataset.splits[split]) for split in ("val", "test")) >= 2


def test_declared_splits_without_train_are_refused(folder):
    root = folder({"val/a": 4, "val/b": 4, "test/a": 4, "test/b": 4})
    with pytest.raises(DataError, match="declares the splits test, val but no train"):
        prepared(root)


# --- copies -------------------------------------------------------------------------------------


@pytest.fixture
def leaking(folder):
    """Return declared splits in which train holds copies of test and val pictures."""
    root = folder({f"{s}/{c}": 6 for s in ("train", "val", "test") for c in "ab"})
    shutil.copy(root / "test/a/0.png", root / "train/a/leak.png")
    shutil.copy(root / "val/b/1.png", root / "train/b/leak.png")
    shutil.copy(root / "test/b/2.png", root / "val/b/leak.png")
    return root


def test_copies_of_what_is_tested_are_dropped_from_training(leaking):
    dataset = prepared(leaking)
    reasons = {one.name: one.reason for one in dataset.report.left_out}
    assert set(reasons) == {"train/a/leak.png", "train/b/leak.png", "val/b/leak.png"}
    assert reasons["train/a/leak.png"] == (
        "a train picture with the same pixels as test/a/0.png in test"
    )
    assert not set(reasons) & set(dataset.names)
    assert [len(dataset.splits[split]) for split in ("train", "val", "test")] == [12, 12, 12]
    (problem,) = [p for p in dataset.report.problems() if p["kind"] == "duplicate-across-splits"]
    assert problem["severity"] == "warning"
    assert "left out of training" in problem["text"]


def test_copies_may_be_kept_or_refused(leaking):
    dataset = prepared(leaking, duplicates="warn")
    assert len(dataset) == 39
    assert dataset.report.problems()[0]["severity"] == "error"
    with pytest.raises(DataError, match=r"3 pictures are copies.*data\.duplicates") as caught:
        prepared(leaking, duplicates="error")
    assert "train/a/leak.png" in str(caught.value)


@pytest.mark.parametrize("seed", range(8))
def test_splits_made_here_never_leak(folder, seed):
    root = folder({"a": 12, "b": 12})
    for index in range(6):
        shutil.copy(root / "a" / f"{index}.png", root / "a" / f"copy{index}.png")
        shutil.copy(root / "a" / f"{index}.png", root / "b" / f"copy{index}.png")  # other label
    dataset = prepared(root, HALVES, seed)
    assert len(dataset) == 36
    where = {dataset.names[i]: split for split, part in dataset.splits.items() for i in part}
    for index in range(6):
        same = {where[f"a/{index}.png"], where[f"a/copy{index}.png"], where[f"b/copy{index}.png"]}
        assert len(same) == 1


def test_declared_groups_stay_together(folder):
    root = folder({"images": 40})
    lines = [f"images/{i}.png,{'ab'[i % 2]},person{i // 4}" for i in range(40)]
    (root / "table.csv").write_text("\n".join(["path,label,group", *lines]))
    dataset = prepared(root, HALVES)
    where = {dataset.names[i]: split for split, part in dataset.splits.items() for i in part}
    for person in range(10):
        assert len({where[f"images/{i}.png"] for i in range(person * 4, person * 4 + 4)}) == 1


# --- small classes and limits -------------------------------------------------------------------


def test_classes_that_are_too_small_are_listed_with_two_ways_out(folder):
    root = folder({"a": 10, "b": 10, "lone": 1, "pair": 2})
    with pytest.raises(DataError) as caught:
        prepared(root)
    text = str(caught.value)
    assert "too few pictures (or too few groups) in 2 classes" in text
    assert "lone: 1 usable" in text
    assert "pair: 2 usable" in text
    assert "small_classes: drop" in text
    dataset = prepared(root, small_classes="drop")
    assert dataset.classes == ("a", "b")
    assert {one.name.partition("/")[0] for one in dataset.report.left_out} == {"lone", "pair"}
    assert set(dataset.labels) == {0, 1}


def test_a_class_in_the_middle_may_go(folder):
    dataset = prepared(folder({"a": 10, "m": 1, "z": 10}), small_classes="drop")
    assert dataset.classes == ("a", "z")
    for index in range(len(dataset)):
        assert dataset.names[index].startswith(dataset.classes[dataset.labels[index]])


def test_copies_do_not_make_a_small_class_large(folder):
    root = folder({"a": 10, "b": 10, "c": 1})
    for index in range(1, 6):
        shutil.copy(root / "c" / "0.png", root / "c" / f"{index}.png")
    with pytest.raises(DataError, match="c: 6 usable, none left for val and test"):
        prepared(root)


def test_a_declared_test_split_may_lack_a_class_and_train_may_not(folder):
    root = folder({"train/a": 5, "train/b": 5, "train/c": 5, "test/a": 2, "test/b": 2})
    assert prepared(root).counts()["test"] == {"a": 2, "b": 2, "c": 0}
    root = folder({"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2, "test/c": 2}, "other")
    with pytest.raises(DataError, match="c: 2 usable, none left for train"):
        prepared(root)


def test_fewer_than_two_classes_are_refused(folder):
    with pytest.raises(DataError, match="expected at least two classes"):
        prepared(folder({"a": 10, "b": 1}), small_classes="drop")


def test_a_limit_takes_a_random_part_of_each_class_and_split(folder):
    root = folder({"a": 40, "b": 40, "c": 12})
    whole, some = prepared(root, HALVES), prepared(root, HALVES, limit_per_class=8)
    assert some.counts() == {
        "train": {"a": 8, "b": 8, "c": 6},
        "val": {"a": 8, "b": 8, "c": 3},
        "test": {"a": 8, "b": 8, "c": 3},
    }
    for split in ("train", "val", "test"):
        assert set(names(some, split)) <= set(names(whole, split))
    assert some.names == prepared(root, HALVES, limit_per_class=8).names
    fewer = prepared(root, HALVES, limit_per_class=4)
    assert set(fewer.names) < set(some.names)
    with pytest.raises(DataError, match="limit_per_class"):
        prepared(root, limit_per_class=0)


def test_the_limit_draws_by_seed_and_not_the_first_ones(folder):
    root = folder({f"{s}/{c}": 30 for s in ("train", "val", "test") for c in "ab"})
    drawn = [set(prepared(root, seed=seed, limit_per_class=5).names) for seed in (0, 1)]
    assert drawn[0] != drawn[1]


# --- after the scan -----------------------------------------------------------------------------


def test_a_picture_changed_after_the_scan_is_an_error(folder, noise):
    root = folder({"a": 10, "b": 10})
    dataset = prepared(root)
    (root / dataset.names[4]).write_bytes(noise(31337))
    dataset.read(3)
    with pytest.raises(DataError, match="changed since it was scanned"):
        dataset.read(4)


def test_the_description_is_what_results_json_holds(leaking):
    import json

    described = prepared(leaking).describe()
    json.dumps(described, allow_nan=False)
    assert set(described) == {
        "noun", "goal", "origin", "classes", "counts", "fingerprint", "sizes", "modes", "problems",
        "left_out",
    }  # fmt: skip
    assert described["counts"]["train"] == {"a": 6, "b": 6}
    assert Counter(one["name"].partition("/")[0] for one in described["left_out"]) == {
        "train": 2,
        "val": 1,
    }

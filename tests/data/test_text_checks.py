"""The preflight scan of texts and pairs, their splits, and the page that shows it."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from headstart._util.progress import SilentProgress
from headstart.cli.main import app
from headstart.data.checks import scan
from headstart.data.dataset import prepare
from headstart.data.excluded import without_classes
from headstart.data.page import render
from headstart.data.source import open_source
from headstart.data.split import carve
from headstart.errors import DataError


def scanned(root, workers=2):
    return scan(open_source("text", str(root)), workers=workers, progress=SilentProgress())


def prepared(root, fractions=None, seed=0, **options):
    source = open_source("text", str(root))
    found = scan(source, workers=1, progress=SilentProgress())
    return prepare(source, found, fractions=fractions, seed=seed, **options)


def by_kind(preflight):
    return {problem["kind"]: problem for problem in preflight.problems()}


@pytest.fixture
def texts(tmp_path):
    """Return a function that writes texts in folders: texts({"train/pos": 4}, "name")."""

    def make(folders, name="texts"):
        root = tmp_path / name
        for folder, count in folders.items():
            (root / folder).mkdir(parents=True)
            for n in range(count):
                (root / folder / f"{n}.txt").write_text(f"{folder} says {n} in so many words")
        return root

    return make


@pytest.fixture
def pairs(tmp_path):
    """Return a function that writes MultiNLI files: pairs({"train": [(label, a, b), …]})."""

    def make(files):
        for name, rows in files.items():
            lines = [
                json.dumps({"gold_label": label, "sentence1": first, "sentence2": second})
                for label, first, second in rows
            ]
            (tmp_path / f"multinli_1.0_{name}.jsonl").write_text("\n".join(lines))
        return tmp_path

    return make


# --- the scan -----------------------------------------------------------------------------------


def test_everything_that_is_wrong_with_texts_is_found(texts):
    root = texts({"train/neg": 30, "train/pos": 30, "test/neg": 5, "test/pos": 5})
    (root / "train/neg/latin.txt").write_bytes(b"caf\xe9 au lait")
    (root / "train/pos/nul.txt").write_bytes(b"a\0b here")
    (root / "train/pos/lost.txt").write_text("a \ufffd here")
    (root / "train/pos/empty.txt").write_text(" \n\t")
    (root / "train/pos/endless.txt").write_text("on and on " * 1000)
    (root / "train/neg/again.txt").write_text("train/neg  says 3\nin so many words ")
    (root / "train/pos/leak.txt").write_text("test/neg says 2 in so many words")
    found = scanned(root)
    assert found.noun == "text"
    assert [(one.name, one.reason) for one in found.quarantined] == [
        ("train/pos/empty.txt", "empty: no words")
    ]
    problems = by_kind(found)
    json.dumps(found.problems(), allow_nan=False)
    assert problems["unreadable"]["text"] == "1 text left out: empty, or not readable."
    encodings = [p for p in found.problems() if p["kind"] == "encoding"]
    assert {p["examples"][0]: p["text"] for p in encodings} == {
        "train/neg/latin.txt": "1 text: not UTF-8: read as Windows-1252.",
        "train/pos/nul.txt": "1 text: holds NUL characters.",
        "train/pos/lost.txt": "1 text: holds replacement characters (U+FFFD): damaged by an "
        "earlier conversion.",
    }
    assert problems["duplicate"]["examples"] == [
        "train/neg/3.txt (neg) = train/neg/again.txt (neg)"
    ]
    assert "word by word" in problems["duplicate"]["text"]
    across = problems["duplicate-across-splits"]
    assert (across["severity"], across["count"]) == ("error", 2)
    assert across["text"].startswith("2 texts with the same words lie in different splits")
    assert problems["conflicting-labels"]["count"] == 2
    assert problems["long"]["examples"] == ["train/pos/endless.txt: 3,000 words"]
    assert found.sizes() == {"min": 2, "median": 7, "max": 3000}
    assert found.modes() == {}


def test_the_number_of_threads_changes_nothing(texts):
    root = texts({"a": 150, "b": 150})
    assert scanned(root, 1) == scanned(root, 5)


def test_pairs_are_the_same_only_in_both_texts(pairs):
    rows = [("e", "one man", "sleeps"), ("n", "one man", "runs"), ("e", "two", "sleeps")]
    root = pairs({"train": [*rows, ("n", "one", "man sleeps"), ("e", "one  man", "sleeps ")]})
    found = scanned(root)
    assert [[found.rows[i].name for i in same] for same in found.copies] == [
        ["multinli_1.0_train.jsonl:1", "multinli_1.0_train.jsonl:5"]
    ]
    assert found.sizes() == {"min": 2, "median": 3, "max": 3}


def test_a_pair_with_an_empty_side_is_quarantined(pairs):
    found = scanned(pairs({"train": [("e", "a", ""), ("e", " ", "b"), ("n", "a", "b\ufffd")]}))
    assert [one.reason for one in found.quarantined] == [
        "empty: no words in the second text", "empty: no words in the first text"
    ]  # fmt: skip
    assert "U+FFFD" in by_kind(found)["encoding"]["text"]


def test_a_clean_set_of_texts_has_no_problems_and_a_page(texts):
    found = scanned(texts({"a": 4, "b": 4}))
    assert found.problems() == []
    text = render(found)
    assert "8 texts in 2 classes" in text
    assert "Words   shortest 7, median 7, longest 7" in text
    assert "picture" not in text


def test_nothing_but_empty_texts(texts):
    root = texts({"a": 1, "b": 1})
    for label in "ab":
        (root / label / "0.txt").write_text("")
    assert "No text can be read." in render(scanned(root))
    with pytest.raises(DataError, match=r"2 of 2 texts \(100.0%\)"):
        prepared(root)


def test_classes_can_be_excluded(texts):
    source = without_classes(open_source("text", str(texts({"a": 4, "b": 4, "c": 4}))), ["b"])
    assert source.noun == "text"
    assert source.notes == ("b: left out as the experiment asks (4 texts)",)


# --- the data set -------------------------------------------------------------------------------


def test_a_data_set_of_texts(texts):
    root = texts({"neg": 20, "pos": 20})
    dataset = prepared(root)
    assert (dataset.noun, dataset.goal, dataset.targets) == ("text", "classification", None)
    assert [len(dataset.splits[s]) for s in ("train", "val", "test")] == [28, 6, 6]
    assert dataset.read(3) == (root / dataset.names[3]).read_bytes()
    described = dataset.describe()
    assert (described["noun"], described["modes"]) == ("text", {})
    assert described["sizes"] == {"min": 7, "median": 7, "max": 7}
    (root / dataset.names[3]).write_text("changed")
    with pytest.raises(DataError, match="the text was changed"):
        dataset.read(3)


def test_messages_say_text_and_not_picture(texts):
    root = texts({"a": 10, "lone": 1})
    with pytest.raises(DataError, match="too few texts") as caught:
        prepared(root)
    assert "picture" not in str(caught.value)
    with pytest.raises(DataError, match="two classes with usable texts"):
        prepared(root, small_classes="drop")


INFERENCE = {
    split: [
        (label, f"{split} premise {n}", f"{label} follows") for label in "cen" for n in range(8)
    ]
    for split in ("train", "dev_matched", "dev_mismatched")
}


def test_more_test_sets_are_kept_and_come_last(pairs):
    dataset = prepared(pairs(INFERENCE))
    assert list(dataset.splits) == ["train", "val", "test", "test-mismatched"]
    assert [len(part) for part in dataset.splits.values()] == [21, 3, 24, 24]
    assert list(dataset.counts()["test-mismatched"].values()) == [8, 8, 8]
    assert list(dataset.report.counts()) == ["train", "test", "test-mismatched"]


def test_fractions_leave_more_test_sets_alone(pairs):
    dataset = prepared(pairs(INFERENCE), {"train": 0.5, "val": 0.25, "test": 0.25})
    assert [len(part) for part in dataset.splits.values()] == [24, 12, 12, 24]
    mismatched = {dataset.names[i] for i in dataset.splits["test-mismatched"]}
    assert all("dev_mismatched" in name for name in mismatched)


def test_limits_hold_for_more_test_sets_too(pairs):
    dataset = prepared(pairs(INFERENCE), limit_per_class=2)
    assert list(dataset.counts()["test-mismatched"].values()) == [2, 2, 2]


def test_copies_in_any_test_set_leave_training_and_two_test_sets_may_share(pairs):
    files = {split: list(rows) for split, rows in INFERENCE.items()}
    files["train"].append(files["dev_mismatched"][0])
    files["dev_matched"].append(files["dev_mismatched"][1])
    root = pairs(files)
    dataset = prepared(root)
    assert [(one.name, one.reason) for one in dataset.report.left_out] == [
        (
            "multinli_1.0_train.jsonl:25",
            "a train pair with the same words as multinli_1.0_dev_mismatched.jsonl:1 in "
            "test-mismatched",
        )
    ]
    assert len(dataset.splits["test"]) == 25
    assert len(dataset.splits["test-mismatched"]) == 24
    assert by_kind(dataset.report)["duplicate-across-splits"]["severity"] == "warning"
    assert by_kind(dataset.report)["duplicate"]["count"] == 1
    with pytest.raises(DataError, match="1 pair is a copy of pairs in another split"):
        prepared(root, duplicates="error")


# --- a number of validation samples -------------------------------------------------------------


def test_exactly_so_many_validation_samples_are_carved_out_of_train(texts):
    folders = {"train/a": 60, "train/b": 60, "train/c": 30, "test/a": 5, "test/b": 5, "test/c": 5}
    root = texts(folders)
    dataset = prepared(root, val_samples=51)
    assert [len(dataset.splits[s]) for s in ("train", "val", "test")] == [99, 51, 15]
    counts = dataset.counts()["val"]
    assert sorted((counts["a"], counts["b"])) in ([20, 21], [20, 20])
    assert counts["c"] in (10, 11)
    assert prepared(root, val_samples=51).fingerprint == dataset.fingerprint
    assert prepared(root, val_samples=51, seed=1).fingerprint != dataset.fingerprint
    assert prepared(root).fingerprint != dataset.fingerprint
    assert len(prepared(root, val_samples=1).splits["val"]) == 1  # fewer than classes


def test_copies_that_will_be_dropped_are_not_counted_as_validation(texts):
    root = texts({"train/a": 20, "train/b": 20, "test/a": 10, "test/b": 10})
    for n in range(10):
        shutil.copy(root / f"test/a/{n}.txt", root / f"train/a/leak{n}.txt")
    for seed in range(5):
        dataset = prepared(root, val_samples=10, seed=seed)
        assert [len(dataset.splits[s]) for s in ("train", "val", "test")] == [30, 10, 20]
        assert dataset.counts()["val"] == {"a": 5, "b": 5}
        assert len(dataset.report.left_out) == 10


def test_validation_samples_are_no_copies_of_training_samples(texts):
    root = texts({"train/a": 30, "train/b": 30, "test/a": 4, "test/b": 4})
    for n in range(15):
        shutil.copy(root / f"train/a/{n}.txt", root / f"train/a/copy{n}.txt")
    for seed in range(5):
        dataset = prepared(root, val_samples=25, seed=seed)
        assert len(dataset.splits["val"]) == 25
        val = {dataset.read(i) for i in dataset.splits["val"]}
        assert val.isdisjoint(dataset.read(i) for i in dataset.splits["train"])


def test_where_validation_samples_cannot_be_had(texts):
    both = texts({"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2}, "both")
    with pytest.raises(DataError, match=r"from 1 to 9 \(training has 10 samples\), got 10"):
        prepared(both, val_samples=10)
    with pytest.raises(DataError, match="shares everything out anew"):
        prepared(both, {"train": 0.5, "test": 0.5}, val_samples=2)
    val = texts({f"{s}/{c}": 5 for s in ("train", "val", "test") for c in "ab"}, "val")
    with pytest.raises(DataError, match="a validation split of their own"):
        prepared(val, val_samples=2)
    with pytest.raises(DataError, match="no train split to take them from"):
        prepared(texts({"a": 5, "b": 5}, "none"), val_samples=2)


def test_carving_takes_groups_whole():
    rng = np.random.default_rng(0)
    groups = [g for g, size in enumerate(rng.integers(1, 8, 80)) for _ in range(size)]
    labels = [str(g % 3) for g in groups]
    names = [f"{i:04d}" for i in range(len(groups))]
    for count in (1, 2, 17, 100, len(names) - 1):
        chosen = carve(names, labels, groups, count, seed=5)
        assert len(chosen) == count
        taken = {groups[i] for i in chosen}
        assert sum(Counter(groups)[g] for g in taken) == count
    back = range(len(names) - 1, -1, -1)
    turned = carve(*([x[i] for i in back] for x in (names, labels, groups)), 100, seed=5)
    assert {names[back[i]] for i in turned} == {
        names[i] for i in carve(names, labels, groups, 100, seed=5)
    }


def test_carving_says_when_groups_would_be_parted():
    with pytest.raises(DataError, match="3 samples cannot be chosen without parting a group"):
        carve([*"abcdef"], [*"xxyyxy"], [0, 0, 1, 1, 2, 2], 3, seed=0)
    assert len(carve([*"abcdef"], [*"xxyyxy"], [0, 0, 1, 1, 2, 2], 4, seed=0)) == 4


# --- the command --------------------------------------------------------------------------------


def test_check_data_looks_at_texts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("words,more,kind\n" + "".join(f"a {n},b,k{n % 2}\n" for n in range(8)))
    words = ["check-data", str(path), "--kind", "text", "--text-column", "words"]
    done = CliRunner().invoke(app, [*words, "--label-column", "kind", "--pair-column", "more"])
    assert done.exit_code == 0
    assert "8 pairs in 2 classes" in done.output
    assert "No problems were found" in done.output
    path.write_text("words,more,kind\na,,x\nb,c,y\n")
    done = CliRunner().invoke(app, [*words, "--label-column", "kind", "--pair-column", "more"])
    assert done.exit_code == 1
    assert "no words in the second text" in done.output

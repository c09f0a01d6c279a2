"""Tiny ImageNet: val is the test split, validation comes out of train, classes have names."""

import json
import tarfile
import zipfile

import pytest

from headstart._util.progress import SilentProgress
from headstart.data.checks import scan
from headstart.data.dataset import prepare
from headstart.data.source import open_source
from headstart.errors import DataError

GOLDFISH, SALAMANDER, DAISY = "n01443537", "n01629819", "n11939491"
WORDS = {
    "n00001740": "entity",
    GOLDFISH: "goldfish, Carassius auratus",
    SALAMANDER: "European fire salamander, Salamandra salamandra",
    DAISY: "daisy",
}


@pytest.fixture
def root(tmp_path, noise):
    """Write the layout with three classes of 10 + 3 pictures; return its folder."""
    root = tmp_path / "data" / "tiny-imagenet-200"
    # In no order, as in the original.
    ids = [DAISY, GOLDFISH, SALAMANDER]
    (root / "val" / "images").mkdir(parents=True)
    lines, count = [], 0
    for name in ids:
        (root / "train" / name / "images").mkdir(parents=True)
        (root / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t9\t9\n")
        for index in range(10):
            count += 1
            (root / "train" / name / "images" / f"{name}_{index}.JPEG").write_bytes(noise(count))
    for index in range(9):
        (root / "val" / "images" / f"val_{index}.JPEG").write_bytes(noise(1000 + index))
        lines.append(f"val_{index}.JPEG\t{ids[index % 3]}\t0\t0\t9\t9\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("".join(f"{name}\n" for name in ids))
    (root / "words.txt").write_text("".join(f"{key}\t{name}\n" for key, name in WORDS.items()))
    return root


def prepared(source, fractions=None, **options):
    found = scan(source, workers=2, progress=SilentProgress())
    return prepare(source, found, fractions=fractions, seed=0, **options)


def test_each_picture_has_its_class_and_val_is_the_test_split(root):
    source = open_source("auto", str(root))
    assert source.classes == (GOLDFISH, SALAMANDER, DAISY)
    found = {row.name: (source.classes[row.label], row.split) for row in source.rows}
    assert len(found) == 39
    assert found[f"train/{GOLDFISH}/images/{GOLDFISH}_7.JPEG"] == (GOLDFISH, "train")
    assert found["val/images/val_3.JPEG"] == (DAISY, "test")
    assert found["val/images/val_5.JPEG"] == (SALAMANDER, "test")
    for index in (0, 38):
        assert source.read(index) == (root / source.rows[index].name).read_bytes()
    (note,) = source.notes
    assert "the 9 pictures of val are the test split" in note


def test_validation_is_carved_out_of_train(root):
    dataset = prepared(open_source("auto", str(root)))
    counts = dataset.counts()
    # 70 : 15 of ten pictures a class.
    assert {name: sorted({*of.values()}) for name, of in counts.items()} == {
        "train": [8], "val": [2], "test": [3]
    }  # fmt: skip
    for split, folder in (("train", "train/"), ("val", "train/"), ("test", "val/")):
        assert all(dataset.names[index].startswith(folder) for index in dataset.splits[split])


def test_classes_have_names_for_people_where_they_are_ids(root, folder):
    names = {name: WORDS[name] for name in (GOLDFISH, SALAMANDER, DAISY)}
    source = open_source("tiny-imagenet", str(root))
    assert source.class_names == names
    dataset = prepared(source)
    described = json.loads(json.dumps(dataset.describe()))
    assert described["class_names"] == dataset.class_names == names
    plain = prepared(open_source("auto", str(folder({"cat": 10, "dog": 10}, "plain"))))
    assert plain.class_names == {}
    assert "class_names" not in plain.describe()


def test_only_classes_that_are_used_have_names(root):
    for path in (root / "train" / DAISY / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"{DAISY}: 3 usable, none left for train"):
        prepared(open_source("auto", str(root)))
    dataset = prepared(open_source("auto", str(root)), small_classes="drop")
    assert set(dataset.class_names) == {GOLDFISH, SALAMANDER}


def test_names_that_are_missing_are_said(root):
    (root / "words.txt").write_text(f"{DAISY}\tdaisy\n{GOLDFISH}\t\n")
    source = open_source("auto", str(root))
    assert source.class_names == {DAISY: "daisy"}
    assert (
        f"no name for 2 of 3 classes, which are called by their WordNet ids: {GOLDFISH}"
        in (source.notes[-1])
    )
    (root / "words.txt").unlink()
    source = open_source("auto", str(root))
    assert source.class_names == {}
    assert source.notes[-1] == "there is no words.txt: the classes are called by their WordNet ids"


@pytest.mark.parametrize("name", ["data.tar.gz", "data.tar", "data.zip"])
def test_archives_give_the_same(root, tmp_path, name):
    path = tmp_path / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, file.relative_to(root.parent))
    else:
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(root, root.name)
    there, here = open_source("auto", str(path)), open_source("tiny-imagenet", str(root))
    assert there.rows == here.rows
    assert (there.classes, there.class_names) == (here.classes, here.class_names)
    assert prepared(there).fingerprint == prepared(here).fingerprint
    there.close()


def test_the_order_of_wnids_and_what_an_editor_makes_of_it_do_not_matter(root):
    before = prepared(open_source("auto", str(root)))
    edited = f"\ufeff{SALAMANDER}\r\n{DAISY} \r\n\r\n{GOLDFISH}"
    (root / "wnids.txt").write_bytes(edited.encode())
    after = prepared(open_source("auto", str(root)))
    assert after.classes == before.classes
    assert after.fingerprint == before.fingerprint


def test_unlabelled_and_misplaced_pictures_are_counted_and_left_out(root, noise):
    places = ["test/images/test_0.JPEG", "test/images/test_1.JPEG", "cover.png", "papers/1.png"]
    places.append(f"train/{DAISY}/more/1.JPEG")
    for index, place in enumerate(places):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(noise(5000 + index))
    source = open_source("auto", str(root))
    assert len(source.rows) == 39
    assert set(source.notes[1:]) == {
        "2 pictures in 'test' have no labels and are not used",
        "1 pictures at the top are not used",
        "1 pictures in 'papers', outside train and val, are not used",
        "1 pictures in 'train', outside the folders train/CLASS/images, are not used",
    }


def test_without_val_three_splits_are_drawn_from_train(root):
    for path in sorted((root / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    source = open_source("auto", str(root))
    assert source.notes == ()
    counts = {name: sum(of.values()) for name, of in prepared(source).counts().items()}
    assert counts["train"] == 21
    assert counts["val"] + counts["test"] == 9
    assert min(counts.values()) >= 3


def test_shares_of_ones_own_mix_train_and_val(root):
    dataset = prepared(open_source("auto", str(root)), {"train": 0.5, "val": 0.25, "test": 0.25})
    assert any(dataset.names[index].startswith("val/") for index in dataset.splits["train"])


def test_a_picture_of_val_without_annotation_is_an_error(root, noise):
    (root / "val" / "images" / "val_77.JPEG").write_bytes(noise(77))
    message = r"1 pictures of val have no line in val/val_annotations\.txt: val/images/val_77\.JPEG"
    with pytest.raises(DataError, match=message):
        open_source("auto", str(root))
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match="10 pictures of val have no class, since there is no file"):
        open_source("auto", str(root))


def test_a_val_with_a_folder_per_class_is_sent_to_the_kind_folder(root):
    for index, path in enumerate(sorted((root / "val" / "images").iterdir())):
        target = root / "val" / (DAISY, GOLDFISH, SALAMANDER)[index % 3]
        target.mkdir(exist_ok=True)
        path.rename(target / path.name)
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match=r"val lie elsewhere than expected.*set data\.kind: folder"):
        open_source("auto", str(root))
    assert {row.split for row in open_source("folder", str(root)).rows} == {"train", "val"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "val_8.JPEG\tn02480855\t0\t0\t9\t9",
            r"val_8\.JPEG is of the class 'n02480855' by val/val_annotations\.txt, but wnids\.txt",
        ),
        (
            "val_8.JPEG n11939491",
            r"line 9: expected a file's name, a tab and its class, got 'val_8",
        ),
        ("val_8.JPEG\t", "line 9: expected a file's name, a tab and its class"),
        (f"val_0.JPEG\t{GOLDFISH}", f"line 9: val_0.JPEG is {GOLDFISH} here and {DAISY} above"),
    ],
)
def test_wrong_annotations_say_where(root, line, message):
    path = root / "val" / "val_annotations.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]) + line)
    with pytest.raises(DataError, match=message):
        open_source("auto", str(root))


def test_annotations_of_pictures_that_are_not_there_are_noted(root):
    (root / "val" / "images" / "val_8.JPEG").unlink()
    source = open_source("auto", str(root))
    assert "val/val_annotations.txt names 1 pictures that are not in val/images" in source.notes


def test_a_training_folder_that_wnids_does_not_list_is_an_error(root):
    (root / "wnids.txt").write_text(f"{DAISY}\n{GOLDFISH}\n")
    message = f"train/{SALAMANDER}/images/.* of the class '{SALAMANDER}' by its folder, but wnids"
    with pytest.raises(DataError, match=message):
        open_source("auto", str(root))


@pytest.mark.parametrize(
    ("content", "message"),
    [("\n", "lists no class"), (f"{DAISY}\n{GOLDFISH}\n{DAISY}\n", f"lists {DAISY} more than")],
)
def test_a_list_of_classes_that_is_wrong(root, content, message):
    (root / "wnids.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        open_source("auto", str(root))


def test_without_its_files_the_kind_says_what_it_expects(root, folder):
    plain = folder({"cat": 2, "dog": 2}, "plain")
    with pytest.raises(DataError, match=r"there is no wnids\.txt"):
        open_source("tiny-imagenet", str(plain))
    (plain / "wnids.txt").write_text("cat\ndog\n")
    assert open_source("auto", str(plain)).classes == ("cat", "dog")
    with pytest.raises(DataError, match="expected pictures in train/CLASS/images, found none"):
        open_source("tiny-imagenet", str(plain))

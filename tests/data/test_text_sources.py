"""Every layout of texts and pairs: folders, tables, MultiNLI, GLUE, Hugging Face."""

import csv
import json
import tarfile
from collections import Counter

import pyarrow as pa
import pyarrow.parquet
import pytest

from headstart.data.source import open_source
from headstart.data.text import pair_of
from headstart.data.text_source import open_text
from headstart.errors import DataError


def found(source):
    """Return text (or pair), class and split of every row."""
    read = pair_of if source.noun == "pair" else bytes.decode
    return [
        (read(source.read(i)), source.classes[row.label], row.split)
        for i, row in enumerate(source.rows)
    ]


def per_split(source):
    return dict(Counter(row.split for row in source.rows))


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (root / name).write_bytes(data)
    return root


def json_lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def refused(root, message, **options):
    with pytest.raises(DataError, match=message):
        open_source("text", str(root), **options)


# --- folders ------------------------------------------------------------------------------------


@pytest.fixture
def reviews(tmp_path):
    files = {
        f"aclImdb/{split}/{label}/{n}_{n}.txt": f"{split} {label} {n}<br />"
        for split in ("train", "test")
        for label in ("pos", "neg")
        for n in range(3)
    }
    files |= {f"aclImdb/train/unsup/{n}_0.txt": "who knows" for n in range(4)}
    files |= {"aclImdb/README": "x", "aclImdb/train/urls_pos.txt": "u", "aclImdb/imdb.vocab": "v"}
    return write(tmp_path, files)


def test_folders_of_reviews_with_splits_unlabelled_ones_and_lists_of_links(reviews):
    source = open_source("text", str(reviews))
    assert (source.noun, source.classes) == ("text", ("neg", "pos"))
    assert per_split(source) == {"train": 6, "test": 6}
    assert ("train pos 2<br />", "pos", "train") in found(source)
    assert source.rows[0].name == "test/neg/0_0.txt"
    assert set(source.notes) == {
        "4 texts in 'train/unsup', without labels, left out",
        "1 text in 'train', in no class folder, left out",
    }


def test_an_archive_of_folders_is_read_in_place(reviews, tmp_path):
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(reviews / "aclImdb", "aclImdb")
    packed = open_source("text", str(tmp_path / "all.tar"))
    assert found(packed) == found(open_source("text", str(reviews / "aclImdb")))
    packed.close()


def test_folders_without_splits_and_a_class_called_test(tmp_path):
    root = write(tmp_path, {f"{c}/{n}.TXT": f"{c}{n}" for c in ("test", "quiz") for n in range(2)})
    source = open_source("text", str(root))
    assert source.classes == ("quiz", "test")
    assert per_split(source) == {None: 4}
    for name, files in {
        "vehicles": ("train/1.txt", "bus/1.txt", "bus/more/2.txt"),
        "deep": ("test/x/1.txt", "quiz/x/1.txt"),
    }.items():
        source = open_source("text", str(write(tmp_path / name, dict.fromkeys(files, "x"))))
        assert set(source.classes) == {path.partition("/")[0] for path in files}
        assert per_split(source) == {None: len(files)}


def test_a_dev_folder_is_val_beside_a_test_folder_and_test_without_one(tmp_path):
    files = {f"{s}/{c}/1.txt": s for s in ("train", "dev", "test") for c in "ab"}
    assert per_split(open_source("text", str(write(tmp_path / "all", files)))) == {
        "val": 2, "test": 2, "train": 2
    }  # fmt: skip
    files = {path: text for path, text in files.items() if not path.startswith("test")}
    source = open_source("text", str(write(tmp_path / "two", files)))
    assert per_split(source) == {"test": 2, "train": 2}
    assert "'dev' is the test split" in source.notes[0]


def test_a_folder_with_no_texts_says_what_it_holds(tmp_path):
    root = write(tmp_path, {"a/1.png": "x", "a/2.png": "x", "b/note.md": "x"})
    refused(root, r"one folder per class with \.txt files in it.*2 \.png, 1 \.md in a, b")
    refused(tmp_path / "nowhere", "there is no such folder or file")


# --- tables -------------------------------------------------------------------------------------

TEXTS = ['He said "no", and left', "two\nlines", "a\ttab; and, more", "straße"]
LABELS = ["1", "0", "1", "0"]


def table(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text(json_lines(*(dict(zip(columns, row, strict=True)) for row in rows)))
    elif path.suffix == ".json":
        path.write_text(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerow(columns)
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_a_table_of_any_format_gives_the_same_texts(tmp_path, suffix):
    path = table(tmp_path / f"t.{suffix}", {"id": [*"abcd"], "review": TEXTS, "sentiment": LABELS})
    source = open_source("text", str(path))
    assert [one[:2] for one in found(source)] == list(zip(TEXTS, LABELS, strict=True))
    assert source.classes == ("0", "1")  # numbers are names
    assert len({row.name for row in source.rows}) == 4
    assert source.notes == ()


def test_rows_are_named_by_the_line_they_begin_at(tmp_path):
    path = table(tmp_path / "t.csv", {"text": TEXTS, "label": LABELS})
    names = [row.name for row in open_source("text", str(path)).rows]
    assert names == ["t.csv:2", "t.csv:3", "t.csv:5", "t.csv:6"]


def test_numbers_and_truths_of_json_are_class_names(tmp_path):
    lines = json_lines(
        {"text": "a", "label": 0}, {"text": "b", "label": True}, {"label": None, "text": "c"}
    )
    source = open_source("text", str(write(tmp_path, {"t.jsonl": lines + "\n\n"}) / "t.jsonl"))
    assert source.classes == ("0", "true")
    assert source.notes == ("1 text of t.jsonl without a label left out",)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("question1", "question2"),
        ("question", "sentence"),
    ],
)
def test_pairs_are_told_by_their_columns(tmp_path, first, second):
    path = table(tmp_path / "t.csv", {second: ["B"], "label": ["x"], first: ["A"]})
    source = open_source("text", str(path))
    assert source.noun == "pair"
    assert found(source) == [(("A", "B"), "x", None)]


def test_said_columns_win_over_usual_names(tmp_path):
    columns = {"text": ["no"], "pre": ["A"], "post": ["B"], "label": ["no"], "kind": ["yes"]}
    path = table(tmp_path / "t.csv", columns | {"who": ["anna"]})
    said = {"text": "pre", "label": "kind", "group": "who"}
    source = open_source("text", str(path), columns=said)
    assert found(source) == [("A", "yes", None)]
    assert source.rows[0].group == "anna"
    both = open_source("text", str(path), columns=said | {"pair": "post"})
    assert found(both) == [(("A", "B"), "yes", None)]
    turned = open_source("text", str(path), columns={"text": "label"} | {"label": "text"})
    assert found(turned) == [("no", "no", None)]
    refused(path, "no column 'prae' for the text: did you mean 'pre'", columns={"text": "prae"})
    refused(path, "say data.text_column", columns={"pair": "post"})
    refused(path, "did you mean 'text'", columns={"txt": "pre"})
    refused(path, "which column of t.csv is the label", columns={"text": "pre", "label": "nix"})


def test_the_text_that_was_said_is_not_the_label(tmp_path):
    path = table(tmp_path / "t.csv", {"label": ["a text"], "topic": ["sport"]})
    assert found(open_source("text", str(path), columns={"text": "label"})) == [
        ("a text", "sport", None)
    ]


def test_a_table_whose_columns_cannot_be_told_lists_them(tmp_path):
    refused(table(tmp_path / "a.csv", {"x": ["1"], "label": ["2"]}), "is the text.*: x, label")
    refused(table(tmp_path / "b.csv", {"text": ["1"], "y": ["2"]}), "is the label.*: text, y")


def test_a_column_of_splits(tmp_path):
    splits = ["train", "dev", "Test", "test_mismatched"]
    path = table(tmp_path / "t.csv", {"text": TEXTS, "label": LABELS, "split": splits})
    assert [one[2] for one in found(open_source("text", str(path)))] == [
        "train", "val", "test", "test-mismatched"
    ]  # fmt: skip
    for cells, message in [
        (["train", "trial", "test", "test"], "not train, val, test or test-NAME: trial"),
        (["train", "", "test", "test"], "some rows have a split and some have none"),
    ]:
        refused(table(path, {"text": TEXTS, "label": LABELS, "split": cells}), message)


def test_one_table_for_each_split_and_others_that_are_not_used(tmp_path):
    columns = {"text": TEXTS, "label": LABELS}
    table(tmp_path / "d" / "train.csv", columns)
    table(tmp_path / "d" / "validation.jsonl", columns)
    table(tmp_path / "d" / "my_test_data.parquet", columns)
    table(tmp_path / "d" / "sources.csv", {"url": ["u"]})
    source = open_source("text", str(tmp_path / "d"))
    assert per_split(source) == {"train": 4, "val": 4, "test": 4}
    assert source.notes == ("the table 'sources.csv' is not used",)


def test_the_pieces_of_a_split_are_put_together(tmp_path):
    for piece in range(2):
        table(
            tmp_path / f"train-{piece:05d}-of-00002.parquet",
            {"text": [f"t{piece}"], "label": ["a"]},
        )
    table(tmp_path / "test-00000-of-00001.parquet", {"text": ["x"], "label": ["a"]})
    assert per_split(open_source("text", str(tmp_path))) == {"train": 2, "test": 1}


def test_two_files_for_one_split_are_refused(tmp_path):
    for name in ("train.csv", "train_data.csv", "test.csv"):
        table(tmp_path / name, {"text": TEXTS, "label": LABELS})
    refused(tmp_path, "both mean the split 'train'")


def test_one_table_in_a_folder_beside_other_files(tmp_path):
    table(tmp_path / "reviews.csv", {"text": TEXTS, "label": LABELS})
    write(tmp_path, {"meta.json": "{}", "numbers.csv": "a,b\n1,2\n", "README.md": "x"})
    assert len(open_source("text", str(tmp_path)).rows) == 4
    table(tmp_path / "more.csv", {"text": TEXTS, "label": LABELS})
    refused(tmp_path, r"expected one table of texts.*found more\.csv, reviews\.csv")


def test_folders_of_texts_beside_a_table_about_them(tmp_path):
    write(tmp_path, {"a/1.txt": "x", "b/1.txt": "y", "index.csv": "file,year\na/1.txt,1999\n"})
    assert open_source("text", str(tmp_path)).classes == ("a", "b")
    refused(tmp_path, "text", columns={"text": "words"})


def test_lines_that_are_no_utf8_are_read_alone_and_counted(tmp_path):
    lines = ["text,label", "naïve,a", "caf\xe9,b", "“ok”,a"]
    data = b"\n".join(x.encode("latin-1" if "\xe9" in x else "utf-8") for x in lines)
    source = open_source("text", str(write(tmp_path, {"t.csv": data}) / "t.csv"))
    assert [one[0] for one in found(source)] == ["naïve", "café", "“ok”"]
    assert "1 line of t.csv not in UTF-8" in source.notes[0]
    assert "line 3" in source.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "text,label\na,b,c\n", "line 2 has 3 cells, the header has 2"),
        ("t.csv", "", "the table is empty"),
        ("t.csv", 'text,label\n"' + "x" * 200_000, "quotation mark never closed"),
        ("t.tsv", "text\tlabel\na\tb\n\na\n", "line 4 has 1 cells"),
        ("t.jsonl", '{"text": "a", "label": "b"}\n{"text"', "line 2 is no JSON"),
        ("t.jsonl", "3\n", "expected one JSON object in line 1, got int"),
        ("t.jsonl", '{"text": ["a"], "label": "b"}', "text in the column 'text', got list"),
        ("t.json", "[1", "not readable as JSON"),
        ("t.parquet", "hello", "not a readable Parquet"),
        ("t.jsonl", '{"text": "a", "label": ""}', "no text with a label"),
    ],
)
def test_damaged_tables_say_where(tmp_path, name, content, message):
    refused(write(tmp_path, {name: content}) / name, message)


def test_quotation_marks_in_a_tsv_file_that_has_no_quoting(tmp_path):
    lines = ['"Not entirely , " I said\ta', '" An open one\tb', 'in "the" middle\ta']
    path = write(tmp_path, {"t.tsv": "\n".join(["text\tlabel", *lines])}) / "t.tsv"
    assert [one[0] for one in found(open_source("text", str(path)))] == [
        line.partition("\t")[0] for line in lines
    ]


def test_a_pair_of_stray_marks_swallows_no_line(tmp_path):
    path = write(tmp_path, {"t.tsv": 'text\tlabel\n"one\ta\ntwo"\tb\n'}) / "t.tsv"
    assert [one[0] for one in found(open_source("text", str(path)))] == ['"one', 'two"']


# --- MultiNLI and GLUE --------------------------------------------------------------------------


def inference(*labels, **more):
    return [
        {"gold_label": label, "sentence1": f"p{n}", "sentence2": f"h {label} {n}", **more}
        for n, label in enumerate(labels)
    ]


def test_multinli_with_rows_that_nobody_agreed_on(tmp_path):
    three = ("entailment", "neutral", "contradiction")
    files = {
        "train": inference(*three, "-", *three, "-", genre="fiction"),
        "dev_matched": inference(*three, "-", genre="fiction"),
        "dev_mismatched": inference(*three),  # without genre
    }
    for name, records in files.items():
        path = f"multinli_1.0/multinli_1.0_{name}.jsonl"
        write(tmp_path, {path: json_lines(*records)})
    write(tmp_path, {"multinli_1.0/README.txt": "x", "multinli_1.0/paper.pdf": "x"})
    source = open_source("text", str(tmp_path))
    assert source.noun == "pair"
    assert source.classes == ("contradiction", "entailment", "neutral")
    assert per_split(source) == {"train": 6, "test": 3, "test-mismatched": 3}
    assert {row.group for row in source.rows} == {None}
    disputed = "labelled '-' (the annotators did not agree) left out"
    assert f"2 pairs of multinli_1.0_train.jsonl {disputed}" in source.notes
    assert f"1 pair of multinli_1.0_dev_matched.jsonl {disputed}" in source.notes
    assert "'multinli_1.0_dev_matched.jsonl' is the test split" in source.notes[-1]


def test_glue_mnli(tmp_path):
    head = "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\t"
    row = '0\t1\t1n\tfiction\t"Well , " he said\tHe spoke \' "\t'
    write(tmp_path, {
        "train.tsv": f"{head}label1\tgold_label\n" + f"{row}neutral\tentailment\n" * 2
        + f"{row}neutral\n",  # a cell is missing
        "dev_matched.tsv": f"{head}label1\tlabel2\tgold_label\n{row}x\ty\tentailment\n",
        "dev_mismatched.tsv": f"{head}label1\tlabel2\tgold_label\n{row}x\ty\tneutral\n",
        "test_matched.tsv": f"{head.strip()}\n{row.strip()}\n",
        "diagnostic.tsv": f"index\tsentence1\tsentence2\n{row}",
    })  # fmt: skip
    source = open_source("text", str(tmp_path))
    assert per_split(source) == {"train": 2, "test": 1, "test-mismatched": 1}
    assert found(source)[-1] == (('"Well , " he said', "He spoke ' \""), "entailment", "train")
    notes = " / ".join(source.notes)
    assert "1 broken row of train.tsv" in notes
    assert "'test_matched.tsv' has no labels and is left out" in notes
    assert "'diagnostic.tsv' is not used" in notes


@pytest.mark.parametrize(
    ("head", "row", "expected"),
    [
        ("sentence\tlabel", "a \" b\t1", "a \" b"),  # SST-2
        ("index\tsentence1\tsentence2\tlabel", "0\ta\"\tb\t1", ("a\"", "b")),  # RTE
        ("index\tquestion\tsentence\tlabel", "0\ta\t\"b\t1", ("a", "\"b")),  # QNLI
        ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\ta\tb\t1", ("a", "b")),
        ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t1\t2\t\"a\tb", ("\"a", "b")),
    ],
)  # fmt: skip
def test_the_other_tasks_of_glue(tmp_path, head, row, expected):
    other = "0".join(row.rsplit("1", 1)) if not row.startswith("1") else "0" + row[1:]
    write(tmp_path, {f"{s}.tsv": f"{head}\n{row}\n{other}\n" for s in ("train", "dev")})
    cells = [cell for cell in head.split("\t") if cell not in ("label", "is_duplicate")]
    write(tmp_path, {"test.tsv": "\t".join(cells) + "\n" + "\t".join("x" for _ in cells)})
    if "Quality" not in head:  # MRPC's test has labels
        assert (
            "'test.tsv' has no labels and is left out" in open_source("text", str(tmp_path)).notes
        )
    else:
        (tmp_path / "test.tsv").unlink()
    source = open_source("text", str(tmp_path))
    assert per_split(source) == {"train": 2, "test": 2}
    assert (expected, "1", "train") in found(source)


def test_cola_has_no_header(tmp_path):
    line = "gj04\t1\t\tOur friends \"won't.\ngj04\t0\t*\tThey drank the pub.\n"
    test = "index\tsentence\n0\tBill whistled.\n"
    write(tmp_path, {"train.tsv": line, "dev.tsv": line, "test.tsv": test})
    source = open_source("text", str(tmp_path))
    assert per_split(source) == {"test": 2, "train": 2}
    assert ("They drank the pub.", "0", "train") in found(source)


def test_a_dev_set_is_val_where_the_test_set_has_labels(tmp_path):
    for name in ("train", "dev", "test"):
        table(tmp_path / f"snli_1.0_{name}.csv", {"text": TEXTS, "label": LABELS})
    assert per_split(open_source("text", str(tmp_path))) == {"train": 4, "val": 4, "test": 4}


def test_a_test_set_with_one_placeholder_for_all_labels_is_left_out(tmp_path):
    for name in ("train", "validation"):
        table(tmp_path / f"{name}.csv", {"text": TEXTS, "label": LABELS})
    table(tmp_path / "test.csv", {"text": TEXTS, "label": ["-1"] * 4})
    source = open_source("text", str(tmp_path))
    assert source.classes == ("0", "1")
    assert per_split(source) == {"train": 4, "test": 4}


# --- Hugging Face -------------------------------------------------------------------------------


@pytest.fixture
def hub():
    return pytest.importorskip("datasets")


def saved(hub, path, parts, label=None):
    made = {}
    for name, columns in parts.items():
        made[name] = hub.Dataset.from_dict(columns)
        if label is not None:
            made[name] = made[name].cast_column("label", label)
    hub.DatasetDict(made).save_to_disk(str(path))
    return path


def test_a_saved_data_set_of_texts(hub, tmp_path):
    label = hub.ClassLabel(names=["neg", "pos"])
    columns = {"text": ["bad", "good"], "label": [0, 1]}
    hidden = {"text": ["who", "knows"], "label": [-1, -1]}
    path = saved(
        hub, tmp_path / "d", {"train": columns, "test": columns, "unsupervised": hidden}, label
    )
    for kind in ("text", "huggingface"):
        source = open_source(kind, str(path))
        assert source.classes == ("neg", "pos")
        assert sorted(found(source)) == [
            ("bad", "neg", "test"), ("bad", "neg", "train"),
            ("good", "pos", "test"), ("good", "pos", "train"),
        ]  # fmt: skip
        assert source.notes == ("the part 'unsupervised' (2 rows) is not used",)


def test_a_saved_data_set_of_pairs_with_hidden_test_labels(hub, tmp_path):
    label = hub.ClassLabel(names=["entailment", "neutral", "contradiction"])
    pairs = {"premise": ["p", "q", "r"], "hypothesis": ["h", "i", "j"], "label": [0, 2, -1]}
    hidden = pairs | {"label": [-1, -1, -1]}
    parts = {"train": pairs, "validation_matched": pairs, "validation_mismatched": pairs}
    parts |= {"test_matched": hidden, "test_mismatched": hidden}
    source = open_source("text", str(saved(hub, tmp_path / "d", parts, label)))
    assert source.noun == "pair"
    assert source.classes == ("entailment", "contradiction")  # as the data set orders them
    assert per_split(source) == {"train": 2, "test": 2, "test-mismatched": 2}
    assert (("q", "i"), "contradiction", "train") in found(source)
    assert "3 pairs without a label left out" in source.notes


def test_columns_of_a_saved_data_set_may_be_said(hub, tmp_path):
    columns = {"a": ["x", "y"], "b": ["u", "v"], "c": ["no", "yes"], "who": [1, 2]}
    path = saved(hub, tmp_path / "d", {"train": columns})
    said = {"text": "a", "pair": "b", "label": "c", "group": "who"}
    source = open_source("text", str(path), columns=said)
    assert found(source) == [(("x", "u"), "no", None), (("y", "v"), "yes", None)]
    assert [row.group for row in source.rows] == ["1", "2"]
    with pytest.raises(DataError, match="which column is the label"):
        open_source("huggingface", str(path), columns={"text": "a"})


def test_the_only_column_of_classes_is_the_label(hub, tmp_path):
    made = hub.Dataset.from_dict({"text": ["x"], "mood": [1], "label": ["no"]})
    made = made.cast_column("mood", hub.ClassLabel(names=["sad", "glad"]))
    made.save_to_disk(str(tmp_path / "d"))
    assert found(open_source("text", str(tmp_path / "d"))) == [("x", "glad", None)]


def test_a_name_of_the_hub_needs_the_network(hub):
    with pytest.raises(DataError, match="allow the network"):
        open_text("imdb", kind="huggingface")

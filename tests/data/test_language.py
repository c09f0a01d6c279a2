"""A text becomes numbers as WikiText's published figures count it."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from headstart.data.language import open_corpus
from headstart.errors import DataError

TRAIN = " \n = Lobster = \n \n the lobster is a lobster , not a <unk> . \n the crab is rare . \n"
VAL = " the lobster is a crab . \n"
TEST = " a lobster sleeps . \n \n"


def write(folder: Path, kind: str = "tokens", **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in texts.items():
        (folder / f"wiki.{split}.{kind}").write_text(text, encoding="utf-8", newline="")
    return folder


def whole(folder: Path, kind: str = "tokens") -> Path:
    return write(folder, kind, train=TRAIN, valid=VAL, test=TEST)


def test_each_line_gives_its_words_and_an_end(tmp_path: Path) -> None:
    corpus = open_corpus(whole(tmp_path))
    words = [corpus.vocabulary[i] for i in corpus.splits["train"]]
    assert " ".join(words) == (
        "<eos> = Lobster = <eos> <eos> the lobster is a lobster , not a <unk> . <eos> "
        "the crab is rare . <eos>"
    )
    assert corpus.splits["train"].dtype == np.int64
    test = [corpus.vocabulary[i] for i in corpus.splits["test"]]
    assert test == ["a", "lobster", "<unk>", ".", "<eos>", "<eos>"]
    assert corpus.unknown == {
        "train": pytest.approx(1 / 23),
        "val": 0,
        "test": pytest.approx(1 / 6),
    }


def test_the_vocabulary_is_the_training_texts_frequent_words(tmp_path: Path) -> None:
    corpus = open_corpus(whole(tmp_path), min_count=2)
    assert corpus.vocabulary == ("<unk>", "<eos>", ".", "=", "a", "is", "lobster", "the")
    # Lobster, the comma, not, <unk> itself, crab and rare.
    assert corpus.counts.tolist() == [6, 5, 2, 2, 2, 2, 2, 2]
    assert corpus.describe()["vocabulary"] == 8
    assert corpus.describe()["tokens"] == {"train": 23, "val": 7, "test": 6}


def test_words_of_other_splits_and_of_a_carved_one_stay_out(tmp_path: Path) -> None:
    write(tmp_path, train="a b c\n" * 9 + "d e f\n", test="g\n")
    corpus = open_corpus(tmp_path)
    assert set(corpus.vocabulary) == {"<unk>", "<eos>", "a", "b", "c"}
    assert len(corpus.splits["train"]) == 36
    assert corpus.splits["val"].tolist() == [0, 0, 0, 1]
    assert corpus.files["val"] == "wiki.train.tokens (its end)"
    assert [p["kind"] for p in corpus.problems] == ["unknown-words", "validation"]


@pytest.mark.parametrize(("share", "tokens"), [(0.1, 4), (0.11, 8), (0.5, 20)])
def test_the_carved_split_is_at_least_the_share(tmp_path: Path, share: float, tokens: int) -> None:
    write(tmp_path, train="a b c\n" * 10, test="a\n")
    assert len(open_corpus(tmp_path, val_share=share).splits["val"]) == tokens


def test_tokens_are_preferred_and_kinds_are_not_mixed(tmp_path: Path) -> None:
    whole(tmp_path)
    whole(tmp_path, "raw")
    assert open_corpus(tmp_path).files["train"] == "wiki.train.tokens"
    (tmp_path / "wiki.test.tokens").unlink()
    assert set(open_corpus(tmp_path).files.values()) == {
        f"wiki.{split}.raw" for split in ("train", "valid", "test")
    }
    (tmp_path / "wiki.train.raw").unlink()
    with pytest.raises(DataError, match=r"name the file of each split: files: \{train"):
        open_corpus(tmp_path)


def test_named_files_may_be_mixed_which_is_said(tmp_path: Path) -> None:
    write(tmp_path, train=TRAIN)
    write(tmp_path, "raw", test=TEST)
    (tmp_path / "more.txt").write_text(VAL)
    files = {"train": "wiki.train.tokens", "val": "more.txt", "test": "wiki.test.raw"}
    corpus = open_corpus(tmp_path, files=files)
    assert corpus.files == files
    assert "mixed-variants" in [problem["kind"] for problem in corpus.problems]


def test_archives_are_read_in_place(tmp_path: Path) -> None:
    folder = whole(tmp_path / "wikitext-2")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"wikitext-2/{path.name}")
    packed, plain = open_corpus(tmp_path / "w.zip"), open_corpus(folder)
    assert packed.fingerprint == plain.fingerprint
    assert packed.fingerprint != open_corpus(folder, min_count=2).fingerprint


def test_lines_in_train_and_test_are_an_error_of_the_data(tmp_path: Path) -> None:
    long = " ".join(f"w{i}" for i in range(15)) + "\n"
    write(tmp_path, train="short line\n" + long, valid="short line\n", test="short line\n" + long)
    (problem,) = (p for p in open_corpus(tmp_path).problems if p["severity"] == "error")
    assert problem["kind"] == "duplicate-across-splits"
    assert problem["count"] == 1
    assert problem["text"].startswith("1 of the 1 lines of 12 words or more of the test split")


def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    plain = open_corpus(whole(tmp_path / "a"))
    windows = write(
        tmp_path / "b",
        train="\ufeff" + TRAIN.replace("\n", "\r\n"),
        valid=VAL.replace("\n", "\r\n"),
        test=TEST,
    )
    assert open_corpus(windows).fingerprint == plain.fingerprint


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    corpus = open_corpus(write(tmp_path, train="a\u2028b\x0cc\n", valid="a\n", test="a\n"))
    assert [corpus.vocabulary[i] for i in corpus.splits["train"]] == ["a", "b", "c", "<eos>"]


def test_an_empty_validation_text_is_replaced(tmp_path: Path) -> None:
    corpus = open_corpus(write(tmp_path, train=TRAIN, valid=" \n", test=TEST))
    assert "empty" in [problem["kind"] for problem in corpus.problems]
    assert len(corpus.splits["val"]) > 1


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no words: it is the test"):
        open_corpus(write(tmp_path / "a", train=TRAIN, test="\n\n"))
    broken = whole(tmp_path / "b")
    (broken / "wiki.train.tokens").write_bytes(b"caf\xe9 au lait\n")
    with pytest.raises(DataError, match=r"UTF-8 in wiki.train.tokens, got the byte 0xe9 at pos"):
        open_corpus(broken)
    with pytest.raises(DataError, match=r"did you mean 'wiki\.test\.tokens'"):
        open_corpus(whole(tmp_path / "c"), files={"train": "wiki.test.token", "test": "x"})
    with pytest.raises(DataError, match="add test: FILE"):
        open_corpus(tmp_path / "c", files={"train": "wiki.train.tokens"})
    with pytest.raises(DataError, match="expected train, val and test, got 'valid'"):
        open_corpus(tmp_path / "c", files={"valid": "wiki.valid.tokens"})
    with pytest.raises(DataError, match="too few lines"):
        open_corpus(write(tmp_path / "d", train="one line\n", test="x\n"))
    with pytest.raises(DataError, match="min_count >= 1"):
        open_corpus(tmp_path / "c", min_count=0)


def test_plain_text_is_cut_as_the_corpus_is(tmp_path: Path) -> None:
    text = (
        "He said : \" I can 't , it 's 1 @,@ 000 @.@ 5 km ( 3 mi ) of well @-@ known <unk> \" . "
        "Dr. H. Smith of the U.S. left ; St. John ended .\n"
    )
    corpus = open_corpus(write(tmp_path, train=text, valid=text, test=text))
    tokenizer = Tokenizer.from_str(corpus.tokenizer())
    plain = (
        'He said: "I can\'t, it’s 1,000.5 km (3 mi) of well-known <unk>". '
        "Dr. H. Smith of the U.S. left; St. John ended."
    )
    assert tokenizer.encode(plain).ids == corpus.splits["train"][:-1].tolist()
    # What is cut already stays as it is, and what is unknown is <unk>.
    assert tokenizer.encode(text).ids == corpus.splits["train"][:-1].tolist()
    assert tokenizer.encode("km zebra").tokens == ["km", "<unk>"]
